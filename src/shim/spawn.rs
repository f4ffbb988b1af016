//! Starts a shim that starts a command.
//!
//! Guarantees: each job's shim is started at most once, however many processes try. Its lock is held without
//! a gap from before its start until after its exit. The order appears neither on disk nor in process
//! listings.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::job_dir::JobDir;
use super::link::ShimConnection;
use super::messages::{FirstMessage, FromShim, Hello, JobSpec, VERSION};
use super::wire::{LINE_MOST, line, understood};
use peerbus_process::{ContainmentManager, Detached, ProcessKey, StartError, open_log};
use peerbus_protocol::ending::sentence;

/// How long a probe may hold a lock.
const LOOKED_AT_FOR: Duration = Duration::from_secs(2);

/// Pause between two attempts to take a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why there is no running command.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// The command could not be started. Nothing ran, and no shim is left.
    #[error("{0}")]
    Failed(StartError),
    /// The shim died while it started the command. The command may have run or still be running:
    /// [`find`](super::link::find) tells where.
    #[error("{0}")]
    Died(String),
    /// The command is running under its shim, but this connection to the shim failed, for example because the
    /// shim is exiting: [`find`](super::link::find) makes another connection.
    #[error("{0}")]
    Unheard(String),
}

/// Starts a shim that starts the command. Returns `Ok` once the command is running. Blocks on fork, exec and
/// slow file systems, so call it on a blocking thread, inside the context of a runtime.
///
/// # Errors
/// When the command was not started, when this is unknown, or when it is running but its shim cannot be
/// reached.
pub fn start(
    place: &JobDir,
    order: &JobSpec,
    containment_manager: &ContainmentManager,
) -> Result<(ShimConnection, ProcessKey), SpawnError> {
    containment_manager.while_starting(|| {
        let (shim, socket) = launch(place, order, containment_manager)
            .map_err(|error| failed(format!("starting the shim of a job: {error}")))?;
        match ordered(&socket, place, order) {
            Ok(StartOutcome::Runs(identity, hello)) => {
                tokio::spawn(async move { shim.exited().await });
                let link = connected(socket, *hello).map_err(|error| unheard(&error))?;
                Ok((link, identity))
            }
            Ok(StartOutcome::Failed(error)) => {
                shim.wait();
                Err(SpawnError::Failed(error))
            }
            Err(error) => Err(given_up(shim, place, &error)),
        }
    })
}

/// The result of an order.
enum StartOutcome {
    Runs(ProcessKey, Box<Hello>),
    Failed(StartError),
}

fn launch(
    place: &JobDir,
    order: &JobSpec,
    containment_manager: &ContainmentManager,
) -> io::Result<(Detached, UnixStream)> {
    DirBuilder::new().recursive(true).mode(0o700).create(place.directory())?;
    let lock = locked(&place.lock())?;
    if place.about()?.is_some() || place.ended()?.is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it has had one before"));
    }
    let said = open_log(&place.said())?;
    let (ours, theirs) = UnixStream::pair()?;
    let shim = Detached::shim(containment_manager, &order.spec.job.to_string(), &theirs, &said, &lock)?;
    Ok((shim, ours))
}

/// Takes the lock. Retries because a probe may hold it for a moment.
fn locked(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let lock = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let begin = Instant::now();
    while let Err(error) = lock.try_lock() {
        match error {
            TryLockError::Error(error) => return Err(error),
            TryLockError::WouldBlock if begin.elapsed() < LOOKED_AT_FOR => std::thread::sleep(LOCK_PAUSE),
            TryLockError::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it has one already"));
            }
        }
    }
    Ok(lock)
}

fn ordered(mut socket: &UnixStream, place: &JobDir, order: &JobSpec) -> io::Result<StartOutcome> {
    let directory = std::path::absolute(place.directory())?;
    socket.write_all(&line(&FirstMessage { v: VERSION, directory, order: order.clone() })?)?;
    let identity = loop {
        match word(socket)? {
            Some(FromShim::Started(identity)) => break identity,
            Some(FromShim::Failed(error)) => return Ok(StartOutcome::Failed(error)),
            _ => {}
        }
    };
    loop {
        if let Some(FromShim::Hello(hello)) = word(socket)? {
            return Ok(StartOutcome::Runs(identity, hello));
        }
    }
}

/// Reads one line byte by byte, so that the bytes after it stay in the socket for the next reader.
fn word(mut socket: &UnixStream) -> io::Result<Option<FromShim>> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => return Ok(understood(&line)),
            _ if line.len() >= LINE_MOST => return Err(io::ErrorKind::InvalidData.into()),
            [byte] => line.push(byte),
        }
    }
}

fn connected(socket: UnixStream, hello: Hello) -> io::Result<ShimConnection> {
    socket.set_nonblocking(true)?;
    Ok(ShimConnection::over(hello, tokio::net::UnixStream::from_std(socket)?))
}

fn unheard(error: &io::Error) -> SpawnError {
    SpawnError::Unheard(sentence(format!("its shim cannot be listened to: {error}")))
}

/// Kills a shim that gave no valid answer. Its files tell whether it has started the command.
fn given_up(shim: Detached, place: &JobDir, error: &io::Error) -> SpawnError {
    shim.end();
    let said = last_line(&place.said()).map_or_else(String::new, |said| format!("; its last words: {said}"));
    let why = sentence(format!("its shim did not come to start it: {error}{said}"));
    match place.about() {
        Ok(None) => failed(why),
        _ => SpawnError::Died(why),
    }
}

fn failed(message: String) -> SpawnError {
    SpawnError::Failed(StartError::of_system(sentence(message)))
}

/// The last line of the shim's own log.
pub(super) fn last_line(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().rfind(|line| !line.trim().is_empty())?.trim().to_owned())
}
