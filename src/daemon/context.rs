//! What every part of a daemon shares: who it is, what it has, and what it was told.

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

/// Jobs a peer runs at once, unless its configuration says otherwise. A job costs the daemon about
/// 100 KiB, and up to 4 MiB while its caller does not read.
pub const MAX_JOBS: usize = 256;

/// How long a job whose caller vanished goes on, unless the configuration says otherwise.
pub const CALLER_GRACE: Duration = Duration::from_secs(60);

/// What a daemon is told at its start.
#[derive(Debug, Clone)]
pub struct DaemonSettings {
    /// Its id.
    pub peer: PeerId,
    /// Worker, or leader (which is a worker too).
    pub role: Role,
    /// The link to the bus.
    pub bus: bus::Settings,
    /// Where its files are.
    pub state_dir: PathBuf,
    /// Where the tokens of managed brokers on this machine are.
    pub runtime_dir: PathBuf,
    /// The leader's database.
    pub database_url: Option<String>,
    /// The folder with the fleet's keys, where this is the machine that has them.
    pub fleet_keys: Option<PathBuf>,
    /// The broker to start, if any.
    pub broker: Option<super::broker::BrokerSettings>,
    /// Where commands run that name no directory.
    pub directory: Option<String>,
    /// The shell for `shell_cmd`; none means bash where there is one, else sh.
    pub shell: Option<PathBuf>,
    /// Variables every job gets.
    pub env: Variables,
    /// Words the fleet may know this peer by.
    pub tags: Vec<String>,
    /// Jobs at once.
    pub max_jobs: usize,
    /// How long a job whose caller vanished goes on.
    pub caller_grace: Duration,
    /// How process trees are held together.
    pub containment: ContainmentKind,
    /// Peers the registry takes, for a leader.
    pub max_peers: u32,
    /// The limits of durable jobs.
    pub jobs: Limits,
    /// How its audit log is kept.
    pub audit: audit::Settings,
    /// Who may run what.
    pub policy: LoadedPolicy,
    /// How it is run.
    pub run_by: SupervisedBy,
    /// What it does about other versions of itself.
    pub handover: self_upgrade::UpgradeSettings,
}

/// Whether requests are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptState {
    /// They are.
    Open,
    /// They are about to be no more.
    Closing,
    /// What had come was taken in, and nothing is any more.
    Closed,
}

/// How far a daemon is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ShutdownPhase {
    /// Not at all.
    No,
    /// New jobs are refused.
    Refusing,
    /// Jobs are being stopped.
    StoppingJobs,
    /// Nothing is written down any more.
    Closing,
}

/// What every part of a daemon shares.
pub(super) struct Context {
    pub(super) settings: DaemonSettings,
    /// The file this daemon was started from.
    pub(super) program: PathBuf,
    pub(super) instance: Instance,
    pub(super) bus: Bus,
    pub(super) journal: Journal,
    pub(super) audit: Audit,
    pub(super) containment_manager: ContainmentManager,
    pub(super) started: Instant,
    /// The name of the user this daemon runs as.
    pub(super) own_user: String,
    /// Whether another daemon holds our id, as far as we know.
    pub(super) conflict: watch::Sender<bool>,
    /// Rung when another daemon of our id has shown itself.
    pub(super) rival: Notify,
    /// Rung when there may be something in the queue.
    pub(super) look_into_queue: Notify,
    /// Rung when a copy of a queued job is to be looked at anew.
    pub(super) look_at_copies: Notify,
    pub(super) leaving: watch::Sender<ShutdownPhase>,
    pub(super) intake: watch::Sender<AcceptState>,
    places: Arc<Semaphore>,
    /// Ids that somebody attends to: all of what a handover would cut off. A job that outlives its daemon is
    /// not among them.
    pub(super) attended: ActiveCount,
    /// Rung when a durable job has ended, whose output may now be too much.
    pub(super) tidy: Notify,
    /// Jobs that are attended to.
    pub(super) running_jobs: RunningJobs,
    /// Jobs that run now.
    pub(super) running: ActiveCount,
    /// Durable jobs that run now; those go on when this daemon ends.
    pub(super) durable: ActiveCount,
    /// Turns for starting them.
    pub(super) starts: Starts,
    /// Durable jobs whose end is just being written down.
    pub(super) finishing: ActiveCount,
    /// Jobs whose caller has not confirmed their ending.
    pub(super) untold: ActiveCount,
    counts: Mutex<Counts>,
    /// Of requests.
    pub(super) challenges: Challenges,
    /// Of words about jobs.
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

    /// Begins the attachment of an inbox to a job, where members sign what they say about it.
    pub(super) fn attach(&self, job: JobId, inbox: &str) -> Option<Attachment> {
        self.bus.member().map(|_| self.freshness.attach(job, inbox))
    }

    /// A place for one more job; none when all are taken.
    pub(super) fn place(&self) -> Option<JobSlot> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(JobSlot { _permit: Some(permit), _counted: self.running.enter() })
    }

    /// A place for one more durable job; none when there are as many as may be.
    pub(super) fn durable_place(&self) -> Option<JobSlot> {
        let counted = self.durable.enter_below(self.settings.jobs.most)?;
        Some(JobSlot { _permit: None, _counted: counted })
    }

    /// The place of a job that runs already, whatever the limit is now.
    pub(super) fn seat_of_an_adopted(&self) -> JobSlot {
        JobSlot { _permit: None, _counted: self.durable.enter() }
    }

    /// All jobs that run now.
    pub(super) fn jobs(&self) -> u32 {
        self.running.count() + self.durable.count()
    }

    /// Whether there is a place now for any kind of job.
    pub(super) fn has_a_place(&self) -> bool {
        let durable = usize::try_from(self.durable.count()).unwrap_or(usize::MAX);
        self.places.available_permits() > 0 && durable < self.settings.jobs.most
    }

    /// Changes the counts that the services API shows.
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

tokio::task_local! {
    /// Counts the attendant that this task is, until what it attends to outlives this daemon.
    static ATTENDED: RefCell<Option<ActiveGuard>>;
}

/// Counts an attendant while it attends to something that a handover would cut off.
pub(super) async fn attending<T>(tally: &ActiveCount, work: impl Future<Output = T>) -> T {
    ATTENDED.scope(RefCell::new(Some(tally.enter())), work).await
}

/// What this task attends to goes on without this daemon from now on.
pub(super) fn outlives_this_daemon() {
    // One that took over from an earlier daemon was never counted.
    let _ = ATTENDED.try_with(|counted| counted.borrow_mut().take());
}

/// A place among the jobs that run; given back when dropped.
pub(super) struct JobSlot {
    _permit: Option<OwnedSemaphorePermit>,
    _counted: ActiveGuard,
}

/// Counts something, and lets others wait until there is none of it.
#[derive(Default)]
pub(super) struct ActiveCount(Arc<watch::Sender<u32>>);

/// One that is counted, until it is dropped.
pub(super) struct ActiveGuard(Arc<watch::Sender<u32>>);

impl ActiveCount {
    pub(super) fn enter(&self) -> ActiveGuard {
        self.0.send_modify(|count| *count += 1);
        ActiveGuard(Arc::clone(&self.0))
    }

    /// Counts one more, unless there are `most` already.
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

    /// Waits until there is none, at most `patience`; says whether there is none.
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
