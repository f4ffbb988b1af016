//! How one job is named, and what is said where a name means none, or more than one.

use crate::bench::{all_are_known, job_id, run, run_as, short, start, start_as, three};

#[test]
fn a_job_is_found_by_as_much_of_its_id_as_is_needed() {
    let fleet = three();
    let job = run(&fleet, "w2", "exit 9");
    let on_w2 = |word: &str| format!("w2/{word}");
    for word in [&job, short(&job), &job[30..], &on_w2(&job), &on_w2(short(&job)), &on_w2(&job[32..])] {
        fleet.d(["wait", word]).expect_code(9);
    }
    // A peer may be called by any of its names.
    fleet.d(["wait", &format!("nobody/{job}")]).expect_code(254);
    let elsewhere = fleet.d(["wait", &format!("w1/{}", short(&job))]).expect_code(254);
    assert!(elsewhere.err().starts_with("d: not found: no job has"), "{elsewhere:?}");
    for (word, code, said) in [
        (job_id().as_str(), 254, "`d jobs -a` shows which there are, `d queue list` what waits"),
        ("no-such-name", 254, "no job has the id, the last characters of it, or the name no-such-name"),
        (&job[33..], 254, "not found"),
        ("", 2, "it is empty"),
        ("a/b/c/d", 2, "means no job"),
        ("two words", 2, "means no job"),
    ] {
        let failed = fleet.d(["wait", word]).expect_code(code);
        assert!(failed.err().contains(said) && failed.out().is_empty(), "{word:?}: {failed:?}");
    }
}

#[test]
fn a_peer_that_is_offline_is_named_where_nothing_was_found() {
    let fleet = three();
    let job = run(&fleet, "w2", "exit 9");
    fleet.daemon("w2").terminate();
    all_are_known(&fleet, 3);
    let failed = fleet.d(["wait", short(&job)]).expect_code(254);
    assert!(failed.err().contains("; offline, and not asked: w2;"), "{failed:?}");
    fleet.d(["wait", &format!("w2/{job}")]).expect_code(253);
}

#[test]
fn a_word_that_means_two_jobs_means_none() {
    let fleet = three();
    let twin = |job: String, end: &str| format!("{}{end}", &job[..36 - end.len()]);
    let (one, other) = (twin(job_id(), "00c0ffee"), twin(job_id(), "00c0ffee"));
    run_as(&fleet, "w1", &one, "exit 3");
    start_as(&fleet, "w3", &other, "exec sleep 1000");
    let refused = fleet.d(["stop", "c0ffee"]).expect_code(2);
    assert!(
        refused.err().starts_with("d: c0ffee means 2 jobs; name one of them by its whole id:\n"),
        "{refused:?}"
    );
    assert!(refused.err().contains(&format!("d:   w1/{one}  exited 3  ann@desk  exit 3")), "{refused:?}");
    assert!(refused.err().contains(&format!("d:   w3/{other}  running  ")), "{refused:?}");
    assert!(refused.err().lines().all(|line| line.starts_with("d: ")), "{refused:?}");
    // What it says to do helps.
    fleet.d(["wait", "w1/c0ffee"]).expect_code(3);
    fleet.d(["stop", &format!("w3/{other}")]).expect_success();
    // Two on one peer.
    let third = twin(job_id(), "00c0ffee");
    run_as(&fleet, "w1", &third, "true");
    let refused = fleet.d(["wait", "w1/00c0ffee"]).expect_code(2);
    assert!(refused.err().contains("means 2 jobs") && refused.err().contains(&third), "{refused:?}");
    let running = start(&fleet, "w2", "exec sleep 1000");
    assert!(!refused.err().contains(&running));
}
