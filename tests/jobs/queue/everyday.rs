//! What people do with it.

use std::time::Duration;

use crate::harness::wait::{eventually, never};
use crate::queue::scene::{A_WHILE, SOON, Scene};

#[test]
fn a_job_for_a_peer_that_is_away_runs_once_when_it_is_back() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.terminate().expect_success();
    scene.wait_until("offline");
    let line = "echo out; echo err >&2; exit 7";
    let job = scene.leave_line("--queue=2h", "w1", line);
    let listed = scene.listed();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let row = &listed[0];
    assert_eq!(
        (&row["id"], &row["peer_id"], &row["expired"]),
        (&job.as_str().into(), &"w1".into(), &false.into())
    );
    assert!(row["command"].as_str().unwrap().ends_with(line) && row["directory"] == "/", "{row}");
    assert!(row["from"].as_str().unwrap().contains('@') && row["principal"].is_null(), "{row}");
    let span = |key: &str| row[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let waits = span("expires_at").duration_since(span("queued_at")).as_secs();
    assert!((7_190..=7_200).contains(&waits), "{row}");
    let shown = scene.fleet.d(["queue", "list", "w1"]).expect_success().out();
    assert!(shown.starts_with("PEER ") && shown.contains(&job) && shown.contains(line), "{shown}");
    let none = scene.fleet.d(["queue", "list", "lead"]).expect_success();
    assert_eq!((none.out().as_str(), none.err().as_str()), ("", "d: nothing waits for lead\n"));
    assert!(scene.ran().is_empty());
    w1.restart();
    scene.have_run(&[&job]);
    let waited = scene.fleet.d(["wait", &format!("w1/{job}")]).expect_code(7);
    assert_eq!(waited.out(), "", "{}", waited.err());
    let wrote = scene.fleet.d(["logs", &job]).expect_success();
    assert_eq!((wrote.out().as_str(), wrote.err().contains("err\n")), ("out\n", true), "{wrote:?}");
    assert!(scene.listed().is_empty());
    // Neither its next start nor a new server brings it back.
    w1.restart();
    scene.fleet.server().restart();
    scene.wait_until("online");
    never(A_WHILE, "it ran again", || (scene.ran().len() > 1).then(|| scene.ran()));
}

#[test]
fn a_peer_that_is_there_takes_it_at_once() {
    let scene = Scene::new();
    let first = scene.fleet.d(["exec", "--queue", "w1", "-C", "/", "--", "true"]).expect_success();
    assert!(first.err().contains("w1 is on the bus and takes it"), "{}", first.err());
    scene.nothing_waits();
    scene.wait_for_pull();
    // From now on its pull waits at the server.
    let jobs: Vec<String> = (0..5).map(|_| scene.leave()).collect();
    scene.have_run(&jobs.iter().map(String::as_str).collect::<Vec<_>>());
    for job in &jobs {
        let ended = || scene.result(job)["ending"]["exited"]["code"].as_i64();
        assert_eq!(eventually(SOON, "its end", ended), 0, "{job}");
    }
    // The end is in the audit log before it is told.
    let audited = scene.fleet.d(["audit", "w1", "--json"]).expect_success().out();
    assert!(jobs.iter().all(|job| audited.matches(job.as_str()).count() == 2), "{audited}");
}

#[test]
fn the_queue_outlives_the_server_and_the_leader() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.kill9();
    let first = scene.leave();
    let second = scene.leave();
    scene.wait_for_consumer();
    scene.fleet.daemon("lead").terminate().expect_success();
    scene.fleet.server().kill();
    scene.fleet.server().restart();
    w1.start();
    w1.wait_until_ready();
    // Taking them needs no leader.
    scene.have_run(&[&first, &second]);
}

#[test]
fn what_was_left_while_the_leader_was_away_waits_for_it() {
    let scene = Scene::new();
    let lead = scene.fleet.daemon("lead");
    lead.terminate().expect_success();
    // Nobody but w1 itself says now that there is one.
    let job = scene.leave();
    never(A_WHILE, "it ran without a consumer", || scene.ran().pop());
    lead.restart();
    scene.have_run(&[&job]);
}

#[test]
fn a_peer_goes_by_any_of_its_names_and_has_to_be_known() {
    let scene = Scene::new();
    let peer = scene.fleet.peer("w1");
    let address = peer["ip_address"].as_str().unwrap();
    // Both daemons are on this machine.
    let refused = scene.fleet.d(["exec", "--queue", address, "-C", "/", "--", "true"]).expect_code(254);
    assert!(refused.err().contains("ambiguous"), "{}", refused.err());
    for name in ["nobody", "no.such.host"] {
        let refused = scene.fleet.d(["exec", "--queue", name, "-C", "/", "--", "true"]).expect_code(254);
        assert!(refused.err().contains(&format!("Peer not found: {name}")), "{}", refused.err());
        assert_eq!(refused.out(), "");
    }
    scene.fleet.daemon("lead").terminate().expect_success();
    scene.fleet.daemon("w1").terminate().expect_success();
    let refused = scene.fleet.d(["exec", "--queue", "w1", "-C", "/", "--", "true"]).expect_code(255);
    assert!(refused.err().contains("registry"), "{}", refused.err());
    assert_eq!(scene.messages(), 0);
}

#[test]
fn what_cannot_be_is_a_mistake() {
    let scene = Scene::new();
    for (flags, said) in [
        (&["--queue=0s"][..], "too short"),
        (&["--queue=169h"], "7 days"),
        (&["--queue=8d"], "7 days"),
        (&["--queue=2020-01-01"], "is over"),
        (&["--queue=soon"], "neither a time"),
        (&["--queue", "-i"], "cannot be used with"),
        (&["--queue", "--wait", "1s"], "cannot be used with"),
        (&["--queue", "--report", "r.json"], "cannot be used with"),
    ] {
        let words = ["exec"].iter().chain(flags).chain(&["w1", "-C", "/", "--", "true"]);
        let refused = scene.fleet.d(words).expect_code(2);
        assert!(refused.err().contains(said), "{flags:?}: {}", refused.err());
    }
    let longest = scene.fleet.d(["exec", "--queue=7d", "w1", "-C", "/", "--", "true"]);
    longest.expect_success();
}

#[test]
fn more_than_a_peer_takes_at_once_waits() {
    let w1 = crate::harness::fleet::DaemonOptions::worker("w1").configuration("[jobs]\nmost = 1\n");
    let scene = Scene::with(w1);
    let gate = scene.fleet.path().join("gate");
    let line = format!("until [ -e '{}' ]; do sleep 0.05; done", gate.display());
    let first = scene.leave_line("--queue", "w1", &line);
    eventually(SOON, "the first to run", || (scene.ran().len() == 1).then_some(()));
    let second = scene.leave();
    never(Duration::from_secs(2), "the second ran beside it", || scene.ran().get(1).cloned());
    std::fs::write(&gate, "").unwrap();
    scene.have_run(&[&first, &second]);
}

/// Who has left a job may wait for its end at once, wherever it is by then.
#[test]
fn who_waits_for_a_job_waits_through_the_queue() {
    let scene = Scene::new();
    let w1 = scene.fleet.daemon("w1");
    w1.terminate().expect_success();
    scene.wait_until("offline");
    let (job, doomed) = (scene.leave_line("--queue", "w1", "exit 7"), scene.leave());
    let late = scene.fleet.d(["wait", &job, "--timeout", "300ms"]).expect_code(252);
    assert!(late.err().contains("has not begun within 300ms; it waits on"), "{}", late.err());
    let [mut whole, mut there, mut never] = [job[28..].to_owned(), format!("w1/{job}"), doomed.clone()]
        .map(|word| scene.fleet.command(["wait", &word]).spawn());
    for waits in [&mut whole, &mut there, &mut never] {
        waits.stderr_line(SOON, |line| line.contains("waits in the queue for w1; waiting on"));
    }
    scene.fleet.d(["queue", "cancel", &doomed]).expect_success();
    never.stderr_line(SOON, |line| line.contains("was taken by w1 or cancelled"));
    w1.restart();
    for mut waits in [whole, there] {
        waits.wait(SOON).expect_code(7);
    }
    assert!(never.wait(SOON).expect_code(254).err().contains("it was cancelled"));
}

/// What the peer would refuse where nobody hears of it, is refused before it is left.
#[test]
fn what_could_not_begin_without_anybody_is_not_left() {
    let scene = Scene::new();
    let typed = scene.fleet.d(["exec", "--queue", "w1", "-t", "-C", "/", "--", "sh"]).expect_code(2);
    assert!(typed.err().contains("nobody is there to type") && typed.out().is_empty(), "{}", typed.err());
    let left = scene
        .fleet
        .d(["exec", "--queue", "w1", "-t", "-d", "-C", "/", "--sh", "tty; exit 3"])
        .expect_success();
    let ended = scene.fleet.d(["wait", left.out().trim()]).expect_code(3);
    let shown = scene.fleet.d(["logs", left.out().trim()]).expect_success();
    assert!(shown.out().starts_with("/dev/pts/"), "{shown:?} {ended:?}");
}
