//! What people mistype: it is refused before anything is sent, with code 2 and words that name the
//! mistake; a bus that is not there is said at once; no error repeats a secret.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

mod harness;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use harness::child::Finished;
use harness::fleet::{DCommand, Fleet};
use harness::nats::Raw;
use harness::scratch::Scratch;
use harness::server::ServerOptions;

/// Where nothing listens: whoever gets as far as connecting ends with 255.
const NOWHERE: &str = "nats://127.0.0.1:1";
/// Long enough for anything on a busy machine that does not wait for a network.
const PROMPT: Duration = Duration::from_secs(20);

/// A person on a machine without a bus.
struct Person(Scratch);

impl Person {
    fn new() -> Person {
        Person(Scratch::new())
    }

    fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, arguments: I) -> DCommand {
        DCommand::new(&self.0.directory("person"), arguments).nats(NOWHERE)
    }

    /// Runs what is mistyped; stderr names all of `named`.
    #[track_caller]
    fn mistypes<S: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[S], named: &[&str]) -> String {
        mistake(self.command(arguments).run(), named)
    }

    /// A configuration file with this text.
    fn configured(&self, text: impl AsRef<[u8]>) -> String {
        self.0.file("c.toml", text).to_string_lossy().into_owned()
    }
}

#[track_caller]
fn mistake(finished: Finished, named: &[&str]) -> String {
    let finished = finished.expect_code(2);
    let said = finished.err();
    assert!(finished.stdout.is_empty() && !said.is_empty(), "{finished:?}");
    for word in named {
        assert!(said.contains(word), "{word:?} is not named\n{finished:?}");
    }
    said
}

#[test]
fn a_relative_directory() {
    let person = Person::new();
    for directory in ["app", "./app", "../app", "", " /app", "~bob", "~bob/x", "C:\\app"] {
        let said = person.mistypes(&["exec", "w1", "-C", directory, "--", "true"], &["directory"]);
        assert!(said.starts_with("d: ") && said.contains(&format!("{directory:?} is relative")), "{said}");
    }
    let old = ["execOnPeer", "--peer", "w1", "--directory", "app", "--shellCmd", "true"];
    person.mistypes(&old, &["d: the directory \"app\" is relative", "'/'", "'~/'"]);
    person.mistypes(
        &["daemon", "run", "--id", "w1", "--directory", "app"],
        &["--directory", "\"app\" is relative"],
    );
}

#[test]
fn neither_or_both_of_line_and_command() {
    let person = Person::new();
    person.mistypes(&["exec", "w1", "-C", "/"], &["--sh <LINE>", "COMMAND"]);
    person.mistypes(&["exec", "w1", "-C", "/", "--"], &["--sh <LINE>", "COMMAND"]);
    person.mistypes(
        &["exec", "w1", "-C", "/", "--sh", "pwd", "--", "pwd"],
        &["--sh <LINE>", "cannot be used with"],
    );
    person.mistypes(
        &["exec", "w1", "-C", "/", "--sh", "pwd", "--sh", "pwd"],
        &["--sh <LINE>", "multiple times"],
    );
    for empty in ["", "  ", "\n"] {
        person.mistypes(&["exec", "w1", "-C", "/", "--sh", empty], &["d: ", "shell_cmd", "empty"]);
    }
    person.mistypes(&["exec", "w1", "-C", "/", "--", ""], &["d: ", "argv", "no program"]);
    person.mistypes(&["exec", "w1", "-C", "/", "--", "", "x"], &["d: ", "argv", "no program"]);
}

#[test]
fn a_command_without_the_dashes() {
    let person = Person::new();
    person.mistypes(&["exec", "w1", "-C", "/", "pwd"], &["unexpected argument 'pwd'"]);
    person.mistypes(&["exec", "w1", "ls", "-l"], &["unexpected argument 'ls'"]);
}

#[test]
fn a_variable_without_name_or_value() {
    let person = Person::new();
    for wrong in ["K", "=v", "", "="] {
        let arguments = ["exec", "w1", "-C", "/", "--env", wrong, "--", "true"];
        person.mistypes(&arguments, &["--env <K=V>", &format!("{wrong:?} is not NAME=VALUE")]);
    }
}

#[test]
fn a_time_that_is_none() {
    let person = Person::new();
    for wrong in ["5", "soon", "", "1 parsec", "5x", "--", "9999999999999999999999s"] {
        let timeout = format!("--timeout={wrong}");
        let arguments = ["exec", "w1", "-C", "/", &timeout, "--sh", "true"];
        person.mistypes(&arguments, &["--timeout <TIME>", "is not a time such as 500ms, 30s or 1h30m"]);
    }
    for wrong in ["-3s", "-1h"] {
        let timeout = format!("--timeout={wrong}");
        person.mistypes(&["exec", "w1", "-C", "/", &timeout, "--sh", "true"], &["is not a time"]);
    }
    person.mistypes(
        &["exec", "w1", "-C", "/", "--timeout", "0s", "--", "true"],
        &["d: ", "timeout", "no time"],
    );
    for flag in ["--wait", "--connect-timeout"] {
        person.mistypes(&["exec", "w1", "-C", "/", flag, "soon", "--", "true"], &[flag, "\"soon\""]);
    }
    person.mistypes(&["ping", "w1", "--timeout", "soon"], &["--timeout", "\"soon\""]);
    person.mistypes(&["ping", "w1", "--count", "0"], &["--count", "0"]);
}

#[test]
fn what_the_old_commands_miss_in_the_words_scripts_know() {
    let person = Person::new();
    let all = [("--peer", "w1"), ("--directory", "/tmp"), ("--shellCmd", "pwd")];
    for (missing, _) in all {
        let wanted = format!("Missing required argument '{missing}' for command 'execOnPeer'.\n");
        let given =
            all.into_iter().filter(|(flag, _)| *flag != missing).flat_map(|(flag, value)| [flag, value]);
        let arguments: Vec<&str> = ["execOnPeer"].into_iter().chain(given).collect();
        assert_eq!(person.mistypes(&arguments, &[]), wanted);
        // Empty is as good as missing.
        let emptied = all.map(|(flag, value)| [flag, if flag == missing { "" } else { value }]);
        let arguments: Vec<&str> = ["execOnPeer"].into_iter().chain(emptied.into_iter().flatten()).collect();
        assert_eq!(person.mistypes(&arguments, &[]), wanted);
    }
    assert_eq!(
        person.mistypes(&["execOnPeer"], &[]),
        "Missing required argument '--peer' for command 'execOnPeer'.\n"
    );
    assert_eq!(
        person.mistypes(&["execOnPeer", "--peer", "w1"], &[]),
        "Missing required argument '--directory' for command 'execOnPeer'.\n"
    );
    assert_eq!(
        person.mistypes(&["getPeerInfo"], &[]),
        "Missing required argument '--peer' for command 'getPeerInfo'.\n"
    );
    person.mistypes(&["execOnPeer", "--peer"], &["--peer"]);
    person.mistypes(&["execOnPeer", "--peer", "w1", "--directory"], &["--directory"]);
}

#[test]
fn flags_and_verbs_that_do_not_exist() {
    let person = Person::new();
    person.mistypes(&["exec", "w1", "-C", "/", "--shel", "pwd"], &["'--shel'", "Usage: "]);
    person.mistypes(&["exec", "w1", "-C", "/", "-z", "--", "pwd"], &["'-z'"]);
    person.mistypes(&["execOnPeer", "--peers", "w1"], &["'--peers'"]);
    person.mistypes(&["exex", "w1"], &["'exex'", "exec"]);
    person.mistypes(&["execonpeer", "--peer", "w1"], &["'execonpeer'", "execOnPeer"]);
    person.mistypes(&["exec"], &["<PEER>"]);
    person.mistypes::<&str>(&[], &["Usage: "]);
    person.mistypes(&["peer"], &["Usage: "]);
    person.mistypes(&["daemon"], &["Usage: "]);
}

#[test]
fn arguments_that_are_no_text() {
    let person = Person::new();
    let broken = OsStr::from_bytes(b"a\xff");
    for at in [1, 3, 5] {
        let mut arguments: Vec<&OsStr> = ["exec", "w1", "-C", "/", "--sh", "true"].map(OsStr::new).to_vec();
        arguments[at] = broken;
        person.mistypes(&arguments, &["UTF-8"]);
    }
    let arguments = ["exec", "w1", "-C", "/", "--", "echo"].map(OsStr::new);
    person.mistypes(&[&arguments[..], &[broken]].concat(), &["UTF-8"]);
}

/// Names that would be another subject if they were placed into one, and names that are none.
const STRANGE_PEERS: [&str; 11] =
    ["*", ">", "w1.*", "w1.>", "w*", "a.b", "w1.ping", " ", "w1 w2", "W2", "w1\r\nPUB x 0"];

#[test]
fn a_peer_that_no_subject_may_hold() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let mut ear = Raw::connect(&fleet.url());
    let heard = ear.subscribe("exec.>");
    // One that is too long for an id may be a hostname.
    let long = "a".repeat(64);
    for peer in STRANGE_PEERS.into_iter().chain([long.as_str()]) {
        for arguments in [
            ["exec", peer, "-C", "/", "--", "true"].as_slice(),
            &["execOnPeer", "--peer", peer, "--directory", "/", "--shellCmd", "true"],
            &["ping", peer],
            &["peer", "show", peer],
        ] {
            let finished = fleet.d(arguments).expect_code(254);
            assert!(finished.stdout.is_empty(), "{finished:?}");
            assert!(finished.err().contains(&format!("Peer not found: {peer}")), "{finished:?}");
        }
    }
    ear.barrier();
    let heard = ear.next_on(heard, Duration::ZERO);
    assert!(heard.is_none(), "nothing was sent to any peer: {heard:?}");
}

#[test]
fn a_name_that_no_peer_can_have() {
    let person = Person::new();
    for (peer, why) in [(String::new(), "it is empty"), ("a".repeat(256), "it is longer than 255 bytes")] {
        person.mistypes(&["exec", &peer, "-C", "/", "--", "true"], &["<PEER>", why]);
        person.mistypes(&["ping", &peer], &["<PEER>", why]);
        person.mistypes(&["peer", "show", &peer], &["<PEER>", why]);
    }
    let long = "a".repeat(256);
    let old = ["execOnPeer", "--peer", &long, "--directory", "/", "--shellCmd", "true"];
    person.mistypes(&old, &["d: --peer: it is longer than 255 bytes"]);
    person.mistypes(&["getPeerInfo", "--peer", &long], &["d: --peer: it is longer than 255 bytes"]);
}

#[test]
fn a_peer_that_no_subject_may_hold_without_a_registry() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut ear = Raw::connect(&fleet.url());
    let heard = ear.subscribe("exec.>");
    for peer in ["*", ">", "w1.*", "nobody.example"] {
        let finished = fleet.d(["exec", peer, "-C", "/", "--", "true"]).expect_code(255);
        assert!(finished.stdout.is_empty(), "{finished:?}");
        assert!(finished.err().starts_with("d: registry unreachable: "), "{finished:?}");
        assert!(finished.err().contains(peer), "{finished:?}");
    }
    ear.barrier();
    assert!(ear.next_on(heard, Duration::ZERO).is_none());
}

#[test]
fn a_daemon_that_is_to_have_no_proper_name() {
    let person = Person::new();
    let long = "a".repeat(64);
    for id in ["*", ">", "a.b", "", "-", "W1", "é", "w 1", long.as_str()] {
        let flag = format!("--id={id}");
        let said = person.mistypes(&["daemon", "run", &flag], &["is not a peer id"]);
        assert!(said.starts_with("d: "), "{said}");
    }
    mistake(
        person.command(["daemon", "run"]).env("PEERBUS_PEER_ID", "a.b").run(),
        &["\"a.b\" is not a peer id"],
    );
    mistake(
        person.command(["daemon", "run"]).env("PEERBUS_ROLE", "boss").run(),
        &["PEERBUS_ROLE", "\"boss\""],
    );
    person.mistypes(&["daemon", "run", "--role", "boss"], &["--role", "'boss'", "leader", "worker"]);
    for listen in ["0.0.0.0:4222", "8.8.8.8:4222", "here", "[::]:4222"] {
        let arguments = ["daemon", "run", "--broker", "managed", "--broker-listen", listen];
        person.mistypes(
            &arguments,
            &["--broker-listen", listen.trim_end_matches(":4222").trim_matches(['[', ']'])],
        );
    }
}

#[test]
fn a_bus_that_is_no_address_and_its_secret() {
    let person = Person::new();
    for url in [
        "nats://me:s3cret@h:port",
        "nats://me:s3cret@h:99999",
        "http://me:s3cret@h",
        "nats://me:s3cret@",
        "nats://s3cret@",
        "nats://me:s3cret@h:1,http://other",
        "://me:s3cret@h",
        "nats://me:s3cret@[::1",
        "nats://me:s3cret@h h",
    ] {
        for finished in [
            person.command(["exec", "w1", "-C", "/", "--nats", url, "--", "true"]).run(),
            person.command(["peers"]).nats(url).run(),
            person.command(["daemon", "run", "--id", "w1", "--nats", url]).run(),
            person
                .command(["--config", &person.configured(format!("nats = '{url}'\n")), "peers"])
                .env_remove("NATS_URL")
                .run(),
        ] {
            let said = mistake(finished, &[]);
            assert!(said.starts_with("d: ") && !said.contains("s3cret"), "{url}: {said}");
        }
    }
}

#[test]
fn a_bus_that_is_not_there_is_said_at_once() {
    let person = Person::new();
    let old = ["execOnPeer", "--peer", "w1", "--directory", "/", "--shellCmd", "true"];
    for arguments in [
        ["exec", "w1", "-C", "/", "--", "true"].as_slice(),
        &["peers"],
        &["peer", "show", "w1"],
        &["ping", "w1"],
        &old,
        &["listPeers"],
        &["getPeerInfo", "--peer", "w1"],
    ] {
        let finished = person.command(arguments).run().expect_code(255);
        assert!(finished.stdout.is_empty(), "{finished:?}");
        assert!(
            finished.err().starts_with("d: bus unreachable: ") && finished.err().contains("127.0.0.1:1"),
            "{finished:?}"
        );
        assert!(finished.took < PROMPT, "{finished:?}");
    }
    let finished = person.command(["peers", "--nats", "nats://me:s3cret@127.0.0.1:1"]).run().expect_code(255);
    assert!(!finished.err().contains("s3cret"), "{finished:?}");
    let finished = person.command(["peers", "--nats", "nats://no.such.host.invalid"]).run().expect_code(255);
    assert!(finished.err().contains("no.such.host.invalid"), "{finished:?}");
}

#[test]
fn a_bus_that_never_speaks_is_given_up() {
    let person = Person::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let arguments = ["exec", "w1", "-C", "/", "--nats", &url, "--connect-timeout", "1s", "--", "true"];
    let began = Instant::now();
    let finished = person.command(arguments).run().expect_code(255);
    assert!(finished.err().starts_with("d: bus unreachable: "), "{finished:?}");
    assert!((Duration::from_secs(1)..PROMPT).contains(&began.elapsed()), "{finished:?}");
}

#[test]
fn something_that_is_no_bus_is_said() {
    let person = Person::new();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", web.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let finished = person.command(["peers", "--nats", &url]).run().expect_code(255);
    assert!(finished.err().starts_with("d: bus unreachable: "), "{finished:?}");
    assert!(finished.took < PROMPT, "{finished:?}");
}

#[test]
fn a_wrong_token_is_said_and_not_repeated() {
    let person = Person::new();
    let server = ServerOptions::new().token("the-right-one").start();
    let at = server.address();
    for url in [format!("nats://{at}"), format!("nats://s3cret@{at}"), format!("nats://me:s3cret@{at}")] {
        let finished = person.command(["peers", "--nats", &url]).run().expect_code(255);
        assert!(finished.err().to_lowercase().contains("authorization"), "{finished:?}");
        assert!(!finished.err().contains("s3cret"), "{finished:?}");
        assert!(finished.took < PROMPT, "{finished:?}");
    }
    // The right one is taken: it has no registry to ask.
    let finished = person.command(["listPeers", "--nats", &format!("nats://the-right-one@{at}")]).run();
    assert!(
        finished.expect_code(255).err().starts_with("Not connected to leader\nd: registry unreachable: ")
    );
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_line() {
    let person = Person::new();
    for (text, named) in [
        ("# fine\nnast = 'nats://x'\n", ["line 2", "`nast`"]),
        ("nats = 'nats://x'\n\nrole = 'boss'\n", ["line 3", "`boss`"]),
        ("max_jobs = 'many'\n", ["line 1", "many"]),
        ("max_jobs = 0\n", ["line 1", "zero"]),
        ("max_jobs = -1\n", ["line 1", "-1"]),
        ("directory = 'app'\n", ["line 1", "\"app\" is relative"]),
        ("\ncaller_grace = 'soon'\n", ["line 2", "\"soon\""]),
        ("broker_listen = '0.0.0.0'\n", ["line 1", "0.0.0.0"]),
        ("nats = 'a'\nnats = 'b'\n", ["line 2", "duplicate key"]),
        ("env = ['A']\n", ["line 1", "map"]),
        ("[env]\nA = 1\n", ["line 2", "1"]),
        ("this is not toml\n", ["line 1", "c.toml"]),
        ("nats = 'unclosed\n", ["line 1", "c.toml"]),
        ("[[table]]\n", ["line 1", "`table`"]),
    ] {
        let path = person.configured(text);
        for arguments in [
            ["exec", "w1", "-C", "/", "--config", &path, "--", "true"].as_slice(),
            &["daemon", "run", "--id", "w1", "--config", &path],
            &["peers", "--config", &path],
        ] {
            let said = person.mistypes(arguments, &named);
            assert!(said.starts_with("d: configuration ") && said.contains(&path), "{text}: {said}");
        }
        mistake(person.command(["peers"]).env("PEERBUS_CONFIG", &path).run(), &named);
    }
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let person = Person::new();
    let directory = person.0.directory("a-directory").to_string_lossy().into_owned();
    let below_a_file = format!("{}/c.toml", person.configured(""));
    let no_text = person.0.file("no-text.toml", b"nats = '\xff'\n").to_string_lossy().into_owned();
    let mut files = vec![directory, below_a_file, no_text, "/no/such/config.toml".to_owned()];
    if !nix::unistd::geteuid().is_root() {
        let locked = person.0.file("locked.toml", "");
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
        files.push(locked.to_string_lossy().into_owned());
    }
    for path in files {
        person.mistypes(&["peers", "--config", &path], &["d: configuration ", &path]);
        person.mistypes(&["daemon", "run", "--id", "w1", "--config", &path], &["d: configuration ", &path]);
    }
}

#[test]
fn credentials_that_cannot_be_read() {
    let person = Person::new();
    let empty = person.0.file("empty.creds", "").to_string_lossy().into_owned();
    let garbage = person.0.file("garbage.creds", "s3cret-but-no-credentials").to_string_lossy().into_owned();
    for path in ["/no/such/file.creds".to_owned(), empty, garbage] {
        for finished in [
            person.command(["peers", "--creds", &path]).run(),
            person.command(["peers"]).env("PEERBUS_CREDS", &path).run(),
        ] {
            let said = mistake(finished, &["d: ", &path]);
            assert!(!said.contains("s3cret"), "{said}");
        }
    }
}

#[test]
fn what_is_unusual_and_right() {
    let fleet = Fleet::of_workers(["w1"]);
    for arguments in [
        ["exec", "w1", "-C", "/", "--timeout", "1000000h", "--", "true"].as_slice(),
        &["exec", "w1", "-C", "/", "--timeout", "1h30m", "--wait", "1ms", "--", "true"],
        &["exec", "w1", "-C", "//", "--env", "A=", "--env", "A=1", "--", "true"],
        &["exec", "w1", "-C", "/tmp/../tmp/.", "--", "true", "--help", "-C"],
        &["-v", "exec", "w1", "-C/", "--", "true"],
    ] {
        let finished = fleet.d(arguments).expect_success();
        assert!(finished.stdout.is_empty(), "{finished:?}");
    }
}
