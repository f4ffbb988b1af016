//! Starting a shim that starts a command.
//!
//! Guarantees: a job's shim is started at most once, whoever tries; its lock is never free from before it
//! is made until it is gone. Nothing of the order is on the disk or in a list of processes.

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

/// How long a lock may be held by somebody who only looks at it.
const LOOKED_AT_FOR: Duration = Duration::from_secs(2);

/// How often such a lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why there is no running command.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// It could not be started. Nothing of it ran, and no shim is left.
    #[error("{0}")]
    Failed(StartError),
    /// The shim died while it started the command, so that may have run, and may run still:
    /// [`find`](super::link::find) says where.
    #[error("{0}")]
    Died(String),
    /// The command runs, and its shim goes on, which this process cannot listen to now, as when it is just ending:
    /// [`find`](super::link::find) makes another connection.
    #[error("{0}")]
    Unheard(String),
}

/// Starts a shim that starts the command. Blocks on fork, exec and slow file systems, so it belongs on
/// a thread that may block, inside the context of a runtime. Once it has returned `Ok` the command runs.
///
/// # Errors
/// When the command was not started, when nobody can say, or when it runs and nobody hears its shim.
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

/// What became of an order.
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

/// The lock, held. Who looks whether it is held holds it for a moment.
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

/// One line, byte by byte: what follows it is for whoever listens later.
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

/// A shim that did not answer as shims do is none: it is ended. Whether it has come as far as starting
/// the command, it has written down.
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

/// The last thing that a shim said.
pub(super) fn last_line(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().rfind(|line| !line.trim().is_empty())?.trim().to_owned())
}
