//! `d init`: creates a fleet with identities, on its first machine.
//!
//! Guarantees: all checks run before anything is created, and an existing fleet is not touched.
//! Once the configuration is written, the fleet exists even if its daemon fails to start.

mod external;
mod listen;
mod old_bus;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::time::{Instant, sleep};
use toml_edit::Value;

use super::args::{Common, listen as listen_address};
use super::config::Edit;
use super::connect::connect;
use super::exit::CliError;
use super::keys::{self, FleetPaths};
use super::settings::{Settings, variable};
use super::{daemon, output};
use old_bus::OldBus;
use peerbus_bus::NatsAddress;
use peerbus_client::peers;
use peerbus_daemon::broker;
use peerbus_identity::authority::Authority;
use peerbus_process::host;
use peerbus_protocol::PeerId;
use peerbus_protocol::ending::with_causes;
use peerbus_protocol::identity::{Name, Standing};

/// Timeout until the leader answers after its daemon is ready.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Pause between two queries to the leader.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What `d init` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d init --listen 10.0.0.1                      this machine brings the bus, and leads\n  d init --id vps --operator alice\n  d init --external nats://bus.example:4222     the bus is a nats-server of your own"
)]
pub(super) struct Init {
    /// This machine's name in the fleet, its peer id [default: as configured, else from the hostname]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The first person who may run commands [default: you]
    #[arg(long, value_name = "NAME", value_parser = keys::name)]
    operator: Option<Name>,
    /// Where the bus listens: a private address that the others reach [default: that of WireGuard, where
    /// there is one, else loopback]
    #[arg(long, value_name = "ADDR", value_parser = listen_address, conflicts_with = "external")]
    listen: Option<SocketAddr>,
    /// The bus is there already: a nats-server that takes the configuration this writes
    #[arg(long, value_name = "URL")]
    external: Option<String>,
    /// Where a fleet without identities has its bus there: stop that bus, and put one that knows its members in its
    /// place. The other machines are away until they have joined
    #[arg(long, conflicts_with = "external")]
    convert: bool,
}

/// What to create.
struct Plan {
    places: FleetPaths,
    peer: PeerId,
    operator: Name,
    bus: BusPlan,
    /// The bus of a fleet without identities, which must be stopped first.
    old: Option<OldBus>,
}

enum BusPlan {
    Managed(SocketAddr, PathBuf),
    External(NatsAddress),
}

impl BusPlan {
    fn url(&self) -> String {
        match self {
            Self::Managed(address, _) => format!("nats://{address}"),
            Self::External(address) => address.to_string(),
        }
    }
}

/// `d init`
pub(super) async fn run(common: &Common, args: Init) -> Result<u8, CliError> {
    let plan = plan(common, args).await?;
    let authority = make(&plan)?;
    output::say(&format!(
        "the fleet's keys are in {}: who has them is the fleet, so keep a copy where nobody else finds it",
        plan.places.fleet.display()
    ));
    let Plan { places, peer, operator, bus, old } = &plan;
    // An explicit option takes precedence over the environment, too.
    let common = Common {
        nats: Some(bus.url()),
        creds: None,
        config: Some(places.config.clone()).filter(|_| common.config.is_some()),
        ..common.clone()
    };
    match bus {
        BusPlan::External(address) => external::hand_over(&authority, places, address)?,
        BusPlan::Managed(..) => make_room_and_start(&common, old.as_ref()).await.map_err(|failure| {
            let message = format!(
                "the fleet is made, and its leader does not answer yet: {}; when that is mended: `d daemon start`",
                failure.message
            );
            CliError::new(failure.code, message)
        })?,
    }
    output::line(&format!("made a fleet: leader {peer}, operator {operator}, bus {}", bus.url()))?;
    match old {
        Some(old) if !old.others.is_empty() => old.say_who_joins(),
        _ => output::say("next: `d invite NAME` here, then `d join TOKEN` on that machine"),
    }
    Ok(0)
}

/// Runs all checks. Creates nothing.
async fn plan(common: &Common, args: Init) -> Result<Plan, CliError> {
    let Init { id, operator, listen, external, convert } = args;
    let places = FleetPaths::of(common)?;
    let settings = Settings::read_or_default(common)?;
    let file = &settings.file;
    if places.fleet.exists() || file.fleet_keys.is_some() {
        return Err(CliError::other(format!("there is a fleet already, in {}", places.fleet.display())));
    }
    if let Some(creds) = file.daemon_creds.as_ref().or(file.creds.as_ref()) {
        return Err(CliError::other(format!(
            "this machine belongs to a fleet already, by {}; `d config unset` of daemon_creds and creds takes it out",
            creds.display()
        )));
    }
    for name in ["PEERBUS_CREDS", "PEERBUS_DAEMON_CREDS", "PEERBUS_ROLE", "PEERBUS_PEER_ID"] {
        if let Some(value) = variable(name).filter(|value| id.as_ref() != Some(value)) {
            return Err(CliError::usage(format!(
                "{name}={value} in the environment goes before the configuration that is to be written; unset it"
            )));
        }
    }
    let peer = settings.peer_id(id)?;
    let operator = operator.map_or_else(own_name, Ok)?;
    if operator.as_str() == peer.as_str() {
        return Err(CliError::usage(format!(
            "{peer} is the name of this machine, so the first operator needs another one: --operator NAME"
        )));
    }
    daemon::may_run_anew(common)?;
    let mut old = None;
    let bus = match external {
        Some(url) => BusPlan::External(external::address(&url)?),
        None => {
            // Keep the address of the present bus, where the other peers look for it.
            let address = listen.or(file.broker_listen).map_or_else(listen::chosen, Ok)?;
            old = OldBus::at(common, &settings, address).await?;
            match &old {
                Some(old) if !convert => return Err(old.wants_to_be_asked()),
                Some(_) => {}
                None => listen::check(address)?,
            }
            let program = daemon::nats_server(&settings);
            broker::version(&program).map_err(|error| CliError::other(format!(
                "{}; `deploy/get-nats-server` gets one, nats_server in the configuration or PEERBUS_NATS_SERVER \
                 names it, and `--external URL` does with one that runs elsewhere",
                with_causes(error.as_ref())
            )))?;
            BusPlan::Managed(address, std::path::absolute(&program).unwrap_or(program))
        }
    };
    Ok(Plan { places, peer, operator, bus, old })
}

/// The name of the current user, or of the user behind sudo.
fn own_name() -> Result<Name, CliError> {
    let user = variable("SUDO_USER").filter(|_| host::is_root()).unwrap_or_else(host::current_user);
    user.to_lowercase().parse().map_err(|bad| {
        CliError::usage(format!(
            "--operator NAME says who the first operator is, as your own name cannot be one: {bad}"
        ))
    })
}

/// Creates the keys, the two identities and the configuration, or nothing.
fn make(plan: &Plan) -> Result<Authority, CliError> {
    let mut edit = Edit::open(plan.places.config.clone())?;
    // First of all: files that another process has created there meanwhile must not be removed.
    let authority = Authority::create(&plan.places.fleet).map_err(|error| keys::failed(&error))?;
    let mut made = Made { folder: &plan.places.fleet, files: Vec::new(), is_whole: false };
    plan.places.make_identity_folder()?;
    let leader: Name = plan.peer.clone().into();
    for (name, standing) in [(&leader, Standing::Leader), (&plan.operator, Standing::Operator)] {
        let path = plan.places.creds(name);
        if path.exists() {
            return Err(CliError::other(format!(
                "{} is there already: the identity of another fleet?",
                path.display()
            )));
        }
        let identity = authority.make(name, standing, None).map_err(|error| keys::failed(&error))?;
        identity.write(&path).map_err(|error| CliError::other(error.to_string()))?;
        made.files.push(path);
    }
    let path = |path: &Path| Value::from(path.display().to_string());
    edit.set("nats", Value::from(plan.bus.url()))?;
    edit.set("peer_id", Value::from(plan.peer.as_str()))?;
    edit.set("role", Value::from("leader"))?;
    edit.set("fleet_keys", path(&plan.places.fleet))?;
    edit.set("daemon_creds", path(&plan.places.creds(&leader)))?;
    edit.set("creds", path(&plan.places.creds(&plan.operator)))?;
    if let BusPlan::Managed(address, program) = &plan.bus {
        edit.set("broker", Value::from("managed"))?;
        edit.set("broker_listen", Value::from(address.to_string()))?;
        // The daemon may be started later with another PATH.
        edit.set("nats_server", path(program))?;
    }
    edit.save()?;
    made.is_whole = true;
    Ok(authority)
}

/// The files created so far; removed if a later step fails, since nothing uses them yet.
struct Made<'a> {
    folder: &'a Path,
    files: Vec<PathBuf>,
    is_whole: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        // The next `d init` finds and names leftovers.
        let _ = std::fs::remove_dir_all(self.folder);
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Stops the old bus, if any, and starts the leader in its place.
async fn make_room_and_start(common: &Common, old: Option<&OldBus>) -> Result<(), CliError> {
    if let Some(old) = old {
        old.stop()?;
    }
    start(common).await
}

/// Starts the leader, and waits until it answers.
async fn start(common: &Common) -> Result<(), CliError> {
    daemon::settle(common).await?;
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let bus = connect(common).await?;
        let answer = peers::list(&bus).await;
        bus.close().await;
        match answer {
            Ok(_) => return Ok(()),
            Err(_) if Instant::now() < deadline => sleep(ASK_AGAIN).await,
            Err(error) => return Err(super::peers::no_registry(&error)),
        }
    }
}
