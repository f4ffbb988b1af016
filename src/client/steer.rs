//! Steering a job that somebody else follows, or nobody: stopping it, sending it a signal, giving it another name,
//! and having everybody leave it.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::peers::sentence;
use super::proof;
use crate::bus::{Bus, BusError, Incoming, Mailbox, Outgoing};
use crate::protocol::attach::{DetachAnswer, DetachRequest, RenameRequest, Renamed};
use crate::protocol::exec::JobResult;
use crate::protocol::frame::Signalled;
use crate::protocol::reply::ERROR_HEADER;
use crate::protocol::steer::{CancelAnswer, CancelRequest, Cancelled, SignalRequest};
use crate::protocol::subjects::{self, Verb};
use crate::protocol::{BadMessage, JobId, PeerId, decode};

/// How long an answer may take before the same is said again: each is done once.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Pause before it is asked again whether a job has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Why a job could not be steered.
#[derive(Debug, Error)]
pub enum SteerError {
    /// The bus failed, or the peer gave no answer in time.
    #[error(transparent)]
    Bus(BusError),
    /// An answer of which nobody knows whether it is the peer's.
    #[error("an answer that is not proved to be its own: {0}")]
    Unproven(String),
    /// It declined, with its sentence.
    #[error("it answered: {0}")]
    Declined(String),
    /// The job is still being stopped.
    #[error("it is being stopped, and has not ended within {} s", .0.as_secs())]
    Stopping(Duration),
    /// Its answer cannot be understood.
    #[error("its answer cannot be understood: {0}")]
    Malformed(#[from] BadMessage),
}

/// Stops a job with everything it has started, and waits until it has ended.
///
/// # Errors
/// When that could not be said, or it has not ended within `patience`.
pub async fn stop(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    why: &str,
    patience: Duration,
) -> Result<JobResult, SteerError> {
    let mut said = Said::new(bus, peer, job, Verb::Cancel);
    let body =
        decode::to_json(&CancelRequest { instance: None, why: Some(why.to_owned()), unless_begun: false });
    let (until, mut heard) = (Instant::now() + patience, false);
    loop {
        let answer = match said.again(&body, until).await {
            // It has answered before: it is known to be on it.
            Err(SteerError::Bus(_)) if heard && Instant::now() >= until => {
                return Err(SteerError::Stopping(patience));
            }
            answer => decode::json::<CancelAnswer>(&answer?.payload)?,
        };
        match (answer.answer, answer.result) {
            (Cancelled::Ended, Some(result)) => return Ok(*result),
            (Cancelled::NeverSeen, _) => {
                return Err(SteerError::Declined(format!("no job {job} has run there, and none will")));
            }
            _ if Instant::now() >= until => return Err(SteerError::Stopping(patience)),
            (Cancelled::Running | Cancelled::Ended, _) => {}
        }
        heard = true;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Sends everything that a job has started one signal, by its name.
///
/// # Errors
/// When that could not be said or done. A job that has ended gives no answer: it has nobody to signal.
pub async fn signal(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    name: &str,
    patience: Duration,
) -> Result<(), SteerError> {
    let mut said = Said::new(bus, peer, job, Verb::Signal);
    let body = decode::to_json(&SignalRequest { n: 1, instance: None, signal: name.to_owned() });
    let answer = said.again(&body, Instant::now() + patience).await?;
    match decode::json::<Signalled>(&answer.payload)?.error {
        Some(why) => Err(SteerError::Declined(why)),
        None => Ok(()),
    }
}

/// Gives a durable job that is called `was` another name.
///
/// # Errors
/// When that could not be said or done; after a word that got no answer it may or may not be.
pub async fn rename(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    was: Option<&str>,
    name: &str,
    patience: Duration,
) -> Result<Renamed, SteerError> {
    let mut said = Said::new(bus, peer, job, Verb::Rename);
    let (was, name) = (was.map(str::to_owned), name.to_owned());
    let body = decode::to_json(&RenameRequest { instance: None, name, was });
    let answer = said.again(&body, Instant::now() + patience).await?;
    Ok(decode::json(&answer.payload)?)
}

/// Has everybody leave who reads a durable job; `from` is what they are told of who wanted it, where nobody signs.
///
/// # Errors
/// As [`rename`].
pub async fn detach(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    from: &str,
    patience: Duration,
) -> Result<DetachAnswer, SteerError> {
    let mut said = Said::new(bus, peer, job, Verb::Detach);
    let body = decode::to_json(&DetachRequest { instance: None, from: Some(from.to_owned()) });
    let answer = said.again(&body, Instant::now() + patience).await?;
    Ok(decode::json(&answer.payload)?)
}

/// One word about a job, said as often as it takes from one inbox.
struct Said<'a> {
    bus: &'a Bus,
    peer: &'a PeerId,
    subject: String,
    mailbox: Mailbox,
}

impl<'a> Said<'a> {
    fn new(bus: &'a Bus, peer: &'a PeerId, job: JobId, verb: Verb) -> Self {
        Self { bus, peer, subject: subjects::job(peer, job, verb), mailbox: bus.mailbox() }
    }

    /// Says it until there is an answer, or the time is up.
    async fn again(&mut self, body: &[u8], until: Instant) -> Result<Incoming, SteerError> {
        let started = Instant::now();
        loop {
            let word = Outgoing::to(&self.subject).reply(self.mailbox.subject()).payload(body.to_vec());
            let said = self.bus.publish(word.sealed()).await;
            let answer = tokio::time::timeout(SAY_AGAIN, self.mailbox.next()).await;
            let failed = match (said, answer) {
                (_, Ok(answer)) if answer.no_responders => BusError::NoResponders(self.subject.clone()),
                (_, Ok(answer)) => return self.proved(answer),
                (Err(error), Err(_)) => error,
                (Ok(()), Err(_)) => {
                    BusError::Timeout { subject: self.subject.clone(), waited: started.elapsed() }
                }
            };
            if Instant::now() >= until {
                return Err(SteerError::Bus(failed));
            }
            if matches!(failed, BusError::NoResponders(_)) {
                // Its daemon may be on its way back.
                tokio::time::sleep(SAY_AGAIN).await;
            }
        }
    }

    fn proved(&self, answer: Incoming) -> Result<Incoming, SteerError> {
        proof::is_of(self.bus, self.peer, &answer).map_err(SteerError::Unproven)?;
        match answer.headers.get(ERROR_HEADER) {
            Some(_) => Err(SteerError::Declined(sentence(&answer))),
            None => Ok(answer),
        }
    }
}
