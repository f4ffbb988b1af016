//! The commands under the names, with the flags and texts, that older scripts know. They stand on
//! the same code as the modern verbs; unlike their originals they fail on stderr, with a code.

mod machine;

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;

use super::args::{Common, peer_name};
use super::connect::connect;
use super::exec::Exec;
use super::exit::CliError;
use super::{exec, output, peers, status, task as tasks, time};
use machine::SetPeerConfig;
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::peers::PeerRow;

/// The verbs under their old names.
#[derive(Debug, Subcommand)]
pub(super) enum Seeds {
    /// Run a shell command on a peer
    #[command(
        name = "execOnPeer",
        after_help = "Example:\n  d execOnPeer --peer vps --directory /opt/app --shellCmd 'git pull'"
    )]
    ExecOnPeer(ExecOnPeer),
    /// All peers as JSON, sorted by address
    #[command(name = "listPeers", after_help = "Example:\n  d listPeers | jq -r '.[].peer_id'")]
    ListPeers,
    /// One peer as JSON
    #[command(name = "getPeerInfo", after_help = "Example:\n  d getPeerInfo --peer vps")]
    GetPeerInfo(OnePeer),
    /// This machine's daemon as JSON
    #[command(name = "getPeerStatus", after_help = "Example:\n  d getPeerStatus | jq -r .role")]
    GetPeerStatus,
    /// Take a peer out of the registry
    #[command(name = "deletePeer", after_help = "Example:\n  d deletePeer --peer vps")]
    DeletePeer(OnePeer),
    /// Set this machine's role, id and leader
    #[command(
        name = "setPeerConfig",
        after_help = "Example:\n  d setPeerConfig --role worker --id vps --leader 10.0.0.1"
    )]
    SetPeerConfig(SetPeerConfig),
    /// Make this machine a worker named like its host
    #[command(name = "registerWorker", after_help = "Example:\n  d registerWorker")]
    RegisterWorker,
    /// Take out what a leader left behind on a worker
    #[command(name = "dbSanityCheck", after_help = "Example:\n  d dbSanityCheck | jq -r .message")]
    DbSanityCheck,
    /// Run the task `pull` on a peer
    #[command(name = "remotePull", after_help = "Example:\n  d remotePull --peer vps")]
    RemotePull(OnePeer),
    /// Run the task `build` on a peer
    #[command(name = "remoteBd", after_help = "Example:\n  d remoteBd --peer vps")]
    RemoteBd(OnePeer),
    /// Run the task `deploy` on a peer
    #[command(name = "remoteDeployDaemon", after_help = "Example:\n  d remoteDeployDaemon --peer vps")]
    RemoteDeployDaemon(OnePeer),
}

/// What `d execOnPeer` is given. What is missing is said in the words scripts know.
#[derive(Debug, ClapArgs)]
pub(super) struct ExecOnPeer {
    #[arg(long)]
    peer: Option<String>,
    #[arg(long)]
    directory: Option<String>,
    #[arg(long = "shellCmd", alias = "command", allow_hyphen_values = true)]
    shell_cmd: Option<String>,
}

/// What the commands about one peer are given.
#[derive(Debug, ClapArgs)]
pub(super) struct OnePeer {
    #[arg(long)]
    peer: Option<String>,
}

/// Runs a command under its old name.
pub(super) async fn run(common: &Common, verb: Seeds) -> Result<u8, CliError> {
    let done = match verb {
        Seeds::ExecOnPeer(old) => exec_on_peer(common, old).await,
        Seeds::ListPeers => list_peers(common).await,
        Seeds::GetPeerInfo(old) => get_peer_info(common, old).await,
        Seeds::GetPeerStatus => get_peer_status(common).await,
        Seeds::DeletePeer(old) => delete_peer(common, old).await,
        Seeds::SetPeerConfig(old) => machine::set_peer_config(common, &old).await,
        Seeds::RegisterWorker => machine::register_worker(common).await,
        Seeds::DbSanityCheck => machine::db_sanity_check(common).await,
        Seeds::RemotePull(old) => task(common, "pull", old, "remotePull").await,
        Seeds::RemoteBd(old) => task(common, "build", old, "remoteBd").await,
        Seeds::RemoteDeployDaemon(old) => task(common, "deploy", old, "remoteDeployDaemon").await,
    };
    done.map_err(CliError::for_seeds)
}

/// A peer in the keys of the table `peer_registry`.
#[derive(Serialize)]
struct Row<'a> {
    peer_id: &'a str,
    ip_address: Option<&'a str>,
    mac_address: Option<&'a str>,
    hostname: &'a str,
    last_seen: String,
    is_online: bool,
    daemon_version: &'a str,
}

impl<'a> From<&'a PeerRow> for Row<'a> {
    fn from(row: &'a PeerRow) -> Self {
        Self {
            peer_id: row.peer_id.as_str(),
            ip_address: row.ip_address.as_deref(),
            mac_address: row.mac_address.as_deref(),
            hostname: &row.hostname,
            last_seen: time::local_time(&row.last_seen).trim_end_matches('Z').to_owned(),
            is_online: row.is_online,
            daemon_version: &row.daemon_version,
        }
    }
}

/// `d execOnPeer --peer P --directory D --shellCmd C`
async fn exec_on_peer(common: &Common, old: ExecOnPeer) -> Result<u8, CliError> {
    let command = "execOnPeer";
    let exec = Exec {
        queue: None,
        detach: false,
        durable: false,
        tty: false,
        detach_keys: None,
        name: None,
        task: None,
        peer: peer(old.peer, command)?,
        directory: Some(required(old.directory, "--directory", command)?),
        sh: Some(required(old.shell_cmd, "--shellCmd", command)?),
        stdin: false,
        env: Vec::new(),
        user: None,
        timeout: None,
        wait: std::time::Duration::ZERO,
        no_wait: false,
        report: None,
        argv: Vec::new(),
    };
    exec::run(common, exec).await
}

/// `d listPeers`
async fn list_peers(common: &Common) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    let mut rows = peers::all(&bus).await?;
    rows.sort_by_key(|row| {
        let address = row.ip_address.as_ref().and_then(|ip| ip.parse::<std::net::IpAddr>().ok());
        (address.is_none(), address, row.peer_id.clone())
    });
    pretty(&rows.iter().map(Row::from).collect::<Vec<_>>())
}

/// `d getPeerInfo --peer P`
async fn get_peer_info(common: &Common, old: OnePeer) -> Result<u8, CliError> {
    let peer = peer(old.peer, "getPeerInfo")?;
    let bus = connect(common).await?;
    pretty(&Row::from(&peers::one(&bus, &peer).await?))
}

/// `d deletePeer --peer P`
async fn delete_peer(common: &Common, old: OnePeer) -> Result<u8, CliError> {
    let row = peers::remove(common, &peer(old.peer, "deletePeer")?, peers::WhenOnline::Remove).await?;
    output::line(&format!("Deleted peer: {}", row.peer_id))?;
    Ok(0)
}

/// A task under its old name.
async fn task(common: &Common, name: &str, old: OnePeer, command: &str) -> Result<u8, CliError> {
    tasks::named(common, name, &peer(old.peer, command)?).await
}

/// `d getPeerStatus`
async fn get_peer_status(common: &Common) -> Result<u8, CliError> {
    let own = status::look(common).await?;
    let is_leader = own.state.role == Role::Leader;
    let mut shown = serde_json::json!({
        "role": own.state.role,
        "peer_id": own.state.peer_id,
        "leader_address": own.leader_address,
        "is_leader": is_leader,
        "connected_to_leader": own.connected,
    });
    if is_leader {
        shown["connected_workers"] = own.workers.into();
    }
    pretty(&shown)
}

fn pretty<T: Serialize>(value: &T) -> Result<u8, CliError> {
    output::pretty_json(value)?;
    Ok(0)
}

fn peer(value: Option<String>, command: &str) -> Result<String, CliError> {
    let name = required(value, "--peer", command)?;
    peer_name(&name).map_err(|why| CliError::usage(format!("--peer: {why}")))
}

fn required(value: Option<String>, flag: &str, command: &str) -> Result<String, CliError> {
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        CliError::usage("")
            .in_known_words(format!("Missing required argument '{flag}' for command '{command}'."))
    })
}
