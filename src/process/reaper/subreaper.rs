//! The reaper itself: runs one command until none of its processes is left.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::{GRACE, RELEASE, ReaperEvent, ReaperSpec, line};
use crate::dumpable::keep_memory_private;
use crate::explain::explain;
use crate::inherited_fds::{ignore_signals, inherited, let_go_of_pipes};
use crate::launch::{Launched, SpawnOptions, launch};
use crate::members::{Descendants, Members};
use crate::pidfd::{self, Waited};
use crate::process_key::ProcessKey;
use crate::process_set::{Asked, Leader, stop};
use crate::resolved_command::ResolvedCommand;
use crate::spec::{Spec, StartError};
use peerbus_protocol::JobId;

/// The program `d reaper`, which only a daemon starts. It fails at once without a socket.
#[must_use]
pub fn reaper_main() -> ExitCode {
    match set_up().and_then(|(runtime, socket, lock)| runtime.block_on(tend(socket, lock))) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads a reaper's output; the daemon sees the socket close.
        Err(_) => ExitCode::FAILURE,
    }
}

fn set_up() -> io::Result<(tokio::runtime::Runtime, std::os::unix::net::UnixStream, File)> {
    // The arguments after `reaper` are the descriptors of the control socket and of the lock.
    let socket = inherited(std::env::args().nth(2).as_deref())?.into();
    let lock = inherited(std::env::args().nth(3).as_deref())?.into();
    ignore_signals()?;
    keep_memory_private()?;
    set_child_subreaper(true)?;
    Ok((tokio::runtime::Builder::new_current_thread().enable_all().build()?, socket, lock))
}

/// Why a reaper exits.
enum End {
    Empty,
    Released,
    DaemonGone,
}

/// `lock` is held until the reaper exits; the job does not inherit it.
async fn tend(socket: std::os::unix::net::UnixStream, mut lock: File) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    let (reader, mut writer) = UnixStream::from_std(socket)?.into_split();
    let mut control = BufReader::new(reader).lines();
    let order = control.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let ReaperSpec { spec, lock: path } = serde_json::from_str(&order)?;
    // Register before the command can exit.
    let children = signal(SignalKind::child())?;
    if is_gone(writer.as_ref()) {
        return fs::remove_file(&path);
    }
    let command = match begin(&spec) {
        Ok(command) => command,
        Err(error) => {
            let _ = fs::remove_file(&path);
            return writer.write_all(&line(&ReaperEvent::Failed(error))?).await;
        }
    };
    let_go_of_pipes()?;
    let started = ReaperEvent::Started(ProcessKey::of(command.pid)?);
    // If the daemon died while the command was started, the loop below notices this and stops the command.
    say(&mut writer, &started).await;

    let nobody_left = Arc::new(AtomicBool::new(false));
    let mut reaping = tokio::spawn(reap_all(command.pid, children, writer, Arc::clone(&nobody_left)));
    if let End::DaemonGone = end(&mut control, &mut reaping).await {
        let leader = Leader { pid: command.pid, pidfd: command.pidfd };
        let killed = stop_all(spec.job, nobody_left, &leader).await?;
        return writeln!(lock, "{killed}");
    }
    fs::remove_file(&path)
}

/// Whether the daemon has died since it sent the order. Then the reaper starts nothing.
fn is_gone(socket: &UnixStream) -> bool {
    let mut byte = [0];
    recv(socket.as_raw_fd(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) != Err(Errno::EAGAIN)
}

/// The reaper's own standard streams are the job's.
fn begin(spec: &Spec) -> Result<Launched, StartError> {
    let plan = ResolvedCommand::of(spec)?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let around =
        SpawnOptions { stdio, cgroup: None, keep: &[], terminal: spec.tty.is_some(), within: plan.within };
    launch(&plan.program, &around).map_err(|error| explain(&plan, &error))
}

async fn end(control: &mut Lines<BufReader<OwnedReadHalf>>, reaping: &mut JoinHandle<()>) -> End {
    tokio::select! {
        _ = reaping => End::Empty,
        said = control.next_line() => match said {
            Ok(Some(said)) if said == RELEASE => End::Released,
            _ => End::DaemonGone,
        },
    }
}

/// Reaps all children, including orphans, until none is left. Then no descendants are left either, because
/// they would have become our children.
async fn reap_all(
    command: u32,
    mut children: Signal,
    mut writer: OwnedWriteHalf,
    nobody_left: Arc<AtomicBool>,
) {
    loop {
        match pidfd::wait(None) {
            Ok(Waited::Ended(pid, exit)) if pid == command => {
                say(&mut writer, &ReaperEvent::Exited(exit)).await
            }
            Ok(Waited::Ended(..)) => {}
            Ok(Waited::Running) => _ = children.recv().await,
            Ok(Waited::NoChild) | Err(_) => break,
        }
    }
    nobody_left.store(true, Ordering::Release);
    say(&mut writer, &ReaperEvent::Empty).await;
}

/// Sends an event. Ignores errors: the read side notices a dead daemon.
async fn say(writer: &mut OwnedWriteHalf, report: &ReaperEvent) {
    if let Ok(line) = line(report) {
        let _ = writer.write_all(&line).await;
    }
}

/// Continues while a process hangs in the kernel or the processes cannot be listed: until then the lock must
/// not become free.
async fn stop_all(job: JobId, nobody_left: Arc<AtomicBool>, leader: &Leader) -> io::Result<u32> {
    let members = Members::Descendants(Descendants::new(ProcessKey::of_self()?, job, nobody_left));
    let mut killed = 0;
    loop {
        if let Ok(stopped) = stop(&members, Some(leader), Asked::Usual, GRACE).await {
            killed += stopped.killed;
            if stopped.left == 0 {
                return Ok(killed);
            }
        }
    }
}
