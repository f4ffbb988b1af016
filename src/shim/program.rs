//! The program `d shim`, which only a daemon starts: inherited resources and startup.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::UnixListener;

use super::job_dir::JobDir;
use super::messages::FirstMessage;
use super::serve;
use super::wire::{self, MessageReader, MessageWriter, ORDER_MOST};
use peerbus_process::{ignore_signals, inherited, keep_memory_private, take_stdin};

/// Threads for blocking work, such as listing processes and writing the outcome.
const BLOCKING_THREADS: usize = 4;

/// Longer than any job runs.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a shim inherits from its daemon.
pub(super) struct Inherited {
    /// The job's lock. Drop it only when the shim has finished.
    pub(super) lock: File,
    pub(super) hearing: MessageReader,
    pub(super) saying: MessageWriter,
}

/// The program `d shim <job> <lock>`. It fails at once without a lock and an order.
#[must_use]
pub fn shim_main() -> ExitCode {
    let log = tracing_subscriber::fmt().with_ansi(false).with_target(false).with_writer(|| ShimLog);
    log.with_max_level(tracing::Level::INFO).init();
    let lived = set_up().and_then(|(runtime, lock, socket)| runtime.block_on(live(lock, socket)));
    match lived {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "this shim cannot go on");
            ExitCode::FAILURE
        }
    }
}

/// The shim's own log: standard error, which is a file.
struct ShimLog;

impl io::Write for ShimLog {
    /// Accepts every write, even if the file does not: a full disk must not end a shim.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn set_up() -> io::Result<(tokio::runtime::Runtime, File, UnixStream)> {
    ignore_signals()?;
    keep_memory_private()?;
    let lock = inherited(std::env::args().nth(3).as_deref())?;
    let socket = UnixStream::from(take_stdin()?);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // Keep the thread that started the command: even if no more threads can be created, as after a fork bomb,
    // the outcome is still recorded.
    builder.max_blocking_threads(BLOCKING_THREADS).thread_keep_alive(FOR_GOOD);
    let runtime = builder.enable_all().build()?;
    Ok((runtime, lock.into(), socket))
}

async fn live(lock: File, socket: UnixStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let (mut hearing, saying) = wire::split(tokio::net::UnixStream::from_std(socket)?);
    let Some(FirstMessage { directory, order, .. }) = hearing.word(ORDER_MOST).await? else {
        // The daemon died before it sent the order: nothing to do.
        return Ok(());
    };
    serve::serve(JobDir::at(directory), order, Inherited { lock, hearing, saying }).await;
    Ok(())
}

/// Listens on the job's socket. Binds via the open directory because the path may be too long for a socket.
pub(super) fn listen(place: &JobDir) -> io::Result<UnixListener> {
    let directory = File::open(place.directory())?;
    let path = super::job_dir::socket_in(&directory);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket.
pub(super) fn stop_listening(place: &JobDir) {
    let socket: &Path = &place.directory().join(super::job_dir::SOCKET);
    // Harmless if it remains: clients check the lock.
    let _ = fs::remove_file(socket);
}
