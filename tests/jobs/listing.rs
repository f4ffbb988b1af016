//! What a list shows.

use serde_json::{Value, json};

use crate::bench::{SOON, all_are_known, ids, job_id, listed, rows, run, short, start, three};
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;

/// What `d jobs --json` has, for every job.
const KEYS: [&str; 21] = [
    "peer_id",
    "id",
    "state",
    "durable",
    "tty",
    "name",
    "started_at",
    "age_ms",
    "principal",
    "from",
    "command",
    "directory",
    "user",
    "viewers",
    "ending",
    "ended_at",
    "duration_ms",
    "out",
    "err",
    "first_out",
    "first_err",
];

fn keys(row: &Value) -> Vec<&str> {
    row.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn what_runs_and_what_has_run_on_three_peers() {
    let fleet = three();
    let ended = run(&fleet, "w1", "printf 12345; printf 123 >&2; exit 7");
    let refused = job_id();
    Raw::connect(&fleet.url()).request(
        "exec.w1",
        json!({ "id": refused, "argv": ["true"] }).to_string(),
        SOON,
    );
    let one = start(&fleet, "w1", "printf 1234567; exec sleep 1000");
    let other = start(&fleet, "w2", "exec sleep 1000; true");
    let report = fleet.path().join("report.json");
    let mut d =
        fleet.spawn_d(["exec", "w3", "-C", "/", "--report", report.to_str().unwrap(), "--", "sleep", "1000"]);
    let third = eventually(SOON, "the third job", || {
        listed(&fleet, &[]).into_iter().find(|row| row["peer_id"] == "w3")
    });

    let running = listed(&fleet, &[]);
    assert_eq!(ids(&running), [third["id"].as_str().unwrap(), &other, &one], "newest first");
    let mut wanted: Vec<&str> = KEYS.to_vec();
    wanted.sort_unstable();
    for row in &running {
        let mut keys = keys(row);
        keys.sort_unstable();
        assert_eq!(keys, wanted, "{row}");
        assert_eq!(
            (&row["state"], &row["durable"], &row["tty"]),
            (&json!("running"), &json!(false), &json!(false))
        );
        assert_eq!((&row["ending"], &row["first_out"]), (&json!(null), &json!(null)));
    }
    assert_eq!(third["viewers"], 1, "{third}");
    let printed = eventually(SOON, "what it has printed", || {
        listed(&fleet, &["w1"]).into_iter().find(|row| row["id"] == one.as_str() && row["out"] == 7)
    });
    assert_eq!((&printed["from"], &printed["directory"]), (&json!("ann@desk"), &json!("/")), "{printed}");

    let all = listed(&fleet, &["-a"]);
    assert_eq!(
        ids(&all),
        [third["id"].as_str().unwrap(), &other, &one, &ended],
        "what was refused was no job"
    );
    let row = &all[3];
    assert_eq!(
        (&row["state"], &row["ending"]),
        (&json!("ended"), &json!({ "exited": { "code": 7 } })),
        "{row}"
    );
    assert_eq!((&row["out"], &row["err"]), (&json!(5), &json!(3)), "{row}");
    assert!(row["ended_at"].is_string() && row["duration_ms"].is_u64(), "{row}");
    assert_eq!(ids(&listed(&fleet, &["-a", "-n", "2"])), ids(&all)[..2]);
    assert_eq!(ids(&listed(&fleet, &["w2", "w3", "w2"])), ids(&all)[..2], "each peer once");

    let table = fleet.d(["jobs"]).expect_success();
    assert!(table.err().is_empty(), "{table:?}");
    let table = table.out();
    assert!(table.starts_with("JOB       PEER  STATE    AGE"), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    for (job, peer, command) in [(&one, "w1", "printf 1234567"), (&other, "w2", "exec sleep 1000; true")] {
        let row = table.lines().find(|row| row.starts_with(short(job))).expect("its row");
        assert!(row.contains(peer) && row.contains("running") && row.contains(command), "{row}");
        assert!(row.contains("ann@desk"), "{row}");
    }
    let wide = fleet.d(["jobs", "-a", "-o", "wide"]).expect_success().out();
    assert!(wide.lines().next().unwrap().contains("DIRECTORY  BYTES  VIEWERS  COMMAND"), "{wide}");
    assert!(wide.lines().any(|row| row.contains("exited 7") && row.contains("  8  ")), "{wide}");

    d.signal(nix::sys::signal::Signal::SIGTERM);
    d.wait(SOON).expect_code(130);
    let row = eventually(SOON, "its end", || {
        listed(&fleet, &["w3", "-a"]).into_iter().find(|row| row["state"] == "ended")
    });
    assert_eq!(row["ending"], json!({ "cancelled": { "why": "d was ended" } }), "{row}");
}

#[test]
fn who_is_offline_is_said_and_who_was_named_makes_the_code() {
    let fleet = three();
    let job = start(&fleet, "w1", "exec sleep 1000");
    fleet.daemon("w2").terminate();
    all_are_known(&fleet, 3);
    let shown = fleet.d(["jobs", "--json"]).expect_success();
    assert_eq!(ids(&rows(&shown.out())), [job.as_str()]);
    assert_eq!(shown.err(), "d: offline, and not asked: w2\n");
    let shown = fleet.d(["jobs", "--json", "w1", "w2"]).expect_code(253);
    assert_eq!(ids(&rows(&shown.out())), [job.as_str()]);
    assert!(shown.err().starts_with("d: offline: Peer is offline: w2"), "{shown:?}");
    let shown = fleet.d(["jobs", "nobody", "w1"]).expect_code(254);
    assert!(shown.err().contains("Peer not found: nobody") && shown.out().contains(short(&job)), "{shown:?}");
}

#[test]
fn without_a_leader_peers_are_named() {
    let fleet = Fleet::of_workers(["w1", "w2"]);
    let job = start(&fleet, "w1", "exec sleep 1000");
    let shown = fleet.d(["jobs"]).expect_code(255);
    assert!(shown.out().is_empty() && shown.err().contains("registry unreachable"), "{shown:?}");
    assert_eq!(ids(&listed(&fleet, &["w1", "w2"])), [job.as_str()]);
    let shown = fleet.d(["stop", short(&job)]).expect_code(255);
    assert!(shown.err().contains(&format!("PEER/{} asks one peer", short(&job))), "{shown:?}");
    fleet.d(["stop", &format!("w1/{}", short(&job))]).expect_success();
}

#[test]
fn nothing_of_a_caller_reaches_a_terminal_as_it_is() {
    let fleet = three();
    let job = job_id();
    let request = json!({
        "id": job, "directory": "/", "from": "\u{1b}[2Jann",
        "argv": ["sh", "-c", "exec sleep 1000", "\u{1b}]0;x\u{7}\n\u{2028}"],
    });
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    raw.subscribe(&inbox);
    raw.publish_reply("exec.w1", &inbox, request.to_string());
    eventually(SOON, "the job", || (listed(&fleet, &["w1"]).len() == 1).then_some(()));
    for arguments in [&["jobs"][..], &["jobs", "-o", "wide"]] {
        let table = fleet.d(arguments).expect_success().out();
        assert_eq!(table.lines().count(), 2, "{table:?}");
        assert!(!table.contains('\u{1b}') && !table.contains('\u{2028}'), "{table:?}");
    }
}

#[test]
fn a_record_that_cannot_be_read_is_told() {
    let fleet = Fleet::of_workers(["w1"]);
    let job = run(&fleet, "w1", "true");
    let path = fleet.daemon("w1").state_directory().join("journal/ended").join(&job);
    std::fs::write(path, "garbage\n").unwrap();
    let all = listed(&fleet, &["w1", "-a"]);
    assert_eq!((ids(&all), &all[0]["state"]), (vec![job.as_str()], &json!("lost")));
    assert!(all[0]["ending"]["unknown"]["why"].as_str().unwrap().contains("cannot be read"), "{}", all[0]);
}
