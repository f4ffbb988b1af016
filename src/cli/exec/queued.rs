//! `d exec --queue`: a command that waits until its peer is online.

use std::time::Duration;

use super::{Exec, nowhere};
use crate::args::Common;
use crate::connect::{connect, must_be_an_operator};
use crate::exit::{BUS_UNREACHABLE, CliError, REFUSED, UNKNOWN};
use crate::output;
use crate::time::{local_time_of_ms, until};
use peerbus_bus::Bus;
use peerbus_client::queue::{self as client, QueueError};
use peerbus_client::{Resolution, resolve};
use peerbus_protocol::exec::ExecRequest;
use peerbus_protocol::queue::{LONGEST, QueueLifetime};
use peerbus_protocol::{JobId, PeerId};

/// Parses how long a command may wait.
pub(super) fn expiry(text: &str) -> Result<Duration, String> {
    let time = until(text)?;
    if time < Duration::from_secs(1) {
        return Err(format!("{text:?} is too short; at least a second is wanted"));
    }
    if time > LONGEST {
        return Err(format!("{text:?} is too long: a peer remembers for 7 days what it has run"));
    }
    Ok(time)
}

/// Refuses a terminal: no user is there when the command starts. A user can attach later.
fn leaves_the_terminal(args: &Exec) -> Result<(), CliError> {
    match args.tty && !args.detach {
        true => Err(CliError::usage(
            "--queue with -t: nobody is there to type when it begins; with -d as well it begins without you, and \
             `d attach` is the way to it",
        )),
        false => Ok(()),
    }
}

/// Enqueues the command for its peer.
pub(super) async fn run(
    common: &Common,
    args: &Exec,
    expiry: Duration,
    request: ExecRequest,
) -> Result<u8, CliError> {
    leaves_the_terminal(args)?;
    let bus = connect(common).await?;
    must_be_an_operator(&bus)?;
    let (peer, is_there) = known(&bus, &args.peer).await?;
    let job = request.id.unwrap_or_default();
    let expires_ms = job.made_ms() + i64::try_from(expiry.as_millis()).unwrap_or_default();
    let request = ExecRequest {
        id: Some(job),
        stream: None,
        durable: true,
        expires_ms: Some(expires_ms),
        within: Vec::new(),
        ..request
    };
    // Check the request here: a later refusal by the peer would reach nobody.
    QueueLifetime::of(&request, job).map_err(|bad| CliError::usage(bad.to_string()))?;
    client::leave(&bus, &peer, job, &request).await.map_err(|error| failure(&error, &peer, job))?;
    super::tell(&peer, job)?;
    let end = local_time_of_ms(expires_ms);
    let when = match is_there {
        true => format!("{peer} is on the bus and takes it as soon as it can, until {end}"),
        false => format!("{peer} is away: it runs once {peer} is back, until {end}, and never after"),
    };
    output::say(&format!(
        "queued: {when}; `d queue list` shows what waits, `d jobs -a {peer}` what became of it, \
         `d logs {peer}/{job}` what it wrote"
    ));
    Ok(0)
}

/// The peer, by any of its names, and whether it is online. Refuses an unknown peer.
async fn known(bus: &Bus, name: &str) -> Result<(PeerId, bool), CliError> {
    match resolve::resolve(bus, name).await {
        Ok(Resolution::Peer(peer)) => Ok((peer, true)),
        Ok(Resolution::Offline(peer)) => Ok((peer, false)),
        Err(not_found) => Err(nowhere(name, &not_found)),
    }
}

fn failure(error: &QueueError, peer: &PeerId, job: JobId) -> CliError {
    let code = code_of(error);
    match error {
        QueueError::Unsure(_) => CliError::new(
            code,
            format!(
                "unknown: {error}: {job} may run on {peer}; `d queue list {peer}` shows whether it waits, \
                 `d queue cancel {peer}/{job}` sees to it that it never runs"
            ),
        ),
        _ if code == REFUSED => CliError::new(code, format!("refused: {error}")),
        _ => CliError::new(code, format!("no queue: {error}")),
    }
}

/// The exit code for an error of the queue.
pub(crate) fn code_of(error: &QueueError) -> u8 {
    match error {
        QueueError::Full(_) | QueueError::TooLarge(_) => REFUSED,
        QueueError::Unsure(_) => UNKNOWN,
        _ => BUS_UNREACHABLE,
    }
}
