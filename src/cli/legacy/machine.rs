//! The old names of what concerns this machine itself: its configuration, joining, its database.

use clap::Args as ClapArgs;
use serde_json::json;

use super::pretty;
use crate::args::{Common, RoleArg};
use crate::exit::CliError;
use crate::join::{self, JoinRequest};
use crate::settings::Settings;
use crate::{output, status};
use peerbus_leader::stale_registry;
use peerbus_protocol::heartbeat::Role;

/// Where the leader of a fleet is that was never told otherwise.
const LEADER: &str = "10.0.0.1";

/// What `d setPeerConfig` is given. Whatever is left out stays as it is.
#[derive(Debug, ClapArgs)]
pub(crate) struct SetPeerConfig {
    /// leader or worker
    #[arg(long)]
    role: Option<String>,
    /// This machine's peer id
    #[arg(long)]
    id: Option<String>,
    /// Host of the bus, such as 10.0.0.1
    #[arg(long)]
    leader: Option<String>,
}

/// `d setPeerConfig --role R --id I --leader L`
pub(super) async fn set_peer_config(common: &Common, old: &SetPeerConfig) -> Result<u8, CliError> {
    let role = old.role.as_deref().map(role).transpose()?;
    let wish = JoinRequest { role, id: old.id.clone(), leader: old.leader.clone() };
    let saved = join::save(common, &wish)?;
    if saved.role == Role::Leader || !saved.names_a_bus {
        join::take_up(&saved).await?;
        let role = saved.role.as_str();
        output::line(&format!("Peer config saved. Role: {role}, ID: {}", saved.peer))?;
        return Ok(0);
    }
    let leader = &saved.leader;
    match join::follow(&saved).await {
        Ok(()) => {
            output::line(&format!("Peer config saved. Connected to leader at {leader}"))?;
            Ok(0)
        }
        Err(failure) => Err(failure.in_known_words(format!(
            "Peer config saved. Failed to connect to leader at {leader} (will retry on next command)"
        ))),
    }
}

fn role(text: &str) -> Result<RoleArg, CliError> {
    match text {
        "leader" => Ok(RoleArg::Leader),
        "worker" => Ok(RoleArg::Worker),
        _ => Err(CliError::usage("").in_known_words("Invalid role. Use 'leader' or 'worker'.")),
    }
}

/// `d registerWorker`
pub(super) async fn register_worker(common: &Common) -> Result<u8, CliError> {
    let names_a_bus = Settings::read_or_default(common)?.names_a_bus()?;
    let leader = (!names_a_bus).then(|| LEADER.to_owned());
    let id = Some(join::id_of_this_host()?.to_string());
    let saved = join::save(common, &JoinRequest { role: Some(RoleArg::Worker), id, leader })?;
    let (peer, leader) = (&saved.peer, &saved.leader);
    match join::register(&saved).await {
        Ok(()) => {
            output::line(&format!("Registered as worker '{peer}', connected to leader at {leader}"))?;
            Ok(0)
        }
        Err(failure) => Err(failure.in_known_words(format!(
            "Registered as worker '{peer}', failed to connect to leader at {leader} (will retry on next command)"
        ))),
    }
}

/// `d dbSanityCheck`
pub(super) async fn db_sanity_check(common: &Common) -> Result<u8, CliError> {
    let settings = Settings::read(common)?;
    let role = settings.role(None)?;
    if role == Role::Leader {
        let message = format!("No sanity check needed for role: {}", role.as_str());
        return pretty(&json!({ "role": role, "issues_found": false, "actions": [], "message": message }));
    }
    if status::leads(&settings.state_dir()) {
        let why = "this machine's daemon still runs as the leader; restart it as a worker first";
        return Err(CliError::other(why));
    }
    let found = stale_registry::take(&settings.state_dir()).await;
    let found = found.map_err(|error| CliError::other(error.to_string()))?;
    if found.deleted == 0 {
        let message = "Sanity check passed: no issues found";
        return pretty(&json!({ "role": role, "issues_found": false, "actions": [], "message": message }));
    }
    let action = json!({
        "issue": "Worker has peer_registry data (leader-only table)",
        "peer_count": found.deleted,
        "peer_ids": found.peers,
        "action_taken": format!("Deleted {} peer records", found.deleted),
    });
    let message = "Sanity check completed: issues found and fixed";
    pretty(&json!({ "role": role, "issues_found": true, "actions": [action], "message": message }))
}
