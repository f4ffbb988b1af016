//! `d join`: makes this machine a peer of a fleet.
//!
//! The configuration is saved first and kept even if a later step fails. Success means that the
//! leader hears this machine's daemon, not only that the daemon was started.

mod ticket;

use std::time::Duration;

use clap::Args as ClapArgs;
use toml_edit::Value;

use super::args::{Common, RoleArg};
use super::config::Edit;
use super::connect::connect;
use super::exit::{BUS_UNREACHABLE, CliError};
use super::settings::{Settings, own_config, variable};
use super::{daemon, output, peers as registry, status};
use peerbus_bus::{BadAddress, NatsAddress};
use peerbus_client::peers;
use peerbus_daemon::state::SupervisedBy;
use peerbus_identity::InviteToken;
use peerbus_process::host;
use peerbus_protocol::PeerId;
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::ids::BadId;

/// Timeout until the leader hears a ready daemon.
const HEARD_WITHIN: Duration = Duration::from_secs(10);

/// Pause between two queries to the leader.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What `d join` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d join pbj1_…                  the line that `d invite` printed on the fleet's first machine\n  d invite vps | ssh root@vps d join -\n  d join 10.0.0.1                the bus is at nats://10.0.0.1:4222; the id is made of the hostname\n  d join 10.0.0.1 --id vps"
)]
pub(super) struct Join {
    /// The line that `d invite` has printed, or `-`: it is read from standard input, where nobody sees it in
    /// the list of processes. In a fleet without identities: where the bus is, a host, a
    /// host and port, or a NATS URL
    #[arg(value_name = "TOKEN")]
    leader: String,
    /// This machine's peer id [default: as configured, else from the hostname]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Also where this machine's daemon leads a fleet: that leader stops, and the bus where it manages one
    #[arg(long)]
    stop_leading: bool,
}

/// `d join`
pub(super) async fn run(common: &Common, args: Join) -> Result<u8, CliError> {
    let said = if args.leader == "-" { from_stdin()? } else { args.leader };
    if InviteToken::is_one(&said) {
        return ticket::run(common, &said, args.id.as_deref(), args.stop_leading).await;
    }
    if !args.stop_leading {
        leads_nobody(common)?;
    }
    let wish = JoinRequest { role: Some(RoleArg::Worker), id: args.id, leader: Some(said) };
    let saved = save(common, &wish)?;
    let (peer, leader) = (&saved.peer, &saved.leader);
    register(&saved).await.map_err(|failure| {
        let message =
            format!("saved as {peer}, but the leader at {leader} does not hear it: {}", failure.message);
        CliError::new(failure.code, message)
    })?;
    output::line(&format!("joined as {peer}; the leader at {leader} hears it"))?;
    Ok(0)
}

/// Refuses to turn a leader into a worker, since others may depend on it.
fn leads_nobody(common: &Common) -> Result<(), CliError> {
    let state_dir = Settings::read_or_default(common)?.state_dir();
    let Some(leader) = status::running(&state_dir).filter(|daemon| daemon.role == Role::Leader) else {
        return Ok(());
    };
    Err(CliError::other(format!(
        "this machine's daemon, {}, leads the fleet on {}; to join another it would stop, and its bus with it where it \
         manages one: --stop-leading does that",
        leader.peer_id, leader.nats
    )))
}

/// Reads the token from standard input, where other users cannot see it.
fn from_stdin() -> Result<String, CliError> {
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| CliError::other(format!("reading the token from standard input: {error}")))?;
    match line.trim() {
        "" => Err(CliError::usage("TOKEN: standard input has none")),
        line => Ok(line.to_owned()),
    }
}

/// The requested settings. Missing ones stay unchanged.
pub(super) struct JoinRequest {
    pub(super) role: Option<RoleArg>,
    pub(super) id: Option<String>,
    /// A host, a host and port, or a NATS URL.
    pub(super) leader: Option<String>,
}

/// The saved settings.
pub(super) struct Saved {
    pub(super) peer: PeerId,
    pub(super) role: Role,
    /// Host of the bus.
    pub(super) leader: String,
    /// Whether any source names a bus, so that the default is not used.
    pub(super) names_a_bus: bool,
    /// Settings for connecting to that bus.
    pub(super) common: Common,
}

/// Writes the settings into the configuration file. Any invalid one refuses the whole request.
pub(super) fn save(common: &Common, wish: &JoinRequest) -> Result<Saved, CliError> {
    let mut edit = Edit::open(own_config(common))?;
    let mut common = common.clone();
    if let Some(role) = wish.role {
        let role = Role::from(role).as_str();
        not_overruled("PEERBUS_ROLE", role)?;
        edit.set("role", Value::from(role))?;
    }
    if let Some(id) = &wish.id {
        let id: PeerId = id.parse().map_err(|bad: BadId| CliError::usage(format!("--id: {bad}")))?;
        not_overruled("PEERBUS_PEER_ID", id.as_str())?;
        edit.set("peer_id", Value::from(id.as_str()))?;
    }
    if let Some(leader) = &wish.leader {
        let url = url_of(leader)?;
        edit.set("nats", Value::from(url.as_str()))?;
        // The explicit argument takes precedence over the environment, too.
        common.nats = Some(url);
    }
    if wish.role.is_some() || wish.id.is_some() || wish.leader.is_some() {
        edit.save()?;
    }
    let settings = Settings::read_or_default(&common)?;
    Ok(Saved {
        peer: settings.peer_id(wish.id.clone())?,
        role: settings.role(wish.role)?,
        leader: settings.address()?.first().0,
        names_a_bus: settings.names_a_bus()?,
        common: common.clone(),
    })
}

/// Refuses to save a setting that the environment would override.
fn not_overruled(name: &str, wanted: &str) -> Result<(), CliError> {
    match variable(name) {
        Some(other) if other != wanted => Err(CliError::usage(format!(
            "{name}={other} in the environment goes before the configuration; unset it to have {wanted:?}"
        ))),
        _ => Ok(()),
    }
}

/// The URL of the bus on a host.
fn url_of(leader: &str) -> Result<String, CliError> {
    let url = match leader.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("nats://[{ip}]:4222"),
        Err(_) if leader.contains("://") => leader.to_owned(),
        Err(_) if leader.contains(':') => format!("nats://{leader}"),
        Err(_) => format!("nats://{leader}:4222"),
    };
    let is_sound = !leader.is_empty()
        && url
            .parse::<NatsAddress>()
            .map_err(|bad: BadAddress| CliError::usage(format!("leader {leader:?}: {bad}")))
            .is_ok();
    if is_sound {
        Ok(url)
    } else {
        Err(CliError::usage(format!("leader {leader:?}: it is no host, such as 10.0.0.1")))
    }
}

/// The peer id derived from this machine's hostname.
pub(super) fn id_of_this_host() -> Result<PeerId, CliError> {
    let hostname =
        host::hostname().map_err(|error| CliError::other(format!("reading the hostname: {error}")))?;
    PeerId::from_hostname(&hostname).map_err(|_| {
        CliError::usage(format!("the hostname {hostname:?} makes no peer id; give one with `d join --id`"))
    })
}

/// Makes this machine's daemon run with the current settings, and waits until the leader hears it.
pub(super) async fn register(saved: &Saved) -> Result<(), CliError> {
    // Without a bus a daemon does not become ready. Without a leader it does, and is heard later.
    connect(&saved.common).await?.close().await;
    let state_dir = Settings::read_or_default(&saved.common)?.state_dir();
    // A daemon in a user's terminal must be restarted by that user.
    if status::running(&state_dir).is_none_or(|daemon| daemon.run_by != Some(SupervisedBy::Foreground)) {
        daemon::install_unit(&saved.common)?;
    }
    daemon::ensure_running(&saved.common).await?;
    leader_answers(&saved.common).await?;
    let heard = async {
        while !status::look(&saved.common)
            .await
            .is_ok_and(|own| own.connected && own.state.peer_id == saved.peer)
        {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(HEARD_WITHIN, heard).await.map_err(|_| {
        CliError::new(
            BUS_UNREACHABLE,
            format!("the leader does not hear the daemon of {}; `d doctor` tells more", saved.peer),
        )
    })
}

/// Makes a running daemon apply the saved settings. Starts none.
pub(super) async fn take_up(saved: &Saved) -> Result<(), CliError> {
    if status::runs(&Settings::read_or_default(&saved.common)?.state_dir()) {
        daemon::ensure_running(&saved.common).await.map_err(|failure| {
            let message =
                format!("saved, but this machine's daemon has not taken it up: {}", failure.message);
            CliError::new(failure.code, message)
        })?;
    }
    Ok(())
}

/// Like [`take_up`], but only if the bus is reachable: otherwise a working daemon would be lost.
/// Success means that the leader answers.
pub(super) async fn follow(saved: &Saved) -> Result<(), CliError> {
    connect(&saved.common).await?.close().await;
    take_up(saved).await?;
    leader_answers(&saved.common).await
}

/// Checks that a leader answers on the bus.
pub(super) async fn leader_answers(common: &Common) -> Result<(), CliError> {
    let bus = connect(common).await?;
    peers::list(&bus).await.map(drop).map_err(|error| registry::no_registry(&error))
}
