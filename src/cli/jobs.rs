//! `d jobs`: the running and past jobs of the fleet, and how to name one job.
//!
//! A list is complete or names what is missing: each peer that did not answer is named and makes
//! the exit code nonzero.

mod find;
mod newest;
mod table;

use clap::Args as ClapArgs;
use futures::stream::StreamExt;

use super::args::{Common, peer_name};
use super::connect::{connect, must_see_jobs};
use super::exit::{CliError, OFFLINE, OTHER, REFUSED, TIMED_OUT};
use super::output;
use super::peers::Format;
pub(super) use find::{Found, Wanted, find, wanted};
pub(super) use newest::newest;
use peerbus_bus::{Bus, BusError};
use peerbus_client::jobs;
use peerbus_client::policy::PolicyQueryError;
use peerbus_protocol::PeerId;
use peerbus_protocol::jobs::{Job, JobFilter, JobQuery};
use peerbus_protocol::peers::PeerRow;
pub(super) use table::{state, who};

/// What `d jobs` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d jobs                    what runs now, on every peer that is online\n  d jobs vps desktop -a     on two peers, what has ended as well\n  d jobs -a -n 20           the newest 20\n  d jobs --json | jq -r 'select(.durable) | .id'\n\nJOB is the end of an id: `d stop JOB`, `d wait JOB` and others take it, a whole id, or a session's name;\nPEER/JOB asks that peer alone. A peer that does not answer is named, and the code is not 0."
)]
pub(super) struct Jobs {
    /// Peers: their ids, hostnames or addresses [default: all that are online]
    #[arg(value_parser = peer_name, value_name = "PEER")]
    peers: Vec<String>,
    /// Jobs that have ended, too
    #[arg(short, long)]
    all: bool,
    /// At most this many, the newest
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    newest: Option<u32>,
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// A job and its peer.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Row {
    #[serde(rename = "peer_id")]
    pub(super) peer: PeerId,
    #[serde(flatten)]
    pub(super) job: Job,
}

/// What `d session list` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d session list            on every peer that is online\n  d session list vps --json  on one, as JSON lines"
)]
pub(super) struct Sessions {
    /// Peers: their ids, hostnames or addresses [default: all that are online]
    #[arg(value_parser = peer_name, value_name = "PEER")]
    peers: Vec<String>,
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// `d jobs`
pub(super) async fn run(common: &Common, args: &Jobs) -> Result<u8, CliError> {
    list(common, args, |_| true).await
}

/// `d session list`: the jobs with a terminal.
pub(super) async fn sessions(common: &Common, args: &Sessions) -> Result<u8, CliError> {
    let Sessions { peers, json } = args;
    let output = Some(Format::Wide);
    let all = Jobs { peers: peers.clone(), all: false, newest: None, json: *json, output };
    list(common, &all, |row| row.job.tty).await
}

async fn list(common: &Common, args: &Jobs, wanted: impl Fn(&Row) -> bool) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let query = JobQuery {
        state: if args.all { JobFilter::All } else { JobFilter::Running },
        limit: args.newest,
        ..JobQuery::default()
    };
    let answers = if args.peers.is_empty() {
        ask(&bus, online(&bus, args.json || args.output == Some(Format::Wide)).await?, &query).await
    } else {
        ask_named(&bus, &args.peers, &query).await
    };
    let PeerAnswers { mut rows, silent } = answers;
    // A peer that was queried twice contributes each job only once.
    rows.sort_unstable_by(|one, other| (other.job.id, &other.peer).cmp(&(one.job.id, &one.peer)));
    rows.dedup_by(|one, other| one.job.id == other.job.id && one.peer == other.peer);
    rows.retain(wanted);
    rows.truncate(args.newest.map_or(usize::MAX, |most| most as usize));
    show(args, &rows)?;
    silent.iter().for_each(|one| output::say(&one.message));
    Ok(silent.iter().map(|one| one.code).max().unwrap_or_default())
}

fn show(args: &Jobs, rows: &[Row]) -> Result<(), CliError> {
    if args.json {
        return rows.iter().try_for_each(output::json);
    }
    let what = if args.all { "no jobs are remembered" } else { "no jobs run" };
    let of = if args.peers.is_empty() { String::new() } else { format!(" on {}", args.peers.join(", ")) };
    output::list(&table::table(rows, args.output == Some(Format::Wide)), &format!("{what}{of}"))
}

/// The peers' answers, and the errors of the others.
#[derive(Default)]
struct PeerAnswers {
    rows: Vec<Row>,
    silent: Vec<CliError>,
}

impl PeerAnswers {
    fn take(&mut self, peer: PeerId, answer: Result<Vec<Job>, PolicyQueryError>) {
        match answer {
            Ok(jobs) => self.rows.extend(jobs.into_iter().map(|job| Row { peer: peer.clone(), job })),
            Err(error) => self.silent.push(no_answer(&peer, &error, "its jobs are not in this list")),
        }
    }
}

async fn ask(bus: &Bus, peers: Vec<PeerId>, query: &JobQuery) -> PeerAnswers {
    let mut answers = PeerAnswers::default();
    let mut coming = std::pin::pin!(jobs::of_all(bus, peers, query));
    while let Some((peer, answer)) = coming.next().await {
        answers.take(peer, answer);
    }
    answers.silent.sort_by(|one, other| one.message.cmp(&other.message));
    answers
}

/// Queries peers by any of their names; unknown names are errors.
async fn ask_named(bus: &Bus, names: &[String], query: &JobQuery) -> PeerAnswers {
    let (mut peers, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match named(bus, name).await {
            Ok(peer) if peers.contains(&peer) => {}
            Ok(peer) => peers.push(peer),
            Err(failure) => unknown.push(failure),
        }
    }
    let mut answers = ask(bus, peers, query).await;
    answers.silent.extend(unknown);
    answers
}

/// The peer that a word means: the one with that id if it is online, else the one with that other
/// name.
async fn named(bus: &Bus, name: &str) -> Result<PeerId, CliError> {
    let peer = super::exec::target(bus, name).await?;
    let question = JobQuery { limit: Some(1), ..JobQuery::default() };
    match jobs::page(bus, &peer, &question, jobs::PATIENCE).await {
        Err(PolicyQueryError::Bus(BusError::NoResponders(_))) => {
            super::exec::elsewhere(bus, name, &peer).await
        }
        // The query itself will report the error.
        _ => Ok(peer),
    }
}

/// The peers to query if none was named. Offline peers are reported, but are not an error.
async fn online(bus: &Bus, named: bool) -> Result<Vec<PeerId>, CliError> {
    let (there, away): (Vec<PeerRow>, Vec<PeerRow>) =
        super::peers::all(bus).await?.into_iter().partition(|row| row.is_online);
    match away.len() {
        0 => {}
        _ if named => {
            output::say(&format!(
                "offline, and not asked: {}",
                listed(away.iter().map(|row| &row.peer_id), usize::MAX)
            ));
        }
        1 => output::say("1 peer is offline, and was not asked; -o wide names it"),
        many => output::say(&format!("{many} peers are offline, and were not asked; -o wide names them")),
    }
    Ok(there.into_iter().map(|row| row.peer_id).collect())
}

/// At most this many names, and the number of the others.
fn listed<'a>(peers: impl ExactSizeIterator<Item = &'a PeerId>, most: usize) -> String {
    let all = peers.len();
    let names: Vec<&str> = peers.take(most).map(PeerId::as_str).collect();
    match all.saturating_sub(most) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The error for a peer that did not answer, and its effect.
fn no_answer(peer: &PeerId, error: &PolicyQueryError, so: &str) -> CliError {
    match error {
        PolicyQueryError::Bus(BusError::NoResponders(_)) => {
            CliError::new(OFFLINE, format!("offline: Peer is offline: {peer}: {so}"))
        }
        PolicyQueryError::Bus(_) => CliError::new(TIMED_OUT, format!("timed out: {peer}: {error}: {so}")),
        PolicyQueryError::Declined(_) => {
            CliError::new(REFUSED, format!("refused: {peer}: {error}; an older daemon tells no jobs"))
        }
        PolicyQueryError::Unproven(_) | PolicyQueryError::Malformed(_) => {
            CliError::new(OTHER, format!("{peer}: {error}: {so}"))
        }
    }
}
