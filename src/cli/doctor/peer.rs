//! One peer: whether it is there, answers, runs commands, and has what it needs for that.

use std::time::Duration;

use jiff::Timestamp;

use super::check::Check;
use crate::exec::caller;
use crate::time;
use peerbus_bus::Bus;
use peerbus_client::exec::{self, Event, Integrity, Timeouts};
use peerbus_client::peers::{PingError, health, ping};
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::exec::{ExecRequest, StreamOptions, TYPE, WINDOW};
use peerbus_protocol::health::{Containment, Health};
use peerbus_protocol::peers::{PeerRow, Presence};
use peerbus_protocol::variables::Variables;
use peerbus_protocol::{Ending, JobId, PeerId};

/// How long a peer may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long it may take to run a command that does next to nothing.
const ECHO_WITHIN: Duration = Duration::from_secs(15);

/// Clocks that differ by more than this are told of: times in logs would mislead.
const CLOCK_TOLERANCE_MS: i128 = 5_000;

/// A journal with less room than this will soon refuse jobs, in bytes.
const ROOM: u64 = 100 << 20;

/// A peer, and what the registry knows of it.
pub(super) struct Known {
    pub(super) peer: PeerId,
    pub(super) row: Option<PeerRow>,
}

impl Known {
    pub(super) fn of(row: PeerRow) -> Self {
        Self { peer: row.peer_id.clone(), row: Some(row) }
    }
}

/// Looks at one peer.
pub(super) async fn look(bus: &Bus, known: Known) -> Vec<Check> {
    let peer = &known.peer;
    let about = peer.as_str();
    let mut checks = vec![presence(about, known.row.as_ref())];
    match ping(bus, peer, ANSWER_WITHIN).await {
        Ok((beat, took)) => {
            let took = took.as_secs_f64() * 1000.0;
            let detail = format!("{took:.1} ms from {}, up for {}", beat.hostname, time::span(beat.uptime_s));
            checks.push(Check::pass(about, "round trip", detail));
        }
        Err(error) => {
            checks.push(Check::fail(about, "round trip", no_answer(&error), start_it(peer)));
            let rest = ["echo", "clock", "journal disk", "control groups", "state rights"];
            checks.extend(rest.map(|name| Check::skip(about, name, "it does not answer")));
            return checks;
        }
    }
    checks.push(echo(bus, peer).await);
    match health(bus, peer, ANSWER_WITHIN).await {
        Ok((health, took)) => {
            checks.extend([
                clock(about, &health, took),
                disk(about, &health),
                groups(about, &health),
                rights(about, &health),
            ]);
            checks.extend(health.registry_aside.map(|aside| {
                let detail =
                    format!("it was damaged, and made anew from heartbeats; the damaged one is {aside}");
                Check::fail(
                    about,
                    "registry file",
                    detail,
                    "is the disk sound? Remove that file once nobody wants it",
                )
            }));
        }
        Err(error) => {
            let rest = ["clock", "journal disk", "control groups", "state rights"];
            let why = format!("it does not say: {}", no_answer(&error));
            checks.extend(rest.map(|name| Check::skip(about, name, why.clone())));
        }
    }
    checks
}

fn no_answer(error: &PingError) -> String {
    match error {
        PingError::Bus(peerbus_bus::BusError::NoResponders(_)) => {
            "nobody answers to its id on the bus".to_owned()
        }
        error => error.to_string(),
    }
}

fn start_it(peer: &PeerId) -> String {
    format!(
        "on {peer}: is the machine on, the network up (`wg show`), and the daemon running (`d daemon status`)?"
    )
}

fn presence(about: &str, row: Option<&PeerRow>) -> Check {
    let Some(row) = row else { return Check::skip(about, "presence", "the registry cannot be asked") };
    let seen = format!("last seen {} ago", time::ago(&row.last_seen));
    match row.state {
        Presence::Online => Check::pass(about, "presence", format!("online, {seen}")),
        Presence::Unknown => {
            Check::skip(about, "presence", format!("the leader has not decided yet, {seen}"))
        }
        Presence::Offline => {
            Check::fail(about, "presence", format!("offline, {seen}"), start_it(&row.peer_id))
        }
        Presence::Conflict => {
            let next = "two daemons use this id: give one of them another (`d config set peer_id …`)";
            Check::fail(about, "presence", "conflict", next)
        }
    }
}

/// Runs a command whose output is known beforehand.
async fn echo(bus: &Bus, peer: &PeerId) -> Check {
    let about = peer.as_str();
    let job = JobId::new();
    let failed = |why: String| {
        let next = format!("the daemon's log on {peer} tells more (`d daemon logs` there)");
        Check::fail(about, "echo", why, next)
    };
    match tokio::time::timeout(ECHO_WITHIN, said_by(bus, peer, job)).await {
        Err(_) => failed(format!("no end within {} s", ECHO_WITHIN.as_secs())),
        Ok(Err(Echo::NotAllowed(why))) => Check::skip(about, "echo", why),
        Ok(Err(Echo::Failed(why))) => failed(why),
        Ok(Ok(said)) if said == job.to_string().as_bytes() => {
            Check::pass(about, "echo", "a command ran, and its output is whole")
        }
        Ok(Ok(said)) => {
            failed(format!("a command said {} bytes that differ from what it was to say", said.len()))
        }
    }
}

/// Why there is no echo.
enum Echo {
    /// The peer's policy does not let whoever asks have one, which may be as it should.
    NotAllowed(String),
    Failed(String),
}

async fn said_by(bus: &Bus, peer: &PeerId, job: JobId) -> Result<Vec<u8>, Echo> {
    let request = ExecRequest {
        kind: Some(TYPE.to_owned()),
        id: Some(job),
        directory: Some("/".to_owned()),
        shell_cmd: None,
        argv: Some(vec!["printf".to_owned(), "%s".to_owned(), job.to_string()]),
        env: Variables::default(),
        user: None,
        stdin: false,
        tty: None,
        name: None,
        timeout_ms: u64::try_from(ECHO_WITHIN.as_millis()).ok(),
        no_wait: false,
        durable: false,
        expires_ms: None,
        task: None,
        stream: Some(StreamOptions { window: WINDOW }),
        from: Some(caller()),
        within: Vec::new(),
    };
    let (_stdin, chunks) = tokio::sync::mpsc::channel(1);
    let mut execution = exec::start(bus, peer.clone(), request, chunks, Timeouts { absent: Duration::ZERO });
    let steering = execution.steering();
    let mut said = Vec::new();
    loop {
        match execution.next().await {
            Some(Event::Output { stream, bytes, .. }) => {
                said.extend_from_slice(&bytes);
                steering.wrote(stream, bytes.len());
            }
            Some(Event::Ended(outcome)) => {
                return match (outcome.ending, outcome.integrity) {
                    (Ending::Exited { code: 0 }, Integrity::Whole) => Ok(said),
                    (_, Integrity::Damaged(what)) => Err(Echo::Failed(format!("output was lost: {what}"))),
                    (Ending::Refused { why: Refusal::Policy, message }, Integrity::Whole) => {
                        Err(Echo::NotAllowed(message))
                    }
                    (ending, Integrity::Whole) => Err(Echo::Failed(format!("the command {ending}"))),
                };
            }
            Some(
                Event::Accepted(_)
                | Event::Screen(_)
                | Event::Asked(_)
                | Event::Sized(_)
                | Event::NotKept { .. }
                | Event::Waiting(_)
                | Event::Interrupted(_)
                | Event::Resumed,
            ) => {}
            Some(Event::Detached { .. }) | None => {
                return Err(Echo::Failed("the conversation broke off inside d".to_owned()));
            }
        }
    }
}

/// The peer's clock beside ours, at the middle of the round trip.
fn clock(about: &str, health: &Health, took: Duration) -> Check {
    let now = i128::from(Timestamp::now().as_millisecond())
        - i128::try_from(took.as_millis() / 2).unwrap_or_default();
    let ahead = i128::from(health.now_ms) - now;
    let detail = format!("{:+.1} s beside this machine's", ahead as f64 / 1000.0);
    if ahead.abs() <= CLOCK_TOLERANCE_MS {
        return Check::pass(about, "clock", detail);
    }
    Check::fail(about, "clock", detail, "have both machines keep their time (`timedatectl set-ntp true`)")
}

fn disk(about: &str, health: &Health) -> Check {
    let (Some(free), Some(size)) = (health.journal_free, health.journal_size) else {
        return Check::skip(about, "journal disk", "it cannot be found out");
    };
    let mut detail = format!("{} MiB free of {} MiB", free >> 20, size >> 20);
    let reserve = health.reserve.filter(|(left, whole)| left < whole);
    if let Some((left, whole)) = reserve {
        detail.push_str(&format!("; {left} of {whole} records are left in the reserve for a full disk"));
    }
    if free >= ROOM && reserve.is_none_or(|(left, _)| left > 0) {
        return Check::pass(about, "journal disk", detail);
    }
    Check::fail(
        about,
        "journal disk",
        detail,
        "make room where its state directory is; a command that cannot be journalled is refused",
    )
}

fn groups(about: &str, health: &Health) -> Check {
    match health.containment {
        Containment::Cgroup => Check::pass(about, "control groups", "each job has its own"),
        Containment::Reaper => {
            let detail = "none can be made there; a reaper keeps each job's processes together";
            Check::pass(about, "control groups", detail)
        }
    }
}

fn rights(about: &str, health: &Health) -> Check {
    if let Some(exposed) = &health.exposed {
        return Check::fail(
            about,
            "state rights",
            exposed.clone(),
            "until then it takes over no new version of itself",
        );
    }
    match health.state_dir_mode {
        None => Check::skip(about, "state rights", "they cannot be found out"),
        Some(mode) if mode & 0o077 == 0 => {
            Check::pass(about, "state rights", format!("{mode:o}, the daemon runs as {}", health.user))
        }
        Some(mode) => {
            let next = "`chmod 700` its state directory: it holds the journal";
            Check::fail(
                about,
                "state rights",
                format!("{mode:o}: others than {} may look into it", health.user),
                next,
            )
        }
    }
}
