//! Control requests without following the job: stop, signal, rename, and detach its viewers.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::peers::sentence;
use super::verify;
use peerbus_bus::{Bus, BusError, Incoming, Mailbox, Outgoing};
use peerbus_protocol::attach::{DetachAnswer, DetachRequest, RenameRequest, Renamed};
use peerbus_protocol::control::{CancelAnswer, CancelRequest, Cancelled, SignalRequest};
use peerbus_protocol::exec::JobResult;
use peerbus_protocol::frame::{Challenge, FrameKind, KIND, Signalled};
use peerbus_protocol::reply::ERROR_HEADER;
use peerbus_protocol::signature::CHALLENGE;
use peerbus_protocol::subjects::{self, Verb};
use peerbus_protocol::{BadMessage, JobId, PeerId, decode};

/// Timeout before repeating a request. Repeats are safe, because the peer applies each request once.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Interval of checks whether a job has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Why a control request failed.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The bus failed, or the peer did not answer in time.
    #[error(transparent)]
    Bus(BusError),
    /// The answer's sender is unproven.
    #[error("an answer that is not proved to be its own: {0}")]
    Unproven(String),
    /// The peer declined; contains its sentence.
    #[error("it answered: {0}")]
    Declined(String),
    /// The job is still being stopped.
    #[error("it is being stopped, and has not ended within {} s", .0.as_secs())]
    Stopping(Duration),
    /// The answer is malformed.
    #[error("its answer cannot be understood: {0}")]
    Malformed(#[from] BadMessage),
}

/// Stops a job with its process tree, and waits for its end.
///
/// # Errors
/// If the request fails, or the job has not ended within `patience`.
pub async fn stop(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    why: &str,
    patience: Duration,
) -> Result<JobResult, ControlError> {
    let mut said = ControlRequest::new(bus, peer, job, Verb::Cancel);
    let body =
        decode::to_json(&CancelRequest { instance: None, why: Some(why.to_owned()), unless_begun: false });
    let (until, mut heard) = (Instant::now() + patience, false);
    loop {
        let answer = match said.again(&body, until).await {
            // The peer answered before, so it is stopping the job.
            Err(ControlError::Bus(_)) if heard && Instant::now() >= until => {
                return Err(ControlError::Stopping(patience));
            }
            answer => decode::json::<CancelAnswer>(&answer?.payload)?,
        };
        match (answer.answer, answer.result) {
            (Cancelled::Ended, Some(result)) => return Ok(*result),
            (Cancelled::NeverSeen, _) => {
                return Err(ControlError::Declined(format!("no job {job} has run there, and none will")));
            }
            _ if Instant::now() >= until => return Err(ControlError::Stopping(patience)),
            (Cancelled::Running | Cancelled::Ended, _) => {}
        }
        heard = true;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Cancels a job that has not started. Does not wait for an absent peer.
///
/// # Errors
/// If the request fails or gets no answer.
pub(super) async fn take_back(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    why: &str,
    patience: Duration,
) -> Result<CancelAnswer, ControlError> {
    let mut said =
        ControlRequest { waits_for_the_peer: false, ..ControlRequest::new(bus, peer, job, Verb::Cancel) };
    let cancel = CancelRequest { instance: None, why: Some(why.to_owned()), unless_begun: true };
    let answer = said.again(&decode::to_json(&cancel), Instant::now() + patience).await?;
    Ok(decode::json(&answer.payload)?)
}

/// Sends one signal, by name, to all processes of a job.
///
/// # Errors
/// If the request or the signal fails. An ended job gives no answer, because it has no processes.
pub async fn signal(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    name: &str,
    patience: Duration,
) -> Result<(), ControlError> {
    let mut said = ControlRequest::new(bus, peer, job, Verb::Signal);
    let body = decode::to_json(&SignalRequest { n: 1, instance: None, signal: name.to_owned() });
    let answer = said.again(&body, Instant::now() + patience).await?;
    match decode::json::<Signalled>(&answer.payload)?.error {
        Some(why) => Err(ControlError::Declined(why)),
        None => Ok(()),
    }
}

/// Renames a durable job that is called `was`.
///
/// # Errors
/// If the request or the renaming fails. Without an answer, the job may or may not be renamed.
pub async fn rename(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    was: Option<&str>,
    name: &str,
    patience: Duration,
) -> Result<Renamed, ControlError> {
    let mut said = ControlRequest::new(bus, peer, job, Verb::Rename);
    let (was, name) = (was.map(str::to_owned), name.to_owned());
    let body = decode::to_json(&RenameRequest { instance: None, name, was });
    let answer = said.again(&body, Instant::now() + patience).await?;
    Ok(decode::json(&answer.payload)?)
}

/// Detaches all viewers of a durable job. In a fleet without identities, `from` tells them who asked.
///
/// # Errors
/// As [`rename`].
pub async fn detach(
    bus: &Bus,
    peer: &PeerId,
    job: JobId,
    from: &str,
    patience: Duration,
) -> Result<DetachAnswer, ControlError> {
    let mut said = ControlRequest::new(bus, peer, job, Verb::Detach);
    let body = decode::to_json(&DetachRequest { instance: None, from: Some(from.to_owned()) });
    let answer = said.again(&body, Instant::now() + patience).await?;
    Ok(decode::json(&answer.payload)?)
}

/// A control request, repeated from one inbox as often as necessary.
struct ControlRequest<'a> {
    bus: &'a Bus,
    peer: &'a PeerId,
    subject: String,
    mailbox: Mailbox,
    /// Whether to wait for an absent peer.
    waits_for_the_peer: bool,
}

impl<'a> ControlRequest<'a> {
    fn new(bus: &'a Bus, peer: &'a PeerId, job: JobId, verb: Verb) -> Self {
        let subject = subjects::job(peer, job, verb);
        Self { bus, peer, subject, mailbox: bus.mailbox(), waits_for_the_peer: true }
    }

    /// Repeats the request until an answer or the deadline.
    async fn again(&mut self, body: &[u8], until: Instant) -> Result<Incoming, ControlError> {
        let started = Instant::now();
        let mut challenge = None::<String>;
        loop {
            let mut word = Outgoing::to(&self.subject).reply(self.mailbox.subject()).payload(body.to_vec());
            if let Some(challenge) = &challenge {
                word = word.header(CHALLENGE, challenge);
            }
            let said = self.bus.publish(word.sealed()).await;
            let answer = tokio::time::timeout(SAY_AGAIN, self.mailbox.next()).await;
            let failed = match (said, answer) {
                (_, Ok(answer)) if answer.no_responders => BusError::NoResponders(self.subject.clone()),
                (_, Ok(answer)) => match self.challenged(&answer)? {
                    None => return self.proved(answer),
                    // Only the new challenge lets the peer tell this request from a replay.
                    asked if asked != challenge && Instant::now() < until => {
                        challenge = asked;
                        continue;
                    }
                    _ => BusError::Timeout { subject: self.subject.clone(), waited: started.elapsed() },
                },
                (Err(error), Err(_)) => error,
                (Ok(()), Err(_)) => {
                    BusError::Timeout { subject: self.subject.clone(), waited: started.elapsed() }
                }
            };
            let is_absent = matches!(failed, BusError::NoResponders(_));
            if Instant::now() >= until || (is_absent && !self.waits_for_the_peer) {
                return Err(ControlError::Bus(failed));
            }
            if is_absent {
                // Its daemon may be restarting.
                tokio::time::sleep(SAY_AGAIN).await;
            }
        }
    }

    /// The challenge that the answer demands, if it demands one.
    fn challenged(&self, answer: &Incoming) -> Result<Option<String>, ControlError> {
        if answer.headers.get(KIND) != Some(FrameKind::Challenge.as_str()) {
            return Ok(None);
        }
        verify::is_of(self.bus, self.peer, answer).map_err(ControlError::Unproven)?;
        Ok(Some(decode::json::<Challenge>(&answer.payload)?.challenge))
    }

    fn proved(&self, answer: Incoming) -> Result<Incoming, ControlError> {
        verify::is_of(self.bus, self.peer, &answer).map_err(ControlError::Unproven)?;
        match answer.headers.get(ERROR_HEADER) {
            Some(_) => Err(ControlError::Declined(sentence(&answer))),
            None => Ok(answer),
        }
    }
}
