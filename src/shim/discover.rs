//! Finds the shim of a job after a restart of the daemon or a broken connection.

use std::fs::{File, TryLockError};
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::job_dir::{JobDir, socket_in};
use super::link::ShimConnection;
use super::messages::{FromShim, JobEnd, ShimInfo, ToShim, VERSION};
use super::spawn::last_line;
use super::wire::{self, LINE_MOST};
use peerbus_process::{JobScope, host};

/// How long a running shim may take to answer. It does not listen for a moment while it starts and while it
/// exits.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Time limit for one answer before the lock is checked again: an exiting shim may close without an answer.
const GREETS_WITHIN: Duration = Duration::from_secs(3);

/// Pause before the next attempt with a shim that does not listen.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The state of a job's shim.
#[derive(Debug)]
pub enum Found {
    /// It is running and answers.
    Alive(ShimConnection),
    /// It has exited and recorded the job's outcome.
    Ended(Box<JobEnd>),
    /// It died without recording the outcome. Its processes and files must be cleaned up.
    Died {
        /// What is known about its death.
        why: String,
        /// Where the job's processes lived; `None` if its description is unreadable.
        job_scope: Option<JobScope>,
    },
    /// There was none, or it exited before it started the command.
    NeverStarted,
}

/// Looks for the shim of a job. The lock decides whether there is one, however long it takes to answer. Do
/// not call this while the same job is being [started](super::link::start).
///
/// # Errors
/// When the state cannot be read. `TimedOut` when the shim is running but does not answer, which allows no
/// conclusion.
pub async fn find(place: &JobDir) -> io::Result<Found> {
    let deadline = Instant::now() + ANSWERS_WITHIN;
    loop {
        let looked_at = place.clone();
        let look = tokio::task::spawn_blocking(move || look(&looked_at)).await;
        if let Some(found) = look.map_err(io::Error::other)?? {
            return Ok(found);
        }
        if let Ok(Ok(Some(link))) =
            timeout_at(deadline.min(Instant::now() + GREETS_WITHIN), greet(place)).await
        {
            return Ok(Found::Alive(link));
        }
        if Instant::now() >= deadline {
            return Err(silent(place));
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn silent(place: &JobDir) -> io::Error {
    let which = match place.about() {
        Ok(Some(about)) => format!(", process {},", about.shim.pid),
        _ => String::new(),
    };
    let message = format!("its shim{which} lives and has not answered for {} s", ANSWERS_WITHIN.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// Reads the files; `None` if a shim is running. Checks the lock first: a shim releases it only after writing
/// everything.
fn look(place: &JobDir) -> io::Result<Option<Found>> {
    match File::open(place.lock()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => match opened?.try_lock_shared() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        },
    }
    // A corrupt file stays corrupt. Its existence shows that the command may have run.
    let (ended, about) = (readable(place.ended())?, readable(place.about())?);
    Ok(Some(match (ended, about) {
        (Ok(Some(ended)), _) => Found::Ended(Box::new(ended)),
        (Err(broken), about) => {
            let job_scope = about.ok().flatten().map(|about| about.job_scope);
            Found::Died { why: format!("how it ended cannot be read: {broken}"), job_scope }
        }
        (Ok(None), Err(broken)) => {
            Found::Died { why: format!("what it wrote of itself cannot be read: {broken}"), job_scope: None }
        }
        (Ok(None), Ok(Some(about))) => {
            Found::Died { why: why_dead(place, &about)?, job_scope: Some(about.job_scope) }
        }
        (Ok(None), Ok(None)) => Found::NeverStarted,
    }))
}

/// Separates files with invalid content from files that cannot be read at the moment.
fn readable<T>(read: io::Result<T>) -> io::Result<Result<T, io::Error>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Err(error)),
        read => read.map(Ok),
    }
}

fn why_dead(place: &JobDir, about: &ShimInfo) -> io::Result<String> {
    if about.shim.boot_id != host::boot_id()? {
        return Ok("the machine was started anew".to_owned());
    }
    let pid = about.shim.pid;
    Ok(match last_line(&place.said()) {
        Some(said) => format!("process {pid} ended; its last words: {said}"),
        None => format!("process {pid} ended without a word, as one that is killed"),
    })
}

/// Whether a running shim reacts in time to a connection that opens and closes without a message. Every
/// version of the shim does, and keeps its connection to the daemon. A shim that is starting or exiting is
/// not tested.
///
/// # Errors
/// When its directory cannot be read.
pub async fn reacts(place: &JobDir, within: Duration) -> io::Result<bool> {
    let directory = File::open(place.directory())?;
    let come_and_go = async {
        let mut stream = UnixStream::connect(socket_in(&directory)).await?;
        stream.shutdown().await?;
        stream.read(&mut [0; 64]).await
    };
    Ok(match timeout(within, come_and_go).await {
        // The backlog is full: the shim accepts no connections.
        Ok(Err(error)) => error.kind() != io::ErrorKind::WouldBlock,
        reacted => reacted.is_ok(),
    })
}

/// Connects and waits for the shim's hello; `None` if the shim closed the connection instead.
async fn greet(place: &JobDir) -> io::Result<Option<ShimConnection>> {
    // A path via this descriptor works even if the socket's own path is too long.
    let directory = File::open(place.directory())?;
    let stream = UnixStream::connect(socket_in(&directory)).await?;
    drop(directory);
    let (mut hearing, mut saying) = wire::split(stream);
    saying.say(&ToShim::Hello { v: VERSION, instance: None })?;
    saying.flush().await?;
    while let Some(word) = hearing.word(LINE_MOST).await? {
        if let FromShim::Hello(hello) = word {
            return Ok(Some(ShimConnection::new(*hello, hearing, saying)));
        }
    }
    Ok(None)
}
