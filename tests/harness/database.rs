//! A real database of the test's own: a SQLite file, a `mariadbd` or a `postgres`.
//!
//! A server has its own directory and its own port on 127.0.0.1, shares nothing with other servers,
//! and does not outlive the test. The first test that needs one creates an empty template below
//! `target/tmp`; each test starts with a copy of it, which takes a tenth of a second.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};

use super::child::{Live, tail};
use super::wait::within;

/// The leader's user, with all rights in its own database and none elsewhere.
pub const USER: &str = "bus";
/// Its password, with every character that is special in a URL, a shell or SQL.
pub const PASSWORD: &str = "hunter2 p@ss/w:rd?#%&'\"+";
/// The password, percent-encoded for a URL.
pub const ENCODED: &str = "hunter2%20p%40ss%2Fw%3Ard%3F%23%25%26%27%22%2B";
/// Parts of the password that must not appear in any output.
pub const SECRETS: [&str; 3] = ["hunter2", "p@ss", "p%40ss"];
/// The name of the leader's database.
pub const DATABASE: &str = "peers";

const START_DEADLINE: Duration = Duration::from_secs(30);

/// Debian's directory for programs that are not in PATH.
const POSTGRES_PROGRAMS: &str = "/usr/lib/postgresql";

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Mariadb,
    Postgres,
}

/// A database.
pub struct Database {
    kind: Kind,
    folder: Option<tempfile::TempDir>,
    port: u16,
    running: Mutex<Option<Live>>,
}

impl Database {
    /// Starts one and returns once it answers. Fails the test if the server is not installed.
    #[track_caller]
    pub fn start(kind: Kind) -> Database {
        let folder = tempfile::Builder::new().prefix("pb-db-").tempdir().expect("making a folder");
        let mut database = Database { kind, folder: Some(folder), port: 0, running: Mutex::new(None) };
        if kind == Kind::Sqlite {
            return database;
        }
        give_to_server(kind, database.folder());
        copy(&template(kind), &database.data());
        // Another process may take the free port before the server binds it.
        let started = within(START_DEADLINE, || {
            database.port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
            database.launch().ok()
        });
        assert!(started.is_some(), "a database server does not start\n{}", database.evidence());
        if kind == Kind::Mariadb {
            database.administer(&format!(
                "CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4; CREATE USER {USER}@'%' IDENTIFIED BY '{0}'; \
                 GRANT ALL ON {DATABASE}.* TO {USER}@'%'",
                quoted()
            ));
        }
        database
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The URL for the leader.
    pub fn url(&self) -> String {
        self.url_with(USER, ENCODED, DATABASE)
    }

    /// The URL with another user, password (percent-encoded) or database.
    pub fn url_with(&self, user: &str, password: &str, database: &str) -> String {
        let port = self.port;
        match self.kind {
            Kind::Sqlite => format!("sqlite://{}", self.file().display()),
            Kind::Mariadb => format!("mysql://{user}:{password}@127.0.0.1:{port}/{database}"),
            Kind::Postgres => format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}"),
        }
    }

    /// The URL through the server's Unix socket.
    pub fn socket_url(&self) -> String {
        let folder = self.folder().display();
        match self.kind {
            Kind::Sqlite => self.url(),
            Kind::Mariadb => {
                format!("mariadb://{USER}:{ENCODED}@localhost/{DATABASE}?socket={}", self.socket().display())
            }
            Kind::Postgres => format!("postgresql://{USER}@localhost:{}/{DATABASE}?host={folder}", self.port),
        }
    }

    /// A server's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SQLite's file.
    pub fn file(&self) -> PathBuf {
        self.folder().join("registry.db")
    }

    /// Runs SQL in the leader's database with all rights; returns one text per value.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> Vec<Vec<String>> {
        match self.try_sql(statement) {
            Ok(rows) => rows,
            Err(said) => panic!("{statement}: {said}\n{}", self.evidence()),
        }
    }

    /// Runs SQL outside of the leader's database.
    #[track_caller]
    pub fn administer(&self, statement: &str) {
        let database = if self.kind == Kind::Postgres { "postgres" } else { "" };
        if let Err(said) = self.client(database, statement) {
            panic!("{statement}: {said}\n{}", self.evidence());
        }
    }

    fn try_sql(&self, statement: &str) -> Result<Vec<Vec<String>>, String> {
        self.client(DATABASE, statement)
    }

    /// Runs a statement that stays open until the result is dropped, for example to hold a lock.
    #[track_caller]
    pub fn hold(&self, statement: &str) -> Live {
        let mut command = self.client_command(DATABASE);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut live = Live::start("a script that holds a lock", command).expect("starting a client");
        live.write(format!("{statement};\nSELECT 'held';\n").as_bytes()).expect("writing to it");
        live.stdout_line(START_DEADLINE, |line| line == "held");
        live
    }

    fn client_command(&self, database: &str) -> Command {
        let mut command;
        match self.kind {
            Kind::Sqlite => {
                // Reads one statement per line, like the other clients.
                const SCRIPT: &str = "import sqlite3, sys\n\
                    db = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n\
                    for line in sys.stdin:\n    \
                    for row in db.execute(line).fetchall():\n        \
                    print(*('NULL' if v is None else v for v in row), sep='\\t', flush=True)";
                command = Command::new("python3");
                command.args(["-c", SCRIPT]).arg(self.file());
            }
            Kind::Mariadb => {
                command = Command::new("mariadb");
                command.args(["--no-defaults", "-uroot", "--batch", "--skip-column-names", "--unbuffered"]);
                command.args(["--default-character-set=utf8mb4", "-S"]).arg(self.socket()).arg(database);
            }
            Kind::Postgres => {
                command = Command::new("psql");
                command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-P", "null=NULL", "-U", "postgres"]);
                command.args(["-v", "ON_ERROR_STOP=1", "-d", database, "-h"]).arg(self.folder());
                command.args(["-p", &self.port.to_string()]);
            }
        }
        command
    }

    fn client(&self, database: &str, statement: &str) -> Result<Vec<Vec<String>>, String> {
        let mut command = self.client_command(database);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut live = Live::start("a database's client", command)
            .map_err(|error| format!("{}: {error}", how_to_get(self.kind)))?;
        let line =
            if self.kind == Kind::Sqlite { format!("{statement}\n") } else { format!("{statement};\n") };
        // If the client ended early, its stderr says why.
        let _ = live.write(line.as_bytes());
        live.close_stdin();
        let finished = live.wait(START_DEADLINE);
        if finished.code() != Some(0) {
            return Err(finished.err());
        }
        Ok(finished.out().lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// Stops it like an administrator; moves a SQLite file out of the way.
    #[track_caller]
    pub fn stop(&self) {
        if self.kind == Kind::Sqlite {
            fs::rename(self.file(), self.folder().join("away")).expect("moving the file");
            fs::create_dir(self.file()).expect("making a folder in its place");
        }
        let Some(mut live) = self.lock().take() else { return };
        // SIGINT is PostgreSQL's fast shutdown, which does not wait for clients.
        live.signal(if self.kind == Kind::Postgres { Signal::SIGINT } else { Signal::SIGTERM });
        live.wait(START_DEADLINE);
    }

    /// Kills it, like a power failure.
    pub fn kill(&self) {
        if let Some(mut live) = self.lock().take() {
            // After SIGKILL, PostgreSQL would leave shared memory behind.
            live.signal(if self.kind == Kind::Postgres { Signal::SIGQUIT } else { Signal::SIGKILL });
            live.wait(START_DEADLINE);
        }
    }

    /// Starts it again in the same place.
    #[track_caller]
    pub fn start_again(&self) {
        if self.kind == Kind::Sqlite {
            fs::remove_dir(self.file()).expect("removing the folder");
            fs::rename(self.folder().join("away"), self.file()).expect("moving the file back");
            return;
        }
        let started = within(START_DEADLINE, || self.launch().ok());
        assert!(started.is_some(), "the server does not start again\n{}", self.evidence());
    }

    /// Stops all processes of the server (SIGSTOP); connections stay open.
    pub fn freeze(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Continues the server.
    pub fn thaw(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    /// Signals all processes: PostgreSQL has one per connection, each a child of the postmaster.
    fn signal_all(&self, signal: Signal) {
        let Some(pid) = self.lock().as_ref().map(Live::pid) else { return };
        let mut pids = vec![pid];
        for entry in fs::read_dir("/proc").expect("reading /proc").flatten() {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((begin, rest)) = stat.rsplit_once(") ") else { continue };
            if rest.split(' ').nth(1) == Some(&pid.to_string()) {
                pids.extend(begin.split(' ').next().and_then(|pid| pid.parse::<i32>().ok()));
            }
        }
        for pid in pids {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }

    fn launch(&self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.map_err(|error| format!("opening the server's log: {error}"))?;
        let mut command = server_command(self.kind);
        let port = self.port.to_string();
        if self.kind == Kind::Mariadb {
            command
                .arg(format!("--datadir={}", self.data().display()))
                .arg(format!("--socket={}", self.socket().display()))
                .arg(format!("--port={port}"))
                // At its start, a server treats every file in its temporary folder as its own.
                .arg(format!("--tmpdir={}", self.data().display()))
                .args(["--bind-address=127.0.0.1", "--innodb-buffer-pool-size=8M", "--skip-name-resolve"])
                .args(["--performance-schema=OFF", "--skip-log-bin", "--innodb-doublewrite=0"])
                .args(MARIADB_FILES);
        } else {
            command.arg("-D").arg(self.data()).arg("-k").arg(self.folder()).args(["-F", "-p", &port]);
            command.args(["-h", "127.0.0.1", "-c", "shared_buffers=2MB", "-c", "max_connections=20"]);
        }
        command.current_dir(self.folder()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::from(log));
        let mut live = Live::start("a database server", command)
            .map_err(|e| format!("{}: {e}", how_to_get(self.kind)))?;
        let database = if self.kind == Kind::Postgres { "postgres" } else { "" };
        let answers = within(START_DEADLINE, || {
            live.ended()
                .is_some()
                .then_some(false)
                .or_else(|| self.client(database, "SELECT 1").is_ok().then_some(true))
        });
        if answers != Some(true) {
            return Err(self.evidence());
        }
        *self.lock() = Some(live);
        Ok(())
    }

    /// The output to print when a test fails.
    pub fn evidence(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        format!("--- the database's log ---\n{}\n---", tail(&String::from_utf8_lossy(&log), 30))
    }

    fn folder(&self) -> &Path {
        self.folder.as_ref().expect("it is there until drop").path()
    }

    fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.folder().join("mariadb.sock")
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Live>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.evidence());
        }
        self.thaw();
        self.kill();
    }
}

/// Options for both the program that creates the files and the server.
const MARIADB_FILES: [&str; 3] =
    ["--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync"];

fn how_to_get(kind: Kind) -> &'static str {
    match kind {
        Kind::Sqlite => "the tests need python3 (on Debian: apt-get install python3)",
        Kind::Mariadb => {
            "the tests need a real MariaDB, `mariadbd`, `mariadb-install-db` and `mariadb` in PATH or /usr/sbin \
             (on Debian: apt-get install mariadb-server-core mariadb-client-core)"
        }
        Kind::Postgres => {
            "the tests need a real PostgreSQL, `postgres` and `initdb` in PATH or below /usr/lib/postgresql, and \
             `psql` (on Debian: apt-get install postgresql)"
        }
    }
}

/// A server program as a command, run as a user who may run it.
fn server_command_of(kind: Kind, program: &str) -> Command {
    let versions = fs::read_dir(POSTGRES_PROGRAMS).into_iter().flatten().flatten();
    let places = versions.map(|version| version.path().join("bin")).chain([PathBuf::from("/usr/sbin")]);
    let found = places.map(|place| place.join(program)).find(|path| path.exists());
    let mut command = Command::new(found.unwrap_or_else(|| PathBuf::from(program)));
    match (kind, unprivileged()) {
        (Kind::Mariadb, Some(_)) => {
            command.args(["--no-defaults", "--user=root"]);
        }
        (Kind::Mariadb, None) => {
            command.arg("--no-defaults");
        }
        // PostgreSQL refuses to run as root.
        (Kind::Postgres, Some(user)) => {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        _ => {}
    }
    command
}

fn server_command(kind: Kind) -> Command {
    server_command_of(kind, if kind == Kind::Mariadb { "mariadbd" } else { "postgres" })
}

/// Another user to run a server as, if this process is root.
fn unprivileged() -> Option<User> {
    let name = |name: &str| User::from_name(name).ok().flatten();
    if Uid::effective().is_root() { name("postgres").or_else(|| name("nobody")) } else { None }
}

fn give_to_server(kind: Kind, folder: &Path) {
    if let (Kind::Postgres, Some(user)) = (kind, unprivileged()) {
        nix::unistd::chown(folder, Some(user.uid), Some(user.gid)).expect("giving the folder away");
    }
}

/// An empty server's files, created once and kept. Tests that need them at the same time wait.
fn template(kind: Kind) -> PathBuf {
    let kept = crate::target_directory().join("tmp");
    let lock = File::create(kept.join(format!("{kind:?}.lock"))).expect("making a lock");
    lock.lock().expect("waiting for the lock");
    let version = server_command(kind).arg("--version").output();
    let version = version.unwrap_or_else(|error| panic!("{}: {error}", how_to_get(kind))).stdout;
    let name = format!("{kind:?}-{}", &blake3::hash(&version).to_hex()[..16]);
    let template = kept.join(&name);
    if !template.exists() {
        let folder = tempfile::Builder::new().prefix("pb-db-").tempdir().expect("making a folder");
        give_to_server(kind, folder.path());
        make(kind, &folder.path().join("data"), folder.path());
        let unfinished = kept.join(format!("{name}.unfinished"));
        let _ = fs::remove_dir_all(&unfinished);
        copy(&folder.path().join("data"), &unfinished);
        fs::rename(&unfinished, &template).expect("keeping an empty server's files");
    }
    template
}

fn make(kind: Kind, data: &Path, folder: &Path) {
    let mut command;
    if kind == Kind::Mariadb {
        command = server_command_of(kind, "mariadb-install-db");
        command.arg(format!("--datadir={}", data.display()));
        command.arg(format!("--tmpdir={}", folder.display()));
        command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
        command.args(MARIADB_FILES);
    } else {
        command = server_command_of(kind, "initdb");
        command.arg("-D").arg(data).args(["-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"]);
        command.args(["--auth-local=trust", "--auth-host=scram-sha-256", "--wal-segsize=1"]);
    }
    let made = command.current_dir(folder).stdin(Stdio::null()).output();
    let made = made.unwrap_or_else(|error| panic!("{}: {error}", how_to_get(kind)));
    assert!(made.status.success(), "making an empty {kind:?}: {made:?}");
    if kind == Kind::Postgres {
        // Creating a database is slow here, so the template has it already.
        let mut command = server_command(kind);
        command.args(["--single", "-F", "-D"]).arg(data).arg("postgres").current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut live = Live::start("postgres --single", command).expect("running postgres");
        let role = format!("CREATE ROLE {USER} LOGIN PASSWORD '{}'\n", quoted());
        live.write(format!("{role}CREATE DATABASE {DATABASE} OWNER {USER}\n").as_bytes())
            .expect("writing to it");
        live.close_stdin();
        let finished = live.wait(START_DEADLINE).expect_success();
        assert!(!finished.err().contains("ERROR"), "{finished:?}");
    }
}

/// The password, quoted for SQL.
fn quoted() -> String {
    PASSWORD.replace('\'', "''")
}

fn copy(from: &Path, to: &Path) {
    let copied =
        Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).output().expect("running cp");
    assert!(copied.status.success(), "copying an empty server's files: {copied:?}");
}
