//! The job's end of its shim: started, spoken to, lost, and found again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

use super::super::context::{Context, ShutdownPhase};
use super::super::journal::Entry;
use peerbus_process::{self as process, JobScope, ProcessKey, StartError};
use peerbus_shim::link::{self, SpawnError};
use peerbus_shim::{Found, FromShim, JobDir, JobEnd, JobSpec, ShimConnection, ToShim};

/// Pause between two looks for a shim that cannot be looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long what is left of a job whose shim died gets to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// A shim, as far as it is known.
pub(super) enum ShimHandle {
    /// It is being started.
    Starting(JoinHandle<Result<Begin, JoinError>>),
    /// It is there.
    Here(Box<ShimConnection>),
    /// The connection is gone, and it is looked for.
    Sought(JoinHandle<Known>),
    /// The job has ended.
    Gone,
}

/// What is known of a shim that was looked for.
#[derive(Debug)]
pub(crate) enum Known {
    /// It lives.
    Alive(Box<ShimConnection>),
    /// It wrote down how the job ended.
    Ended(Box<JobEnd>),
    /// It died before; what it left of the job was stopped.
    Died {
        /// What is known of it.
        why: String,
        /// What became of the processes that were left.
        cleared: Cleared,
    },
    /// The command was never started.
    NeverStarted,
}

/// What became of the processes that a shim left.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cleared {
    /// How many had to be stopped.
    pub(super) killed: u32,
    /// How many could not be; one at least where nobody could look.
    pub(super) left: u32,
}

/// How a start went, with the record it was written to.
pub(super) type Begin = (Entry, Result<(ShimConnection, ProcessKey), SpawnError>);

/// Something a shim does.
pub(super) enum ShimEvent {
    Started(Result<Begin, JoinError>),
    Said(FromShim),
    Lost,
    Found(Result<Known, JoinError>),
}

impl ShimHandle {
    /// Starts one, when it is its turn. When the command runs, that is journalled.
    pub(super) fn start(context: &Arc<Context>, place: JobDir, order: JobSpec, mut entry: Entry) -> Self {
        let context = Arc::clone(context);
        Self::Starting(tokio::spawn(async move {
            let mut leaving = context.leaving.subscribe();
            let turn = tokio::select! {
                turn = context.starts.turn() => turn,
                _ = leaving.wait_for(|leaving| *leaving != ShutdownPhase::No) => None,
            };
            let Some(turn) = turn else {
                // The server has let go of what came from the queue: the next daemon begins it, from its copy.
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
                    // Its place is known by the job's id, and its shim knows the process.
                    tracing::error!(job = %order.spec.job, %error, "writing the start to the journal");
                }
                (entry, started)
            };
            turn.start(begin).await
        }))
    }

    /// Looks for the shim of a job, for as long as that takes.
    /// Where its processes live the journal knows, too.
    pub(super) fn seek(place: JobDir, job_scope: Option<JobScope>) -> Self {
        Self::Sought(tokio::spawn(async move { look(&place, job_scope.as_ref()).await }))
    }

    /// Waits for what it does next. Cancel safe. To be replaced after [`ShimEvent::Started`], [`ShimEvent::Lost`] and
    /// [`ShimEvent::Found`].
    pub(super) async fn next(&mut self) -> ShimEvent {
        match self {
            Self::Starting(start) => ShimEvent::Started(start.await.and_then(|begun| begun)),
            Self::Here(link) => link.next().await.map_or(ShimEvent::Lost, ShimEvent::Said),
            Self::Sought(found) => ShimEvent::Found(found.await),
            Self::Gone => std::future::pending().await,
        }
    }

    /// Says something, where there is somebody. Whatever matters is said again.
    pub(super) fn say(&self, word: ToShim) {
        if let Self::Here(link) = self {
            link.say(word);
        }
    }
}

/// Why a job is not started that had not had its turn.
fn stopping() -> StartError {
    StartError::of_system("the daemon is stopping; nothing ran")
}

/// Looks for the shim of a job until it is known what became of it. What a dead one left of its job is stopped;
/// where that lives, the journal knows if the shim's own word of it cannot be read.
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
            // One that lives and does not answer is slow, and not dead.
            Err(error) if !said => {
                tracing::warn!(place = %place.directory().display(), %error, "looking for the shim of a job");
                said = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Stops what is left of a job; where it lived is none for one that never was to run.
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
