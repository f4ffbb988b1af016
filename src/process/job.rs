//! The process of one command, from its start to its exit.
//!
//! A runtime task watches a pidfd for the exit, so no thread blocks. It reaps the process even if nobody asks
//! for its exit.

use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::cgroup::Cgroup;
use super::containment::{ContainmentManager, JobScope};
use super::explain::explain;
use super::fd_limit::Reserve;
use super::job_of::remember_command;
use super::kill_leftovers::clear;
use super::launch::{LaunchError, Launched, SpawnOptions, Step, launch};
use super::members::Members;
use super::pidfd::{self, Exit, ExitKind, PidFd, Usage, Waited};
use super::process_key::ProcessKey;
use super::process_set::{Asked, Leader, ProcessSet};
use super::reaper;
use super::resolved_command::ResolvedCommand;
use super::signal::Signal;
use super::spec::{Spec, StartError, Stdin};
use super::terminal::{self, Terminal};
use peerbus_protocol::{JobId, TtySize};

/// Time to exit for a command that cannot be supervised.
const GRACE: Duration = Duration::from_secs(5);

/// A running command and its pipes.
#[derive(Debug)]
pub struct Started {
    /// The command.
    pub process: Process,
    /// The write end of its stdin, if that is a pipe.
    pub stdin: Option<pipe::Sender>,
    /// The read end of its stdout.
    pub stdout: pipe::Receiver,
    /// The read end of its stderr.
    pub stderr: pipe::Receiver,
}

/// A started command. Dropping this does not affect the command.
#[derive(Debug)]
pub struct Process {
    identity: ProcessKey,
    since: Instant,
    exit: watch::Receiver<Option<Exit>>,
    tree: ProcessSet,
}

impl Process {
    /// A command that started no earlier than `since`.
    pub(super) fn new(
        identity: ProcessKey,
        since: Instant,
        exit: watch::Receiver<Option<Exit>>,
        tree: ProcessSet,
    ) -> Self {
        Self { identity, since, exit, tree }
    }

    /// A moment just before the process started.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Identifies the process.
    #[must_use]
    pub fn identity(&self) -> &ProcessKey {
        &self.identity
    }

    /// All living processes that the command has started.
    #[must_use]
    pub fn tree(&self) -> ProcessSet {
        self.tree.clone()
    }

    /// Waits until the command itself has exited; its descendants may live on. Cancel safe, can be called
    /// again.
    pub async fn exited(&mut self) -> Exit {
        let known = self.exit.wait_for(Option::is_some).await;
        known.ok().and_then(|exit| *exit).unwrap_or(UNKNOWN)
    }
}

pub(super) const UNKNOWN: Exit =
    Exit { status: ExitKind::Unknown, usage: Usage { user_ms: 0, system_ms: 0, max_rss_kib: 0 } };

/// The job's ends of its pipes, and ours.
struct Pipes {
    theirs: [OwnedFd; 3],
    ours: (Option<PipeWriter>, OwnedFd, OwnedFd),
}

/// Starts a command. Blocks on fork, exec and slow file systems, so call it on a blocking thread, inside the
/// context of a runtime.
///
/// # Errors
/// When the command could not be started. Then no process is left, and nothing ran unless the error says that
/// it may have.
pub fn start(
    spec: &Spec,
    job_scope: &JobScope,
    containment_manager: &ContainmentManager,
) -> Result<Started, StartError> {
    if spec.tty.is_some() {
        let error = io::Error::other("this command was to run in a terminal");
        return Err(opening_pipes(&error));
    }
    let Pipes { theirs, ours } = Pipes::new(spec.stdin).map_err(|error| opening_pipes(&error))?;
    let (stdin, stdout, stderr) = ours;
    let stdin = stdin.map(|writer| pipe::Sender::from_owned_fd(writer.into()));
    let stdin = stdin.transpose().map_err(|error| opening_pipes(&error))?;
    let stdout = pipe::Receiver::from_owned_fd(stdout).map_err(|error| opening_pipes(&error))?;
    let stderr = pipe::Receiver::from_owned_fd(stderr).map_err(|error| opening_pipes(&error))?;
    // Last: nothing may fail after the command runs.
    let process = in_job_scope(spec, job_scope, containment_manager, theirs)?;
    Ok(Started { process, stdin, stdout, stderr })
}

/// A command that runs in a terminal.
#[derive(Debug)]
pub struct StartedInTerminal {
    /// The command.
    pub process: Process,
    /// Our end of its terminal.
    pub terminal: Terminal,
    /// The terminal's input.
    pub typed: pipe::Sender,
    /// The terminal's output.
    pub shown: pipe::Receiver,
}

/// Starts a command in a terminal of the size in [`Spec::tty`]. Otherwise like [`start`].
///
/// # Errors
/// When the command could not be started. Then no process is left, and nothing ran unless the error says that
/// it may have.
pub fn start_in_terminal(
    spec: &Spec,
    job_scope: &JobScope,
    containment_manager: &ContainmentManager,
) -> Result<StartedInTerminal, StartError> {
    let size = spec.tty.unwrap_or(TtySize::USUAL);
    let spec = Spec { tty: Some(size), ..spec.clone() };
    let opening = |error: io::Error| StartError::system("opening the terminal of a job", &error);
    let (terminal, theirs) = Terminal::open(size).map_err(opening)?;
    terminal::give_to(&theirs, spec.user.as_deref())?;
    let (input, output) = (theirs.try_clone().map_err(opening)?, theirs.try_clone().map_err(opening)?);
    let stdio = [input, output, theirs];
    let (typed, shown) = terminal.pipes().map_err(opening)?;
    let process = in_job_scope(&spec, job_scope, containment_manager, stdio)?;
    Ok(StartedInTerminal { process, terminal, typed, shown })
}

fn in_job_scope(
    spec: &Spec,
    job_scope: &JobScope,
    containment_manager: &ContainmentManager,
    stdio: [OwnedFd; 3],
) -> Result<Process, StartError> {
    let reserve = Reserve::take().map_err(|error| opening_pipes(&error))?;
    let started = match job_scope {
        JobScope::Cgroup { path } => {
            containment_manager.while_starting(|| in_cgroup(spec, path, stdio, reserve))
        }
        JobScope::Reaper { lock } => reaper::start(spec, lock, containment_manager.reaper(), stdio, reserve),
    };
    started.map_err(|error| if error.may_have_run { stopped(error, job_scope) } else { error })
}

/// Stops all processes of a command that cannot be supervised, like those of a dead daemon.
fn stopped(error: StartError, job_scope: &JobScope) -> StartError {
    let became = match Handle::current().block_on(clear(job_scope, GRACE)) {
        Ok(_) => "nothing of it is left".to_owned(),
        Err(left) => format!("it could not be stopped: {left}"),
    };
    StartError { message: format!("{}; {became}", error.message), ..error }
}

fn opening_pipes(error: &io::Error) -> StartError {
    StartError::system("opening the pipes of a job", error)
}

impl Pipes {
    fn new(stdin: Stdin) -> io::Result<Self> {
        let (their_stdin, our_stdin) = match stdin {
            Stdin::Null => (File::open("/dev/null")?.into(), None),
            Stdin::Pipe => io::pipe().map(|(reader, writer)| (reader.into(), Some(writer)))?,
        };
        let (our_stdout, their_stdout) = io::pipe()?;
        let (our_stderr, their_stderr) = io::pipe()?;
        Ok(Self {
            theirs: [their_stdin, their_stdout.into(), their_stderr.into()],
            ours: (our_stdin, our_stdout.into(), our_stderr.into()),
        })
    }
}

fn in_cgroup(spec: &Spec, path: &Path, stdio: [OwnedFd; 3], reserve: Reserve) -> Result<Process, StartError> {
    let plan = ResolvedCommand::of(spec)?;
    let cgroup = Cgroup::at(path);
    let stdio = stdio.each_ref().map(AsFd::as_fd);
    let since = Instant::now();
    let process = launch_in(&cgroup, &plan, stdio, spec.tty.is_some()).and_then(|launched| {
        attend(&launched, spec.job, since, path, reserve, spec.tty.is_some())
            .map_err(|error| abandon(&launched, &error))
    });
    // A cgroup that still contains processes stays.
    if process.is_err() {
        cgroup.remove();
    }
    process
}

/// Retries if another process removes the still empty cgroup. The next daemon does this when its
/// predecessor's shim starts a command.
fn launch_in(
    cgroup: &Cgroup,
    plan: &ResolvedCommand,
    stdio: [BorrowedFd<'_>; 3],
    terminal: bool,
) -> Result<Launched, StartError> {
    const TRIES: u32 = 200;
    let path = cgroup.path();
    let around = SpawnOptions { stdio, cgroup: Some(path), keep: &[], terminal, within: plan.within };
    let mut tries = 1;
    loop {
        cgroup
            .create()
            .map_err(|error| StartError::system(&format!("making cgroup {}", path.display()), &error))?;
        match launch(&plan.program, &around) {
            Err(LaunchError { step: Step::Fork | Step::Surroundings, .. })
                if tries < TRIES && !path.exists() =>
            {
                tries += 1;
            }
            launched => return launched.map_err(|error| explain(plan, &error)),
        }
    }
}

fn attend(
    launched: &Launched,
    job: JobId,
    since: Instant,
    cgroup: &Path,
    reserve: Reserve,
    terminal: bool,
) -> io::Result<Process> {
    drop(reserve);
    let pid = launched.pid;
    remember_command(pid, job);
    let leader = Leader { pid, pidfd: launched.pidfd.try_clone()? };
    let identity = ProcessKey::of(pid)?;
    let (sender, exit) = watch::channel(None);
    let ended = launched.pidfd.watched()?;
    tokio::spawn(async move { _ = sender.send(Some(reap(pid, &ended).await)) });
    let (members, asked) = (Members::in_cgroup(cgroup), Asked::with_terminal(terminal));
    Ok(Process::new(identity, since, exit, ProcessSet::new(members, Some(leader), None, asked)))
}

/// Kills a command that cannot be supervised, for example for lack of descriptors. Its descendants may live
/// on.
fn abandon(launched: &Launched, error: &io::Error) -> StartError {
    let _ = launched.pidfd.signal(Signal::KILL);
    let _ = pidfd::wait_for_end(launched.pid);
    StartError::too_late("attending to a new process", error)
}

/// Waits for a child to exit and reaps it.
pub(super) async fn reap(pid: u32, ended: &AsyncFd<PidFd>) -> Exit {
    loop {
        match pidfd::wait(Some(pid)) {
            Ok(Waited::Ended(_, exit)) => return exit,
            Ok(Waited::NoChild) | Err(_) => return UNKNOWN,
            Ok(Waited::Running) => {}
        }
        match ended.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => return UNKNOWN,
        }
    }
}
