//! Machines on which people make a fleet and join it, by `d` alone: each has a home, a configuration and a
//! daemon of its own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use peerbus::identity::authority::{Authority, Invited};
use peerbus::identity::{Account, IdentityFile};
use peerbus::protocol::identity::Standing;

use crate::harness::child::Finished;
use crate::harness::fleet::DCommand;
use crate::harness::nats::{Login, Raw};
use crate::harness::procs;
use crate::harness::scratch::{Scratch, unless_gone};
use crate::harness::server;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Machines, and the bus of the fleet they are to make.
pub(crate) struct Machines {
    scratch: Scratch,
    port: u16,
}

impl Machines {
    /// Machines without a fleet.
    pub(crate) fn new() -> Machines {
        // Free now; it is asked for again at once.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Machines { scratch: Scratch::new(), port }
    }

    /// The first of them, `lead`, has made a fleet whose operator is alice.
    pub(crate) fn with_a_fleet() -> Machines {
        let machines = Machines::new();
        let listen = machines.address();
        machines
            .run("lead", &["init", "--id", "lead", "--operator", "alice", "--listen", &listen])
            .expect_success();
        machines
    }

    /// The machines of a fleet that an older version has made: copies of a folder below `fixtures`, with its keys,
    /// books and identities. No daemon runs yet.
    pub(crate) fn of_an_older_version(fixture: &str) -> Machines {
        let machines = Machines::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/identity/fixtures").join(fixture);
        machines.copy(&from, machines.scratch.path());
        machines
    }

    /// Copies a folder for its owner alone, with the places in its configurations filled in.
    fn copy(&self, from: &Path, to: &Path) {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let (path, to) = (entry.path(), to.join(entry.file_name()));
            if path.is_dir() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(&to).unwrap();
                self.copy(&path, &to);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let fleet = self.scratch.path().display().to_string();
            let text = text.replace("@BUS@", &self.address()).replace("@FLEET@", &fleet);
            fs::write(&to, text).unwrap();
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// The home of a machine.
    pub(crate) fn home(&self, machine: &str) -> PathBuf {
        self.scratch.directory(machine)
    }

    /// `d` on a machine.
    pub(crate) fn d(&self, machine: &str, arguments: &[&str]) -> DCommand {
        let home = self.home(machine);
        DCommand::new(&home, arguments)
            .env("PEERBUS_STATE_DIR", home.join("state"))
            .env("PEERBUS_NATS_SERVER", server::program())
    }

    pub(crate) fn run(&self, machine: &str, arguments: &[&str]) -> Finished {
        self.d(machine, arguments).run()
    }

    /// The line that an invitation is.
    #[track_caller]
    pub(crate) fn invite(&self, arguments: &[&str]) -> String {
        let printed = self.run("lead", &[&["invite"], arguments].concat()).expect_success().out();
        assert_eq!(printed.lines().count(), 1, "{printed}");
        printed.trim().to_owned()
    }

    /// Has a machine, or a person on it, join by that name.
    #[track_caller]
    pub(crate) fn join(&self, machine: &str, invitation: &[&str]) {
        self.run(machine, &["join", &self.invite(invitation)]).expect_success();
    }

    /// The fleet's keys.
    pub(crate) fn authority(&self) -> Authority {
        Authority::open(&self.home("lead").join("fleet")).unwrap()
    }

    /// An invitation with an end of one's own choice, in seconds since 1970.
    pub(crate) fn invite_until(&self, name: &str, until: i64) -> String {
        let whom = Invited {
            name: &name.parse().unwrap(),
            standing: Standing::Worker,
            bus: &self.url(),
            until,
            identity_expires: None,
            names: &[],
        };
        self.authority().invite(&whom).unwrap().text()
    }

    /// The file of an identity on a machine.
    pub(crate) fn creds(&self, machine: &str, name: &str) -> PathBuf {
        self.home(machine).join("identity").join(format!("{name}.creds"))
    }

    pub(crate) fn identity(&self, machine: &str, name: &str) -> IdentityFile {
        IdentityFile::read(&self.creds(machine, name)).unwrap().unwrap()
    }

    /// A raw connection with an identity, where the bus lets it in.
    pub(crate) fn try_connect(&self, identity: &IdentityFile) -> std::io::Result<Raw> {
        Raw::try_connect(&self.address(), &Login::with(identity))
    }

    /// Whether the account that a daemon keeps in its state directory has somebody revoked.
    pub(crate) fn has_heard_in(state: &Path, whom: &IdentityFile) -> bool {
        // It keeps none until it has heard one.
        let Some(text) = unless_gone(fs::read_to_string(state.join("account.jwt"))) else { return false };
        let account = Account::read(text.trim(), &whom.fleet).unwrap();
        account.is_revoked(whom.key.public(), whom.signer().unwrap().issued)
    }

    /// What `d identities` says of somebody, newest last.
    #[track_caller]
    pub(crate) fn listed(&self, name: &str) -> Vec<serde_json::Value> {
        let lines = self.run("lead", &["identities", "--json"]).expect_success().out();
        let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["name"] == name).collect()
    }

    /// Runs a command on a peer as whoever `d` is on a machine.
    #[track_caller]
    pub(crate) fn echo(&self, machine: &str, peer: &str) -> Finished {
        self.run(machine, &["exec", peer, "-C", "/", "--", "echo", "ran"])
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        procs::kill_all(&procs::touching(self.scratch.path()));
    }
}

/// A command that was refused with this code, and said this.
#[track_caller]
pub(crate) fn refused(finished: &Finished, code: i32, said: &[&str]) {
    let err = finished.err();
    assert_eq!(finished.code(), Some(code), "{err}");
    assert_eq!(finished.out(), "", "nothing was asked for");
    for said in said {
        assert!(err.contains(said), "{said:?} is not in: {err}");
    }
    assert!(err.lines().all(|line| line.starts_with("d: ")), "{err}");
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    crate::harness::speaker::now_ms() / 1000
}
