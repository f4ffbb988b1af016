//! `d queue list`, `d queue cancel`: what waits for peers that are away.

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use super::args::{Common, peer_name};
use super::connect::{connect, must_be_an_operator};
use super::exec::queue_code_of;
use super::exit::{Failure, NOT_FOUND, OTHER, UNKNOWN};
use super::jobs::Wanted;
use super::{exec, output, render};
use crate::bus::Bus;
use crate::client::queue::{self as client, Listed, QueueError, Withdrawn};
use crate::protocol::exec::{Command, ExecRequest, JobResult};
use crate::protocol::identity::Asker;
use crate::protocol::{JobId, PeerId, decode, subjects};

/// Longest command in a table, in characters.
const COMMAND_SHOWN: usize = 60;

/// Fewest of a job's last characters that name it.
const FEWEST: usize = 4;

/// What can be done with the queue.
#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// What waits, the oldest first
    #[command(
        after_help = "Examples:\n  d queue list\n  d queue list laptop\n  d queue list --json | jq -r 'select(.expired) | .job'"
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
    /// JSON lines instead of a table
    #[arg(long)]
    json: bool,
}

/// What `d queue cancel` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct Cancel {
    /// The job: its id, or the last characters of it (four at least); PEER/JOB asks the peer, too
    #[arg(value_name = "JOB")]
    job: String,
}

/// `d queue`
pub(super) async fn run(common: &Common, verb: Queue) -> Result<u8, Failure> {
    let bus = connect(common).await?;
    must_be_an_operator(&bus)?;
    match verb {
        Queue::List(args) => list(&bus, &args).await,
        Queue::Cancel(args) => cancel(&bus, &args.job).await,
    }
}

fn no_queue(error: &QueueError) -> Failure {
    Failure::new(queue_code_of(error), format!("no queue: {error}"))
}

async fn list(bus: &Bus, args: &List) -> Result<u8, Failure> {
    let peer = match &args.peer {
        Some(name) => Some(exec::target(bus, name).await?),
        None => None,
    };
    let rows = client::waiting(bus, peer.as_ref()).await.map_err(|error| no_queue(&error))?;
    let rows: Vec<Row> = rows.into_iter().map(Row::of).collect();
    if args.json {
        return rows.iter().try_for_each(|row| output::line(&json(row))).map(|()| 0);
    }
    let heading = ["PEER", "JOB", "AGE", "EXPIRES", "WHO", "COMMAND"].map(str::to_owned).to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(heading).chain(rows.iter().map(Row::cells)).collect();
    output::line(&render::table(&lines))?;
    Ok(0)
}

fn json(row: &Row) -> String {
    String::from_utf8_lossy(&decode::to_json(row)).into_owned()
}

/// One job, as it is shown.
#[derive(Debug, Serialize)]
struct Row {
    peer: PeerId,
    job: JobId,
    queued_at: String,
    expires_at: Option<String>,
    expired: bool,
    /// Who left it, where that is proved.
    asker: Option<String>,
    /// By its own word.
    from: Option<String>,
    command: Option<String>,
    directory: Option<String>,
    user: Option<String>,
    /// Why the peer is going to refuse it, where that is known.
    error: Option<String>,
}

impl Row {
    fn of(listed: Listed) -> Self {
        let Listed { peer, job, queued_at, asker, request, .. } = listed;
        let error = asker.as_ref().err().or(request.as_ref().err()).cloned();
        let asker = match asker {
            Ok(known @ Asker::Known { .. }) => Some(known.to_string()),
            Ok(Asker::Anyone) | Err(_) => None,
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
            peer,
            job,
            queued_at,
            asker,
            error,
        }
    }

    fn cells(&self) -> Vec<String> {
        let none = || "-".to_owned();
        let expires = match &self.expires_at {
            Some(_) if self.expired => "expired".to_owned(),
            Some(at) => render::local_time(at),
            None => none(),
        };
        let command = match (&self.error, &self.command) {
            (Some(error), _) => format!("({error})"),
            (None, command) => command.clone().unwrap_or_else(none),
        };
        vec![
            self.peer.to_string(),
            self.job.to_string(),
            render::ago(&self.queued_at),
            expires,
            self.asker.clone().or(self.from.clone()).map_or_else(none, |who| one_line(&who)),
            one_line(&command),
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

/// A text of somebody else's, so that it stays one cell: what moves a cursor is shown as what it is.
fn one_line(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    let shown: String = text.chars().take(COMMAND_SHOWN).map(escaped).collect();
    if text.chars().count() > COMMAND_SHOWN { format!("{shown}…") } else { shown }
}

async fn cancel(bus: &Bus, text: &str) -> Result<u8, Failure> {
    let (peer, job) = meant(bus, text).await?;
    match client::withdraw(bus, &peer, job).await.map_err(|error| no_queue(&error))? {
        Withdrawn::Surely => {
            output::line(&format!("cancelled {job}: it never runs on {peer}"))?;
            Ok(0)
        }
        Withdrawn::Runs => {
            Err(Failure::new(OTHER, format!("begun: {job} runs on {peer}; `d stop {peer}/{job}` stops it")))
        }
        Withdrawn::Ended(result) => Err(Failure::new(OTHER, ended(&peer, job, result.as_deref()))),
        Withdrawn::PeerCannotSay(why) => Err(Failure::new(
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
pub(super) async fn waits(bus: &Bus, peer: &PeerId, job: JobId) -> Result<bool, Failure> {
    match client::places(bus, &subjects::queue(peer, job)).await {
        Ok(places) => Ok(!places.is_empty()),
        Err(QueueError::Bus(_)) => Ok(true),
        Err(error) => Err(no_queue(&error)),
    }
}

/// The one job that is meant.
async fn meant(bus: &Bus, text: &str) -> Result<(PeerId, JobId), Failure> {
    let (peer, word) = match text.split_once('/') {
        Some((peer, word)) => (Some(exec::target(bus, peer).await?), word),
        None => (None, text),
    };
    let job = word.parse::<JobId>().ok();
    if let (Some(peer), Some(job)) = (&peer, job) {
        return Ok((peer.clone(), job));
    }
    if job.is_none() && (word.len() < FEWEST || word.chars().any(|c| !c.is_ascii_hexdigit() && c != '-')) {
        return Err(Failure::usage(format!(
            "{word:?} is not a job: its id is wanted, or the last {FEWEST} or more characters of it"
        )));
    }
    let mut found = waiting_as(bus, peer.as_ref(), word).await.map_err(|error| no_queue(&error))?;
    match found.len() {
        0 => Err(Failure::new(
            NOT_FOUND,
            format!(
                "not found: no job {word} waits in the queue: it has begun, is over, was cancelled, or never was; \
                 `d queue cancel PEER/JOB` with the whole id asks the peer"
            ),
        )),
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<String> = found.iter().map(|(peer, job)| format!("{peer}/{job}")).collect();
            Err(Failure::usage(format!("{word} is ambiguous: {} end in it", ids.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_typed_stays_in_its_line() {
        assert_eq!(one_line("a\n\x1b[2Jb"), "a\\n\\u{1b}[2Jb");
        assert_eq!(one_line(&"ü".repeat(100)), format!("{}…", "ü".repeat(COMMAND_SHOWN)));
    }
}
