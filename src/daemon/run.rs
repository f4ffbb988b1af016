//! The lifecycle of a daemon: the order of startup and shutdown.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::sync::{Notify, watch};

use super::broker::Broker;
use super::context::DaemonSettings;
use super::journal::now;
use super::running_jobs::RunningJobs;
use super::self_upgrade::{self, Notice, OnTrial, ProgramState, UpgradeRecord};
use super::serving::{notify, serve};
use super::state::{self, DaemonState, RunState, StateFile, SupervisedBy, TYPE};
use super::{readiness, trusted_network};
use peerbus_bus::{Bus, ConnectionState};
use peerbus_process::{self as process, ContainmentManager, LockError, ProcessKey, StateLock, ownership};
use peerbus_protocol::Instance;
use peerbus_protocol::ending::with_causes;

/// Why a daemon failed.
#[derive(Debug, Error)]
pub enum DaemonError {
    /// A resource that only one daemon may hold is taken: the state directory, the peer id, or the leadership on
    /// the bus.
    #[error("{0}")]
    Taken(String),
    /// Any other failure.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl DaemonError {
    /// The error with all its causes, in one line.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        let text = match self {
            Self::Taken(why) => why.clone(),
            Self::Failed(error) => with_causes(error.as_ref()),
        };
        text.replace('\n', " ")
    }
}

/// A daemon that is ready to serve.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Its peer id.
    pub peer: String,
    /// The bus address, without credentials.
    pub nats: String,
}

/// Control signals to a serving daemon.
#[derive(Debug)]
pub struct ControlSignals<S> {
    /// Completes when the daemon should stop.
    pub stop: S,
    /// Notified when the daemon should reload its policy.
    pub reload: Arc<Notify>,
    /// Notified when the daemon should upgrade itself.
    pub upgrade: Arc<Notify>,
    /// Where the daemon notes the jobs that it runs: their signals do not stop it.
    pub jobs: RunningJobs,
}

/// How a daemon ended without a failure.
#[derive(Debug)]
pub enum Exit {
    /// It was told to stop.
    Stopped,
    /// It hands over to another version.
    HandOver(Box<NextVersion>),
}

/// What a daemon passes to its next version.
#[derive(Debug)]
pub struct NextVersion {
    /// The upgrade to try.
    pub attempt: UpgradeRecord,
    /// The key of this process.
    pub process: ProcessKey,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The supervisor of this process.
    pub run_by: SupervisedBy,
    /// The lock of the state directory.
    pub lock: StateLock,
}

/// Runs a daemon until `stop` completes, then stops it cleanly. Calls `on_ready` once, as soon as the daemon can
/// serve the first request.
///
/// # Errors
/// If the daemon cannot start or cannot continue.
pub async fn run(
    settings: DaemonSettings,
    on_ready: impl FnOnce(&Ready),
    asked: ControlSignals<impl Future<Output = ()>>,
) -> Result<Exit, DaemonError> {
    let ended = run_unheard(settings, on_ready, asked).await;
    if let Err(error) = &ended {
        notify(&[NotifyState::Status(&error.in_one_line())]);
    }
    ended
}

/// Like [`run`], but does not report the failure to the supervisor.
async fn run_unheard(
    mut settings: DaemonSettings,
    on_ready: impl FnOnce(&Ready),
    asked: ControlSignals<impl Future<Output = ()>>,
) -> Result<Exit, DaemonError> {
    process::reap_inherited();
    if let Err(error) = process::raise_descriptor_limit() {
        tracing::warn!(%error, "allowing more descriptors; they may not suffice for many jobs");
    }
    if let Err(error) = process::keep_memory_private() {
        tracing::warn!(%error, "keeping memory from other processes of the same user");
    }
    let instance = Instance::new();
    state::make_directory(&settings.state_dir)?;
    let lock = lock(&settings)?;
    let trial = self_upgrade::settled_before(&settings.state_dir);
    let path = program(trial.as_ref())?;
    if let Err(why) = ownership::check_for_root(&path) {
        // The program already runs, so starting goes on. The daemon will not upgrade itself to a later file there.
        tracing::warn!(program = %path.display(), why, "others can replace the program of this daemon, which is root's");
    }
    // Read the old state file before this daemon overwrites it.
    if let Ok(before) = state::read(&settings.state_dir) {
        settings.policy.remember(before.policy.as_ref());
    }
    let first = first_state(&settings, instance, &path)?;
    let process = first.process.clone();
    let mut state = StateFile::create(&settings.state_dir, first)
        .with_context(|| format!("writing the state file in {}", settings.state_dir.display()))?;
    trusted_network::check(&settings, &mut state).await?;
    // Do this before starting anything else. A daemon started by a job leaves that job's cgroup here. Processes
    // started earlier would stay in that cgroup and end with the job.
    let containment_manager = open_containment_manager(&settings).inspect_err(|error| {
        state.set(RunState::Failed, with_causes(error.as_ref()));
    })?;
    let broker = start_broker(&mut settings, &mut state).await?;
    let (state_dir, run_by) = (settings.state_dir.clone(), settings.run_by);
    let born = Boot { instance, containment_manager, path, trial };
    let ControlSignals { stop, reload, upgrade, jobs } = asked;
    tokio::pin!(stop);
    let asked = ControlSignals { stop: stop.as_mut(), reload, upgrade, jobs };
    let mut ended = live(settings, born, (&lock, &mut state), on_ready, asked).await;
    if let Some(broker) = broker {
        broker.stop().await;
    }
    if let Ok(Some(_)) = &ended
        && was_stopped(stop).await
    {
        self_upgrade::settled_before(&state_dir);
        ended = Ok(None);
    }
    match ended {
        Ok(None) => {
            state.set(RunState::Stopped, "asked to stop");
            Ok(Exit::Stopped)
        }
        Ok(Some(attempt)) => {
            state.set(RunState::Stopping, format!("hands over to {}", attempt.version));
            Ok(Exit::HandOver(Box::new(NextVersion { attempt, process, state_dir, run_by, lock })))
        }
        Err(error) => {
            state.set(RunState::Failed, error.to_string());
            Err(error)
        }
    }
}

/// Whether a stop arrived after the daemon decided to hand over. Later stop requests go to the next version.
async fn was_stopped(stop: impl Future<Output = ()>) -> bool {
    /// Upper bound for the delivery of a pending signal.
    const TOLD_WITHIN: Duration = Duration::from_millis(50);
    tokio::time::timeout(TOLD_WITHIN, stop).await.is_ok()
}

/// What a daemon has before it serves.
struct Boot {
    instance: Instance,
    containment_manager: ContainmentManager,
    /// The program file it was started from.
    path: PathBuf,
    /// The upgrade on trial, if this version has not proved itself yet.
    trial: Option<OnTrial>,
}

/// The path of this program. On trial, the path of the previous program.
fn program(trial: Option<&OnTrial>) -> anyhow::Result<PathBuf> {
    if let Some(trial) = trial {
        return Ok(trial.path().to_owned());
    }
    let path = std::env::current_exe().context("finding out where this program is")?;
    // The kernel appends this if the file was replaced.
    let name = path.as_os_str().as_bytes();
    Ok(match name.strip_suffix(b" (deleted)") {
        Some(name) if !path.exists() => PathBuf::from(OsStr::from_bytes(name)),
        _ => path,
    })
}

fn lock(settings: &DaemonSettings) -> Result<StateLock, DaemonError> {
    StateLock::acquire(&settings.state_dir).map_err(|error| match error {
        LockError::Held { .. } => DaemonError::Taken(format!("the state directory {error}")),
        LockError::Io { .. } => DaemonError::Failed(error.into()),
    })
}

fn first_state(settings: &DaemonSettings, instance: Instance, program: &Path) -> anyhow::Result<DaemonState> {
    Ok(DaemonState {
        kind: TYPE.to_owned(),
        state: RunState::Starting,
        state_reason: "starting".to_owned(),
        since: now(),
        process: ProcessKey::of_self().context("reading what process this is")?,
        instance,
        version: peerbus_protocol::VERSION.to_owned(),
        peer_id: settings.peer.clone(),
        role: settings.role,
        nats: settings.bus.address.to_string(),
        run_by: Some(settings.run_by),
        policy: Some(settings.policy.state()),
        program: Some(ProgramState { path: program.to_owned(), next: None }),
        off_the_bus: None,
    })
}

fn open_containment_manager(settings: &DaemonSettings) -> anyhow::Result<ContainmentManager> {
    let reaper = PathBuf::from("/proc/self/exe");
    ContainmentManager::open(&settings.state_dir, reaper, settings.containment)
        .context("making a place for process trees")
}

/// Starts the configured broker and uses it as the bus.
async fn start_broker(
    settings: &mut DaemonSettings,
    state: &mut StateFile,
) -> anyhow::Result<Option<Broker>> {
    let Some(managed) = settings.broker.clone() else { return Ok(None) };
    let broker =
        Broker::start(managed, &settings.state_dir, &settings.runtime_dir).await.inspect_err(|error| {
            state.set(RunState::Failed, with_causes(error.as_ref()));
        })?;
    settings.bus.address = broker.address().clone();
    if let Some(credentials) = broker.credentials() {
        settings.bus.credentials = credentials;
    }
    state.set_nats(settings.bus.address.to_string());
    Ok(Some(broker))
}

/// Serves until it is told to stop, or returns the version to hand over to.
async fn live(
    settings: DaemonSettings,
    born: Boot,
    (lock, state): (&StateLock, &mut StateFile),
    on_ready: impl FnOnce(&Ready),
    asked: ControlSignals<impl Future<Output = ()>>,
) -> Result<Option<UpgradeRecord>, DaemonError> {
    let ControlSignals { stop, reload, upgrade, jobs } = asked;
    let Boot { instance, containment_manager, path, trial } = born;
    tokio::pin!(stop);
    let policy = settings.policy.clone();
    policy.tell();
    let mut serving = tokio::select! {
        serving = serve(settings, path.clone(), instance, (containment_manager, jobs), state) => serving?,
        () = &mut stop => return Ok(None),
    };
    // From here on jobs may run, so every exit must stop them in order.
    let heard = tokio::select! {
        heard = readiness::listens(&serving.context) => Some(heard),
        () = &mut stop => None,
    };
    if let Some(Err(refusal)) = heard {
        state.set(RunState::Stopping, "failed");
        serving.stop().await;
        return Err(DaemonError::Failed(anyhow::anyhow!(refusal)));
    }
    let heard = heard.is_some();
    if heard {
        state.set(RunState::Ready, "serving");
        on_ready(&serving.ready());
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }
    let context = Arc::clone(&serving.context);
    let notice = Notice { path, asked: upgrade, news: watch::Sender::new(None) };
    let mut news = notice.news.subscribe();
    let settle = self_upgrade::stand_trial(context.settings.state_dir.clone(), trial);
    // A version on trial does not hand over.
    let go = async {
        settle.await;
        self_upgrade::go(&context, &notice).await
    };
    tokio::pin!(go);
    let mut bus = BusWatch::new(&context.bus);
    let state_dir = context.settings.state_dir.clone();
    let ended = loop {
        tokio::select! {
            () = &mut stop, if heard => break Ok(None),
            error = serving.failed(), if heard => break Err(error),
            () = is_taken_away(lock, &state_dir), if heard => {
                state.lose();
                let gone = taken_away(&state_dir);
                tracing::error!("{gone}");
                break Err(DaemonError::Failed(gone));
            }
            () = reload.notified(), if heard => state.set_policy(policy.read_again().await),
            Ok(()) = news.changed(), if heard => state.set_next(news.borrow_and_update().clone()),
            away = bus.changed(), if heard => {
                notify(&[NotifyState::Status(away.as_deref().unwrap_or("serving"))]);
                state.set_off_the_bus(away);
            }
            next = &mut go, if heard => break Ok(Some(next)),
            else => break Ok(None),
        }
    };
    let why = match &ended {
        Ok(None) => "asked to stop".to_owned(),
        Ok(Some(next)) => format!("hands over to {}", next.version),
        Err(_) => "failed".to_owned(),
    };
    state.set(RunState::Stopping, why.clone());
    match &ended {
        // To its supervisor, the daemon keeps running.
        Ok(Some(_)) => notify(&[NotifyState::Status(&why)]),
        _ => notify(&[NotifyState::Stopping]),
    }
    serving.stop().await;
    ended
}

/// Waits until the state directory is gone, and with it the lock that keeps a second daemon away.
async fn is_taken_away(lock: &StateLock, state_dir: &Path) {
    /// Check interval.
    const EVERY: Duration = Duration::from_secs(3);
    loop {
        tokio::time::sleep(EVERY).await;
        if !lock.is_in_place(state_dir) {
            return;
        }
    }
}

/// A running daemon does not recreate its state directory. The journal is gone, the registry and the audit log go
/// to unlinked files, and another daemon may have started there. Only a restart sets all this up in order.
fn taken_away(state_dir: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "the state directory {} was removed or replaced while the daemon used it, and with it what is known of the \
         jobs that have run: the daemon ends; start it again to begin anew",
        state_dir.display()
    )
}

/// Watches whether a serving daemon is connected to the bus.
struct BusWatch {
    bus: Bus,
    link: watch::Receiver<ConnectionState>,
    errors: watch::Receiver<Option<String>>,
}

impl BusWatch {
    fn new(bus: &Bus) -> Self {
        Self { bus: bus.clone(), link: bus.link(), errors: bus.errors() }
    }

    /// Waits for a change. Returns why the bus is disconnected, or `None` if it is connected. Cancel safe.
    async fn changed(&mut self) -> Option<String> {
        // The senders live as long as the bus, which this struct holds.
        tokio::select! {
            Ok(()) = self.link.changed() => {}
            Ok(()) = self.errors.changed() => {}
            else => std::future::pending().await,
        }
        if self.link.borrow_and_update().up {
            return None;
        }
        self.errors.borrow_and_update();
        Some(self.bus.last_error().unwrap_or_else(|| "the connection was lost".to_owned()))
    }
}
