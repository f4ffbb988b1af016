//! Starting a program that lives on by itself: a daemon from the command line.
//!
//! It has a session of its own and so no terminal, `/` as its directory, nothing to read, one file to
//! write to, and no other descriptor of ours.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use tokio::io::unix::AsyncFd;

use super::identity::Identity;
use super::job::reap;
use super::launch::{Program, Surroundings, launch};
use super::pidfd::{Exit, PidFd};
use super::signal::Signal;
use super::spec::Links;

/// A program that was started so. To drop this changes nothing for it.
#[derive(Debug)]
pub struct Detached {
    pid: u32,
    pidfd: AsyncFd<PidFd>,
}

impl Detached {
    /// Starts this very program with other arguments. `environment` is all it gets of one.
    ///
    /// # Errors
    /// When it could not be started; then nothing of it is left.
    pub fn start(
        arguments: Vec<OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        output: &File,
    ) -> io::Result<Self> {
        let path = this_program();
        let argv = [path.clone().into_os_string()].into_iter().chain(arguments);
        let variables = environment.into_iter().map(|(name, value)| {
            let mut line = name;
            line.push("=");
            line.push(value);
            line
        });
        let program = Program {
            argv: argv.map(c_string).collect::<io::Result<_>>()?,
            environment: variables.map(c_string).collect::<io::Result<_>>()?,
            candidates: vec![c_string(path.into_os_string())?],
            directory: c"/".to_owned(),
            links: Links::Followed,
            credentials: None,
        };
        let nothing = File::open("/dev/null")?;
        let stdio = [nothing.as_fd(), output.as_fd(), output.as_fd()];
        let around = Surroundings { stdio, cgroup: None, keep: None, terminal: false };
        let launched = launch(&program, &around).map_err(|error| error.source)?;
        Ok(Self { pid: launched.pid, pidfd: launched.pidfd.watched()? })
    }

    /// Which process it is.
    ///
    /// # Errors
    /// When it has ended and was waited for.
    pub fn identity(&self) -> io::Result<Identity> {
        Identity::of(self.pid)
    }

    /// Waits until it has ended. Cancel safe; to be called until it has returned, and not again.
    pub async fn exited(&self) -> Exit {
        reap(self.pid, &self.pidfd).await
    }

    /// Signals it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.pidfd.get_ref().signal(signal)
    }
}

/// The file that this program was started from. Where that was replaced or removed since, the kernel
/// still has it, under a name that says less in a list of processes.
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
