//! `d queue list`, `d queue cancel`: what waits for peers that are away.

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use super::args::{Common, peer_name};
use super::connect::{connect, must_be_an_operator};
use super::exec::queue_code_of;
use super::exit::{CliError, NOT_FOUND, OTHER, UNKNOWN};
use super::jobs::Wanted;
use super::output::Table;
use super::peers::Format;
use super::{exec, output, time};
use peerbus_bus::Bus;
use peerbus_client::queue::{self as client, CancelOutcome, QueueError, QueuedJob};
use peerbus_protocol::exec::{Command, ExecRequest, JobResult};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::{JobId, PeerId, subjects};

/// Fewest of a job's last characters that name it.
const FEWEST: usize = 4;

/// What can be done with the queue.
#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// What waits, the oldest first
    #[command(
        after_help = "Examples:\n  d queue list\n  d queue list laptop\n  d queue list --json | jq -r 'select(.expired) | .id'"
    )]
    List(List),
    /// See to it that a job that waits never runs; one that has begun is left alone
    #[command(
        after_help = "Examples:\n  d queue cancel 01979d3e-7b1c-7c3a-9b0e-3f1d2c4b5a69\n  d queue cancel 2c4b5a69\n  d queue cancel laptop/2c4b5a69\n\nExit codes: 0 it surely never runs · 1 it has begun · 251 its peer has it, and cannot say whether\nit has begun · 254 it is not in the queue"
    )]
    Cancel(Cancel),
}

/// What `d queue list` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct List {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    peer: Option<String>,
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything, however wide the terminal is
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// What `d queue cancel` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct Cancel {
    /// The job: its id, or the last characters of it (four at least); PEER/JOB asks the peer, too
    #[arg(value_name = "JOB")]
    job: String,
}

/// `d queue`
pub(super) async fn run(common: &Common, verb: Queue) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_be_an_operator(&bus)?;
    match verb {
        Queue::List(args) => list(&bus, &args).await,
        Queue::Cancel(args) => cancel(&bus, &args.job).await,
    }
}

fn no_queue(error: &QueueError) -> CliError {
    CliError::new(queue_code_of(error), format!("no queue: {error}"))
}

async fn list(bus: &Bus, args: &List) -> Result<u8, CliError> {
    let peer = match &args.peer {
        Some(name) => Some(exec::target(bus, name).await?),
        None => None,
    };
    let rows = client::waiting(bus, peer.as_ref()).await.map_err(|error| no_queue(&error))?;
    let rows: Vec<Row> = rows.into_iter().map(Row::of).collect();
    if args.json {
        return rows.iter().try_for_each(output::json).map(|()| 0);
    }
    let mut table = Table::of(&["PEER", "JOB", "AGE", "EXPIRES", "WHO", "COMMAND"])
        .wide(args.output == Some(Format::Wide));
    rows.iter().for_each(|row| table.row(row.cells()));
    let of = peer.map_or_else(String::new, |peer| format!(" for {peer}"));
    output::list(&table, &format!("nothing waits{of}"))?;
    Ok(0)
}

/// One job, as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    peer_id: PeerId,
    id: JobId,
    queued_at: String,
    expires_at: Option<String>,
    expired: bool,
    /// Who left it, where that is proved.
    principal: Option<String>,
    /// By its own word.
    from: Option<String>,
    command: Option<String>,
    directory: Option<String>,
    user: Option<String>,
    /// Why the peer is going to refuse it, where that is known.
    error: Option<String>,
}

impl Row {
    fn of(listed: QueuedJob) -> Self {
        let QueuedJob { peer, job, queued_at, principal, request, .. } = listed;
        let error = principal.as_ref().err().or(request.as_ref().err()).cloned();
        let principal = match principal {
            Ok(known @ Principal::Known { .. }) => Some(known.to_string()),
            Ok(Principal::Anyone) | Err(_) => None,
        };
        let request = request.ok();
        let expires_ms = request.as_ref().and_then(|request| request.expires_ms);
        let now_ms = jiff::Timestamp::now().as_millisecond();
        Self {
            expires_at: expires_ms.and_then(utc),
            expired: expires_ms.is_some_and(|expires| expires <= now_ms),
            from: request.as_ref().and_then(|request| request.from.clone()),
            command: request.as_ref().and_then(command),
            directory: request.as_ref().and_then(|request| request.directory.clone()),
            user: request.and_then(|request| request.user),
            peer_id: peer,
            id: job,
            queued_at,
            principal,
            error,
        }
    }

    fn cells(&self) -> Vec<String> {
        let none = || "-".to_owned();
        let expires = match &self.expires_at {
            Some(_) if self.expired => "expired".to_owned(),
            Some(at) => time::local_time(at),
            None => none(),
        };
        let command = match (&self.error, &self.command) {
            (Some(error), _) => format!("({error})"),
            (None, command) => command.clone().unwrap_or_else(none),
        };
        vec![
            self.peer_id.to_string(),
            self.id.to_string(),
            time::ago(&self.queued_at),
            expires,
            self.principal.clone().or(self.from.clone()).unwrap_or_else(none),
            command,
        ]
    }
}

fn utc(ms: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(ms).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn command(request: &ExecRequest) -> Option<String> {
    if let Some(task) = &request.task {
        return Some(task.to_string());
    }
    Some(match request.command().ok()? {
        Command::Shell(line) => line,
        Command::Argv(argv) => argv.join(" "),
    })
}

async fn cancel(bus: &Bus, text: &str) -> Result<u8, CliError> {
    let (peer, job) = meant(bus, text).await?;
    match client::withdraw(bus, &peer, job).await.map_err(|error| no_queue(&error))? {
        CancelOutcome::Surely => {
            output::line(&format!("cancelled {job}: it never runs on {peer}"))?;
            Ok(0)
        }
        CancelOutcome::Runs => {
            Err(CliError::new(OTHER, format!("begun: {job} runs on {peer}; `d stop {peer}/{job}` stops it")))
        }
        CancelOutcome::Ended(result) => Err(CliError::new(OTHER, ended(&peer, job, result.as_deref()))),
        CancelOutcome::PeerCannotSay(why) => Err(CliError::new(
            UNKNOWN,
            format!(
                "unknown: {job} is out of the queue and was handed to {peer} before, which may have begun it: {why}; \
                 `d queue cancel {peer}/{job}` asks again"
            ),
        )),
    }
}

fn ended(peer: &PeerId, job: JobId, result: Option<&JobResult>) -> String {
    let how = result.map_or_else(|| "nobody knows how".to_owned(), |result| result.ending.to_string());
    format!("ended: {job} is over on {peer}: {how}")
}

/// What waits and has an id that ends so.
async fn waiting_as(
    bus: &Bus,
    peer: Option<&PeerId>,
    word: &str,
) -> Result<Vec<(PeerId, JobId)>, QueueError> {
    let filter = peer.map_or_else(|| subjects::QUEUE_ALL.to_owned(), subjects::queue_of);
    let mut found = client::places(bus, &filter).await?;
    found.retain(|(_, waiting)| waiting.to_string().ends_with(&word.to_ascii_lowercase()));
    Ok(found)
}

/// The job that waits and that somebody means who knows no peer that has it; none where that is not sure.
pub(super) async fn the_one_that_waits(bus: &Bus, wanted: &Wanted) -> Option<(PeerId, JobId)> {
    let peer = match wanted.peer() {
        Some(name) => Some(exec::target(bus, name).await.ok()?),
        None => None,
    };
    let word = wanted.word();
    let mut found = match word.len() {
        FEWEST.. => waiting_as(bus, peer.as_ref(), word).await.ok()?,
        _ => return None,
    };
    found.pop().filter(|_| found.is_empty())
}

/// Whether a job waits. A server that is away says nothing to the contrary.
pub(super) async fn waits(bus: &Bus, peer: &PeerId, job: JobId) -> Result<bool, CliError> {
    match client::places(bus, &subjects::queue(peer, job)).await {
        Ok(places) => Ok(!places.is_empty()),
        Err(QueueError::Bus(_)) => Ok(true),
        Err(error) => Err(no_queue(&error)),
    }
}

/// The one job that is meant.
async fn meant(bus: &Bus, text: &str) -> Result<(PeerId, JobId), CliError> {
    let (peer, word) = match text.split_once('/') {
        Some((peer, word)) => (Some(exec::target(bus, peer).await?), word),
        None => (None, text),
    };
    let job = word.parse::<JobId>().ok();
    if let (Some(peer), Some(job)) = (&peer, job) {
        return Ok((peer.clone(), job));
    }
    if job.is_none() && (word.len() < FEWEST || word.chars().any(|c| !c.is_ascii_hexdigit() && c != '-')) {
        return Err(CliError::usage(format!(
            "{word:?} is not a job: its id is wanted, or the last {FEWEST} or more characters of it"
        )));
    }
    let mut found = waiting_as(bus, peer.as_ref(), word).await.map_err(|error| no_queue(&error))?;
    match found.len() {
        0 => Err(CliError::new(
            NOT_FOUND,
            format!(
                "not found: no job {word} waits in the queue: it has begun, is over, was cancelled, or never was; \
                 `d queue cancel PEER/JOB` with the whole id asks the peer"
            ),
        )),
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<String> = found.iter().map(|(peer, job)| format!("{peer}/{job}")).collect();
            Err(CliError::usage(format!("{word} is ambiguous: {} end in it", ids.join(", "))))
        }
    }
}
