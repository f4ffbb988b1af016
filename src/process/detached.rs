//! Starts a program that outlives its parent: a daemon from the command line, a shim from a daemon.
//!
//! The program has its own session without a terminal, `/` as its directory, one file for its output, and no
//! other descriptors of ours except those that are named.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::io::unix::AsyncFd;

use super::cgroup::Cgroup;
use super::containment::ContainmentManager;
use super::environment;
use super::job::reap;
use super::launch::{LAUNCH_WITHIN, Program, SpawnOptions, launch};
use super::pidfd::{self, Exit, PidFd};
use super::process_key::ProcessKey;
use super::signal::Signal;
use super::spec::Links;

/// A program started this way. Dropping this does not affect it.
#[derive(Debug)]
pub struct Detached {
    pid: u32,
    pidfd: AsyncFd<PidFd>,
}

impl Detached {
    /// Starts this program again with other arguments. `environment` is its complete environment.
    ///
    /// # Errors
    /// When it could not be started; then nothing is left of it.
    pub fn start(
        arguments: Vec<OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        output: &File,
    ) -> io::Result<Self> {
        let nothing = File::open("/dev/null")?;
        let stdio = [nothing.as_fd(), output.as_fd(), output.as_fd()];
        let around = SpawnOptions { stdio, cgroup: None, keep: &[], terminal: false, within: LAUNCH_WITHIN };
        Self::launch(&program(&this_program(), arguments, environment)?, &around)
    }

    /// Starts a shim, `<program> shim <name> <descriptor of the lock>`. Its standard input is `order`. It
    /// inherits the lock and lives with the other shims of this containment manager. Call this [while
    /// starting](ContainmentManager::while_starting).
    ///
    /// # Errors
    /// When it could not be started; then nothing is left of it.
    pub fn shim(
        containment_manager: &ContainmentManager,
        name: &str,
        order: &UnixStream,
        output: &File,
        lock: &File,
    ) -> io::Result<Self> {
        let cgroup = containment_manager.shims();
        if let Some(path) = &cgroup {
            Cgroup::at(path).create()?;
        }
        let arguments = ["shim".to_owned(), name.to_owned(), lock.as_raw_fd().to_string()];
        let arguments = arguments.into_iter().map(OsString::from).collect();
        let program = program(containment_manager.reaper(), arguments, environment::of_reaper())?;
        let stdio = [order.as_fd(), output.as_fd(), output.as_fd()];
        let keep = &[lock.as_fd()];
        let around =
            SpawnOptions { stdio, cgroup: cgroup.as_deref(), keep, terminal: false, within: LAUNCH_WITHIN };
        Self::launch(&program, &around)
    }

    fn launch(program: &Program, around: &SpawnOptions<'_>) -> io::Result<Self> {
        let launched = launch(program, around).map_err(|error| error.source)?;
        let abandoned = |_: &io::Error| {
            let _ = launched.pidfd.signal(Signal::KILL);
            let _ = pidfd::wait_for_end(launched.pid);
        };
        let pidfd = launched.pidfd.watched().inspect_err(abandoned)?;
        Ok(Self { pid: launched.pid, pidfd })
    }

    /// Kills it and blocks until it has exited.
    pub fn end(self) {
        // Fails only if it has already exited.
        let _ = self.signal(Signal::KILL);
        self.wait();
    }

    /// Blocks until it has exited.
    pub fn wait(self) {
        // It is our child, so no other error is possible.
        let _ = pidfd::wait_for_end(self.pid);
    }

    /// Identifies the process.
    ///
    /// # Errors
    /// When it has exited and was reaped.
    pub fn identity(&self) -> io::Result<ProcessKey> {
        ProcessKey::of(self.pid)
    }

    /// Waits for the exit. Cancel safe; do not call it again after it has returned.
    pub async fn exited(&self) -> Exit {
        reap(self.pid, &self.pidfd).await
    }

    /// Signals the process.
    ///
    /// # Errors
    /// When it has exited.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.pidfd.get_ref().signal(signal)
    }
}

fn program(
    path: &Path,
    arguments: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> io::Result<Program> {
    let argv = [path.as_os_str().to_owned()].into_iter().chain(arguments);
    let variables = environment.into_iter().map(|(name, value)| {
        let mut line = name;
        line.push("=");
        line.push(value);
        line
    });
    Ok(Program {
        argv: argv.map(c_string).collect::<io::Result<_>>()?,
        environment: variables.map(c_string).collect::<io::Result<_>>()?,
        candidates: vec![c_string(path.as_os_str().to_owned())?],
        directory: c"/".to_owned(),
        named_after_file: false,
        links: Links::Followed,
        credentials: None,
    })
}

/// The file of the running program. If it was replaced or removed, use the kernel's link, whose name says
/// less in process listings.
fn this_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    let file = |path: &PathBuf| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    match std::env::current_exe() {
        Ok(path) if file(&path).is_some() && file(&path) == file(&running) => path,
        _ => running,
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(io::Error::other)
}
