//! `d audit`: who asked a peer for what, and what became of it; and whether its log is sound.

mod table;
mod verify;

use std::collections::VecDeque;

use clap::{Args as ClapArgs, Subcommand};
use jiff::Timestamp;

use super::args::{Common, peer_name};
use super::connect::connect;
use super::exit::{CliError, OFFLINE, REFUSED, TIMED_OUT};
use super::output;
use super::peers::Format;
use super::time::since;
use peerbus_bus::{Bus, BusError};
use peerbus_client::audit;
use peerbus_client::peers::PingError;
use peerbus_protocol::PeerId;
use peerbus_protocol::audit::{AuditPage, AuditQuery};
use table::Table;
use verify::Verify;

/// What `d audit` is given.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(
    override_usage = "d audit [OPTIONS] <PEER>\n       d audit verify [PEER]",
    after_help = "Examples:\n  d audit vps --since 1h\n  d audit vps -n 20\n  d audit vps --json | jq 'select(.event == \"refused\")'\n  d audit verify vps      fetch the whole log and check its chain here\n  d audit verify          check the log of this machine's state directory"
)]
pub(super) struct Audit {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name, required = true)]
    peer: Option<String>,
    /// Only what was written in this time until now, such as 1h or 2d, or since this moment, such as
    /// 2026-11-21, '2026-11-21 10:00' in local time, or 2026-11-21T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// At most this many lines, the last ones; a command that has ended has two
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    lines: Option<u32>,
    /// The lines as the peer wrote them: JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything, however wide the terminal is
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// What else can be done with the log.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Check that nothing of a log was changed or taken out
    Verify(Verify),
}

/// `d audit`
pub(super) async fn run(common: &Common, args: Audit) -> Result<u8, CliError> {
    match args.verb {
        Some(Verb::Verify(verify)) => verify::run(common, &verify).await,
        None => show(common, &args).await,
    }
}

async fn show(common: &Common, args: &Audit) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    let name = args.peer.as_deref().unwrap_or_default();
    let since = args.since.map(|since| since.to_string());
    let mut query = AuditQuery { since, last: args.lines, ..AuditQuery::default() };
    let (peer, mut page) = first_page(&bus, name, &query).await?;
    // `-n` holds back the lines until the last one has come: the peer may write more meanwhile.
    let most = if args.json && args.lines.is_none() { audit::LOG_MOST } else { audit::HELD_MOST };
    let (mut shown, mut fetched) = (Shown::new(args), audit::FetchCount::at_most(most));
    loop {
        fetched.add(&page.lines).map_err(|error| no_answer(&peer, &error))?;
        shown.take(page.lines)?;
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
        page = audit::page(&bus, &peer, &query).await.map_err(|error| no_answer(&peer, &error))?;
    }
    shown.finish()?;
    Ok(0)
}

/// Lines on their way to a person or a program.
struct Shown {
    json: bool,
    wide: bool,
    most: Option<usize>,
    held: VecDeque<String>,
}

impl Shown {
    fn new(args: &Audit) -> Self {
        let most = args.lines.and_then(|lines| usize::try_from(lines).ok());
        Self { json: args.json, wide: args.output == Some(Format::Wide), most, held: VecDeque::new() }
    }

    fn take(&mut self, lines: Vec<String>) -> Result<(), CliError> {
        if self.json && self.most.is_none() {
            return lines.iter().try_for_each(|line| output::json_line(line));
        }
        self.held.extend(lines);
        let most = self.most.unwrap_or(usize::MAX);
        self.held.drain(..self.held.len().saturating_sub(most));
        Ok(())
    }

    fn finish(self) -> Result<(), CliError> {
        if self.json {
            return self.held.iter().try_for_each(|line| output::json_line(line));
        }
        let mut table = Table::default();
        self.held.iter().for_each(|line| table.add(line));
        output::list(&table.shown(self.wide), "nothing was written down")
    }
}

/// The first page, from whoever has the name that was typed.
async fn first_page(bus: &Bus, name: &str, query: &AuditQuery) -> Result<(PeerId, AuditPage), CliError> {
    let mut peer = super::exec::target(bus, name).await?;
    loop {
        match audit::page(bus, &peer, query).await {
            Ok(page) => return Ok((peer, page)),
            Err(PingError::Bus(BusError::NoResponders(_))) => {
                peer = super::exec::elsewhere(bus, name, &peer).await?;
            }
            Err(error) => return Err(no_answer(&peer, &error)),
        }
    }
}

fn no_answer(peer: &PeerId, error: &PingError) -> CliError {
    match error {
        PingError::Bus(error @ BusError::Forbidden(_)) => CliError::new(
            REFUSED,
            format!("refused: only operators may read what {peer} wrote down: {error}"),
        ),
        PingError::Bus(BusError::Timeout { .. }) => {
            CliError::new(TIMED_OUT, format!("timed out: {peer}: {error}"))
        }
        PingError::Bus(_) | PingError::Unproven(_) => {
            CliError::new(OFFLINE, format!("no answer: {peer}: {error}"))
        }
        PingError::Malformed(_) => {
            let next = format!("`d daemon logs` on {peer} tells more; an older daemon keeps no audit log");
            CliError::other(format!("{peer} shows no audit log: {error}; {next}"))
        }
    }
}
