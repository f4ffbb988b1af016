//! A fleet on one machine: a real server, real daemons, and `d` as a user runs it.
//!
//! All files are in one private directory: home, configuration, sockets, state. The environment of
//! the test run is not inherited. On failure, the tails of the daemons' and the server's logs are
//! printed. At the end, every process that still uses the directory is killed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use peerbus_protocol::identity::Standing;

use super::child::{Finished, Keep, Live, piped, tail};
use super::procs;
use super::relay::Relay;
use super::scratch::Scratch;
use super::secured::{OPERATOR, Secured};
use super::server::{Server, ServerOptions};

/// The variable with the path of an identity file.
const CREDS: &str = "PEERBUS_CREDS";
/// Default timeout of one run of `d`.
pub const D_DEADLINE: Duration = Duration::from_secs(60);
/// Timeout until a daemon reports that it is ready.
pub const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Timeout of a daemon's shutdown after SIGTERM: it waits for its jobs, then stops them.
pub const TERMINATE_DEADLINE: Duration = Duration::from_secs(30);

/// Options of a daemon.
#[derive(Clone)]
pub struct DaemonOptions {
    id: String,
    role: String,
    through_relay: bool,
    state: Option<String>,
    flags: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    configuration: Option<String>,
    nats: Option<String>,
}

impl DaemonOptions {
    /// A worker with this id.
    pub fn worker(id: &str) -> DaemonOptions {
        DaemonOptions {
            id: id.to_owned(),
            role: "worker".to_owned(),
            through_relay: false,
            state: None,
            flags: Vec::new(),
            environment: Vec::new(),
            configuration: None,
            nats: None,
        }
    }

    /// A leader with this id.
    pub fn leader(id: &str) -> DaemonOptions {
        DaemonOptions { role: "leader".to_owned(), ..DaemonOptions::worker(id) }
    }

    /// Connects it through a relay of its own.
    pub fn through_relay(mut self) -> DaemonOptions {
        self.through_relay = true;
        self
    }

    /// Adds an argument to `d daemon run`.
    pub fn flag(mut self, flag: impl AsRef<OsStr>) -> DaemonOptions {
        self.flags.push(flag.as_ref().to_owned());
        self
    }

    /// Sets its default directory (`--directory`).
    pub fn directory(self, directory: impl AsRef<OsStr>) -> DaemonOptions {
        self.flag("--directory").flag(directory)
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> DaemonOptions {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the text of its configuration file.
    pub fn configuration(mut self, toml: &str) -> DaemonOptions {
        self.configuration = Some(toml.to_owned());
        self
    }

    /// Names its state directory, which otherwise has its id. Two daemons may share one.
    pub fn state(mut self, name: &str) -> DaemonOptions {
        self.state = Some(name.to_owned());
        self
    }

    /// Connects it to another bus than the fleet's server.
    pub fn nats(mut self, url: &str) -> DaemonOptions {
        self.nats = Some(url.to_owned());
        self
    }
}

/// Options of a fleet.
#[derive(Default)]
pub struct FleetBuilder {
    server: ServerOptions,
    daemons: Vec<DaemonOptions>,
    client_relay: bool,
    secured: Option<Secured>,
    open_broker: bool,
}

impl FleetBuilder {
    /// Makes the server of a secured fleet allow everything, like a foreign server. Then only the
    /// members' own checks remain.
    pub fn open_broker(mut self) -> FleetBuilder {
        self.open_broker = true;
        self
    }

    /// Gives each daemon an identity, and `d` the identity of the operator [`OPERATOR`].
    pub fn secured(mut self) -> FleetBuilder {
        self.secured = Some(Secured::new());
        self
    }

    /// Like [`FleetBuilder::secured`], with existing keys.
    pub fn secured_by(mut self, secured: Secured) -> FleetBuilder {
        self.secured = Some(secured);
        self
    }

    /// Sets the server's options.
    pub fn server(mut self, options: ServerOptions) -> FleetBuilder {
        self.server = options;
        self
    }

    /// Adds a leader with this id.
    pub fn leader(self, id: &str) -> FleetBuilder {
        self.daemon(DaemonOptions::leader(id))
    }

    /// Adds a worker with this id.
    pub fn worker(self, id: &str) -> FleetBuilder {
        self.daemon(DaemonOptions::worker(id))
    }

    /// Adds a daemon with these options.
    pub fn daemon(mut self, options: DaemonOptions) -> FleetBuilder {
        self.daemons.push(options);
        self
    }

    /// Connects `d` through a relay of its own.
    pub fn client_relay(mut self) -> FleetBuilder {
        self.client_relay = true;
        self
    }

    /// Starts the server, then all daemons at once; returns when all are ready.
    #[track_caller]
    pub fn start(self) -> Fleet {
        let server = match &self.secured {
            Some(secured) if !self.open_broker => secured.server(self.server).start(),
            _ => self.server.start(),
        };
        let client_relay = self.client_relay.then(|| Relay::to(server.address()));
        let fleet = Fleet {
            daemons: Mutex::default(),
            client_relay,
            secured: self.secured,
            server,
            scratch: Scratch::new(),
        };
        let daemons: Vec<Arc<Daemon>> =
            self.daemons.into_iter().map(|options| fleet.add_starting(options)).collect();
        for daemon in daemons {
            daemon.wait_until_ready();
        }
        fleet
    }
}

/// A server, daemons, and a private environment for `d`.
pub struct Fleet {
    daemons: Mutex<Vec<Arc<Daemon>>>,
    client_relay: Option<Relay>,
    secured: Option<Secured>,
    server: Server,
    scratch: Scratch,
}

impl Fleet {
    /// Starts to describe a fleet; by default it is only a server.
    pub fn builder() -> FleetBuilder {
        FleetBuilder::default()
    }

    /// A server and workers with these ids, without a leader.
    #[track_caller]
    pub fn of_workers<const N: usize>(ids: [&str; N]) -> Fleet {
        ids.into_iter().fold(Fleet::builder(), FleetBuilder::worker).start()
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The fleet's keys and members.
    #[track_caller]
    pub fn secured(&self) -> &Secured {
        self.secured.as_ref().expect("the fleet was built with secured()")
    }

    /// The relay between `d` and the server.
    #[track_caller]
    pub fn client_relay(&self) -> &Relay {
        self.client_relay.as_ref().expect("the fleet was built with client_relay()")
    }

    /// The URL of the bus for `d`.
    pub fn url(&self) -> String {
        self.client_relay.as_ref().map_or_else(|| self.server.url(), Relay::url)
    }

    /// The fleet's private directory.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// A directory in it, created if missing, for commands to run in.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.scratch.directory(name)
    }

    /// Creates a file in it with this text.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        self.scratch.file(name, text)
    }

    /// The daemon with this id; the first one if there are two.
    #[track_caller]
    pub fn daemon(&self, id: &str) -> Arc<Daemon> {
        let daemons = self.daemons();
        match daemons.iter().find(|daemon| daemon.options.id == id) {
            Some(daemon) => Arc::clone(daemon),
            None => panic!("the fleet has no daemon {id}"),
        }
    }

    /// Adds a daemon and waits until it is ready.
    #[track_caller]
    pub fn add(&self, options: DaemonOptions) -> Arc<Daemon> {
        let daemon = self.add_starting(options);
        daemon.wait_until_ready();
        daemon
    }

    /// Adds a daemon without waiting for it: it may be expected to fail (see
    /// [`Daemon::wait_for_end`]).
    #[track_caller]
    pub fn add_starting(&self, options: DaemonOptions) -> Arc<Daemon> {
        let options = match &self.secured {
            Some(secured) if !options.environment.iter().any(|(name, _)| name == CREDS) => {
                let standing = if options.role == "leader" { Standing::Leader } else { Standing::Worker };
                let file = secured.member(&options.id, standing);
                options.env(CREDS, file)
            }
            _ => options,
        };
        let relay = options.through_relay.then(|| Relay::to(self.server.address()));
        let url = match (&options.nats, &relay) {
            (Some(url), _) => url.clone(),
            (None, Some(relay)) => relay.url(),
            (None, None) => self.server.url(),
        };
        let place = format!("daemon-{}", self.daemons().len());
        let daemon = Arc::new(Daemon {
            state: self
                .scratch
                .directory(&format!("state-{}", options.state.as_ref().unwrap_or(&options.id))),
            home: self.scratch.directory(&place),
            relay,
            url,
            options,
            running: Mutex::default(),
            earlier: Mutex::default(),
            family: Mutex::default(),
        });
        self.daemons().push(Arc::clone(&daemon));
        daemon.start();
        daemon
    }

    /// Runs `d` to its end, at most [`D_DEADLINE`].
    #[track_caller]
    pub fn d<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Finished {
        self.command(arguments).run()
    }

    /// Starts `d` and returns while it runs.
    #[track_caller]
    pub fn spawn_d<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> Live {
        self.command(arguments).spawn()
    }

    /// A run of `d` as a user outside of the daemons' machines; options may follow.
    pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> DCommand {
        let command = DCommand::new(&self.scratch.directory("person"), arguments).nats(&self.url());
        match &self.secured {
            Some(secured) => command.env(CREDS, secured.member(OPERATOR, Standing::Operator)),
            None => command,
        }
    }

    /// A run of `d` by a member of a secured fleet.
    pub fn command_as<I: IntoIterator<Item: AsRef<OsStr>>>(
        &self,
        name: &str,
        standing: Standing,
        arguments: I,
    ) -> DCommand {
        self.command(arguments).env(CREDS, self.secured().member(name, standing))
    }

    /// A run of `d` on this daemon's machine, with the daemon's home, sockets, state directory and
    /// bus URL.
    #[track_caller]
    pub fn command_on<I: IntoIterator<Item: AsRef<OsStr>>>(&self, id: &str, arguments: I) -> DCommand {
        let daemon = self.daemon(id);
        DCommand::new(&daemon.home, arguments).nats(&daemon.url).env("PEERBUS_STATE_DIR", &daemon.state)
    }

    fn daemons(&self) -> MutexGuard<'_, Vec<Arc<Daemon>>> {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let daemons: Vec<Arc<Daemon>> = self.daemons().drain(..).collect();
        let mut left = Vec::new();
        for daemon in &daemons {
            if failed {
                let path = self.scratch.file(&format!("{}.stderr", daemon.options.id), daemon.stderr());
                eprintln!("{}", daemon.evidence(&path));
            }
            daemon.kill9();
            left.append(&mut daemon.family.lock().unwrap_or_else(PoisonError::into_inner));
        }
        left.extend(procs::touching(self.scratch.path()));
        procs::kill_all(&left);
    }
}

/// A daemon of the fleet, running or stopped.
pub struct Daemon {
    options: DaemonOptions,
    state: PathBuf,
    home: PathBuf,
    url: String,
    relay: Option<Relay>,
    running: Mutex<Option<Live>>,
    /// The standard error of earlier runs.
    earlier: Mutex<String>,
    /// Its descendants at its last shutdown, which may have outlived it.
    family: Mutex<Vec<procs::Process>>,
}

impl Daemon {
    /// Its peer id.
    pub fn id(&self) -> &str {
        &self.options.id
    }

    /// Its state directory.
    pub fn state_directory(&self) -> &Path {
        &self.state
    }

    /// Its relay.
    #[track_caller]
    pub fn relay(&self) -> &Relay {
        self.relay.as_ref().expect("the daemon was built with through_relay()")
    }

    /// Its process id.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.lock().as_ref().expect("the daemon runs").pid()
    }

    /// Whether its process exists.
    pub fn is_running(&self) -> bool {
        self.lock().as_mut().is_some_and(|live| live.ended().is_none())
    }

    /// Its standard error over all its runs.
    pub fn stderr(&self) -> String {
        let mut text = self.earlier.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(live) = self.lock().as_ref() {
            text.push_str(&live.stderr.text());
        }
        text
    }

    /// Waits until this run has written a whole line that `wanted` accepts.
    #[track_caller]
    pub fn wait_for_line(&self, deadline: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let stderr = self.lock().as_ref().expect("the daemon runs").stderr.clone();
        match stderr.line(deadline, wanted) {
            Some(line) => line,
            None => {
                panic!(
                    "waited {deadline:?} in vain for a line of {}\n{}",
                    self.id(),
                    self.evidence(&self.state)
                )
            }
        }
    }

    /// Waits until it reports that it is ready, and returns that line.
    #[track_caller]
    pub fn wait_until_ready(&self) -> String {
        let start = format!("ready peer={} nats=", self.id());
        self.wait_for_line(READY_DEADLINE, |line| line.starts_with(&start))
    }

    /// Waits until it exits by itself, and returns its output.
    #[track_caller]
    pub fn wait_for_end(&self, deadline: Duration) -> Finished {
        let mut live = self.lock().take().expect("the daemon runs");
        let finished = live.wait(deadline);
        self.remember(&finished);
        finished
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(live) = self.lock().as_ref() {
            live.signal(signal);
        }
    }

    /// Stops the process (SIGSTOP); returns once it is stopped.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        procs::wait_for_state(self.pid(), 'T', Duration::from_secs(10));
    }

    /// Continues the process after [`Daemon::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills it with SIGKILL, like a crash. Its jobs keep running.
    pub fn kill9(&self) {
        self.look_at_family();
        let live = self.lock().take();
        if let Some(mut live) = live {
            let finished = live.kill();
            self.remember(&finished);
        }
    }

    /// Sends SIGTERM and waits until it exits.
    #[track_caller]
    pub fn terminate(&self) -> Finished {
        self.look_at_family();
        self.signal(Signal::SIGTERM);
        self.wait_for_end(TERMINATE_DEADLINE)
    }

    /// Restarts it, with SIGTERM first if it runs, and returns when it is ready.
    #[track_caller]
    pub fn restart(&self) {
        if self.is_running() {
            self.terminate();
        }
        self.start();
        self.wait_until_ready();
    }

    /// Starts it on its own state directory, without waiting.
    #[track_caller]
    pub fn start(&self) {
        let DaemonOptions { id, role, flags, environment, configuration, .. } = &self.options;
        let mut command = piped(crate::d_program());
        private_environment(&mut command, &self.home);
        if let Some(toml) = configuration {
            fs::write(self.home.join("config.toml"), toml).expect("writing the daemon's configuration");
        }
        command
            .args(["daemon", "run", "--id", id, "--role", role, "--nats", &self.url, "--state-dir"])
            .arg(&self.state)
            .args(flags)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.home);
        let live = match Live::start(&format!("the daemon {id}"), command) {
            Ok(live) => live,
            Err(error) => panic!("starting the daemon {id}: {error}"),
        };
        if let Some(mut before) = self.lock().replace(live) {
            let finished = before.kill();
            self.remember(&finished);
        }
    }

    /// The output to print when a test fails.
    fn evidence(&self, path: &Path) -> String {
        let state = if self.is_running() { "running" } else { "not running" };
        let (id, text) = (self.id(), tail(&self.stderr(), 60));
        format!("--- daemon {id}, {state}, standard error, see {} ---\n{text}\n---", path.display())
    }

    fn look_at_family(&self) {
        let Some(pid) = self.lock().as_ref().map(Live::pid) else { return };
        self.family.lock().unwrap_or_else(PoisonError::into_inner).extend(procs::descendants(pid));
    }

    fn remember(&self, finished: &Finished) {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.push_str(&finished.err());
        earlier.push_str(&format!("=== {}: {}\n", finished.name, finished.status));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Input {
    Nothing,
    Bytes(Vec<u8>),
    Open,
}

/// One run of `d`.
pub struct DCommand {
    name: String,
    command: Command,
    input: Input,
    keep: Keep,
    paused: bool,
    deadline: Duration,
}

impl DCommand {
    /// `d` with these arguments and this home directory, which need not be a fleet's.
    pub fn new<I: IntoIterator<Item: AsRef<OsStr>>>(home: &Path, arguments: I) -> DCommand {
        let arguments: Vec<OsString> =
            arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        let mut command = piped(crate::d_program());
        private_environment(&mut command, home);
        command.current_dir(home).args(&arguments);
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        DCommand {
            name: format!("d {}", words.join(" ")),
            command,
            input: Input::Nothing,
            keep: Keep::All,
            paused: false,
            deadline: D_DEADLINE,
        }
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> DCommand {
        self.command.env(name, value);
        self
    }

    /// Unsets an environment variable such as `NATS_URL`.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> DCommand {
        self.command.env_remove(name);
        self
    }

    /// Connects to another bus, or through another relay.
    pub fn nats(self, url: &str) -> DCommand {
        self.env("NATS_URL", url)
    }

    /// Sets the working directory.
    pub fn in_directory(mut self, directory: impl AsRef<Path>) -> DCommand {
        self.command.current_dir(directory);
        self
    }

    /// Sets the standard input, which is empty by default.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> DCommand {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Keeps the standard input open for [`Live::write`].
    pub fn open_input(mut self) -> DCommand {
        self.input = Input::Open;
        self
    }

    /// Sends the standard output to a file.
    pub fn output_to(mut self, path: impl AsRef<Path>) -> DCommand {
        self.command.stdout(File::create(path).expect("making the file for the output"));
        self
    }

    /// Counts and digests the standard output without keeping it.
    pub fn count_output(mut self) -> DCommand {
        self.keep = Keep::Count;
        self
    }

    /// Does not read the standard output until `stdout.resume()`.
    pub fn paused_output(mut self) -> DCommand {
        self.paused = true;
        self
    }

    /// Sets the timeout.
    pub fn deadline(mut self, deadline: Duration) -> DCommand {
        self.deadline = deadline;
        self
    }

    /// Runs another program, without arguments, in the same environment.
    pub fn instead(mut self, program: &str) -> DCommand {
        let mut command = piped(program);
        command.env_clear();
        for (name, value) in self.command.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        if let Some(directory) = self.command.get_current_dir() {
            command.current_dir(directory);
        }
        self.name = program.to_owned();
        self.command = command;
        self
    }

    /// Applies any change to the command itself.
    pub fn with(mut self, change: impl FnOnce(&mut Command)) -> DCommand {
        change(&mut self.command);
        self
    }

    /// Runs it to its end. At the deadline, kills it and fails the test with its output.
    #[track_caller]
    pub fn run(self) -> Finished {
        let deadline = self.deadline;
        self.spawn().wait(deadline)
    }

    /// Starts it and returns while it runs.
    #[track_caller]
    pub fn spawn(mut self) -> Live {
        if !matches!(self.input, Input::Nothing) {
            self.command.stdin(Stdio::piped());
        }
        let mut live = match Live::start_keeping(&self.name, self.command, self.keep, self.paused) {
            Ok(live) => live,
            Err(error) => panic!("starting {}: {error}", self.name),
        };
        if let Input::Bytes(bytes) = self.input
            && let Some(mut stdin) = live.take_stdin()
        {
            // The thread ends with `d`. The test itself checks how much `d` has read.
            std::thread::spawn(move || stdin.write_all(&bytes));
        }
        live
    }
}

/// Keeps only variables that every program needs, and sets a private home.
fn private_environment(command: &mut Command, home: &Path) {
    let place = |name: &str| {
        let path = home.join(name);
        fs::create_dir_all(&path).expect("making a private directory");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .expect("making a directory private");
        path
    };
    let configuration = home.join("config.toml");
    if !configuration.exists() {
        // An empty file, so that the user's own configuration is neither read nor written.
        fs::write(&configuration, "").expect("writing an empty configuration");
    }
    command.env_clear();
    for name in ["PATH", "USER", "LOGNAME", "SHELL", "TZ", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("LANG", "C.UTF-8")
        .env("RUST_BACKTRACE", "1")
        .env("HOME", home)
        .env("TMPDIR", place("tmp"))
        .env("XDG_CONFIG_HOME", place("xdg-config"))
        .env("XDG_CACHE_HOME", place("xdg-cache"))
        .env("XDG_STATE_HOME", place("xdg-state"))
        .env("XDG_DATA_HOME", place("xdg-data"))
        .env("XDG_RUNTIME_DIR", place("run"))
        .env("PEERBUS_RUNTIME_DIR", place("run"))
        .env("PEERBUS_CONFIG", configuration);
}
