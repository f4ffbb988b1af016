//! The daemon's handle of a job's shim: spawns it, talks to it, and finds it again after the connection is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use crate::context::{Context, ShutdownPhase};
use crate::journal::Entry;
use peerbus_process::{self as process, JobScope, ProcessKey, StartError};
use peerbus_shim::link::{self, SpawnError};
use peerbus_shim::{Found, FromShim, JobDir, JobEnd, JobSpec, ShimConnection, ToShim};

/// Pause between attempts to look for a shim.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Time that leftover processes of a dead shim get to exit by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// The state of the connection to a shim.
pub(super) enum ShimHandle {
    /// The shim is starting.
    Starting(JoinHandle<Result<Begin, JoinError>>),
    /// Connected.
    Here(Box<ShimConnection>),
    /// The connection is lost, and a search for the shim is running.
    Sought(JoinHandle<Known>),
    /// The job has ended.
    Gone,
}

/// Result of the search for a shim.
#[derive(Debug)]
pub(crate) enum Known {
    /// It is alive.
    Alive(Box<ShimConnection>),
    /// It has recorded how the job ended.
    Ended(Box<JobEnd>),
    /// It died without a record, and its leftover processes were stopped.
    Died {
        /// The known cause.
        why: String,
        /// What happened to the leftover processes.
        cleared: Cleared,
    },
    /// It never started the command.
    NeverStarted,
}

/// The result of stopping a shim's leftover processes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cleared {
    /// Processes that had to be killed.
    pub(super) killed: u32,
    /// Processes that could not be killed: at least one if the check itself failed.
    pub(super) left: u32,
}

/// The journal record, and whether the shim started.
pub(super) type Begin = (Entry, Result<(ShimConnection, ProcessKey), SpawnError>);

/// An event of a shim.
pub(super) enum ShimEvent {
    Started(Result<Begin, JoinError>),
    Said(FromShim),
    Lost,
    Found(Result<Known, JoinError>),
}

impl ShimHandle {
    /// Spawns a shim once it has a permit, and journals the start of the command.
    pub(super) fn start(context: &Arc<Context>, place: JobDir, order: JobSpec, mut entry: Entry) -> Self {
        let context = Arc::clone(context);
        Self::Starting(tokio::spawn(async move {
            let mut leaving = context.leaving.subscribe();
            let turn = tokio::select! {
                turn = context.starts.turn() => turn,
                _ = leaving.wait_for(|leaving| *leaving != ShutdownPhase::No) => None,
            };
            let Some(turn) = turn else {
                // The server has released the queued request: the next daemon starts it from its copy.
                if context.journal.has_copy(order.spec.job) {
                    return std::future::pending().await;
                }
                return Ok((entry, Err(SpawnError::Failed(stopping()))));
            };
            let about = Arc::clone(&context);
            let begin = move || {
                let started = link::start(&place, &order, &about.containment_manager);
                if let Ok((_, process)) = &started
                    && let Err(error) = entry.started(process)
                {
                    // The job id leads to the job directory, and the shim knows the process.
                    tracing::error!(job = %order.spec.job, %error, "writing the start to the journal");
                }
                (entry, started)
            };
            turn.start(begin).await
        }))
    }

    /// Searches for the shim of a job until its fate is known. The journal also has the job scope of its processes.
    pub(super) fn seek(place: JobDir, job_scope: Option<JobScope>) -> Self {
        Self::Sought(tokio::spawn(async move { look(&place, job_scope.as_ref()).await }))
    }

    /// Waits for the next event. Cancel safe. The caller must replace the handle after [`ShimEvent::Started`],
    /// [`ShimEvent::Lost`] and [`ShimEvent::Found`].
    pub(super) async fn next(&mut self) -> ShimEvent {
        match self {
            Self::Starting(start) => ShimEvent::Started(start.await.and_then(|begun| begun)),
            Self::Here(link) => link.next().await.map_or(ShimEvent::Lost, ShimEvent::Said),
            Self::Sought(found) => ShimEvent::Found(found.await),
            Self::Gone => std::future::pending().await,
        }
    }

    /// Sends a message if the shim is connected. Important messages are repeated on the next connection.
    pub(super) fn say(&self, word: ToShim) {
        if let Self::Here(link) = self {
            link.say(word);
        }
    }
}

/// The error for a job that got no permit.
fn stopping() -> StartError {
    StartError::of_system("the daemon is stopping; nothing ran")
}

/// Searches for the shim of a job until its fate is known, and stops what a dead shim left. If the shim's own
/// record of the job scope is unreadable, the journal's is used.
pub(crate) async fn look(place: &JobDir, journalled: Option<&JobScope>) -> Known {
    let mut said = false;
    loop {
        match link::find(place).await {
            Ok(Found::Alive(link)) => return Known::Alive(Box::new(link)),
            Ok(Found::Ended(ended)) => return Known::Ended(ended),
            Ok(Found::Died { why, job_scope }) => {
                let cleared = clear(place, job_scope.as_ref().or(journalled)).await;
                return Known::Died { why, cleared };
            }
            Ok(Found::NeverStarted) => return Known::NeverStarted,
            // A shim that lives but does not answer is slow, not dead.
            Err(error) if !said => {
                tracing::warn!(place = %place.directory().display(), %error, "looking for the shim of a job");
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Stops a job's leftover processes. A job that never was to run has no job scope.
pub(super) async fn clear(place: &JobDir, job_scope: Option<&JobScope>) -> Cleared {
    let Some(job_scope) = job_scope else { return Cleared::default() };
    match process::clear(job_scope, GRACE).await {
        Ok(killed) => Cleared { killed, left: 0 },
        Err(error) => {
            let place = place.directory().display();
            tracing::error!(%place, %error, "stopping what is left of a job whose shim died");
            Cleared { killed: 0, left: 1 }
        }
    }
}
