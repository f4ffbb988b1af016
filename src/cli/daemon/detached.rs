//! A detached daemon, from its start until it is ready.
//!
//! It reports with systemd's readiness message (`READY=1`, on a private socket), so nothing is
//! polled. Its output goes to the log file, which is read again if it fails.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep_until, timeout};

use super::run::Flags;
use crate::args::Common;
use crate::exit::CliError;
use peerbus_process::{Detached, ExitKind, Signal, open_log};

/// How long a daemon that failed to come up may take to end before it is killed. It has no jobs
/// yet.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Lines of a failed daemon's log to show.
const LAST_LINES: usize = 20;

/// Bytes of the log's end to read for them.
const LAST_BYTES: u64 = 64 * 1024;

/// Variables of the caller's environment that the daemon must not inherit.
const NOT_PASSED_ON: [&str; 12] = [
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "SYSTEMD_EXEC_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "OLDPWD",
    "PWD",
    peerbus_protocol::exec::JOB_VARIABLE,
    peerbus_protocol::exec::PEER_VARIABLE,
];

/// Variables with paths, which may be relative to `d`'s working directory.
const PATHS: [&str; 5] =
    ["PEERBUS_CONFIG", "PEERBUS_CREDS", "PEERBUS_DAEMON_CREDS", "PEERBUS_STATE_DIR", "PEERBUS_RUNTIME_DIR"];

/// The log file of the detached daemon of a state directory.
pub(super) fn log_path(state_dir: &Path) -> PathBuf {
    state_dir.join("daemon.log")
}

/// A daemon that is starting.
pub(super) struct DetachedDaemon {
    process: Detached,
    socket: UnixDatagram,
    /// The directory of the socket, removed when this is dropped.
    _place: tempfile::TempDir,
    log: Log,
    /// The last status it reported.
    status: Option<String>,
}

/// The result of a start.
pub(super) enum StartOutcome {
    Ready,
    /// It exited with this code before it was ready.
    Ended {
        code: u8,
        how: String,
    },
    /// The timeout passed or the user gave up, and it was stopped again.
    Stopped {
        why: String,
    },
}

impl DetachedDaemon {
    /// Starts `d daemon run` with these settings.
    pub(super) fn start(common: &Common, flags: Flags, state_dir: &Path) -> Result<Self, CliError> {
        let path = log_path(state_dir);
        let log = Log::open(path.clone())
            .map_err(|error| CliError::other(format!("opening the log {}: {error}", path.display())))?;
        let starting = |error| CliError::other(format!("starting the daemon: {error}"));
        let mut place = tempfile::Builder::new();
        let place = place.prefix("peerbus-");
        // The default temporary directory may be on a full disk.
        let place = place.tempdir().or_else(|error| place.tempdir_in("/dev/shm").map_err(|_| error));
        let place = place.map_err(starting)?;
        let address = place.path().join("ready");
        let socket = UnixDatagram::bind(&address)
            .map_err(|error| CliError::other(format!("making the socket {}: {error}", address.display())))?;
        let mut environment = environment();
        environment.push(("NOTIFY_SOCKET".into(), address.into()));
        let arguments = arguments(common, flags, state_dir, &mut environment);
        let process = Detached::start(arguments, environment, &log.file).map_err(starting)?;
        Ok(Self { process, socket, _place: place, log, status: None })
    }

    /// Waits until it is ready, has ended, or `within` has passed.
    pub(super) async fn comes_up(&mut self, within: Duration) -> StartOutcome {
        let deadline = Instant::now() + within;
        loop {
            let mut message = [0; 4096];
            tokio::select! {
                biased;
                exit = self.process.exited() => {
                    let (code, how) = described(exit.status);
                    // Messages sent before it exited are still in the socket.
                    while let Ok(length) = self.socket.try_recv(&mut message) {
                        self.hear(&message[..length]);
                    }
                    return StartOutcome::Ended { code, how };
                }
                Ok(length) = self.socket.recv(&mut message) => {
                    if self.hear(&message[..length]) {
                        return StartOutcome::Ready;
                    }
                }
                () = sleep_until(deadline) => {
                    let why = format!("not ready within {within:?} (--ready-timeout)");
                    return self.stopped(why).await;
                }
                _ = tokio::signal::ctrl_c() => return self.stopped("interrupted".to_owned()).await,
            }
        }
    }

    /// Handles a message; true if it says that the daemon is ready.
    fn hear(&mut self, message: &[u8]) -> bool {
        let text = String::from_utf8_lossy(message);
        let said = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        self.status = said("STATUS=").or_else(|| self.status.take());
        said("READY=").as_deref() == Some("1")
    }

    async fn stopped(&self, why: String) -> StartOutcome {
        for signal in [Signal::TERM, Signal::KILL] {
            // It may have exited by itself just now.
            let _ = self.process.signal(signal);
            if timeout(STOP_WITHIN, self.process.exited()).await.is_ok() {
                break;
            }
        }
        StartOutcome::Stopped { why }
    }

    /// The last status it reported: its current step, or its error.
    pub(super) fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// Its last lines in the log.
    pub(super) fn last_words(&mut self) -> Vec<String> {
        self.log.lines_since_start()
    }
}

fn described(exit: ExitKind) -> (u8, String) {
    match exit {
        ExitKind::Code(0) => (1, "it was stopped".to_owned()),
        ExitKind::Code(code) => (u8::try_from(code).unwrap_or(1), format!("it ended with code {code}")),
        ExitKind::Signal(number) => (1, format!("it was killed by signal {number}")),
        ExitKind::Unknown => (1, "it ended, and nobody knows how".to_owned()),
    }
}

/// The daemon's environment: the caller's, so that the same settings apply.
fn environment() -> Vec<(OsString, OsString)> {
    let passed = |name: &OsString| !NOT_PASSED_ON.iter().any(|not| name == not);
    let wanted = env::vars_os().filter(|(name, _)| passed(name) && name != "NOTIFY_SOCKET");
    wanted
        .map(|(name, value)| {
            let is_path = PATHS.iter().any(|path| name == *path) && !value.is_empty();
            let value = if is_path { whole(Path::new(&value)).into_os_string() } else { value };
            (name, value)
        })
        .collect()
}

/// Makes a path absolute.
fn whole(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The daemon's command line. Values that may hold a password go into the environment, which other
/// users cannot see.
fn arguments(
    common: &Common,
    flags: Flags,
    state_dir: &Path,
    environment: &mut Vec<(OsString, OsString)>,
) -> Vec<OsString> {
    let Common { config, nats, creds, state_dir: _, connect_timeout: _, verbose } = common;
    let Flags { id, role, database_url, directory, broker, broker_listen } = flags;
    for (name, value) in [("NATS_URL", nats), ("PEERBUS_DATABASE_URL", &database_url)] {
        if let Some(value) = value {
            environment.retain(|(existing, _)| existing != name);
            environment.push((name.into(), value.into()));
        }
    }
    let mut arguments: Vec<OsString> = vec!["daemon".into(), "run".into()];
    let mut add = |flag: &str, value: &OsStr| arguments.extend([flag.into(), value.to_owned()]);
    add("--state-dir", state_dir.as_os_str());
    add("--log-to", log_path(state_dir).as_os_str());
    for (flag, path) in [("--config", config), ("--creds", creds)] {
        if let Some(path) = path {
            add(flag, whole(path).as_os_str());
        }
    }
    let typed = [
        ("--id", id),
        ("--role", role.map(|role| peerbus_protocol::heartbeat::Role::from(role).as_str().to_owned())),
        ("--directory", directory),
        ("--broker", broker.map(|_| "managed".to_owned())),
        ("--broker-listen", broker_listen.map(|address| address.to_string())),
    ];
    for (flag, value) in typed {
        if let Some(value) = value {
            add(flag, value.as_ref());
        }
    }
    arguments.extend((0..*verbose).map(|_| "--verbose".into()));
    arguments
}

/// The log, from its end at the time of the start.
struct Log {
    path: PathBuf,
    file: File,
    from: u64,
}

impl Log {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = open_log(&path)?;
        let from = file.metadata()?.len();
        Ok(Self { path, file, from })
    }

    fn lines_since_start(&mut self) -> Vec<String> {
        let mut text = Vec::new();
        // Shows what can be read; the message names the log anyway.
        let _ = self.read(&mut text);
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|&line| line.to_owned()).collect()
    }

    fn read(&mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let begin = self.from.max(self.file.metadata()?.len().saturating_sub(LAST_BYTES));
        self.file.seek(SeekFrom::Start(begin))?;
        self.file.read_to_end(text)?;
        // The log may have been rotated meanwhile.
        if fs::metadata(&self.path)?.ino() != self.file.metadata()?.ino() {
            File::open(&self.path)?.read_to_end(text)?;
        }
        Ok(())
    }
}
