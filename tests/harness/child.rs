//! A child process whose output is collected while it runs.
//!
//! Every child is killed when its handle is dropped, and by the kernel when the test process dies.
//! The kernel ties that to the *thread* that made the child, so one thread that lives as long as
//! the process starts them all.

#![expect(unsafe_code, reason = "a child is told to end with its test between fork and exec")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::within;

/// How long a pipe may stay open after the child has exited: another process may hold it.
const PIPE_GRACE: Duration = Duration::from_secs(10);

/// Starts `command`; the kernel kills it when this test process dies.
pub fn start(mut command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();

    let parent = nix::unistd::getpid();
    // SAFETY: prctl and getppid are async-signal-safe, and nothing is allocated on success.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before prctl took effect.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(nix::Error::ESRCH.into()) }
        });
    }
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new()
            .name("starter".to_owned())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("starting the thread that starts children");
        orders
    });
    let (answer, child) = mpsc::channel();
    starter.send((command, answer)).expect("the starter lives as long as the process");
    child.recv().expect("the starter answers each order")
}

/// Whether to keep the bytes of an output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Keep all of them.
    All,
    /// Only count and digest them: for outputs too large to hold.
    Count,
}

#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    total: u64,
    digest: blake3::Hasher,
    ended: bool,
    paused: bool,
    closed: bool,
}

/// One output of a child, read by a thread of its own.
#[derive(Clone)]
pub struct Capture(Arc<CaptureInner>);

struct CaptureInner {
    collected: Mutex<Collected>,
    changed: Condvar,
    waker: UnixStream,
}

impl Capture {
    fn of(pipe: impl Into<OwnedFd>, keep: Keep, paused: bool) -> Capture {
        let (waker, wake) = UnixStream::pair().expect("making a pair of sockets");
        wake.set_nonblocking(true).expect("making a socket non-blocking");
        let collected = Mutex::new(Collected { paused, ..Collected::default() });
        let capture = Capture(Arc::new(CaptureInner { collected, changed: Condvar::new(), waker }));
        let pipe = File::from(pipe.into());
        let reader = capture.clone();
        thread::spawn(move || reader.read_all(pipe, wake, keep));
        capture
    }

    fn nothing() -> Capture {
        let (waker, _) = UnixStream::pair().expect("making a pair of sockets");
        let collected = Mutex::new(Collected { ended: true, ..Collected::default() });
        Capture(Arc::new(CaptureInner { collected, changed: Condvar::new(), waker }))
    }

    fn read_all(&self, mut pipe: File, mut wake: UnixStream, keep: Keep) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (paused, closed) = {
                let collected = self.lock();
                (collected.paused, collected.closed)
            };
            if closed {
                break;
            }
            let mut waiting = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
            if !paused {
                waiting.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
            }
            if poll(&mut waiting, PollTimeout::NONE).is_err() {
                continue;
            }
            if waiting[0].any() == Some(true) {
                let _ = wake.read(&mut buffer);
                continue;
            }
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    let mut collected = self.lock();
                    collected.total += length as u64;
                    collected.digest.update(&buffer[..length]);
                    if keep == Keep::All {
                        collected.bytes.extend_from_slice(&buffer[..length]);
                    }
                    self.0.changed.notify_all();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        drop(pipe);
        self.lock().ended = true;
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.collected.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Collected)) {
        change(&mut self.lock());
        let _ = (&self.0.waker).write_all(b"!");
    }

    /// Stops reading, like a paused pager.
    pub fn pause(&self) {
        self.change(|collected| collected.paused = true);
    }

    /// Resumes reading.
    pub fn resume(&self) {
        self.change(|collected| collected.paused = false);
    }

    /// Closes our end of the pipe, like `head`; returns once it is closed.
    pub fn close(&self) {
        self.change(|collected| collected.closed = true);
        self.wait(Duration::from_secs(10), |collected| collected.ended.then_some(()));
    }

    /// All bytes so far (none with [`Keep::Count`]).
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// All text so far, with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().bytes).into_owned()
    }

    /// The number of bytes so far.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// The blake3 digest of all bytes so far, in hexadecimal.
    pub fn digest(&self) -> String {
        self.lock().digest.finalize().to_hex().to_string()
    }

    /// Whether the pipe has ended or we closed it.
    pub fn ended(&self) -> bool {
        self.lock().ended
    }

    fn wait<T>(&self, deadline: Duration, look: impl Fn(&Collected) -> Option<T>) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut collected = self.lock();
        loop {
            if let Some(found) = look(&collected) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || collected.ended {
                return None;
            }
            collected = match self.0.changed.wait_timeout(collected, left) {
                Ok((collected, _)) => collected,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Waits for a whole line that `wanted` accepts. `None` if the deadline passed or the output
    /// ended.
    pub fn line(&self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.wait(deadline, |collected| {
            let whole = collected.bytes.iter().rposition(|byte| *byte == b'\n')?;
            let text = String::from_utf8_lossy(&collected.bytes[..whole]);
            text.lines().find(|line| wanted(line)).map(str::to_owned)
        })
    }

    /// Waits for `total` bytes. False if the deadline passed or the output ended first.
    pub fn reaches(&self, total: u64, deadline: Duration) -> bool {
        self.wait(deadline, |collected| (collected.total >= total).then_some(())).is_some()
    }

    /// Waits until the output contains these bytes.
    pub fn contains(&self, wanted: &[u8], deadline: Duration) -> bool {
        self.wait(deadline, |collected| {
            collected.bytes.windows(wanted.len()).any(|window| window == wanted).then_some(())
        })
        .is_some()
    }

    fn wait_for_end(&self, deadline: Duration) {
        self.wait(deadline, |collected| collected.ended.then_some(()));
    }
}

/// The result of a process that has ended.
#[derive(Clone)]
pub struct Finished {
    /// Its name, for messages.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Its duration.
    pub took: Duration,
}

impl Finished {
    /// The exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Its standard output as text, with invalid UTF-8 replaced.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Its standard error as text, with invalid UTF-8 replaced.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Fails the test with its output unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert!(self.code() == Some(code), "expected exit code {code}\n{self:?}");
        self
    }

    /// Fails the test with its output unless the exit code is 0.
    #[track_caller]
    pub fn expect_success(self) -> Finished {
        self.expect_code(0)
    }
}

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Finished { name, status, took, .. } = self;
        write!(
            f,
            "{name}: {status} after {took:?}\n--- stdout ---\n{}\n--- stderr ---\n{}\n---",
            tail(&self.out(), 200),
            tail(&self.err(), 200)
        )
    }
}

/// The last `lines` lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A running child.
pub struct Live {
    name: String,
    child: Child,
    started: Instant,
    ended: Option<(ExitStatus, Duration)>,
    stdin: Option<std::process::ChildStdin>,
    /// Its standard output.
    pub stdout: Capture,
    /// Its standard error.
    pub stderr: Capture,
}

impl Live {
    /// Starts `command`. Collects its standard error, and its standard output if that is a pipe.
    pub fn start(name: &str, command: Command) -> io::Result<Live> {
        Live::start_keeping(name, command, Keep::All, false)
    }

    /// Like [`Live::start`], with options to only count the standard output and to start paused.
    pub fn start_keeping(name: &str, command: Command, keep: Keep, paused: bool) -> io::Result<Live> {
        // Taken before the start, since the child may run for long before this thread continues.
        let started = Instant::now();
        let mut child = start(command)?;
        let stdin = child.stdin.take();
        let stdout =
            child.stdout.take().map_or_else(Capture::nothing, |pipe| Capture::of(pipe, keep, paused));
        let stderr =
            child.stderr.take().map_or_else(Capture::nothing, |pipe| Capture::of(pipe, Keep::All, false));
        Ok(Live { name: name.to_owned(), child, started, ended: None, stdin, stdout, stderr })
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits")
    }

    /// Sends it a signal, unless it was already reaped.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = kill(Pid::from_raw(self.pid()), signal);
        }
    }

    /// Writes to its standard input, which must be a pipe.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stdin = self.stdin.as_mut().expect("its standard input is an open pipe");
        stdin.write_all(bytes)?;
        stdin.flush()
    }

    /// Takes its standard input, to write from a thread or to drop it.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.stdin.take()
    }

    /// Closes its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait().expect("waiting for a child")
        {
            self.ended = Some((status, self.started.elapsed()));
        }
        self.ended.map(|(status, _)| status)
    }

    /// Waits until it exits. `None` if it still runs.
    pub fn try_wait(&mut self, deadline: Duration) -> Option<Finished> {
        let status = within(deadline, || self.ended())?;
        self.stdout.wait_for_end(PIPE_GRACE);
        self.stderr.wait_for_end(PIPE_GRACE);
        Some(self.report(status))
    }

    /// Waits until it exits. At the deadline, kills it and fails the test with its output.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> Finished {
        match self.try_wait(deadline) {
            Some(finished) => finished,
            None => {
                let killed = self.kill();
                panic!("still running after {deadline:?}, now killed\n{killed:?}");
            }
        }
    }

    /// Kills it with SIGKILL and reaps it.
    pub fn kill(&mut self) -> Finished {
        self.signal(Signal::SIGKILL);
        let status = match self.ended() {
            Some(status) => status,
            None => {
                let status = self.child.wait().expect("waiting for a killed child");
                self.ended = Some((status, self.started.elapsed()));
                status
            }
        };
        self.stderr.wait_for_end(PIPE_GRACE);
        self.report(status)
    }

    /// Waits for a whole line on its standard output; fails the test with its output otherwise.
    #[track_caller]
    pub fn stdout_line(&mut self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let found = self.stdout.line(deadline, wanted);
        self.or_evidence(found, "the line on its standard output")
    }

    /// Waits for a whole line on its standard error; fails the test with its output otherwise.
    #[track_caller]
    pub fn stderr_line(&mut self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let found = self.stderr.line(deadline, wanted);
        self.or_evidence(found, "the line on its standard error")
    }

    /// Waits for `total` bytes on its standard output; fails the test otherwise.
    #[track_caller]
    pub fn stdout_reaches(&mut self, total: u64, deadline: Duration) {
        let found = self.stdout.reaches(total, deadline).then_some(());
        self.or_evidence(found, "so many bytes on its standard output");
    }

    #[track_caller]
    fn or_evidence<T>(&mut self, found: Option<T>, what: &str) -> T {
        match found {
            Some(found) => found,
            None => {
                let state = match self.ended() {
                    Some(status) => status.to_string(),
                    None => "still running".to_owned(),
                };
                let (name, total) = (&self.name, self.stdout.total());
                panic!(
                    "{name} ({state}) never gave {what}\n--- stdout, {total} bytes ---\n{}\n--- stderr ---\n{}\n---",
                    tail(&self.stdout.text(), 100),
                    tail(&self.stderr.text(), 100)
                );
            }
        }
    }

    fn report(&self, status: ExitStatus) -> Finished {
        Finished {
            name: self.name.clone(),
            status,
            stdout: self.stdout.bytes(),
            stderr: self.stderr.bytes(),
            took: self.ended.map_or_else(|| self.started.elapsed(), |(_, took)| took),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A command with pipes for its outputs and an empty input.
pub fn piped(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
