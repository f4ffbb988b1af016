//! Stopping a job with everything it has started, and signals.

use std::fs;

use serde_json::json;

use crate::bench::{SOON, listed, rows, run, short, start, three};
use crate::harness::fleet::Fleet;
use crate::harness::procs;
use crate::harness::wait::eventually;

#[test]
fn a_stopped_jobs_tree_is_gone() {
    let fleet = three();
    // Children that leave the group, and one that does not heed TERM.
    let ready = fleet.path().join("ready");
    let deaf = format!("trap '' TERM; touch {}; while :; do sleep 1; done", ready.display());
    let line = format!("setsid sleep 1000 & (setsid sh -c \"{deaf}\" &); sleep 1000; true");
    let job = start(&fleet, "w2", &line);
    eventually(SOON, "all of them", || {
        (ready.exists() && procs::with_environment("PEERBUS_JOB", &job).len() >= 4).then_some(())
    });
    let other = start(&fleet, "w2", "exec sleep 1000");
    let stopped = fleet.d(["stop", short(&job)]).expect_success();
    assert!(procs::with_environment("PEERBUS_JOB", &job).is_empty(), "something is left");
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let said = stopped.out();
    let wanted = format!("{} on w2 has ended: cancelled: stopped by {user}@", short(&job));
    // The deaf one, and perhaps what it waits for at this moment; the others ended when they were asked to.
    let forced = ["1", "2"].map(|count| format!(", {count} of its processes had to be killed\n"));
    assert!(said.starts_with(&wanted) && forced.iter().any(|forced| said.ends_with(forced)), "{said}");
    assert!(stopped.err().is_empty(), "{stopped:?}");
    assert_eq!(procs::with_environment("PEERBUS_JOB", &other).len(), 1, "the other one goes on");

    // Again: it has ended already.
    let again = fleet.d(["stop", short(&job)]).expect_success();
    assert!(
        again.out().starts_with(&format!("{} on w2 had ended already: cancelled", short(&job))),
        "{again:?}"
    );
    let json = fleet.d(["stop", &other, "--json"]).expect_success().out();
    let json = &rows(&json)[0];
    assert_eq!((&json["id"], &json["type"]), (&json!(other), &json!("peerbus.result.v1")), "{json}");
    assert_eq!((&json["peer_id"], json.get("peer")), (&json!("w2"), None), "{json}");
    assert!(json["ending"]["cancelled"]["why"].as_str().unwrap().starts_with("stopped by "), "{json}");
}

#[test]
fn whoever_follows_a_job_is_told_that_it_was_stopped() {
    let fleet = three();
    let mut d = fleet.spawn_d(["exec", "w1", "-C", "/", "--", "sleep", "1000"]);
    let job = eventually(SOON, "the job", || listed(&fleet, &[]).into_iter().next());
    fleet.d(["stop", job["id"].as_str().unwrap()]).expect_success();
    let ended = d.wait(SOON).expect_code(130);
    assert!(ended.err().starts_with("d: cancelled: stopped by "), "{ended:?}");
}

#[test]
fn a_signal_is_all_that_is_sent() {
    let fleet = three();
    let heard = fleet.path().join("heard");
    let line =
        format!("trap 'echo usr1 >>{0}' USR1; touch {0}; while :; do sleep 0.1; done", heard.display());
    // Of one whose caller waits for one answer, and of one that is followed.
    let plain = start(&fleet, "w1", &line);
    eventually(SOON, "the trap", || heard.exists().then_some(()));
    let said = fleet.d(["stop", short(&plain), "--signal", "usr1"]).expect_success();
    assert_eq!(said.out(), format!("sent USR1 to {} on w1\n", short(&plain)));
    eventually(SOON, "the signal", || (fs::read_to_string(&heard).unwrap() == "usr1\n").then_some(()));
    fleet.d(["stop", short(&plain), "--signal", "SIGUSR1"]).expect_success();
    eventually(SOON, "the other signal", || {
        (fs::read_to_string(&heard).unwrap() == "usr1\nusr1\n").then_some(())
    });
    fleet.d(["wait", &plain, "--timeout", "200ms"]).expect_code(252);
    fleet.d(["stop", &plain]).expect_success();

    let mut d = fleet.spawn_d([
        "exec",
        "w1",
        "-C",
        "/",
        "--sh",
        "trap 'exit 12' HUP; echo here; while :; do sleep 0.1; done",
    ]);
    assert!(d.stdout.contains(b"here\n", SOON));
    let job = listed(&fleet, &[]).remove(0);
    fleet.d(["stop", job["id"].as_str().unwrap(), "--signal", "HUP"]).expect_success();
    d.wait(SOON).expect_code(12);
}

#[test]
fn what_cannot_be_signalled_is_said() {
    let fleet = Fleet::of_workers(["w1"]);
    let job = run(&fleet, "w1", "exit 4");
    let job = format!("w1/{}", short(&job));
    let ended = fleet.d(["stop", &job, "--signal", "HUP"]).expect_code(1);
    assert!(
        ended.err().contains("had ended already: exited with code 4; nothing was signalled"),
        "{ended:?}"
    );
    let wrong = fleet.d(["stop", &job, "--signal", "WUFF"]).expect_code(2);
    assert!(wrong.err().contains("WUFF"), "{wrong:?}");
    fleet.d(["stop", &job, "--signal", "HUP", "--json"]).expect_code(2);
}
