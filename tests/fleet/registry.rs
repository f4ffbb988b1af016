//! The registry as it outlives leaders: its database, its restarts, and that there is one leader.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::fleet::{DaemonOptions, Fleet, READY_DEADLINE};
use crate::harness::nats::Raw;
use crate::harness::roster::SILENCE_DEADLINE;
use crate::harness::wait::eventually;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

/// The columns scripts know, in their order.
const SEVEN: [&str; 7] =
    ["peer_id", "ip_address", "mac_address", "hostname", "last_seen", "is_online", "daemon_version"];

const ALL_ONLINE: [(&str, &str); 3] = [("lead", "online"), ("w1", "online"), ("w2", "online")];

/// Runs SQL on a database as a script would, and gives the rows.
#[track_caller]
fn sql(database: &Path, statement: &str) -> Vec<Vec<Value>> {
    const SCRIPT: &str = "import json, sqlite3, sys\n\
        with sqlite3.connect(sys.argv[1], timeout=20) as db:\n    \
        print(json.dumps(db.execute(sys.argv[2]).fetchall()))";
    let run = Command::new("python3").args(["-c", SCRIPT]).arg(database).arg(statement).output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{statement}: {said}");
    serde_json::from_slice(&run.stdout).unwrap()
}

/// The ids of all rows, and whether each is online.
fn stored(database: &Path) -> Vec<Vec<Value>> {
    sql(database, "SELECT peer_id, is_online FROM peer_registry ORDER BY peer_id")
}

/// Waits until the database holds these; a leader tells first and writes at once after.
#[track_caller]
fn wait_until_stored(database: &Path, wanted: &[(&str, u8)]) {
    let wanted: Vec<Vec<Value>> = wanted.iter().map(|(id, online)| vec![json!(id), json!(online)]).collect();
    let all = || (stored(database) == wanted).then_some(());
    eventually(SOON, &format!("the database to hold {wanted:?}"), all);
}

/// What must be the same of every row after a restart.
fn lasting(rows: &[Value]) -> Vec<Vec<Value>> {
    let keys = ["peer_id", "ip_address", "mac_address", "hostname", "role", "os", "arch", "tags"];
    rows.iter().map(|row| keys.iter().map(|key| row[key].clone()).collect()).collect()
}

#[test]
fn the_registry_is_a_database_scripts_can_read() {
    let fleet = Fleet::builder().leader("lead").worker("w1").worker("w2").start();
    let rows = fleet.wait_for_states(&ALL_ONLINE, SOON);
    let database = fleet.daemon("lead").state_directory().join("registry.db");
    wait_until_stored(&database, &[("lead", 1), ("w1", 1), ("w2", 1)]);
    assert!(fs::read(&database).unwrap().starts_with(b"SQLite format 3\0"));
    assert_eq!(fs::metadata(&database).unwrap().permissions().mode() & 0o777, 0o600);
    let columns = sql(&database, "SELECT name FROM pragma_table_info('peer_registry')");
    let names: Vec<&str> = columns.iter().map(|column| column[0].as_str().unwrap()).collect();
    assert_eq!(names[..7], SEVEN);
    let seven = sql(&database, &format!("SELECT {} FROM peer_registry ORDER BY peer_id", SEVEN.join(", ")));
    for (stored, row) in seven.iter().zip(&rows) {
        for (at, key) in SEVEN.iter().enumerate() {
            match *key {
                "is_online" => assert_eq!(stored[at], 1),
                // Stored in UTC, as a database has times, and perhaps of an earlier beat.
                "last_seen" => {
                    let text = format!("{}Z", stored[at].as_str().unwrap().replace(' ', "T"));
                    let age = jiff::Timestamp::now().duration_since(text.parse().unwrap());
                    assert!((-1..60).contains(&age.as_secs()), "{text}");
                }
                _ => assert_eq!(stored[at], row[*key], "{key}"),
            }
        }
    }
    assert_eq!(sql(&database, "PRAGMA integrity_check"), [["ok"]]);
    fleet.daemon("w1").terminate();
    wait_until_stored(&database, &[("lead", 1), ("w1", 0), ("w2", 1)]);
}

#[test]
fn a_leader_that_is_ready_has_its_registry() {
    let fleet = Fleet::builder().leader("lead").start();
    for _ in 0..5 {
        fleet.d(["listPeers"]).expect_success();
        fleet.daemon("lead").restart();
    }
}

#[test]
fn a_leader_that_was_killed_remembers_everyone_and_nothing_is_news() {
    let fleet = Fleet::builder().leader("lead").worker("w1").worker("w2").worker("w3").start();
    let all = ["lead", "w1", "w2", "w3"];
    fleet.wait_for_states(&all.map(|id| (id, "online")), SOON);
    fleet.daemon("w3").terminate();
    let before = fleet
        .wait_for_states(&[("lead", "online"), ("w1", "online"), ("w2", "online"), ("w3", "offline")], SOON);
    let database = fleet.daemon("lead").state_directory().join("registry.db");
    wait_until_stored(&database, &[("lead", 1), ("w1", 1), ("w2", 1), ("w3", 0)]);
    let mut raw = Raw::connect(&fleet.server().url());
    let events = raw.subscribe("peers.event.>");

    fleet.daemon("lead").kill9();
    // One of them goes while nobody is there to see it.
    fleet.daemon("w2").kill9();
    fleet.daemon("lead").restart();
    let first = fleet
        .wait_for_states(&[("lead", "online"), ("w1", "online"), ("w2", "unknown"), ("w3", "unknown")], SOON);
    assert_eq!(lasting(&first), lasting(&before));
    let online: Vec<bool> = first.iter().map(|row| row["is_online"].as_bool().unwrap()).collect();
    assert_eq!(online, [true, true, true, false], "as last known");
    assert_eq!((&first[1]["instance"], &first[1]["state"]), (&before[1]["instance"], &json!("online")));
    assert_eq!(first[3]["last_seen"], before[3]["last_seen"]);
    assert_eq!(fleet.d(["exec", "w2", "-C", "/", "--", "true"]).code(), Some(253));

    let event = raw.expect_on(events, SILENCE_DEADLINE, "the one event there is");
    assert_eq!(event.subject, "peers.event.offline.w2");
    let wanted = [("lead", "online"), ("w1", "online"), ("w2", "offline"), ("w3", "offline")];
    fleet.wait_for_states(&wanted, SOON);
    raw.barrier();
    assert_eq!(raw.next_on(events, Duration::ZERO), None, "nothing else is news");
    wait_until_stored(&database, &[("lead", 1), ("w1", 1), ("w2", 0), ("w3", 0)]);
}

#[test]
fn a_second_leader_ends_and_names_the_first() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    let instance = fleet.peer("lead")["instance"].as_str().unwrap().to_owned();
    let second = fleet.add_starting(DaemonOptions::leader("lead2"));
    let err = second.wait_for_end(READY_DEADLINE).expect_code(75).err();
    let wanted = format!("d: there is already a leader on this bus: lead (instance {instance})");
    assert!(err.lines().any(|line| line == wanted) && !err.contains("ready peer="), "{err}");
    assert!(!second.state_directory().join("registry.db").exists(), "it begins no registry");
    // It was never there: nobody has heard of it.
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    // Once the first is gone it may lead.
    fleet.daemon("lead").terminate();
    second.restart();
    fleet.wait_for_states(&[("lead2", "online"), ("w1", "online")], SOON);
}

#[test]
fn a_table_that_is_there_already_is_kept_and_grows() {
    let fleet = Fleet::builder().start();
    let database = fleet.path().join("old.db");
    sql(
        &database,
        "CREATE TABLE peer_registry (peer_id VARCHAR(64) PRIMARY KEY, ip_address VARCHAR(45), \
         mac_address VARCHAR(17), hostname VARCHAR(255), last_seen TIMESTAMP, is_online BOOLEAN, \
         daemon_version VARCHAR(32), note TEXT)",
    );
    sql(
        &database,
        "INSERT INTO peer_registry VALUES \
         ('desktop', '10.0.0.2', 'aa:bb:cc:dd:ee:ff', 'desktop', '2025-01-02 03:04:05', 0, '0.9', 'mine'), \
         ('w1', '10.0.0.9', NULL, 'old-name', '2025-01-02 03:04:05', 1, '0.9', 'kept'), \
         ('Not An Id', NULL, NULL, NULL, NULL, NULL, NULL, 'left alone')",
    );
    let url = format!("sqlite://{}", database.display());
    fleet.add(DaemonOptions::leader("lead").flag("--database-url").flag(&url));
    fleet.add(DaemonOptions::worker("w1"));
    let wanted = [("desktop", "offline"), ("lead", "online"), ("w1", "online")];
    let rows = fleet.wait_for_states(&wanted, SILENCE_DEADLINE);
    assert_eq!(rows[0]["mac_address"], "aa:bb:cc:dd:ee:ff");
    assert_eq!(rows[0]["last_seen"], "2025-01-02T03:04:05Z");
    assert_eq!(
        (&rows[2]["ip_address"], &rows[2]["daemon_version"]),
        (&json!("127.0.0.1"), &json!(peerbus::VERSION))
    );
    let info = fleet.command(["getPeerInfo", "--peer", "10.0.0.2"]).env("TZ", "XYZ-2");
    let info: Value = serde_json::from_str(&info.run().expect_success().out()).unwrap();
    assert_eq!((&info["peer_id"], &info["last_seen"]), (&json!("desktop"), &json!("2025-01-02 05:04:05")));

    let look = "SELECT peer_id, is_online, daemon_version, note FROM peer_registry ORDER BY peer_id";
    let wanted = [
        json!(["Not An Id", null, null, "left alone"]),
        json!(["desktop", 0, "0.9", "mine"]),
        json!(["lead", 1, peerbus::VERSION, null]),
        json!(["w1", 1, peerbus::VERSION, "kept"]),
    ];
    eventually(SOON, "all of them in one table", || {
        sql(&database, look).into_iter().map(Value::from).eq(wanted.iter().cloned()).then_some(())
    });
    assert!(!fleet.daemon("lead").state_directory().join("registry.db").exists());
    let columns = sql(&database, "SELECT name FROM pragma_table_info('peer_registry')");
    assert_eq!(columns[7][0], "note");
    assert!(columns.len() > 8, "{columns:?}");
}

#[test]
fn the_place_of_the_database_comes_from_flag_environment_or_file() {
    let fleet = Fleet::builder().start();
    let place = fleet.directory("odd ü+%&?#place");
    let encoded = place.display().to_string().replace('%', "%25").replace('?', "%3F");
    let url = |name: &str| format!("sqlite://{encoded}/{name}.db");
    let configuration = format!("database_url = \"{}\"\n", url("file"));
    let check = |options: DaemonOptions, name: &str| {
        let leader = fleet.add(options.configuration(&configuration));
        wait_until_stored(&place.join(format!("{name}.db")), &[("lead", 1)]);
        leader.terminate();
    };
    check(DaemonOptions::leader("lead"), "file");
    let environment = |options: DaemonOptions| options.env("PEERBUS_DATABASE_URL", url("environment"));
    check(environment(DaemonOptions::leader("lead")), "environment");
    check(environment(DaemonOptions::leader("lead")).flag("--database-url").flag(url("flag")), "flag");
    let made: Vec<_> = fs::read_dir(&place).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(made.iter().all(|name| name.to_string_lossy().contains(".db")), "{made:?}");
}

#[test]
fn a_database_that_cannot_be_is_refused_and_says_why_without_its_password() {
    let fleet = Fleet::builder().start();
    // A mistake is a mistake, whether or not there is a bus.
    fleet.server().kill();
    for (url, wanted) in [
        ("oracle://me:hunter2@db.example/peers", "it has sqlite, mysql, mariadb and postgres"),
        ("mysql://me:hunter2@db.example", "names no database"),
        ("mysql://db.example/peers", "names no user"),
        ("mysql://me:hunter2@db.example:port/peers", "is not one such as"),
        ("mysql://me:12/hunter2@db.example/peers", "%2F, %40 and %23"),
        ("postgres://me:hunter2@db.example/peers?password=hunter2", "parameter \"password\""),
        ("postgres://me:hunter2@db.example/peers?sslmode=perhaps", "perhaps"),
        ("/var/lib/registry.db", "is not a URL"),
        ("sqlite::memory:", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///x.db?cache=shared", "\"cache\""),
        ("sqlite:///x.db?password=hunter2", "\"password\""),
    ] {
        let daemon = fleet.add_starting(DaemonOptions::leader("lead").flag("--database-url").flag(url));
        let err = daemon.wait_for_end(READY_DEADLINE).expect_code(2).err();
        assert!(!daemon.state_directory().join("state.json").exists(), "nothing was begun");
        assert!(err.lines().any(|line| line.starts_with("d: ") && line.contains(wanted)), "{url}: {err}");
        assert!(!err.contains("hunter2") && !err.contains("ready peer="), "{url}: {err}");
    }
    // A worker has no database.
    fleet.server().restart();
    fleet.add(DaemonOptions::worker("w1").env("PEERBUS_DATABASE_URL", "mysql://db.example/peers"));
}

#[test]
fn a_database_whose_directory_comes_later_is_waited_for() {
    let fleet = Fleet::of_workers(["w1"]);
    let directory = fleet.path().join("mounted/later");
    let database = directory.join("registry.db");
    let url = format!("sqlite://{}", database.display());
    let leader = fleet.add(DaemonOptions::leader("lead").flag("--database-url").flag(&url));
    leader.wait_for_line(SOON, |line| line.contains(&database.display().to_string()));
    let listed = fleet.d(["listPeers"]).expect_code(255);
    assert_eq!(listed.out(), "", "no list is not an empty list");
    assert_eq!(listed.err().lines().next(), Some("Not connected to leader"), "{listed:?}");
    assert!(listed.err().contains(&database.display().to_string()), "it says what is missing: {listed:?}");
    // A leader is a worker too, and everyone runs commands meanwhile.
    for peer in ["lead", "w1"] {
        fleet.d(["exec", peer, "-C", "/", "--", "true"]).expect_success();
    }
    fs::create_dir_all(&directory).unwrap();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SILENCE_DEADLINE);
    wait_until_stored(&database, &[("lead", 1), ("w1", 1)]);
}

#[test]
fn a_file_that_is_no_database_is_left_alone_and_named() {
    let fleet = Fleet::builder().start();
    let text = "this is somebody's letter, and by no means a database\n".repeat(100);
    let letter = fleet.file("letter.db", &text);
    let url = format!("sqlite://{}", letter.display());
    let leader = fleet.add(DaemonOptions::leader("lead").flag("--database-url").flag(&url));
    leader.wait_for_line(SOON, |line| line.contains("letter.db") && line.contains("file is not a database"));
    fleet.d(["listPeers"]).expect_code(255);
    leader.terminate().expect_success();
    assert_eq!(fs::read_to_string(&letter).unwrap(), text);
}

/// Every peer that is there is in it again; nothing has to be done by hand, and nothing is thrown away.
#[test]
fn a_damaged_registry_is_moved_aside_and_made_anew() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SILENCE_DEADLINE);
    let leader = fleet.daemon("lead");
    let state = leader.state_directory().to_owned();
    let database = state.join("registry.db");
    leader.terminate().expect_success();
    let garbage = vec![0xa5; 8192];
    fs::write(&database, &garbage).unwrap();
    leader.start();
    leader.wait_until_ready();
    let said = leader.wait_for_line(SOON, |line| line.contains("it is damaged and was moved aside"));
    assert!(said.contains("file is not a database"), "{said}");
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SILENCE_DEADLINE);
    wait_until_stored(&database, &[("lead", 1), ("w1", 1)]);
    let entries = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<_> =
        entries.filter(|path| path.to_string_lossy().contains("registry.db.damaged-")).collect();
    let [aside] = aside.as_slice() else { panic!("one is kept: {aside:?}") };
    assert!(fs::read(aside).unwrap() == garbage);
    let doctor = fleet.d(["doctor", "lead"]).expect_code(1);
    let said = [doctor.out(), doctor.err()].concat();
    assert!(said.contains(aside.to_str().unwrap()) && said.contains("made anew"), "{said}");
}
