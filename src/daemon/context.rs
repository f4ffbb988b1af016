//! State that all parts of a daemon share: identity, resources and settings.

use std::cell::RefCell;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::audit::{self, Audit};
use super::auth::Challenges;
use super::durable::Starts;
use super::journal::Journal;
use super::limits::Limits;
use super::nonces::{Attachment, Nonces};
use super::policy::LoadedPolicy;
use super::running_jobs::RunningJobs;
use super::self_upgrade;
use super::state::SupervisedBy;
use peerbus_bus::{self as bus, Bus};
use peerbus_process::{self as process, ContainmentKind, ContainmentManager};
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::service::Counts;
use peerbus_protocol::variables::Variables;
use peerbus_protocol::{Instance, JobId, PeerId};

/// Default limit of jobs a peer runs at once. A job costs the daemon about 100 KiB, and up to 4 MiB while its
/// caller does not read.
pub const MAX_JOBS: usize = 256;

/// Default time a job continues after its caller vanished.
pub const CALLER_GRACE: Duration = Duration::from_secs(60);

/// Settings of a daemon, fixed at its start.
#[derive(Debug, Clone)]
pub struct DaemonSettings {
    /// The peer id.
    pub peer: PeerId,
    /// Worker or leader. A leader is a worker too.
    pub role: Role,
    /// Settings of the bus connection.
    pub bus: bus::Settings,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The directory with the tokens of managed brokers on this machine.
    pub runtime_dir: PathBuf,
    /// The leader's database.
    pub database_url: Option<String>,
    /// The folder with the fleet's keys, if this machine holds them.
    pub fleet_keys: Option<PathBuf>,
    /// The broker to start, if any.
    pub broker: Option<super::broker::BrokerSettings>,
    /// The default working directory of commands.
    pub directory: Option<String>,
    /// The shell for `shell_cmd`. Default: bash if installed, else sh.
    pub shell: Option<PathBuf>,
    /// Environment variables of every job.
    pub env: Variables,
    /// Tags by which clients select this peer.
    pub tags: Vec<String>,
    /// Limit of concurrent jobs.
    pub max_jobs: usize,
    /// How long a job continues after its caller vanished.
    pub caller_grace: Duration,
    /// How the daemon contains process trees.
    pub containment: ContainmentKind,
    /// Limit of peers in the registry, for a leader.
    pub max_peers: u32,
    /// The limits of durable jobs.
    pub jobs: Limits,
    /// Settings of the audit log.
    pub audit: audit::Settings,
    /// The access policy.
    pub policy: LoadedPolicy,
    /// The supervisor that runs this daemon.
    pub run_by: SupervisedBy,
    /// Settings of self-upgrade.
    pub handover: self_upgrade::UpgradeSettings,
}

/// Whether the daemon accepts requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptState {
    /// It accepts requests.
    Open,
    /// It handles the pending requests, then closes.
    Closing,
    /// It has handled the pending requests and accepts no more.
    Closed,
}

/// How far the shutdown of a daemon has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ShutdownPhase {
    /// Not shutting down.
    No,
    /// It refuses new jobs.
    Refusing,
    /// It stops jobs.
    StoppingJobs,
    /// It writes no more records.
    Closing,
}

/// State that all parts of a daemon share.
pub(super) struct Context {
    pub(super) settings: DaemonSettings,
    /// The program file of this daemon.
    pub(super) program: PathBuf,
    pub(super) instance: Instance,
    pub(super) bus: Bus,
    pub(super) journal: Journal,
    pub(super) audit: Audit,
    pub(super) containment_manager: ContainmentManager,
    pub(super) started: Instant,
    /// The name of the user this daemon runs as.
    pub(super) own_user: String,
    /// Whether another daemon is known to hold our id.
    pub(super) conflict: watch::Sender<bool>,
    /// Signalled when another daemon with our id was detected.
    pub(super) rival: Notify,
    /// Signalled when the queue may have a message.
    pub(super) look_into_queue: Notify,
    /// Signalled when a kept copy of a queued job needs another look.
    pub(super) look_at_copies: Notify,
    pub(super) leaving: watch::Sender<ShutdownPhase>,
    pub(super) intake: watch::Sender<AcceptState>,
    places: Arc<Semaphore>,
    /// Ids with a task that a handover would interrupt. Jobs that outlive their daemon do not count.
    pub(super) attended: ActiveCount,
    /// Signalled when a durable job has ended, because its output may exceed the retention limits.
    pub(super) tidy: Notify,
    /// Jobs that have a task.
    pub(super) running_jobs: RunningJobs,
    /// Plain jobs that run now.
    pub(super) running: ActiveCount,
    /// Durable jobs that run now. They continue when this daemon ends.
    pub(super) durable: ActiveCount,
    /// Permits for starting durable jobs.
    pub(super) starts: Starts,
    /// Durable jobs whose ending is being recorded.
    pub(super) finishing: ActiveCount,
    /// Jobs whose caller has not confirmed their ending.
    pub(super) untold: ActiveCount,
    counts: Mutex<Counts>,
    /// Challenges for requests.
    pub(super) challenges: Challenges,
    /// Nonces for control messages.
    pub(super) freshness: Nonces,
}

impl Context {
    pub(super) fn new(
        settings: DaemonSettings,
        program: PathBuf,
        instance: Instance,
        bus: Bus,
        journal: Journal,
        audit: Audit,
        containment_manager: ContainmentManager,
    ) -> Self {
        Self {
            places: Arc::new(Semaphore::new(settings.max_jobs)),
            settings,
            program,
            instance,
            bus,
            journal,
            audit,
            containment_manager,
            started: Instant::now(),
            own_user: process::host::current_user(),
            conflict: watch::Sender::new(false),
            rival: Notify::new(),
            look_into_queue: Notify::new(),
            look_at_copies: Notify::new(),
            leaving: watch::Sender::new(ShutdownPhase::No),
            intake: watch::Sender::new(AcceptState::Open),
            attended: ActiveCount::default(),
            tidy: Notify::new(),
            running_jobs: RunningJobs::default(),
            running: ActiveCount::default(),
            durable: ActiveCount::default(),
            starts: Starts::default(),
            finishing: ActiveCount::default(),
            untold: ActiveCount::default(),
            counts: Mutex::default(),
            challenges: Challenges::new(),
            freshness: Nonces::default(),
        }
    }

    pub(super) fn peer(&self) -> &PeerId {
        &self.settings.peer
    }

    /// Starts the attachment of an inbox to a job, if members sign their control messages.
    pub(super) fn attach(&self, job: JobId, inbox: &str) -> Option<Attachment> {
        self.bus.member().map(|_| self.freshness.attach(job, inbox))
    }

    /// Takes the slot of one more job. `None` if all are taken.
    pub(super) fn place(&self) -> Option<JobSlot> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(JobSlot { _permit: Some(permit), _counted: self.running.enter() })
    }

    /// Takes the slot of one more durable job. `None` at the limit.
    pub(super) fn durable_place(&self) -> Option<JobSlot> {
        let counted = self.durable.enter_below(self.settings.jobs.most)?;
        Some(JobSlot { _permit: None, _counted: counted })
    }

    /// The slot of a job that already runs, whatever the limit is now.
    pub(super) fn seat_of_an_adopted(&self) -> JobSlot {
        JobSlot { _permit: None, _counted: self.durable.enter() }
    }

    /// Number of all jobs that run now.
    pub(super) fn jobs(&self) -> u32 {
        self.running.count() + self.durable.count()
    }

    /// Whether any kind of job could get a slot now.
    pub(super) fn has_a_place(&self) -> bool {
        let durable = usize::try_from(self.durable.count()).unwrap_or(usize::MAX);
        self.places.available_permits() > 0 && durable < self.settings.jobs.most
    }

    /// Updates the counters that the services API shows.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

tokio::task_local! {
    /// Counts the current task until its job outlives this daemon.
    static ATTENDED: RefCell<Option<ActiveGuard>>;
}

/// Counts a task while it does work that a handover would interrupt.
pub(super) async fn attending<T>(tally: &ActiveCount, work: impl Future<Output = T>) -> T {
    ATTENDED.scope(RefCell::new(Some(tally.enter())), work).await
}

/// Stops counting the current task: its job now outlives this daemon.
pub(super) fn outlives_this_daemon() {
    // A task that adopted a job of an earlier daemon was never counted.
    let _ = ATTENDED.try_with(|counted| counted.borrow_mut().take());
}

/// The slot of a running job. Dropping it frees the slot.
pub(super) struct JobSlot {
    _permit: Option<OwnedSemaphorePermit>,
    _counted: ActiveGuard,
}

/// A counter that others can wait on until it is zero.
#[derive(Default)]
pub(super) struct ActiveCount(Arc<watch::Sender<u32>>);

/// One counted item, until it is dropped.
pub(super) struct ActiveGuard(Arc<watch::Sender<u32>>);

impl ActiveCount {
    pub(super) fn enter(&self) -> ActiveGuard {
        self.0.send_modify(|count| *count += 1);
        ActiveGuard(Arc::clone(&self.0))
    }

    /// Counts one more, unless the count is already `most`.
    fn enter_below(&self, most: usize) -> Option<ActiveGuard> {
        let room = |count: u32| usize::try_from(count).is_ok_and(|count| count < most);
        let entered = self.0.send_if_modified(|count| {
            let enters = room(*count);
            *count += u32::from(enters);
            enters
        });
        entered.then(|| ActiveGuard(Arc::clone(&self.0)))
    }

    pub(super) fn count(&self) -> u32 {
        *self.0.borrow()
    }

    /// Waits until the count is zero, for at most `patience`. Returns whether it is zero.
    pub(super) async fn none(&self, patience: Duration) -> bool {
        let mut count = self.0.subscribe();
        tokio::time::timeout(patience, count.wait_for(|count| *count == 0)).await.is_ok()
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
