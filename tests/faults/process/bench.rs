//! A containment manager of the test's own, and short ways to run something in it.

use std::time::Duration;

use peerbus::process::{
    Command, ContainmentKind, ContainmentManager, Exit, ExitKind, JobScope, Links, Process, ProcessKey, Spec,
    StartError, Started, StartedInTerminal, Stdin, start, start_in_terminal,
};
use peerbus::protocol::JobId;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;

/// Long enough for anything on a busy machine; reached only by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    pub(crate) state: TempDir,
    pub(crate) containment_manager: ContainmentManager,
}

/// What a command that ended has left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Bench {
    pub(crate) fn new(containment: ContainmentKind) -> Self {
        let state = tempfile::tempdir().expect("a state directory");
        let containment_manager =
            ContainmentManager::open(state.path(), env!("CARGO_BIN_EXE_d").into(), containment);
        Self { state, containment_manager: containment_manager.expect("a containment_manager") }
    }

    pub(crate) fn start(&self, spec: &Spec) -> Result<Started, StartError> {
        start(spec, &self.job_scope(spec), &self.containment_manager)
    }

    pub(crate) fn start_in_terminal(&self, spec: &Spec) -> Result<StartedInTerminal, StartError> {
        start_in_terminal(spec, &self.job_scope(spec), &self.containment_manager)
    }

    pub(crate) fn job_scope(&self, spec: &Spec) -> JobScope {
        self.containment_manager.job_scope(spec.job)
    }

    /// Runs a command to the end of its output and of itself.
    pub(crate) async fn run(&self, spec: &Spec) -> Outcome {
        let mut started = self.start(spec).expect("started");
        let stdout = all_of(started.stdout).await;
        let stderr = all_of(started.stderr).await;
        let exit = exit_of(&mut started.process).await;
        Outcome { exit, stdout, stderr }
    }

    /// Runs a line that is expected to succeed, and returns what it wrote.
    pub(crate) async fn output(&self, spec: &Spec) -> String {
        let outcome = self.run(spec).await;
        assert_eq!(outcome.exit.status, ExitKind::Code(0), "{outcome:?}");
        outcome.stdout
    }
}

impl Drop for Bench {
    /// Also a test that failed leaves nothing running.
    fn drop(&mut self) {
        if let Some(cgroups) = self.containment_manager.cgroups() {
            // Missing when no job was started, or the kernel is old.
            let _ = std::fs::write(cgroups.join("cgroup.kill"), "1");
        }
    }
}

pub(crate) fn argv(argv: &[&str]) -> Spec {
    let job = JobId::new();
    Spec {
        job,
        directory: "/".to_owned(),
        links: Links::Followed,
        command: Command::Argv(argv.iter().map(|&argument| argument.to_owned()).collect()),
        env: vec![("PEERBUS_JOB".to_owned(), job.to_string())],
        user: None,
        stdin: Stdin::Null,
        tty: None,
        start_within: None,
    }
}

pub(crate) fn line(line: &str) -> Spec {
    Spec { command: Command::Shell { shell: None, line: line.to_owned() }, ..argv(&[]) }
}

pub(crate) async fn all_of(mut pipe: Receiver) -> String {
    let mut text = String::new();
    let read = tokio::time::timeout(PATIENCE, pipe.read_to_string(&mut text));
    read.await.expect("the end of the output").expect("text");
    text
}

pub(crate) async fn exit_of(process: &mut Process) -> Exit {
    tokio::time::timeout(PATIENCE, process.exited()).await.expect("an exit")
}

/// Lines of a command that goes on running.
pub(crate) struct Said(Lines<BufReader<Receiver>>);

impl Said {
    pub(crate) fn of(pipe: Receiver) -> Self {
        Self(BufReader::new(pipe).lines())
    }

    pub(crate) async fn next(&mut self) -> String {
        let next = tokio::time::timeout(PATIENCE, self.0.next_line());
        next.await.expect("a line in time").expect("text").expect("a line")
    }

    /// The next lines as process ids.
    pub(crate) async fn pids(&mut self, how_many: usize) -> Vec<u32> {
        let mut pids = Vec::new();
        while pids.len() < how_many {
            pids.push(self.next().await.trim().parse().expect("a pid"));
        }
        pids
    }

    /// Waits until nobody holds the other end any more.
    pub(crate) async fn end(mut self) {
        let read = async { while let Ok(Some(_)) = self.0.next_line().await {} };
        tokio::time::timeout(PATIENCE, read).await.expect("the end of the output");
    }
}

/// Whether a process of this pid runs; a zombie does not.
pub(crate) fn runs(pid: u32) -> bool {
    !matches!(state_of(pid), 'X' | 'Z')
}

/// The letter of proc(5); `X` when there is no such process.
pub(crate) fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).unwrap_or('X')
}

/// Waits until the process has ended and is no zombie of ours.
pub(crate) async fn gone(identity: &ProcessKey) {
    let reaped = async {
        while std::path::Path::new(&format!("/proc/{}", identity.pid)).exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reaped).await.expect("reaped");
}
