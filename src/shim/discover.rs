//! Finding the shim of a job: after a restart of the daemon, or when a connection broke.

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

/// How long a shim that lives may take to answer. One is away for moments, when it comes and when it goes.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// How long to wait for one answer before the next look at the lock: who goes may do so without a word.
const GREETS_WITHIN: Duration = Duration::from_secs(3);

/// How long to wait before the next look at one that does not listen.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is there of a job's shim.
#[derive(Debug)]
pub enum Found {
    /// It lives, and answers.
    Alive(ShimConnection),
    /// It has written down how the job ended, and is gone.
    Ended(Box<JobEnd>),
    /// It is gone and has not written that. What it leaves behind is to be cleared.
    Died {
        /// What is known of it.
        why: String,
        /// Where the job's processes lived; none where what it wrote of that cannot be read.
        job_scope: Option<JobScope>,
    },
    /// There was none, or it never came as far as starting the command.
    NeverStarted,
}

/// Looks for the shim of a job. Whether there is one, its lock decides, however long it takes to answer.
/// Not to be asked while the same job is being [started](super::link::start).
///
/// # Errors
/// When that cannot be looked at; `TimedOut` when it lives and does not answer, of which nothing follows.
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

/// What the files say; `None` when a shim lives. The lock is looked at first: who lets go of it has written
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
    // What is there and cannot be read will not be read tomorrow. It was written, so its command may have run.
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

/// Tells what holds something that no shim writes from what cannot be read now.
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

/// Whether a shim that lives reacts within this time to somebody who comes and goes without a word. Any version of it
/// does, and goes on talking to its daemon. One that is just coming or going is not listened for.
///
/// # Errors
/// When its directory cannot be looked at.
pub async fn reacts(place: &JobDir, within: Duration) -> io::Result<bool> {
    let directory = File::open(place.directory())?;
    let come_and_go = async {
        let mut stream = UnixStream::connect(socket_in(&directory)).await?;
        stream.shutdown().await?;
        stream.read(&mut [0; 64]).await
    };
    Ok(match timeout(within, come_and_go).await {
        // So many have come before, and it has seen to none of them.
        Ok(Err(error)) => error.kind() != io::ErrorKind::WouldBlock,
        reacted => reacted.is_ok(),
    })
}

/// Connects and waits for the shim's hello; `None` when it went away instead.
async fn greet(place: &JobDir) -> io::Result<Option<ShimConnection>> {
    // Its number is the way to a socket whose own path may be too long.
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
