//! `d status`: what this machine's daemon does, and whether the leader hears it.

use super::args::{Common, Status};
use super::connect::connect;
use super::exit::{Failure, OTHER};
use super::settings::Settings;
use super::{output, render};
use crate::bus::NatsAddress;
use crate::client::peers as registry;
use crate::daemon::state::{self, DaemonState};
use crate::protocol::heartbeat::Role;
use crate::protocol::peers::{Found, PeerRow};

/// What is known of this machine's daemon.
pub(super) struct Own {
    pub(super) state: DaemonState,
    /// Host of the bus.
    pub(super) leader_address: String,
    /// Whether the leader hears this daemon.
    pub(super) connected: bool,
    /// On a leader: the workers it hears.
    pub(super) workers: Vec<String>,
}

/// Reads the daemon's state file and asks the leader what it hears.
pub(super) async fn look(common: &Common) -> Result<Own, Failure> {
    let settings = Settings::read(common)?;
    let state = state::read(&settings.state_dir())
        .map_err(|error| Failure::new(OTHER, format!("no daemon: {error}; start one with `d daemon run`")))?
        .truth();
    let leader_address =
        state.nats.parse::<NatsAddress>().map_or_else(|_| state.nats.clone(), |nats| nats.first().0);
    let mut own = Own { state, leader_address, connected: false, workers: Vec::new() };
    let common =
        Common { nats: common.nats.clone().or_else(|| Some(own.state.nats.clone())), ..common.clone() };
    let Ok(bus) = connect(&common).await else { return Ok(own) };
    if let Ok(answer) = registry::get(&bus, own.state.peer_id.as_str()).await
        && let Found::One { peer } = answer.found
    {
        own.connected = peer.is_online && peer.instance == Some(own.state.instance);
    }
    if own.state.role == Role::Leader {
        let rows = registry::list(&bus).await.unwrap_or_default();
        let is_worker = |row: &PeerRow| row.is_online && row.peer_id != own.state.peer_id;
        own.workers = rows.into_iter().filter(is_worker).map(|row| row.peer_id.to_string()).collect();
    }
    Ok(own)
}

/// `d status`
pub(super) async fn run(common: &Common, args: &Status) -> Result<u8, Failure> {
    let own = look(common).await?;
    if args.json {
        let mut shown = serde_json::to_value(&own.state).unwrap_or_default();
        shown["connected_to_leader"] = own.connected.into();
        output::line(&shown.to_string())?;
    } else {
        output::line(&render::table(&facts(&own)))?;
    }
    Ok(u8::from(own.state.state != state::State::Ready))
}

fn facts(own: &Own) -> Vec<Vec<String>> {
    let state = &own.state;
    let facts = [
        ("peer", state.peer_id.to_string()),
        ("role", state.role.as_str().to_owned()),
        ("state", format!("{}: {}", word(state.state), state.state_reason)),
        ("since", render::local_time(&state.since)),
        ("process", state.process.pid.to_string()),
        ("version", state.version.clone()),
        ("bus", state.nats.clone()),
        ("leader", if own.connected { "hears us" } else { "does not hear us" }.to_owned()),
    ];
    facts.map(|(name, value)| vec![name.to_owned(), value]).to_vec()
}

fn word(state: state::State) -> &'static str {
    match state {
        state::State::Starting => "starting",
        state::State::Ready => "ready",
        state::State::Stopping => "stopping",
        state::State::Stopped => "stopped",
        state::State::Failed => "failed",
    }
}
