//! Detects another version and chooses the moment to hand over.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::UpgradeOutcome;
use super::check::check;
use super::commit::{conclude_stale, keep_this};
use super::record::{UpgradePhase, UpgradeRecord};
use crate::context::{AcceptState, Context};
use peerbus_process::FileId;
use peerbus_process::host::is_full;

/// Interval of checks for another program. File notifications would delay the exit of a killed daemon by some
/// hundredths of a second, and cost no less.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Check interval while the upgrade waits.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Retry interval if there is no disk space.
const ROOM_AGAIN: Duration = Duration::from_secs(5);

/// How long a file must be unchanged to count as complete.
const AT_REST: Duration = Duration::from_secs(1);

/// Time for messages in flight to be handled after the daemon stops accepting requests.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The sources of other versions, and the channel that reports them.
pub(crate) struct Notice {
    /// The file this daemon was started from.
    pub(crate) path: PathBuf,
    /// Notified when an upgrade was requested.
    pub(crate) asked: Arc<Notify>,
    /// The state of another version.
    pub(crate) news: watch::Sender<Option<UpgradeOutcome>>,
}

/// Waits for another version that would start and would interrupt nothing. When this returns, the daemon accepts no
/// requests and the upgrade is recorded.
pub(crate) async fn go(context: &Arc<Context>, notice: &Notice) -> UpgradeRecord {
    let mut refused = None;
    loop {
        if let Some(attempt) = candidate(context, &notice.path).await
            && let seen = seen(attempt.program())
            && (attempt.staged.is_some() || refused.is_none() || refused != seen)
        {
            refused = seen;
            match check(attempt.program(), &context.settings.handover.check).await {
                Ok(checked) => {
                    let attempt = UpgradeRecord { version: checked.version, ..attempt };
                    let (attempt, way_back) = with_way_back(attempt).await;
                    if let Err(why) = way_back {
                        refuse(context, notice, attempt, &why);
                        refused = None;
                        tokio::time::sleep(ROOM_AGAIN).await;
                    } else if at_rest(context, notice, &attempt).await {
                        let attempt = attempt.now(UpgradePhase::Trying, "it comes up");
                        match attempt.write(&context.settings.state_dir) {
                            Ok(()) => return attempt,
                            Err(error) => {
                                context.intake.send_replace(AcceptState::Open);
                                refuse(
                                    context,
                                    notice,
                                    attempt,
                                    &format!("it cannot be written down: {error}"),
                                );
                            }
                        }
                    } else {
                        refused = None;
                    }
                }
                Err(why) => refuse(context, notice, attempt, &why),
            }
        }
        tokio::select! {
            () = notice.asked.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Makes sure that the running program can be restored. If only disk space is missing, the new version waits. If
/// the daemon may not change the path at all, as in a folder of another user, a rollback was never possible.
async fn with_way_back(attempt: UpgradeRecord) -> (UpgradeRecord, Result<(), String>) {
    if attempt.staged.is_some() {
        return (attempt, Ok(()));
    }
    let path = attempt.path.clone();
    let kept = tokio::task::spawn_blocking(move || keep_this(&path)).await;
    match kept.map_err(io::Error::other).and_then(|kept| kept) {
        Ok(kept) => (UpgradeRecord { kept: Some(kept), ..attempt }, Ok(())),
        Err(error) if is_full(&error) => {
            let why = format!("the one that runs cannot be kept, so there would be no way back: {error}");
            (attempt, Err(why))
        }
        Err(error) => {
            tracing::warn!(%error, "keeping the program that runs, for the case that the new one fails");
            (attempt, Ok(()))
        }
    }
}

/// Another program than the running one: the requested one, else the file at this daemon's path.
async fn candidate(context: &Arc<Context>, path: &Path) -> Option<UpgradeRecord> {
    let (state_dir, path) = (context.settings.state_dir.clone(), path.to_owned());
    let notice = context.settings.handover.notice;
    loop {
        let (state_dir, path) = (state_dir.clone(), path.clone());
        let looked = tokio::task::spawn_blocking(move || look(&state_dir, &path, notice)).await;
        match looked.unwrap_or(WatchResult::Nothing) {
            WatchResult::Nothing => return None,
            WatchResult::Attempt(attempt) => return Some(*attempt),
            WatchResult::Unfinished => tokio::time::sleep(AT_REST).await,
        }
    }
}

/// A file's identity and the time of its last change, including changes of its mode.
fn seen(program: &Path) -> Option<(FileId, i64, i64)> {
    let changed = fs::metadata(program).ok()?;
    Some((FileId::of(program).ok()?, changed.ctime(), changed.ctime_nsec()))
}

enum WatchResult {
    Nothing,
    /// The file is still being written.
    Unfinished,
    Attempt(Box<UpgradeRecord>),
}

fn look(state_dir: &Path, path: &Path, notice: bool) -> WatchResult {
    let last = UpgradeRecord::read(state_dir).ok().flatten();
    if let Some(open) = last.clone().filter(UpgradeRecord::is_open) {
        let is_asked = open.phase == UpgradePhase::Asked && open.path == path;
        if is_asked && FileId::of(open.program()).is_ok_and(|file| file == open.file) {
            return WatchResult::Attempt(Box::new(open));
        }
        conclude_stale(state_dir, open);
        return WatchResult::Nothing;
    }
    let (Ok(there), Ok(running)) = (FileId::of(path), FileId::of_running()) else {
        return WatchResult::Nothing;
    };
    let has_failed = last.is_some_and(|last| last.phase == UpgradePhase::Failed && last.file == there);
    if !notice || there == running || has_failed {
        return WatchResult::Nothing;
    }
    let age = fs::metadata(path).and_then(|file| file.modified()).ok().and_then(|time| time.elapsed().ok());
    if age.is_some_and(|age| age < AT_REST) {
        return WatchResult::Unfinished;
    }
    if is_the_same(path) {
        return WatchResult::Nothing;
    }
    WatchResult::Attempt(Box::new(UpgradeRecord::new(path.to_owned(), None, there, "unknown".to_owned())))
}

/// Whether the file is another copy of the running program.
fn is_the_same(path: &Path) -> bool {
    let digest = |path: &Path| -> std::io::Result<blake3::Hash> {
        Ok(blake3::Hasher::new().update_reader(fs::File::open(path)?)?.finalize())
    };
    match (digest(path), digest(Path::new("/proc/self/exe"))) {
        (Ok(there), Ok(running)) => there == running,
        _ => false,
    }
}

fn refuse(context: &Context, notice: &Notice, attempt: UpgradeRecord, why: &str) {
    let program = attempt.program().display();
    tracing::warn!(%program, why, "the new program is not handed over to, until it changes");
    let version = Some(attempt.version.clone()).filter(|version| version != "unknown");
    notice.news.send_replace(Some(UpgradeOutcome { version, is_refused: true, why: why.to_owned() }));
    if attempt.staged.is_some() {
        let failed = attempt.now(UpgradePhase::Failed, format!("the daemon refused it: {why}"));
        if let Some(staged) = &failed.staged {
            // The failed file is useless.
            let _ = fs::remove_file(staged);
        }
        if let Err(error) = failed.write(&context.settings.state_dir) {
            tracing::error!(%error, "writing down that a program was refused");
        }
    }
}

/// Waits until nothing is running, then stops accepting requests. False if the file has changed by then.
async fn at_rest(context: &Arc<Context>, notice: &Notice, attempt: &UpgradeRecord) -> bool {
    let mut told = None;
    loop {
        if FileId::of(attempt.program()).ok() != Some(attempt.file) {
            return false;
        }
        let left = attempt.jobs_until_ms.map(|until| until.saturating_sub(now_ms()));
        let why = waits_for(context);
        if told.as_ref() != Some(&why) {
            tracing::info!(version = attempt.version, waits_for = why, "another version is to take over");
            let version = Some(attempt.version.clone());
            notice.news.send_replace(Some(UpgradeOutcome { version, is_refused: false, why: why.clone() }));
            told = Some(why);
        }
        if !context.bus.link().borrow().up {
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        if left == Some(0) {
            close(context).await;
            return true;
        }
        let patience = left.map_or(LOOK_AGAIN, |left| LOOK_AGAIN.min(Duration::from_millis(left)));
        if context.attended.none(patience).await {
            close(context).await;
            // Let messages in flight complete. A job among them may take long.
            if context.attended.none(LAST_WORDS).await {
                return true;
            }
            context.intake.send_replace(AcceptState::Open);
        }
    }
}

fn waits_for(context: &Context) -> String {
    if !context.bus.link().borrow().up {
        return "waits for the bus".to_owned();
    }
    match context.running.count() {
        0 => "takes over".to_owned(),
        1 => "waits until 1 job has ended".to_owned(),
        jobs => format!("waits until {jobs} jobs have ended"),
    }
}

/// Stops accepting requests.
async fn close(context: &Context) {
    let mut intake = context.intake.subscribe();
    context.intake.send_replace(AcceptState::Closing);
    // The dispatcher never blocks, so it answers at once. Callers repeat requests that it has not taken.
    let _ = tokio::time::timeout(LAST_WORDS, intake.wait_for(|intake| *intake == AcceptState::Closed)).await;
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}
