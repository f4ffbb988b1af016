//! As whom a command runs: a peer of root has many users, any other has one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::bench::{PATIENCE, fleet, refused};
use crate::harness::fleet::{DCommand, Fleet};

#[test]
fn other_users_of_a_peer_of_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "root is missing: only a peer of root can run commands as other users; run the tests as root"
    );
    let fleet = fleet();
    let line = "id -un; echo $HOME $USER; id -Gn";
    let finished = fleet.d(["exec", "w1", "-C", "/", "--user", "nobody", "--sh", line]).expect_success();
    let nobody = nix::unistd::User::from_name("nobody").unwrap().expect("a user nobody");
    assert!(
        finished.out().starts_with(&format!("nobody\n{} nobody\n", nobody.dir.display())),
        "{finished:?}"
    );
    assert!(!finished.out().contains("root"), "{finished:?}");

    // By its number, too; the number of nobody is no user.
    let number = nobody.uid.to_string();
    let finished = fleet.d(["exec", "w1", "-C", "/", "--user", &number, "--sh", line]).expect_success();
    assert!(finished.out().starts_with("nobody\n"), "{finished:?}");
    let arguments = ["exec", "w1", "-C", "/", "--user", "4000000", "--", "true"];
    refused(&fleet, &arguments, 249, "not started: w1: there is no user", "not_started", "no_such_user");

    let arguments = ["exec", "w1", "-C", "/", "--user", "no-such-user", "--", "true"];
    refused(&fleet, &arguments, 249, "not started: w1: there is no user", "not_started", "no_such_user");
    // The fleet's own directory is its owner's only.
    let denied = fleet.directory("denied");
    let arguments = ["exec", "w1", "-C", denied.to_str().unwrap(), "--user", "nobody", "--", "true"];
    let start = "not started: w1: entering directory ";
    refused(&fleet, &arguments, 249, start, "not_started", "directory_denied");
}

/// A daemon that is no root's, whoever runs the tests: with `d` and its state where it may go.
struct Humble {
    _place: tempfile::TempDir,
    home: PathBuf,
    d: PathBuf,
}

impl Humble {
    fn new() -> Humble {
        let place = tempfile::Builder::new().prefix("pb-").tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (home, d) = (place.path().join("home"), place.path().join("d"));
        fs::create_dir(&home).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_d"), &d).unwrap();
        Humble { _place: place, home, d }
    }

    fn give(&self, to: &nix::unistd::User) {
        let all = [&self.home]
            .into_iter()
            .cloned()
            .chain(fs::read_dir(&self.home).unwrap().map(|entry| entry.unwrap().path()));
        for path in all {
            nix::unistd::chown(&path, Some(to.uid), Some(to.gid)).unwrap();
        }
    }
}

#[test]
fn a_peer_that_is_not_root_has_one_user() {
    let fleet = Fleet::builder().start();
    let humble = Humble::new();
    let arguments = ["daemon", "run", "--id", "w1", "--role", "worker"];
    let mut command = DCommand::new(&humble.home, arguments).nats(&fleet.url());
    let mut own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap();
    if nix::unistd::geteuid().is_root() {
        own = nix::unistd::User::from_name("nobody").unwrap().expect("a user nobody");
        humble.give(&own);
        let (uid, gid, d) = (own.uid.as_raw(), own.gid.as_raw(), humble.d.clone());
        command = command.with(move |command| {
            use std::os::unix::process::CommandExt;
            let mut other = std::process::Command::new(d);
            other.args(arguments).env_clear().current_dir(command.get_current_dir().unwrap());
            for (name, value) in command.get_envs() {
                if let Some(value) = value {
                    other.env(name, value);
                }
            }
            other.stdin(std::process::Stdio::null());
            other.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            other.uid(uid).gid(gid);
            *command = other;
        });
    }
    let mut daemon = command.spawn();
    daemon.stderr_line(PATIENCE, |line| line.starts_with("ready peer=w1"));

    let finished = fleet.d(["exec", "w1", "-C", "/", "--", "id", "-un"]).expect_success();
    assert_eq!(finished.out(), format!("{}\n", own.name));
    let finished =
        fleet.d(["exec", "w1", "-C", "/", "--user", &own.name, "--", "id", "-un"]).expect_success();
    assert_eq!(finished.out(), format!("{}\n", own.name));
    // Its jobs are of the same user, and still read neither its environment nor its memory.
    let ours = daemon.pid();
    let peek = format!(
        "for pid in {ours} $PPID; do cat /proc/$pid/environ > /dev/null; cat /proc/$pid/maps; done; id -u"
    );
    let peeked = fleet.d(["exec", "w1", "-C", "/", "--sh", &peek]).expect_success();
    assert_eq!(peeked.out(), format!("{}\n", own.uid), "{peeked:?}");
    assert_eq!(peeked.err().matches("Permission denied").count(), 4, "{peeked:?}");
    let itself = fleet
        .d(["exec", "w1", "-C", "/", "--sh", "cat /proc/self/environ | tr '\\0' '\\n'"])
        .expect_success();
    assert!(itself.out().contains("PEERBUS_JOB="), "a job is as any other process: {itself:?}");
    for other in ["root", "daemon", "no-such-user"] {
        let arguments = ["exec", "w1", "-C", "/", "--user", other, "--", "true"];
        let said = refused(&fleet, &arguments, 250, "refused: w1: the daemon runs as ", "refused", "user");
        assert!(said.contains(other) && said.contains(&own.name), "{said}");
    }
    if own.name == "nobody" {
        let arguments = ["exec", "w1", "-C", fleet.path().to_str().unwrap(), "--", "true"];
        let start = "not started: w1: entering directory ";
        refused(&fleet, &arguments, 249, start, "not_started", "directory_denied");
    }
}
