//! Fork and exec: starts a process from the daemon.
//!
//! The parent computes everything first. The child makes only system calls, because after the fork of a
//! multi-threaded program any lock may be held. With a cgroup, `clone3` (Linux 5.7) creates the child
//! directly inside it: moving a process later takes the kernel 5 to 15 ms.
//!
//! Guarantees: the command has its own session and process group, default signal dispositions and an empty
//! signal mask. If the daemon is root, it has the usual umask. It inherits only the descriptors 0, 1 and 2
//! and those that the caller names, and the daemon's original descriptor limit. Either the program is
//! executed, or the caller learns which step failed and no process is left.

#![expect(unsafe_code, reason = "fork, and what a child may do before exec, is in no safe API")]

use std::ffi::{CString, c_char, c_int};
use std::fs::{self, File};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::unistd::geteuid;

use super::fd_limit;
use super::pidfd::{self, PidFd};
use super::signal::Signal;
use super::spec::Links;
use super::stat::Stat;
use super::user::Credentials;

/// What to execute, in the form that the kernel needs.
pub(super) struct Program {
    pub(super) argv: Vec<CString>,
    pub(super) environment: Vec<CString>,
    /// The paths to try, in this order.
    pub(super) candidates: Vec<CString>,
    pub(super) directory: CString,
    /// Whether `argv[0]` is the path of the candidate that is executed.
    pub(super) named_after_file: bool,
    pub(super) links: Links,
    pub(super) credentials: Option<Credentials>,
}

impl Program {
    /// A program that never exists: its launch completes all steps except exec.
    pub(super) fn nothing() -> Self {
        Self {
            argv: vec![],
            environment: vec![],
            candidates: vec![],
            directory: c"/".to_owned(),
            named_after_file: false,
            links: Links::Followed,
            credentials: None,
        }
    }
}

/// The surroundings of the process.
pub(super) struct SpawnOptions<'a> {
    /// Standard input, output and error. A descriptor below 3 must already be in its own place.
    pub(super) stdio: [BorrowedFd<'a>; 3],
    /// The directory of the cgroup to start it in.
    pub(super) cgroup: Option<&'a Path>,
    /// More descriptors to inherit under the same numbers.
    pub(super) keep: &'a [BorrowedFd<'a>],
    /// Whether standard input is a terminal that becomes the controlling terminal.
    pub(super) terminal: bool,
    /// Time limit until the program is executed.
    pub(super) within: Duration,
}

/// A process that executes its program. The owner must wait for it.
pub(super) struct Launched {
    pub(super) pid: u32,
    pub(super) pidfd: PidFd,
}

/// The step at which a launch failed, and the error.
#[derive(Debug)]
pub(super) struct LaunchError {
    pub(super) step: Step,
    pub(super) source: io::Error,
}

/// The steps of a launch, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    /// Creating the process.
    Fork,
    /// Setting up session, descriptors and signals, and entering the cgroup if `clone3` is unavailable.
    Surroundings,
    /// Switching to the user.
    User,
    /// Entering the directory as that user.
    Directory,
    /// Checking that no symbolic link led to another directory.
    Elsewhere,
    /// Executing the program.
    Program,
    /// Timeout. The child was killed before it executed the program, and never will.
    Stuck,
    /// Timeout. The child was killed, but may have executed the program just before.
    StuckTooLate,
}

impl Step {
    fn from_byte(byte: u8) -> Self {
        let all = [Self::Fork, Self::Surroundings, Self::User, Self::Directory, Self::Elsewhere];
        all.into_iter().find(|step| *step as u8 == byte).unwrap_or(Self::Program)
    }
}

/// From the kernel's headers; the C library's constant has too small a type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// The umask for commands of a root daemon, which may have been started from anyone's shell. A user's own
/// daemon keeps that user's umask.
const USUAL_UMASK: libc::mode_t = 0o022;

/// Default time limit of a launch. A disk that spins up or a file server that is being mounted is faster.
/// What takes longer, such as a directory on a dead file server, never returns.
pub(super) const LAUNCH_WITHIN: Duration = Duration::from_secs(10);

/// The size of a child's error report: step and errno.
const REPORT_BYTES: usize = 5;

/// Starts a program. Blocks until it is executed, has failed, or the time limit has passed.
pub(super) fn launch(program: &Program, around: &SpawnOptions<'_>) -> Result<Launched, LaunchError> {
    let failed = |source| LaunchError { step: Step::Fork, source };
    let (reader, writer) = io::pipe().map_err(failed)?;
    let cgroup = around.cgroup.map(File::open).transpose().map_err(failed)?;
    let procs = around.cgroup.map(|path| File::options().write(true).open(path.join("cgroup.procs")));
    let procs = procs.transpose().map_err(failed)?;
    let argv_of = |candidate: &CString| {
        let mut argv = pointers(&program.argv);
        if program.named_after_file
            && let Some(name) = argv.first_mut()
        {
            *name = candidate.as_ptr();
        }
        argv
    };
    let child = Child {
        argvs: program.candidates.iter().map(argv_of).collect(),
        environment: pointers(&program.environment),
        candidates: pointers(&program.candidates),
        directory: program.directory.as_ptr(),
        place: (program.links == Links::Refused).then_some(program.directory.as_bytes_with_nul()),
        credentials: program.credentials.as_ref(),
        stdio: around.stdio.map(|fd| fd.as_raw_fd()),
        procs: procs.as_ref().map(AsRawFd::as_raw_fd),
        keep: around.keep.iter().map(AsRawFd::as_raw_fd).collect(),
        open: open_until_exec(around.keep, &writer),
        terminal: around.terminal,
        report: writer.as_raw_fd(),
        open_max: open_max(),
        descriptor_limit: fd_limit::of_others(),
        umask: geteuid().is_root().then_some(USUAL_UMASK),
    };
    let launched = fork(&child, cgroup.as_ref()).map_err(failed)?;
    drop(writer);
    match reported(reader, around.within, launched.pid) {
        None => Ok(launched),
        Some(error) if error.step == Step::Stuck => Err(given_up(launched, error)),
        Some(error) => {
            // It has sent its report, so it exits at once.
            let _ = pidfd::wait_for_end(launched.pid);
            Err(error)
        }
    }
}

/// Kills a child that hangs in the kernel; it exits when the kernel returns. If it has not executed its
/// program by then, it never will.
fn given_up(launched: Launched, error: LaunchError) -> LaunchError {
    let _ = launched.pidfd.signal(Signal::KILL);
    let program = |pid: &str| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let still = program(&launched.pid.to_string());
    let step = if still.is_some() && still == program("self") { Step::Stuck } else { Step::StuckTooLate };
    // Nobody waits for this thread, which holds only a pid.
    std::thread::spawn(move || _ = pidfd::wait_for_end(launched.pid));
    LaunchError { step, ..error }
}

/// How long a child that waits for a processor may take beyond its time limit: on an overloaded machine it is
/// late, and does not hang.
const STARVED: Duration = Duration::from_secs(60);

/// Time between two looks at a child that is late.
const LATE: Duration = Duration::from_millis(200);

/// Reads the child's error report. A successful exec closes the pipe without a report.
fn reported(mut reader: PipeReader, within: Duration, child: u32) -> Option<LaunchError> {
    let mut deadline = Instant::now() + within;
    let last = deadline + STARVED;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], patience) {
            Ok(0) if Instant::now() >= deadline => {
                if Instant::now() < last
                    && Stat::of(child).is_ok_and(|stat| stat.is_some_and(|stat| stat.is_runnable))
                {
                    deadline = Instant::now() + LATE;
                    continue;
                }
                return Some(LaunchError { step: Step::Stuck, source: io::ErrorKind::TimedOut.into() });
            }
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            // The read below returns the same error.
            Ok(_) | Err(_) => break,
        }
    }
    let mut report = [0; REPORT_BYTES];
    reader.read_exact(&mut report).ok()?;
    let [step, errno @ ..] = report;
    let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
    Some(LaunchError { step: Step::from_byte(step), source })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

fn open_until_exec(keep: &[BorrowedFd<'_>], report: &impl AsRawFd) -> Vec<RawFd> {
    let mut open: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).chain([report.as_raw_fd()]).collect();
    open.sort_unstable();
    open
}

fn open_max() -> RawFd {
    /// Closing more descriptors than this one by one takes too long. Only kernels before 5.9 need it.
    const MANY: u64 = 1 << 16;
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    limit.map_or(MANY, |(soft, _)| soft.min(MANY)) as RawFd
}

/// Forks with all signals blocked: a signal that arrives before the child has reset its handlers would run
/// the daemon's handler, which writes into the daemon's own pipes.
fn fork(child: &Child<'_>, cgroup: Option<&File>) -> io::Result<Launched> {
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    let forked = match clone_process(child, cgroup) {
        // Old kernels, and sandboxes that do not allow the call.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {
            fork_process(child)
        }
        other => other,
    };
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    forked
}

fn clone_process(child: &Child<'_>, cgroup: Option<&File>) -> io::Result<Launched> {
    let mut pidfd: RawFd = -1;
    // SAFETY: a structure of plain numbers, for which zero means "not asked for".
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = libc::CLONE_PIDFD as u64;
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: the child works on its own copy of this stack. The child makes
    // only system calls and never returns from `run`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => child.run(CgroupEntry::Already),
        // SAFETY: the kernel has just created this descriptor for us.
        _ => Ok(Launched { pid: pid as u32, pidfd: PidFd::from(unsafe { OwnedFd::from_raw_fd(pidfd) }) }),
    }
}

fn fork_process(child: &Child<'_>) -> io::Result<Launched> {
    // SAFETY: the child makes only async-signal-safe calls and never returns from `run`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => child.run(CgroupEntry::NotYet),
        pid => {
            let pid = pid as u32;
            // We have not waited for the child yet, so its pid cannot be reused.
            let pidfd = PidFd::open(pid).inspect_err(|_| {
                // SAFETY: a plain system call; the pid is our own child's.
                unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
                let _ = pidfd::wait_for_end(pid);
            })?;
            Ok(Launched { pid, pidfd })
        }
    }
}

/// Whether the child was created inside its cgroup.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CgroupEntry {
    Already,
    NotYet,
}

/// The child's data, prepared by the parent, because the child must not allocate.
struct Child<'a> {
    /// One argv per candidate.
    argvs: Vec<Vec<*const c_char>>,
    environment: Vec<*const c_char>,
    candidates: Vec<*const c_char>,
    directory: *const c_char,
    /// The expected name of the directory, zero-terminated.
    place: Option<&'a [u8]>,
    credentials: Option<&'a Credentials>,
    stdio: [RawFd; 3],
    procs: Option<RawFd>,
    keep: Vec<RawFd>,
    /// Descriptors to keep open until exec, in ascending order.
    open: Vec<RawFd>,
    terminal: bool,
    report: RawFd,
    open_max: RawFd,
    descriptor_limit: Option<libc::rlimit>,
    umask: Option<libc::mode_t>,
}

impl Child<'_> {
    fn run(&self, entered: CgroupEntry) -> ! {
        let (step, errno) = self.become_program(entered);
        let mut report = [step as u8; REPORT_BYTES];
        report[1..].copy_from_slice(&errno.to_ne_bytes());
        // SAFETY: plain system calls on our own memory; the parent reads whatever arrives.
        unsafe {
            libc::write(self.report, report.as_ptr().cast(), REPORT_BYTES);
            libc::_exit(127)
        }
    }

    /// Returns only on failure. The order matters: entering the cgroup needs the daemon's rights, entering
    /// the directory the job's rights.
    fn become_program(&self, entered: CgroupEntry) -> (Step, c_int) {
        if let Err(errno) = self.settle(entered) {
            return (Step::Surroundings, errno);
        }
        if let Err(errno) = self.become_user() {
            return (Step::User, errno);
        }
        // SAFETY: the path is a C string that outlives the child's use of it.
        if let Err(errno) = checked(unsafe { libc::chdir(self.directory) }) {
            return (Step::Directory, errno);
        }
        if let Err(errno) = self.is_in_place() {
            return (Step::Elsewhere, errno);
        }
        (Step::Program, self.execute())
    }

    fn settle(&self, entered: CgroupEntry) -> Result<(), c_int> {
        // SAFETY: plain system calls on numbers, and on a buffer of static lifetime.
        unsafe {
            checked(libc::setsid())?;
            for (at, &fd) in self.stdio.iter().enumerate() {
                checked(libc::dup2(fd, at as RawFd))?;
            }
            if self.terminal {
                checked(libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0))?;
            }
            if let (Some(procs), CgroupEntry::NotYet) = (self.procs, entered) {
                checked(libc::write(procs, c"0".as_ptr().cast(), 1) as c_int)?;
            }
            for &keep in &self.keep {
                checked(libc::fcntl(keep, libc::F_SETFD, 0))?;
            }
            if let Some(limit) = &self.descriptor_limit {
                checked(libc::setrlimit(libc::RLIMIT_NOFILE, limit))?;
            }
            if let Some(mask) = self.umask {
                libc::umask(mask);
            }
        }
        self.close_others();
        reset_signals();
        Ok(())
    }

    /// Closes the descriptors instead of relying on close-on-exec: a child that hangs in a slow file system
    /// would otherwise hold pipes of other jobs open.
    fn close_others(&self) {
        let mut first = 3;
        for &open in &self.open {
            self.close_range(first, open - 1);
            first = open + 1;
        }
        self.close_range(first, RawFd::MAX);
    }

    fn close_range(&self, first: RawFd, last: RawFd) {
        if first > last {
            return;
        }
        // SAFETY: plain system calls on numbers; nothing in the child uses these any more.
        unsafe {
            if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
                (first..=last.min(self.open_max)).for_each(|fd| _ = libc::close(fd));
            }
        }
    }

    /// Uses bare system calls: the C library's functions try to synchronize all threads, which the child does
    /// not have.
    fn become_user(&self) -> Result<(), c_int> {
        let Some(Credentials { uid, gid, groups }) = self.credentials else { return Ok(()) };
        // SAFETY: plain system calls; the list and its length belong together.
        unsafe {
            checked(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) as c_int)?;
            checked(libc::syscall(libc::SYS_setgid, *gid) as c_int)?;
            checked(libc::syscall(libc::SYS_setuid, *uid) as c_int)
        }
    }

    /// Checks that the current directory has the expected name. Its path may have changed since it was
    /// resolved.
    fn is_in_place(&self) -> Result<(), c_int> {
        let Some(wanted) = self.place else { return Ok(()) };
        let mut own = [0_u8; libc::PATH_MAX as usize];
        // SAFETY: the kernel writes no more than the length it is given. This is the bare system call because
        // the C library's function allocates if the kernel returns a name outside the root.
        let length = unsafe { libc::syscall(libc::SYS_getcwd, own.as_mut_ptr(), own.len()) };
        checked(length as c_int)?;
        if own.get(..length as usize) == Some(wanted) { Ok(()) } else { Err(libc::ELOOP) }
    }

    /// Like `execvp`: a file without execute permission does not end the search, but determines the error.
    fn execute(&self) -> c_int {
        let mut outcome = libc::ENOENT;
        for (&candidate, argv) in self.candidates.iter().zip(&self.argvs) {
            // SAFETY: C strings and null-terminated lists of them, made by the parent.
            unsafe { libc::execve(candidate, argv.as_ptr(), self.environment.as_ptr()) };
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => outcome = libc::EACCES,
                other => return other,
            }
        }
        outcome
    }
}

/// Resets all signals to their default disposition and unblocks them. Makes only system calls, so a child may
/// call this before exec.
pub(super) fn reset_signals() {
    /// The highest signal number of Linux.
    const HIGHEST: c_int = 64;
    /// One bit per signal.
    const SIGNAL_SET_BYTES: usize = 8;
    // Uses bare system calls: the C library refuses to change the signals that it uses itself, which the
    // daemon may have inherited as ignored. The default disposition is all zeros, and no kernel layout is
    // longer than this.
    let default = [0_u64; 8];
    // SAFETY: the kernel reads from memory that is long enough; a signal set may be all zeros. The errors for
    // SIGKILL and SIGSTOP are expected.
    unsafe {
        for number in 1..=HIGHEST {
            let before: *mut u8 = ptr::null_mut();
            libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), before, SIGNAL_SET_BYTES);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

fn checked(returned: c_int) -> Result<(), c_int> {
    if returned < 0 { Err(errno()) } else { Ok(()) }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
