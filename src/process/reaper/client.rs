//! The daemon's side of a reaper: starts it and receives its events.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

use super::{RELEASE, ReaperEvent, ReaperSpec, line};
use crate::environment;
use crate::fd_limit::Reserve;
use crate::job::{Process, reap};
use crate::launch::{LAUNCH_WITHIN, Launched, Program, SpawnOptions, launch};
use crate::members::{Descendants, Members};
use crate::pidfd::{self, Exit, PidFd};
use crate::process_key::ProcessKey;
use crate::process_set::{Asked, Leader, ProcessSet};
use crate::resolved_command::{c_environment, c_string};
use crate::spec::{Links, Spec, StartError};

/// Starts a reaper that starts the command. Blocks until the command is running or has failed.
pub(crate) fn start(
    spec: &Spec,
    lock: &Path,
    reaper: &Path,
    stdio: [OwnedFd; 3],
    reserve: Reserve,
) -> Result<Process, StartError> {
    let starting =
        |error: io::Error| StartError::system(&format!("starting a reaper, {}", reaper.display()), &error);
    let (ours, theirs) = UnixStream::pair().map_err(starting)?;
    let held = held(lock)?;
    let program = program(reaper, &theirs, &held).inspect_err(|_| _ = fs::remove_file(lock))?;
    // The command takes the controlling terminal, not the reaper.
    let around = SpawnOptions {
        stdio: stdio.each_ref().map(AsFd::as_fd),
        cgroup: None,
        keep: &[theirs.as_fd(), held.as_fd()],
        terminal: false,
        within: LAUNCH_WITHIN,
    };
    let launched = launch(&program, &around).map_err(|error| {
        let _ = fs::remove_file(lock);
        starting(error.source)
    })?;
    // Record the reaper in the lock file, so that it can be killed if it hangs. Failure is harmless: then
    // others wait for it.
    let _ = ProcessKey::of(launched.pid).and_then(|reaper| (&held).write_all(&line(&reaper)?));
    // Our copies would keep the job's pipes, the socket and the lock open.
    drop((stdio, theirs, held));
    let outcome = match begun(ours, &launched, spec, lock, reserve) {
        Ok(Ok(process)) => return Ok(process),
        Ok(Err(failed)) => failed,
        // The reaper has its order, and its progress is unknown.
        Err(error) => StartError::too_late(&format!("starting a reaper, {}", reaper.display()), &error),
    };
    // The closed socket makes the reaper exit.
    let _ = pidfd::wait_for_end(launched.pid);
    // Otherwise keep the lock file, which helps to find leftovers.
    if !outcome.may_have_run {
        let _ = fs::remove_file(lock);
    }
    Err(outcome)
}

/// Makes the reaper start the command. On failure the socket is closed.
fn begun(
    socket: UnixStream,
    reaper: &Launched,
    spec: &Spec,
    lock: &Path,
    reserve: Reserve,
) -> io::Result<Result<Process, StartError>> {
    let since = Instant::now();
    match ordered(&socket, spec, lock)? {
        ReaperEvent::Started(command) => {
            drop(reserve);
            attend(socket, reaper, spec, (command, since)).map(Ok)
        }
        ReaperEvent::Failed(error) => Ok(Err(error)),
        ReaperEvent::Exited(_) | ReaperEvent::Empty => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Ends the reaper without stopping the remaining processes.
pub(crate) fn release(mut control: &UnixStream) {
    // A reaper that has exited needs no release.
    let _ = control.write_all(format!("{RELEASE}\n").as_bytes());
}

/// Creates and takes the lock before the reaper exists. After our death, anyone who finds it free knows that
/// nothing was started. No other job uses the same lock.
fn held(path: &Path) -> Result<File, StartError> {
    let locking = |error: io::Error| StartError::system(&format!("locking {}", path.display()), &error);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let lock = options.open(path).map_err(locking)?;
    lock.try_lock().map_err(|error| locking(error.into()))?;
    Ok(lock)
}

fn program(reaper: &Path, socket: &UnixStream, lock: &File) -> Result<Program, StartError> {
    let path = c_string("the reaper", reaper)?;
    let socket = c_string("the socket", socket.as_raw_fd().to_string())?;
    let lock = c_string("the lock", lock.as_raw_fd().to_string())?;
    Ok(Program {
        argv: vec![path.clone(), c"reaper".to_owned(), socket, lock],
        environment: c_environment(&environment::of_reaper())?,
        candidates: vec![path],
        directory: c"/".to_owned(),
        named_after_file: false,
        links: Links::Followed,
        credentials: None,
    })
}

fn ordered(mut socket: &UnixStream, spec: &Spec, lock: &Path) -> io::Result<ReaperEvent> {
    socket.write_all(&line(&ReaperSpec { spec: spec.clone(), lock: lock.to_owned() })?)?;
    // Byte by byte: the bytes after the first line are for the task that reads later.
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => return Ok(serde_json::from_slice(&answer)?),
            byte => answer.extend(byte),
        }
    }
}

fn attend(
    socket: UnixStream,
    reaper: &Launched,
    spec: &Spec,
    (command, since): (ProcessKey, Instant),
) -> io::Result<Process> {
    let control = socket.try_clone()?;
    socket.set_nonblocking(true)?;
    let nobody_left = Arc::new(AtomicBool::new(false));
    let members = Members::Descendants(Descendants::new(
        ProcessKey::of(reaper.pid)?,
        spec.job,
        Arc::clone(&nobody_left),
    ));
    let asked = Asked::with_terminal(spec.tty.is_some());
    let tree = ProcessSet::new(members, leader(&command), Some(control), asked);
    let (sender, exit) = watch::channel(None);
    let socket = tokio::net::UnixStream::from_std(socket)?;
    let ended = reaper.pidfd.watched()?;
    let pid = reaper.pid;
    tokio::spawn(async move {
        follow(socket, sender, &nobody_left).await;
        reap(pid, &ended).await;
    });
    Ok(Process::new(command, since, exit, tree))
}

/// The command as leader of its process group, unless it has exited and its pid was reused.
fn leader(command: &ProcessKey) -> Option<Leader> {
    let pidfd = PidFd::open(command.pid).ok()?;
    let still = ProcessKey::of(command.pid).is_ok_and(|now| now == *command);
    still.then_some(Leader { pid: command.pid, pidfd })
}

/// Reads events until the reaper exits. Without an `Exited` event the exit is unknown: the sender is dropped.
async fn follow(socket: tokio::net::UnixStream, exit: watch::Sender<Option<Exit>>, nobody_left: &AtomicBool) {
    let mut reports = BufReader::new(socket).lines();
    while let Ok(Some(report)) = reports.next_line().await {
        match serde_json::from_str(&report) {
            Ok(ReaperEvent::Exited(how)) => _ = exit.send(Some(how)),
            Ok(ReaperEvent::Empty) => nobody_left.store(true, Ordering::Release),
            Ok(ReaperEvent::Started(_) | ReaperEvent::Failed(_)) => {}
            Err(error) => tracing::warn!(report, %error, "a reaper said something unknown"),
        }
    }
}
