//! What a command of another user finds around it: that user's groups and home, and nothing that is the
//! daemon's, however untidily the daemon itself was started.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use super::bench::PATIENCE;
use crate::harness::child::Live;
use crate::harness::fleet::{DCommand, Fleet};

/// What must be nobody's but the daemon's.
const OF_THE_DAEMON: [(&str, &str); 10] = [
    ("NATS_URL", "nats://secret@127.0.0.1:1"),
    ("PEERBUS_DATABASE_URL", "sqlite:///secret"),
    ("PEERBUS_TEST_SECRET", "secret"),
    ("NOTIFY_SOCKET", "/nowhere/secret.sock"),
    ("LISTEN_FDS", "1"),
    ("LISTEN_PID", "1"),
    ("SYSTEMD_EXEC_PID", "1"),
    ("INVOCATION_ID", "00000000000000000000000000000000"),
    ("JOURNAL_STREAM", "1:2"),
    ("CREDENTIALS_DIRECTORY", "/nowhere"),
];

/// A user of this machine who is in more groups than their first.
fn user_of_groups() -> String {
    let groups = fs::read_to_string("/etc/group").unwrap();
    let members = groups.lines().filter_map(|line| line.rsplit(':').next()).flat_map(|all| all.split(','));
    let known = |name: &&str| {
        let user = nix::unistd::User::from_name(name).ok().flatten();
        user.is_some_and(|user| !user.uid.is_root())
    };
    let found = members.filter(|name| !name.is_empty()).find(known);
    found
        .expect("no user of this machine has a second group; `usermod -aG users nobody` makes one")
        .to_owned()
}

/// A daemon of root that was started with secrets in its environment, open files and no umask.
fn untidy(fleet: &Fleet, containment: &'static str) -> Live {
    assert!(
        nix::unistd::geteuid().is_root(),
        "root is missing: only root's daemon has other users; run the tests as root"
    );
    let home = fleet.directory("untidy");
    let arguments = ["daemon", "run", "--id", "w1", "--role", "worker", "--state-dir"];
    let (state, url) = (fleet.directory("state"), fleet.url());
    let command = DCommand::new(&home, [&arguments[..], &[state.to_str().unwrap(), "--nats", &url]].concat())
        .with(move |command| {
            let line = "umask 000; exec 7</etc/shadow 8<>/dev/null; exec \"$0\" \"$@\"";
            let mut shell = Command::new("bash");
            shell.arg("-c").arg(line).arg(command.get_program()).args(command.get_args()).env_clear();
            shell.current_dir(command.get_current_dir().unwrap());
            for (name, value) in command.get_envs() {
                if let Some(value) = value {
                    shell.env(name, value);
                }
            }
            shell.envs(OF_THE_DAEMON).env("PEERBUS_CONTAINMENT", containment);
            shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            *command = shell;
        });
    let mut daemon = command.spawn();
    daemon.stderr_line(PATIENCE, |line| line.starts_with("ready peer=w1"));
    daemon
}

fn has_nothing_of_the_daemon(containment: &'static str) {
    let fleet = Fleet::builder().start();
    let daemon = untidy(&fleet, containment);
    let name = user_of_groups();
    let user = nix::unistd::User::from_name(&name).unwrap().unwrap();
    let job = |argv: &[&str]| {
        let arguments = ["exec", "w1", "-C", "/", "--user", &name, "--"];
        fleet.d([&arguments, argv].concat()).expect_success().out()
    };

    let environment = job(&["env"]);
    let variables: BTreeSet<(&str, &str)> =
        environment.lines().filter_map(|line| line.split_once('=')).collect();
    let names: BTreeSet<&str> = variables.iter().map(|(name, _)| *name).collect();
    let mut wanted: BTreeSet<&str> =
        ["HOME", "LANG", "LOGNAME", "PATH", "PEERBUS_JOB", "PEERBUS_PEER", "SHELL", "USER"].into();
    if std::env::var_os("TZ").is_some() {
        wanted.insert("TZ");
    }
    assert_eq!(names, wanted, "{environment}");
    assert!(!environment.contains("secret"), "{environment}");
    for wanted in [("USER", name.as_str()), ("LOGNAME", &name), ("HOME", user.dir.to_str().unwrap())] {
        assert!(variables.contains(&wanted), "{wanted:?}: {environment}");
    }

    let groups = |list: &str| list.split_whitespace().map(str::to_owned).collect::<BTreeSet<String>>();
    let own = Command::new("id").args(["-G", &name]).output().unwrap();
    let own = groups(&String::from_utf8(own.stdout).unwrap());
    assert!(own.len() > 1, "{own:?}");
    assert_eq!(groups(&job(&["id", "-G"])), own);

    // The fourth is the directory that ls itself reads.
    assert_eq!(job(&["ls", "/proc/self/fd"]), "0\n1\n2\n3\n");

    let status = job(&["cat", "/proc/self/status"]);
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("{name}: {status}")).to_owned()
    };
    let uid = user.uid.to_string();
    assert_eq!(field("Uid"), [uid.as_str(); 4].join("\t"));
    assert_eq!(field("Gid"), [user.gid.to_string().as_str(); 4].join("\t"));
    for capabilities in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(capabilities), "0000000000000000", "{capabilities}");
    }
    // sudo and its like work as they do for this user anywhere else.
    assert_eq!(
        (field("Umask"), field("NoNewPrivs"), field("SigIgn")),
        ("0022".into(), "0".into(), "0".repeat(16))
    );

    // Nor can it look for the daemon's things where the daemon is. A command of root, of course, can.
    for file in ["environ", "fd/7"] {
        let path = format!("/proc/{}/{file}", daemon.pid());
        let head = ["head", "-c1", path.as_str()];
        let denied =
            fleet.d([&["exec", "w1", "-C", "/", "--user", &name, "--"], &head[..]].concat()).expect_code(1);
        assert!(denied.err().contains("Permission denied"), "{denied:?}");
        assert_eq!(
            fleet.d([&["exec", "w1", "-C", "/", "--"], &head[..]].concat()).expect_success().out().len(),
            1
        );
    }
}

#[test]
fn another_users_command_has_nothing_of_the_daemon_in_a_cgroup() {
    has_nothing_of_the_daemon("best");
}

#[test]
fn another_users_command_has_nothing_of_the_daemon_below_a_reaper() {
    has_nothing_of_the_daemon("reaper");
}

/// `~` is the home of whoever the command runs as, in a rule's eyes too.
#[test]
fn a_home_is_that_of_the_commands_user() {
    let name = user_of_groups();
    let home = nix::unistd::User::from_name(&name).unwrap().unwrap().dir.canonicalize();
    let home = home
        .expect("a home of that user; `apt-get install postgresql` makes a user with both")
        .display()
        .to_string();
    let rule = format!("argv = [\"pwd\"]\nuser = [\"{name}\", \"@self\"]\ndirectory = [\"{home}\"]");
    let fleet = super::bench::ruled(&super::bench::rule(&rule));
    assert_eq!(super::bench::runs(&fleet, &["-C", "~", "--user", &name, "--", "pwd"]), format!("{home}\n"));
    super::bench::refused(&fleet, &["-C", "~", "--", "pwd"]);
    super::bench::refused(&fleet, &["-C", "~/..", "--user", &name, "--", "pwd"]);
}
