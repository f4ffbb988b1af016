//! `d status`: the state of this machine's daemon, and whether the leader hears it.

use std::time::Duration;

use clap::Args as ClapArgs;

use super::args::Common;
use super::connect::connect;
use super::exit::{CliError, OTHER, USAGE};
use super::output::Table;
use super::settings::{Settings, variable};
use super::{output, time};
use peerbus_bus::NatsAddress;
use peerbus_client::peers as registry;
use peerbus_daemon::self_upgrade::UpgradeOutcome;
use peerbus_daemon::state::{self, DaemonState, ReadError, RunState};
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::peers::{Found, PeerRow};

/// Timeout of this machine's daemon's answer over the bus.
const PING_WITHIN: Duration = Duration::from_secs(2);

/// What `d status` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct Status {
    /// As JSON: one object in one line
    #[arg(long)]
    json: bool,
    /// Only this machine's peer id, without asking the bus
    #[arg(long, conflicts_with = "json")]
    id: bool,
}

/// The known state of this machine's daemon.
pub(super) struct LocalDaemon {
    pub(super) state: DaemonState,
    /// Host of the bus.
    pub(super) leader_address: String,
    /// Whether this daemon answers over the bus.
    pub(super) on_the_bus: bool,
    /// Whether the leader hears this daemon.
    pub(super) connected: bool,
    /// Why the leader could not be asked: the user has no identity in the fleet.
    pub(super) unasked: Option<String>,
    /// On a leader: the workers it hears; `None` if it cannot be asked.
    pub(super) workers: Option<Vec<String>>,
}

/// Reads the daemon's state file, and asks the leader whether it hears the daemon.
pub(super) async fn look(common: &Common) -> Result<LocalDaemon, CliError> {
    let settings = Settings::read(common)?;
    let state = state::read(&settings.state_dir())
        .map_err(|error| CliError::new(OTHER, format!("no daemon: {error}; start one with `d daemon run`")))?
        .truth();
    ask(common, &settings, state).await
}

/// Asks the leader whether it hears the daemon with this state.
pub(super) async fn ask(
    common: &Common,
    settings: &Settings<'_>,
    state: DaemonState,
) -> Result<LocalDaemon, CliError> {
    let leader_address =
        state.nats.parse::<NatsAddress>().map_or_else(|_| state.nats.clone(), |nats| nats.first().0);
    let mut own = LocalDaemon {
        state,
        leader_address,
        on_the_bus: false,
        connected: false,
        unasked: None,
        workers: None,
    };
    let bus = match connect(&as_the_daemon(common, settings, &own.state)?).await {
        Ok(bus) => bus,
        Err(failure) => {
            own.unasked = Some(failure.message).filter(|_| failure.code == USAGE);
            return Ok(own);
        }
    };
    let lives = matches!(own.state.state, RunState::Starting | RunState::Ready | RunState::Stopping);
    if let (true, Ok((beat, _))) = (lives, registry::ping(&bus, &own.state.peer_id, PING_WITHIN).await) {
        own.on_the_bus = beat.instance == own.state.instance;
    }
    if let Ok(answer) = registry::get(&bus, own.state.peer_id.as_str()).await
        && let Found::One { peer } = answer.found
    {
        own.connected = lives && peer.is_online && peer.instance == Some(own.state.instance);
    }
    if own.state.role == Role::Leader {
        let is_worker = |row: &PeerRow| row.is_online && row.peer_id != own.state.peer_id;
        let workers =
            |rows: Vec<PeerRow>| rows.into_iter().filter(is_worker).map(|row| row.peer_id.into()).collect();
        own.workers = registry::list(&bus).await.ok().map(workers);
    }
    Ok(own)
}

/// Whether a leader runs on a state directory.
pub(super) fn leads(state_dir: &std::path::Path) -> bool {
    running(state_dir).is_some_and(|daemon| daemon.role == Role::Leader)
}

/// Whether a daemon runs on a state directory.
pub(super) fn runs(state_dir: &std::path::Path) -> bool {
    running(state_dir).is_some()
}

/// The daemon that runs on a state directory, from its state file.
pub(super) fn running(state_dir: &std::path::Path) -> Option<DaemonState> {
    let runs = |state: RunState| matches!(state, RunState::Starting | RunState::Ready | RunState::Stopping);
    state::read(state_dir).ok().map(DaemonState::truth).filter(|daemon| runs(daemon.state))
}

/// The daemon's bus, unless a flag names another. If the user's own settings lead to it, they are
/// kept, since they may have the user's identity.
fn as_the_daemon(common: &Common, settings: &Settings<'_>, state: &DaemonState) -> Result<Common, CliError> {
    let same = settings.address()?.to_string() == state.nats;
    let nats = if common.nats.is_some() || same { common.nats.clone() } else { Some(state.nats.clone()) };
    Ok(Common { nats, ..common.clone() })
}

/// This machine's peer id: the running daemon's, else the configured one, else the last daemon's.
fn own_id(common: &Common) -> Result<String, CliError> {
    let settings = Settings::read(common)?;
    let last = state::read(&settings.state_dir()).map(DaemonState::truth);
    if let Ok(state) = &last
        && matches!(state.state, RunState::Starting | RunState::Ready | RunState::Stopping)
    {
        return Ok(state.peer_id.to_string());
    }
    let configured = variable("PEERBUS_PEER_ID").or(settings.file.peer_id);
    configured.map_or_else(|| last.map(|state| state.peer_id.to_string()), Ok).map_err(|error| {
        CliError::other(format!(
            "no peer id: none is configured, and {error}; `d config set peer_id ID` sets one"
        ))
    })
}

/// `d status`
pub(super) async fn run(common: &Common, args: &Status) -> Result<u8, CliError> {
    if args.id {
        output::line(&own_id(common)?)?;
        return Ok(0);
    }
    let settings = Settings::read(common)?;
    let own = match state::read(&settings.state_dir()) {
        // Programs get this in the JSON, too; users get a hint instead.
        Err(error @ ReadError::Missing(_)) if args.json => {
            let never = serde_json::json!({
                "peer_id": own_id(common).ok(), "state": "never_started", "state_reason": error.to_string(),
                "connected_to_leader": false,
            });
            output::json(&never)?;
            return Ok(OTHER);
        }
        _ => look(common).await?,
    };
    if args.json {
        let mut shown = serde_json::to_value(&own.state).unwrap_or_default();
        shown["connected_to_leader"] = own.unasked.is_none().then_some(own.connected).into();
        output::json(&shown)?;
    } else {
        output::table(&facts(&own))?;
    }
    Ok(u8::from(own.state.state != RunState::Ready || own.state.off_the_bus.is_some()))
}

fn facts(own: &LocalDaemon) -> Table {
    let state = &own.state;
    let next = state.program.as_ref().and_then(|program| program.next.as_ref());
    let mut table = Table::of_facts();
    table.fact("peer", state.peer_id.as_str());
    table.fact("role", state.role.as_str());
    table.fact("state", doing(state));
    table.fact("since", time::local_time(&state.since));
    table.fact("process", state.process.pid.to_string());
    table.fact("version", versions(&state.version, next));
    table.fact("bus", state.nats.as_str());
    table.fact("leader", hears(own));
    table
}

/// The daemon's current state, and its reason.
pub(super) fn doing(state: &DaemonState) -> String {
    match &state.off_the_bus {
        Some(off) => format!("off the bus since {}: {}", time::local_time(&off.since), off.why),
        None => format!("{}: {}", word(state.state), state.state_reason),
    }
}

/// The running version, and the state of an upgrade.
pub(super) fn versions(runs: &str, next: Option<&UpgradeOutcome>) -> String {
    let Some(UpgradeOutcome { version, is_refused, why }) = next else { return runs.to_owned() };
    let other = version.as_deref().unwrap_or("another one");
    let so = if *is_refused { "is not taken over" } else { "is to take over" };
    format!("{runs}; {other} {so}: {why}")
}

fn hears(own: &LocalDaemon) -> String {
    match &own.unasked {
        Some(why) => format!("not asked: {why}"),
        None if own.connected => "hears us".to_owned(),
        None => "does not hear us".to_owned(),
    }
}

pub(super) fn word(state: RunState) -> &'static str {
    match state {
        RunState::Starting => "starting",
        RunState::Ready => "ready",
        RunState::Stopping => "stopping",
        RunState::Stopped => "stopped",
        RunState::Failed => "failed",
    }
}
