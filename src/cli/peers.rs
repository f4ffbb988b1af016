//! `d peers`, `d peer show`, `d peer rm`: the registry for people.

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::args::{Common, peer_name};
use super::cache;
use super::connect::{NO_LEADER, connect, must_be_an_operator};
use super::exit::{BUS_UNREACHABLE, CliError, NOT_FOUND};
use super::output::{self, Cell, Table};
use super::time;
use peerbus_bus::Bus;
use peerbus_client::peers;
use peerbus_client::{NotFound, RegistryError};
use peerbus_protocol::PeerId;
use peerbus_protocol::peers::{Found, GetAnswer, PeerRow, Presence};

/// What `d peers` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct Peers {
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// How to show a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// With every column.
    Wide,
}

/// What can be done with one peer.
#[derive(Debug, Subcommand)]
pub(super) enum Peer {
    /// Everything the registry knows of a peer
    #[command(after_help = "Examples:\n  d peer show vps\n  d peer show 10.0.0.7 --json")]
    Show(PeerShow),
    /// Take a peer out of the registry
    #[command(after_help = "Example:\n  d peer rm old-laptop")]
    Rm(PeerRm),
}

/// What `d peer show` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct PeerShow {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    peer: String,
    /// As JSON: one object in one line
    #[arg(long)]
    json: bool,
}

/// What `d peer rm` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct PeerRm {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    peer: String,
    /// What the registry knew of it, as JSON: one object in one line
    #[arg(long)]
    json: bool,
    /// Also one that is online: it is back with its next heartbeat, as a new peer
    #[arg(long)]
    force: bool,
}

/// `d peers`
pub(super) async fn list(common: &Common, args: &Peers) -> Result<u8, CliError> {
    let rows = all(&connect(common).await?).await?;
    if args.json {
        rows.iter().try_for_each(output::json)?;
        return Ok(0);
    }
    let wide = args.output == Some(Format::Wide);
    let mut table = Table::of(if wide { &WIDE } else { &HEADING }).wide(wide);
    rows.iter().for_each(|row| table.row(cells(row, wide)));
    output::list(&table, "no peers")?;
    Ok(0)
}

/// `d peer`
pub(super) async fn one_peer(common: &Common, verb: Peer) -> Result<u8, CliError> {
    match verb {
        Peer::Show(args) => show(common, &args).await,
        Peer::Rm(args) => {
            let row = remove(common, &args.peer, WhenOnline::of(args.force)).await?;
            match args.json {
                true => output::json(&row)?,
                false => output::line(&format!("removed {}", row.peer_id))?,
            }
            Ok(0)
        }
    }
}

async fn show(common: &Common, args: &PeerShow) -> Result<u8, CliError> {
    let row = one(&connect(common).await?, &args.peer).await?;
    if args.json {
        output::json(&row)?;
        return Ok(0);
    }
    let none = || "-".to_owned();
    let seen = format!("{} ({} ago)", time::local_time(&row.last_seen), time::ago(&row.last_seen));
    let mut table = Table::of_facts();
    table.fact("peer", row.peer_id.as_str());
    table.fact("state", state(row.state));
    table.fact("role", row.role.as_str());
    table.fact("hostname", row.hostname);
    if let Some(names) = row.names {
        table.fact("names", if names.is_empty() { none() } else { names.join(" ") });
    }
    table.fact("address", row.ip_address.unwrap_or_else(none));
    table.fact("hardware", row.mac_address.unwrap_or_else(none));
    table.fact("last seen", seen);
    table.fact("daemon", format!("{} on {} {}", row.daemon_version, row.os, row.arch));
    table.fact("up for", time::span(row.uptime_s));
    table.fact("jobs", row.jobs.to_string());
    table.fact("load", row.load.map_or_else(none, |load| format!("{load:.2}")));
    table.fact("tags", if row.tags.is_empty() { none() } else { row.tags.join(" ") });
    table.fact("instance", row.instance.map_or_else(none, |instance| instance.to_string()));
    output::table(&table)?;
    Ok(0)
}

/// All peers, or a loud failure: never an empty list because nobody answered. One that is short
/// because the registry is full says so.
pub(super) async fn all(bus: &Bus) -> Result<Vec<PeerRow>, CliError> {
    let list = peers::census(bus).await.map_err(|error| no_registry(&error))?;
    if list.left_out {
        let most = list.rows.len();
        output::say(&format!(
            "the registry takes {most} peers and has as many; further ones are on the bus and not in this list: \
             raise max_peers in the leader's configuration"
        ));
    }
    cache::learn(bus.address(), &list.rows);
    Ok(list.rows)
}

/// One peer by any of its names.
pub(super) async fn one(bus: &Bus, name: &str) -> Result<PeerRow, CliError> {
    let row = meant(name, peers::get(bus, name).await)?;
    cache::learn_one(bus.address(), &row);
    Ok(row)
}

/// What becomes of a peer that is online and is to be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenOnline {
    /// It stays: with its next heartbeat it would be back.
    Refuse,
    /// It is taken out, and that it comes back is said.
    Remove,
}

impl WhenOnline {
    fn of(force: bool) -> Self {
        if force { Self::Remove } else { Self::Refuse }
    }
}

/// Takes a peer out of the registry; returns what was known of it.
pub(super) async fn remove(common: &Common, name: &str, online: WhenOnline) -> Result<PeerRow, CliError> {
    let bus = connect(common).await?;
    must_be_an_operator(&bus)?;
    if online == WhenOnline::Refuse {
        let row = meant(name, peers::get(&bus, name).await)?;
        if row.is_online {
            let peer = &row.peer_id;
            return Err(CliError::other(format!(
                "{peer} is online and would be back with its next heartbeat: stop its daemon first (`d daemon stop` \
                 there), or --force"
            )));
        }
    }
    let row = meant(name, peers::remove(&bus, name).await)?;
    cache::forget(bus.address(), &row.peer_id);
    if row.is_online {
        let peer = &row.peer_id;
        output::say(&format!(
            "{peer} is online, so it is back with its next heartbeat; `d daemon stop` there stops its daemon"
        ));
    }
    Ok(row)
}

fn meant(name: &str, answer: Result<GetAnswer, RegistryError>) -> Result<PeerRow, CliError> {
    let GetAnswer { found, claimed_by, .. } = answer.map_err(|error| no_registry(&error))?;
    match found {
        Found::One { peer } => Ok(*peer),
        Found::None {} if claimed_by.is_empty() => Err(not_found(name)),
        Found::None {} => {
            let not_found = NotFound::Claimed { name: name.to_owned(), ids: claimed_by };
            Err(CliError::new(NOT_FOUND, format!("not found: {not_found}"))
                .in_known_words_for_seeds(format!("Peer not found: {name}")))
        }
        Found::Many { ids } => Err(ambiguous(name, &ids)),
    }
}

pub(super) fn not_found(name: &str) -> CliError {
    CliError::new(NOT_FOUND, format!("not found: Peer not found: {name}; `d peers` shows who is known"))
        .in_known_words_for_seeds(format!("Peer not found: {name}"))
}

fn ambiguous(name: &str, ids: &[PeerId]) -> CliError {
    let ids = ids.iter().map(PeerId::as_str).collect::<Vec<_>>().join(", ");
    CliError::new(
        NOT_FOUND,
        format!("not found: {name} is ambiguous: {ids} have it; name one of them by its id"),
    )
    .in_known_words_for_seeds(format!("Peer not found: {name}"))
}

/// Says that the registry gave no answer, and why.
pub(super) fn no_registry(error: &RegistryError) -> CliError {
    let next = "is a daemon with --role leader running? Commands still work by peer id";
    CliError::new(BUS_UNREACHABLE, format!("registry unreachable: {NO_LEADER}: {error}; {next}"))
        .in_known_words_for_seeds(NO_LEADER)
}

const HEADING: [&str; 7] = ["PEER", "STATE", "ROLE", "ADDRESS", "HOSTNAME", "LAST SEEN", "VERSION"];
const WIDE: [&str; 13] = [
    "PEER",
    "STATE",
    "ROLE",
    "ADDRESS",
    "HOSTNAME",
    "LAST SEEN",
    "VERSION",
    "JOBS",
    "LOAD",
    "UP",
    "OS",
    "TAGS",
    "HARDWARE",
];

fn cells(row: &PeerRow, wide: bool) -> Vec<Cell> {
    let or_dash = |text: Option<&String>| Cell::from(text.map_or("-", String::as_str));
    let mut cells = vec![
        row.peer_id.as_str().into(),
        state(row.state),
        row.role.as_str().into(),
        or_dash(row.ip_address.as_ref()),
        row.hostname.as_str().into(),
        format!("{} ago", time::ago(&row.last_seen)).into(),
        row.daemon_version.as_str().into(),
    ];
    if wide {
        cells.extend([
            row.jobs.to_string().into(),
            row.load.map_or_else(|| "-".into(), |load| format!("{load:.2}").into()),
            time::span(row.uptime_s).into(),
            format!("{}/{}", row.os, row.arch).into(),
            or_dash(Some(row.tags.join(",")).filter(|tags| !tags.is_empty()).as_ref()),
            or_dash(row.mac_address.as_ref()),
        ]);
    }
    cells
}

fn state(presence: Presence) -> Cell {
    match presence {
        Presence::Online => Cell::good("online"),
        Presence::Offline => Cell::bad("offline"),
        Presence::Conflict => Cell::bad("conflict"),
        Presence::Unknown => "unknown".into(),
    }
}
