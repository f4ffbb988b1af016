//! Commits a new program to its path, or discards it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::{UpgradePhase, UpgradeRecord};
use peerbus_process::{FileId, be_called};

/// How long a new daemon must be ready before its program takes the place of the old one. Crashes usually come
/// sooner.
const PROVED_AFTER: Duration = Duration::from_secs(3);

/// Retry interval of a failed commit, as on a full disk.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Suffix of the previous program.
const PREVIOUS: &str = ".previous";

/// An upgrade on trial.
#[derive(Debug, Clone)]
pub(crate) struct OnTrial(UpgradeRecord);

impl OnTrial {
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Determines the state of the previous daemon's upgrade and cleans up a failed one. The caller must hold the state
/// directory.
pub(crate) fn settled_before(state_dir: &Path) -> Option<OnTrial> {
    let attempt = match UpgradeRecord::read(state_dir) {
        Ok(attempt) => attempt.filter(UpgradeRecord::is_open)?,
        Err(error) => {
            tracing::warn!(%error, "what is known of the last upgrade is lost");
            return None;
        }
    };
    if attempt.phase == UpgradePhase::Trying
        && FileId::of_running().is_ok_and(|running| running == attempt.file)
    {
        if attempt.staged.as_ref().is_none_or(|staged| staged.exists()) {
            if let Some(name) = attempt.path.file_name() {
                be_called(name);
            }
            return Some(OnTrial(attempt));
        }
        // It was committed, but died before recording that.
        note(state_dir, attempt.now(UpgradePhase::Done, "it serves"));
        return None;
    }
    let why = match attempt.phase {
        UpgradePhase::Asked => "the daemon ended before it was tried",
        _ => "it ended before it had proved itself",
    };
    tracing::warn!(version = attempt.version, why, "an upgrade came to nothing");
    discard(&attempt);
    note(state_dir, attempt.now(UpgradePhase::Failed, why));
    None
}

/// Removes the unused program.
fn discard(attempt: &UpgradeRecord) {
    if let Some(staged) = &attempt.staged
        && let Err(error) = fs::remove_file(staged)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %staged.display(), %error, "removing a program that was not used");
    }
}

fn note(state_dir: &Path, attempt: UpgradeRecord) {
    if let Err(error) = attempt.write(state_dir) {
        tracing::error!(%error, "writing down how an upgrade ended");
    }
}

/// Records the end of an abandoned upgrade whose end could not be written earlier, as on a full disk. Otherwise it
/// would stay open forever. For daemons that are not on trial.
pub(super) fn conclude_stale(state_dir: &Path, attempt: UpgradeRecord) {
    let why = match attempt.phase {
        UpgradePhase::Asked => "its program was not there any more, or the disk was full",
        _ => "it did not prove itself; why, could not be written down",
    };
    discard(&attempt);
    if let Err(error) = attempt.now(UpgradePhase::Failed, why).write(state_dir) {
        tracing::debug!(%error, "writing down how an upgrade ended; it is tried again");
    }
}

/// On trial: serves for a while, then commits the new program. To be polled once this daemon is ready.
pub(crate) async fn stand_trial(state_dir: PathBuf, trial: Option<OnTrial>) {
    let Some(OnTrial(attempt)) = trial else { return };
    tokio::time::sleep(PROVED_AFTER).await;
    loop {
        let (directory, attempt) = (state_dir.clone(), attempt.clone());
        match tokio::task::spawn_blocking(move || take_place(&directory, attempt)).await {
            Ok(Ok(())) => {
                tracing::info!(version = peerbus_protocol::VERSION, "this version has proved itself");
                return;
            }
            Ok(Err(error)) => tracing::error!(%error, "putting the new program in its place"),
            Err(panic) => tracing::error!(%panic, "putting the new program in its place"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

fn take_place(state_dir: &Path, attempt: UpgradeRecord) -> io::Result<()> {
    // The program may be in place already if only the record failed. Installing it twice would keep this program as
    // the previous one.
    if let Some(staged) = attempt.staged.as_ref().filter(|_| !attempt.has_its_place()) {
        install(staged, &attempt.path)?;
    }
    attempt.now(UpgradePhase::Done, "it serves").write(state_dir)
}

/// Installs a program at its path and keeps the old one beside it. The path always has a program.
///
/// # Errors
/// The system's error. The old program is in place then.
pub fn install(staged: &Path, path: &Path) -> io::Result<()> {
    let previous = with_suffix(path, PREVIOUS);
    let aside = with_suffix(path, ".aside");
    let _ = fs::remove_file(&aside);
    match fs::hard_link(path, &aside) {
        Ok(()) => fs::rename(&aside, &previous)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::rename(staged, path)?;
    sync(path.parent().unwrap_or(Path::new("/")))
}

/// Keeps the running program beside its path, which another file has taken. The way back then needs no further disk
/// space.
pub(super) fn keep_this(path: &Path) -> io::Result<PathBuf> {
    let (previous, aside) = (with_suffix(path, PREVIOUS), with_suffix(path, ".aside"));
    let copied = copy_this(&aside).and_then(|()| fs::rename(&aside, &previous));
    if copied.is_err() {
        let _ = fs::remove_file(&aside);
    }
    copied.map(|()| previous)
}

/// Copies the running program and forces the copy to disk.
///
/// # Errors
/// The system's error.
pub fn copy_this(to: &Path) -> io::Result<()> {
    let _ = fs::remove_file(to);
    fs::copy("/proc/self/exe", to)?;
    File::open(to)?.sync_all()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Forces the names in a directory to disk.
///
/// # Errors
/// The system's error.
pub fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
