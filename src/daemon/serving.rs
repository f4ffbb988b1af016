//! A serving daemon: its startup and its shutdown.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::account_cache;
use super::audit::{self, Audit};
use super::context::{Context, DaemonSettings, ShutdownPhase};
use super::dispatcher::{self, WAITING};
use super::health;
use super::heartbeat::{self, HeartbeatSource};
use super::housekeeping;
use super::journal::Journal;
use super::run::{DaemonError, Ready};
use super::running_jobs::RunningJobs;
use super::state::{RunState, StateFile};
use super::{id_conflict, jobs, policy, queue, recovery, service, trusted_network};
use peerbus_bus::{Bus, NatsAddress, ReconnectPolicy};
use peerbus_leader::{self as leader, LeaderError, LeaderSettings, LeaderStatus, RegistryState};
use peerbus_process::ContainmentManager;
use peerbus_protocol::heartbeat::{PeerState, Role};
use peerbus_protocol::{Instance, subjects};

/// Queued requests that may wait for the dispatcher.
const WAITING_FROM_QUEUE: usize = 16;

/// How long jobs may continue after a stop request.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Time to stop all jobs: SIGTERM, 5 s, SIGKILL, and some slack.
const STOP_JOBS_WITHIN: Duration = Duration::from_secs(12);

/// Time for callers to receive the endings of stopped jobs.
const TELL_WITHIN: Duration = Duration::from_secs(3);

/// How long startup waits for a leader to read its registry.
const REGISTRY_WITHIN: Duration = Duration::from_secs(2);

/// Interval of checks for our own subscriptions.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Notifies the process that waits for this daemon to start: systemd or `d daemon start`.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    match sd_notify::notify(states) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            tracing::debug!(%error, "nobody waits for this daemon any more");
        }
        Err(error) => tracing::warn!(%error, "telling who waits for this daemon"),
        Ok(()) => {}
    }
}

/// Starts serving: recovers from a dead daemon, joins the bus, checks for an id conflict, and subscribes.
pub(super) async fn serve(
    settings: DaemonSettings,
    program: PathBuf,
    instance: Instance,
    (containment_manager, jobs): (ContainmentManager, RunningJobs),
    state: &mut StateFile,
) -> Result<Serving, DaemonError> {
    let journal = Journal::open(&settings.state_dir)?;
    let audit = Audit::of(&settings, instance).await;
    let left = recovery::recover(&journal, &audit, &settings).await?;
    if let Some(member) = settings.bus.member() {
        account_cache::recall(&settings.state_dir, member);
    }
    let bus = Bus::open(settings.bus.clone(), ReconnectPolicy::UntilClosed);
    let mut context = Context::new(settings, program, instance, bus, journal, audit, containment_manager);
    context.running_jobs = jobs;
    let context = Arc::new(context);
    // These jobs already have shims and may end while the bus is away.
    let dispatcher = dispatcher::Dispatcher::open(&context, left);
    join(&context.bus, &context.settings.bus.address, state).await;
    refuse_a_taken_id(&context).await?;
    trusted_network::warn_of_an_open_broker(&context);
    let leader = start_leader(&context).await?;
    let tasks = start_tasks(&context, dispatcher).await;
    Ok(Serving { pulse: tasks.1, tasks: tasks.0, leader, context })
}

/// Waits for the bus without a timeout, and reports why it waits.
async fn join(bus: &Bus, address: &NatsAddress, state: &mut StateFile) {
    const NOTE_EVERY: Duration = Duration::from_secs(2);
    let mut reason = format!("connecting to the bus at {address}");
    loop {
        notify(&[NotifyState::Status(&reason)]);
        state.set(RunState::Starting, reason.clone());
        reason = loop {
            match bus.connected(NOTE_EVERY).await {
                Ok(_) => return,
                Err(error) if error.to_string() == reason => {}
                Err(error) => break error.to_string(),
            }
        };
    }
}

async fn refuse_a_taken_id(context: &Context) -> Result<(), DaemonError> {
    loop {
        match id_conflict::taken(&context.bus, context.peer()).await {
            Ok(None) => return Ok(()),
            Ok(Some(other)) => {
                return Err(DaemonError::Taken(format!(
                    "the peer id {} is held by another daemon on {} (instance {})",
                    context.peer(),
                    other.hostname,
                    other.instance
                )));
            }
            // The link was lost again. The check repeats when it is back.
            Err(error) => {
                tracing::debug!(%error, "asking who holds our id");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

async fn start_leader(context: &Arc<Context>) -> Result<Option<Leader>, DaemonError> {
    let settings = &context.settings;
    if settings.role != Role::Leader {
        return Ok(None);
    }
    let leader = LeaderSettings {
        peer: settings.peer.clone(),
        instance: context.instance,
        database_url: settings.database_url.clone(),
        state_dir: settings.state_dir.clone(),
        max_peers: settings.max_peers,
        fleet_keys: settings.fleet_keys.clone(),
    };
    let (stop, stopped) = oneshot::channel();
    let (status, mut serving) = watch::channel(LeaderStatus::default());
    let bus = context.bus.clone();
    let mut task = tokio::spawn(leader::run(bus, leader, status, async move {
        let _ = stopped.await;
    }));
    let serves = async {
        let serves = serving.wait_for(|status| status.serving).await.is_ok();
        let is_read = serving.wait_for(|status| status.registry == RegistryState::Loaded);
        // If the registry is unavailable, the daemon serves everything else.
        let _ = tokio::time::timeout(REGISTRY_WITHIN, is_read).await;
        serves
    };
    tokio::select! {
        ended = &mut task => Err(leader_ended(ended)),
        true = serves => Ok(Some(Leader { stop, task })),
    }
}

fn leader_ended(ended: Result<Result<(), LeaderError>, JoinError>) -> DaemonError {
    match ended {
        Ok(Err(error @ LeaderError::AnotherLeader { .. })) => DaemonError::Taken(error.to_string()),
        Ok(Err(error)) => DaemonError::Failed(error.into()),
        Ok(Ok(())) => DaemonError::Failed(anyhow::anyhow!("the leader ended by itself")),
        Err(panic) => DaemonError::Failed(anyhow::anyhow!("the leader failed: {panic}")),
    }
}

/// Starts all tasks that subscribe or publish on their own.
async fn start_tasks(
    context: &Arc<Context>,
    dispatcher: dispatcher::Dispatcher,
) -> (JoinSet<()>, Arc<HeartbeatSource>) {
    let pulse = Arc::new(HeartbeatSource::new(Arc::clone(context)));
    let (bus, peer) = (&context.bus, context.peer());
    let pings = bus.subscribe(&subjects::ping(peer), None, WAITING).await;
    let checkups = bus.subscribe(&subjects::health(peer), None, health::WAITING).await;
    let audits = bus.subscribe(&subjects::audit(peer), None, audit::WAITING).await;
    let questions_of_policy = bus.subscribe(&subjects::policy(peer), None, policy::WAITING).await;
    let questions_of_jobs = bus.subscribe(&subjects::jobs(peer), None, jobs::WAITING).await;
    let words = bus.subscribe(&subjects::below_exec(peer), None, WAITING).await;
    let starts = bus.subscribe(&subjects::exec(peer), Some(subjects::EXEC_QUEUE), WAITING).await;
    let questions = service::questions(context).await;
    let (to_dispatcher, queued) = mpsc::channel(WAITING_FROM_QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(heartbeat::answer_pings(Arc::clone(&pulse), pings));
    tasks.spawn(health::answer(Arc::clone(context), checkups));
    tasks.spawn(audit::answer(Arc::clone(context), audits));
    tasks.spawn(policy::answer(Arc::clone(context), questions_of_policy));
    tasks.spawn(jobs::answer(Arc::clone(context), questions_of_jobs));
    tasks.spawn(dispatcher.run(starts, words, queued));
    tasks.spawn(queue::run(Arc::clone(context), to_dispatcher));
    tasks.spawn(service::answer(Arc::clone(context), Arc::clone(&pulse), questions));
    tasks.spawn(heartbeat::beat(Arc::clone(&pulse)));
    tasks.spawn(id_conflict::watch(Arc::clone(context)));
    tasks.spawn(housekeeping::keep(Arc::clone(context)));
    tasks.spawn(account_cache::keep(Arc::clone(context)));
    (tasks, pulse)
}

struct Leader {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), LeaderError>>,
}

/// A serving daemon.
pub(super) struct Serving {
    pub(super) context: Arc<Context>,
    pulse: Arc<HeartbeatSource>,
    tasks: JoinSet<()>,
    leader: Option<Leader>,
}

impl Serving {
    pub(super) fn ready(&self) -> Ready {
        Ready { peer: self.context.peer().to_string(), nats: self.context.settings.bus.address.to_string() }
    }

    /// Waits for the failure of an essential task.
    pub(super) async fn failed(&mut self) -> DaemonError {
        let leader = async {
            let Some(leader) = &mut self.leader else { return std::future::pending().await };
            let error = leader_ended((&mut leader.task).await);
            // It has ended: there is nothing left to stop.
            self.leader = None;
            error
        };
        tokio::select! {
            error = leader => error,
            Some(Err(panic)) = self.tasks.join_next() => {
                DaemonError::Failed(anyhow::anyhow!("a part of the daemon failed: {panic}"))
            }
        }
    }

    /// Refuses new work, gives jobs a grace period, stops the rest, and announces the shutdown.
    pub(super) async fn stop(mut self) {
        let context = &self.context;
        context.leaving.send_replace(ShutdownPhase::Refusing);
        if !context.running.none(STOP_GRACE).await {
            context.leaving.send_replace(ShutdownPhase::StoppingJobs);
            if !context.running.none(STOP_JOBS_WITHIN).await {
                tracing::error!(jobs = context.running.count(), "jobs could not be stopped");
            }
        }
        if !context.untold.none(TELL_WITHIN).await {
            tracing::warn!(jobs = context.untold.count(), "callers have not confirmed how their jobs ended");
        }
        // Durable jobs continue. The next daemon records endings that are not being recorded now.
        context.leaving.send_replace(ShutdownPhase::Closing);
        if !context.finishing.none(TELL_WITHIN).await {
            tracing::warn!(
                jobs = context.finishing.count(),
                "ends of durable jobs are still being written down"
            );
        }
        self.tasks.abort_all();
        self.pulse.say(PeerState::Leaving).await;
        if let Some(leader) = self.leader.take() {
            let _ = leader.stop.send(());
            // The leader has logged why it ended.
            let _ = leader.task.await;
        }
        context.audit.close().await;
        context.bus.close().await;
    }
}
