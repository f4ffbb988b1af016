//! `d daemon run`: a daemon in the foreground.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args as ClapArgs;
use tokio::sync::Notify;

use super::server::nats_server;
use super::{check, upgrade_guard};
use crate::args::{AuditArg, BrokerArg, Common, RoleArg, UpgradeArg, listen};
use crate::exit::{CliError, OTHER, TAKEN};
use crate::settings::{Settings, check_for_root, variable};
use crate::{log, output};
use peerbus_bus as bus;
use peerbus_daemon::broker::{self, BrokerSettings};
use peerbus_daemon::state::SupervisedBy;
use peerbus_daemon::{
    self as daemon, CALLER_GRACE, ControlSignals, DaemonError, Exit, MAX_JOBS, RunningJobs, self_upgrade,
    trusted_network,
};
use peerbus_leader::registry::DatabaseUrl;
use peerbus_process::{ContainmentKind, ReceivedSignal, Signal, SignalListener};
use peerbus_protocol::exec::check_directory;
use peerbus_protocol::heartbeat::Role;

/// What `d daemon run` is given.
#[derive(Debug, ClapArgs)]
pub(crate) struct DaemonRun {
    #[command(flatten)]
    flags: Flags,
    /// How `d daemon start` runs it: without a terminal, its log in this file
    #[arg(long, value_name = "FILE", hide = true)]
    log_to: Option<PathBuf>,
    /// Whether it would start with these settings: reads them, and opens nothing
    #[arg(long, hide = true)]
    check: bool,
}

/// What a daemon is told on the command line, however it is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct Flags {
    /// This machine's peer id [default: from the hostname]
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// worker, or leader, which is a worker too
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Option<RoleArg>,
    /// The leader's database: sqlite://…, mysql://… or postgres://… [default: SQLite in the state
    /// directory]
    #[arg(long, value_name = "URL")]
    pub(super) database_url: Option<String>,
    /// Directory for commands that name none
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<String>,
    /// Start and supervise a nats-server
    #[arg(long, value_name = "KIND")]
    pub(super) broker: Option<BrokerArg>,
    /// Where that nats-server listens: a loopback or private address [default: where the bus is said
    /// to be, else 127.0.0.1:4222]
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    pub(super) broker_listen: Option<SocketAddr>,
}

/// `d daemon run`
pub(super) async fn run(common: &Common, args: DaemonRun) -> Result<u8, CliError> {
    let settings = Settings::read(common)?;
    if args.check {
        gather(settings, args.flags)?;
        return check::say();
    }
    log::of_a_daemon(common.verbose, settings.file.log.as_ref(), args.log_to.as_deref())?;
    loop {
        let mut settings = gather(Settings::read(common)?, args.flags.clone())?;
        settings.run_by = run_by(args.log_to.is_some());
        let asked = signals()?;
        let ready = |ready: &daemon::Ready| {
            output::complain(&format!("ready peer={} nats={}", ready.peer, ready.nats));
        };
        match daemon::run(settings, ready, asked).await {
            Ok(Exit::Stopped) => return Ok(0),
            // The handover failed if it returns; then this version keeps running.
            Ok(Exit::HandOver(next)) => upgrade_guard::hand_over(*next),
            Err(error @ DaemonError::Taken(_)) => {
                return Err(CliError::new(TAKEN, error.in_one_line()));
            }
            Err(error @ DaemonError::Failed(_)) => {
                return Err(CliError::new(OTHER, error.in_one_line()));
            }
        }
    }
}

fn run_by(detached: bool) -> SupervisedBy {
    match (detached, is_by_systemd()) {
        (true, _) => SupervisedBy::Detached,
        (false, true) => SupervisedBy::Systemd,
        (false, false) => SupervisedBy::Foreground,
    }
}

/// Systemd 248 and later names the process it started. Before, systemd is our parent, and its
/// invocation id is also inherited by shells.
fn is_by_systemd() -> bool {
    if let Some(pid) = variable("SYSTEMD_EXEC_PID") {
        return pid == std::process::id().to_string();
    }
    let parent = format!("/proc/{}/comm", std::os::unix::process::parent_id());
    variable("INVOCATION_ID").is_some()
        && std::fs::read_to_string(parent).is_ok_and(|name| name.trim_end() == "systemd")
}

/// The daemon's control signals. The log names their senders.
fn signals() -> Result<ControlSignals<impl Future<Output = ()>>, CliError> {
    let failed = |error| CliError::other(format!("listening to signals: {error}"));
    // Signals sent during an upgrade's exec were blocked and are still pending.
    let signals = SignalListener::new().map_err(failed)?;
    let (reload, upgrade) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (ring, call) = (Arc::clone(&reload), Arc::clone(&upgrade));
    let jobs = RunningJobs::default();
    let own_jobs = jobs.clone();
    let stop = async move {
        loop {
            let ReceivedSignal { signal, sender, is_queued } = match signals.recv().await {
                Ok(received) => received,
                Err(error) => {
                    tracing::error!(%error, "signals are not heard any more");
                    std::future::pending().await
                }
            };
            let (name, by) = (signal.name(), sender.to_string());
            match signal {
                // A closed terminal must not end the daemon: SIGHUP means reload.
                Signal::HUP => {
                    tracing::info!(signal = name, by, "asked to read the policy again");
                    ring.notify_one();
                }
                Signal::USR1 => {
                    tracing::info!(signal = name, by, "asked to look for another version");
                    call.notify_one();
                }
                // `kill $PPID` in a job's command means the job's own shell. `d` uses queued
                // signals, which mean the daemon.
                _ => match sender.job().filter(|job| !is_queued && own_jobs.has(*job)) {
                    Some(job) => tracing::warn!(
                        signal = name, by, %job,
                        "a command of this daemon's own job sent it a signal to stop, which is ignored"
                    ),
                    None => {
                        tracing::info!(signal = name, by, "asked to stop");
                        return;
                    }
                },
            }
        }
    };
    Ok(ControlSignals { stop, reload, upgrade, jobs })
}

/// Resolves and validates all settings of a daemon.
pub(super) fn gather(settings: Settings<'_>, args: Flags) -> Result<daemon::DaemonSettings, CliError> {
    settings.check_daemons_files()?;
    let role = settings.role(args.role)?;
    let credentials = settings.daemons_credentials()?;
    let peer = settings.daemons_peer(args.id, role, &credentials)?;
    let directory = args.directory.or_else(|| settings.file.directory.clone());
    if let Some(directory) = &directory {
        check_directory(directory).map_err(|why| CliError::usage(format!("--directory: {why}")))?;
    }
    let broker = match args.broker.or(settings.file.broker) {
        Some(_) => Some(managed(&settings, args.broker_listen)?),
        None if args.broker_listen.is_some() => {
            return Err(CliError::usage("--broker-listen: it goes with --broker managed"));
        }
        None => None,
    };
    let reach = trusted_network::reach(&credentials, settings.trusts_the_network());
    let name = format!("peerbus-{peer}");
    let bus = bus::Settings { address: settings.address()?, credentials, reach, name };
    let (state_dir, runtime_dir) = (settings.state_dir(), settings.runtime_dir());
    let policy = settings.policy()?;
    let file = settings.file;
    let database_url = args.database_url.or_else(|| variable("PEERBUS_DATABASE_URL")).or(file.database_url);
    if let (Role::Leader, Some(url)) = (role, &database_url) {
        url.parse::<DatabaseUrl>().map_err(|bad| CliError::usage(bad.to_string()))?;
    }
    Ok(daemon::DaemonSettings {
        role,
        bus,
        state_dir: std::path::absolute(&state_dir).unwrap_or(state_dir),
        runtime_dir,
        database_url,
        fleet_keys: file.fleet_keys,
        broker,
        directory,
        shell: file.shell,
        env: file.env,
        tags: file.tags,
        max_jobs: file.max_jobs.map_or(MAX_JOBS, |most| usize::from(most.get())),
        caller_grace: file.caller_grace.unwrap_or(CALLER_GRACE),
        jobs: file.jobs,
        audit: daemon::audit::Settings {
            size: file.audit_size.unwrap_or(daemon::audit::SIZE),
            required: file.audit == Some(AuditArg::Required),
        },
        containment: containment()?,
        max_peers: file.max_peers.unwrap_or(peerbus_leader::MAX_PEERS),
        policy,
        run_by: SupervisedBy::Foreground,
        handover: self_upgrade::UpgradeSettings {
            notice: file.upgrade != Some(UpgradeArg::Asked),
            check: check::of_this(),
        },
        peer,
    })
}

/// The broker to start. It listens on the address of the bus unless configured otherwise.
fn managed(settings: &Settings<'_>, listen: Option<SocketAddr>) -> Result<BrokerSettings, CliError> {
    let listen = match (listen.or(settings.file.broker_listen), settings.nats()) {
        (Some(listen), _) => listen,
        (None, None) => ([127, 0, 0, 1], broker::DEFAULT_PORT).into(),
        (None, Some(_)) => {
            // Shows the parsed address, since the typed one may hold a password.
            let nats = settings.address()?;
            let wrong = |why: String| CliError::usage(format!("the broker cannot listen at {nats}: {why}"));
            let (host, port) = nats.first();
            let host = if host == "localhost" { "127.0.0.1".to_owned() } else { host };
            let ip: std::net::IpAddr = host.parse().map_err(|_| wrong("an address is wanted".to_owned()))?;
            broker::check_listen((ip, port).into()).map_err(wrong)?
        }
    };
    let fleet_keys = settings.file.fleet_keys.clone();
    let program = nats_server(settings);
    check_for_root("nats-server", &program)?;
    Ok(BrokerSettings { listen, fleet_keys, program })
}

/// The kind of containment: cgroups if available, unless configured otherwise.
fn containment() -> Result<ContainmentKind, CliError> {
    match variable("PEERBUS_CONTAINMENT").as_deref() {
        None | Some("best") => Ok(ContainmentKind::Best),
        Some("reaper") => Ok(ContainmentKind::Reaper),
        Some(other) => {
            Err(CliError::usage(format!("PEERBUS_CONTAINMENT: {other:?} is neither best nor reaper")))
        }
    }
}
