//! The jobs that run now, with their live statistics, for listings and for clients that wait for an ending.
//!
//! A job is listed from its first journal step until the journal has its ending. The journal has all constant data.
//! This list has only what changes, and each job updates its own entry.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use peerbus_protocol::JobId;
use peerbus_protocol::attach::Within;
use peerbus_protocol::send_buffer::StreamOffsets;
use peerbus_protocol::task::StepProgress;

/// All running jobs. Clones share state.
#[derive(Debug, Clone, Default)]
pub struct RunningJobs(Arc<Mutex<HashMap<JobId, Arc<JobStats>>>>);

/// Live statistics of one job.
#[derive(Debug)]
pub(super) struct JobStats {
    out: AtomicU64,
    err: AtomicU64,
    /// Whether there is a log, and where it starts.
    logged: AtomicBool,
    first_out: AtomicU64,
    first_err: AtomicU64,
    viewers: AtomicU32,
    /// The running step of a task.
    step: Mutex<Option<StepProgress>>,
    /// Why the job is blocked: its log or its ending cannot be written.
    trouble: Mutex<Option<String>>,
    /// The jobs from within which clients follow this one.
    watched_from: Mutex<Vec<Within>>,
    /// Dropped with the job.
    over: watch::Sender<()>,
}

impl JobStats {
    /// Sets the bytes read from the command so far.
    pub(super) fn set_totals(&self, totals: StreamOffsets) {
        self.out.store(totals.out, Ordering::Relaxed);
        self.err.store(totals.err, Ordering::Relaxed);
    }

    /// Sets where the job's log starts.
    pub(super) fn set_first(&self, first: StreamOffsets) {
        self.first_out.store(first.out, Ordering::Relaxed);
        self.first_err.store(first.err, Ordering::Relaxed);
        self.logged.store(true, Ordering::Release);
    }

    /// Sets the number of viewers.
    pub(super) fn set_viewers(&self, viewers: u32) {
        self.viewers.store(viewers, Ordering::Relaxed);
    }

    /// Sets the running step of a task.
    pub(super) fn set_step(&self, step: StepProgress) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
    }

    pub(super) fn step(&self) -> Option<StepProgress> {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets or clears the reason why the job is blocked.
    pub(super) fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the jobs from within which clients follow this one.
    pub(super) fn set_watched_from(&self, jobs: Vec<Within>) {
        *self.watched_from.lock().unwrap_or_else(PoisonError::into_inner) = jobs;
    }

    pub(super) fn watched_from(&self) -> Vec<Within> {
        self.watched_from.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn totals(&self) -> StreamOffsets {
        StreamOffsets { out: self.out.load(Ordering::Relaxed), err: self.err.load(Ordering::Relaxed) }
    }

    pub(super) fn first(&self) -> Option<StreamOffsets> {
        self.logged.load(Ordering::Acquire).then(|| StreamOffsets {
            out: self.first_out.load(Ordering::Relaxed),
            err: self.first_err.load(Ordering::Relaxed),
        })
    }

    pub(super) fn viewers(&self) -> u32 {
        self.viewers.load(Ordering::Relaxed)
    }
}

/// Keeps a job listed until dropped. Drop it only after the ending is recorded.
pub(super) struct JobGuard {
    running_jobs: RunningJobs,
    id: JobId,
    present: Arc<JobStats>,
}

impl std::ops::Deref for JobGuard {
    type Target = JobStats;

    fn deref(&self) -> &JobStats {
        &self.present
    }
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        let mut all = self.running_jobs.all();
        // A newer task may handle the same id by now.
        if all.get(&self.id).is_some_and(|present| Arc::ptr_eq(present, &self.present)) {
            all.remove(&self.id);
        }
    }
}

impl RunningJobs {
    /// Whether this daemon runs the job, or has just started its command.
    #[must_use]
    pub fn has(&self, id: JobId) -> bool {
        self.find(id).is_some() || peerbus_process::has_started(id)
    }

    /// Lists a job with this number of viewers.
    pub(super) fn enter(&self, id: JobId, viewers: u32) -> JobGuard {
        let present = Arc::new(JobStats {
            out: AtomicU64::default(),
            err: AtomicU64::default(),
            logged: AtomicBool::default(),
            first_out: AtomicU64::default(),
            first_err: AtomicU64::default(),
            viewers: AtomicU32::new(viewers),
            step: Mutex::default(),
            trouble: Mutex::default(),
            watched_from: Mutex::default(),
            over: watch::Sender::new(()),
        });
        self.all().insert(id, Arc::clone(&present));
        JobGuard { running_jobs: self.clone(), id, present }
    }

    /// The statistics of a listed job.
    pub(super) fn find(&self, id: JobId) -> Option<Arc<JobStats>> {
        self.all().get(&id).cloned()
    }

    /// Whether following this job from within these jobs would show a job to itself: it is one of them, or one of
    /// them is followed from within it, directly or through other jobs of this peer.
    pub(super) fn leads_back(&self, id: JobId, within: &[Within]) -> bool {
        let mut to_look_at: Vec<JobId> = within.iter().map(|within| within.job).collect();
        let mut seen = HashSet::new();
        while let Some(job) = to_look_at.pop() {
            if job == id {
                return true;
            }
            if seen.insert(job)
                && let Some(present) = self.find(job)
            {
                to_look_at.extend(present.watched_from().iter().map(|within| within.job));
            }
        }
        false
    }

    /// Waits until a job is no longer listed. Returns at once if it is not.
    pub(super) async fn left(&self, id: JobId) {
        let Some(mut over) = self.find(id).map(|present| present.over.subscribe()) else { return };
        // An error means that the sender is gone, and the job with it.
        while over.changed().await.is_ok() {}
    }

    fn all(&self) -> MutexGuard<'_, HashMap<JobId, Arc<JobStats>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_is_on_it_until_it_leaves() {
        let running_jobs = RunningJobs::default();
        let id = JobId::new();
        running_jobs.left(id).await;
        let enrolled = running_jobs.enter(id, 1);
        assert_eq!(
            running_jobs.find(id).expect("on the running_jobs").viewers(),
            1,
            "its caller is there from the start"
        );
        enrolled.set_totals(StreamOffsets { out: 3, err: 4 });
        let present = running_jobs.find(id).expect("on the running_jobs");
        assert_eq!((present.totals(), present.first()), (StreamOffsets { out: 3, err: 4 }, None));
        enrolled.set_first(StreamOffsets { out: 1, err: 2 });
        assert_eq!(present.first(), Some(StreamOffsets { out: 1, err: 2 }));
        drop(present);
        let waiting = tokio::spawn({
            let running_jobs = running_jobs.clone();
            async move { running_jobs.left(id).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(enrolled);
        waiting.await.expect("told");
        assert!(running_jobs.find(id).is_none());
    }

    #[test]
    fn what_is_followed_from_within_itself_is_found_over_any_number_of_jobs() {
        let running_jobs = RunningJobs::default();
        let within = |job: &JobGuard| Within { peer: "w1".parse().expect("an id"), job: job.id };
        let [one, two, three] = [(); 3].map(|()| running_jobs.enter(JobId::new(), 0));
        assert!(running_jobs.leads_back(one.id, &[within(&one)]), "from within itself");
        two.set_watched_from(vec![within(&one)]);
        three.set_watched_from(vec![within(&two)]);
        assert!(running_jobs.leads_back(one.id, &[within(&three)]));
        assert!(!running_jobs.leads_back(three.id, &[within(&one)]), "the same the other way round");
        // An existing loop must not block the search.
        one.set_watched_from(vec![within(&three)]);
        assert!(!running_jobs.leads_back(JobId::new(), &[within(&one)]));
    }

    #[test]
    fn a_second_attendant_stays_when_the_first_leaves() {
        let (running_jobs, id) = (RunningJobs::default(), JobId::new());
        let first = running_jobs.enter(id, 0);
        let second = running_jobs.enter(id, 0);
        drop(first);
        assert!(running_jobs.find(id).is_some());
        drop(second);
        assert!(running_jobs.find(id).is_none());
    }
}
