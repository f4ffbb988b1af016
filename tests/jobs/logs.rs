//! What a durable job has printed, to the byte, and what is no longer kept of it.

use std::time::Duration;

use serde_json::json;

use crate::bench::{SOON, detached, listed, short, three};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::wait::{eventually, never};

#[test]
fn what_was_printed_is_shown_to_the_byte() {
    let fleet = three();
    let random = fleet.path().join("random");
    let make = format!("head -c 3000000 /dev/urandom > {}", random.display());
    fleet.d(["exec", "w1", "-C", "/", "--sh", &make]).expect_success();
    let go = fleet.path().join("go");
    let line = format!(
        "cat {0}; cat {0} >&2; until [ -e {1} ]; do sleep 0.05; done; echo end; exit 7",
        random.display(),
        go.display()
    );
    let job = detached(&fleet, "w2", &line);
    let random = std::fs::read(random).unwrap();
    eventually(SOON, "all of it", || {
        listed(&fleet, &["w2"]).iter().any(|row| row["err"] == 3_000_000).then_some(())
    });
    // While it runs: what there is, and no more.
    let shown = fleet.d(["logs", short(&job)]).expect_success();
    assert!(shown.stdout == random && shown.stderr == random, "{} bytes", shown.stdout.len());
    let shown = fleet.d(["logs", &job, "--since-byte", "2999990"]).expect_success();
    assert!(shown.stdout == random[2_999_990..] && shown.stderr == random);
    let last = fleet.d(["logs", &job, "-n", "2"]).expect_success();
    let newlines =
        [&last.stdout[..], &last.stderr[..]].concat().iter().filter(|byte| **byte == b'\n').count();
    assert!(last.stdout.is_empty() && random.ends_with(&last.stderr) && newlines <= 2, "{newlines}");
    let beyond = fleet.d(["logs", &job, "--since-byte", "6000001"]).expect_code(2);
    assert!(beyond.err().contains("it has printed 6000000 bytes so far"), "{beyond:?}");
    let mut following = fleet.spawn_d(["logs", "-f", &job]);
    assert!(following.stdout.reaches(3_000_000, SOON));
    std::fs::write(go, "").unwrap();
    let followed = following.wait(SOON).expect_code(7);
    assert!(followed.stdout == [&random[..], b"end\n"].concat() && followed.stderr == random);
    // Ended: without -f nobody asks for the code.
    let shown = fleet.d(["logs", &job, "--since-byte", "6000000"]).expect_success();
    assert_eq!(shown.out(), "end\n");
    assert_eq!(shown.err(), format!("d: {} on w2 has ended: exited with code 7\n", short(&job)));
    assert_eq!(fleet.d(["logs", &job, "-n", "1"]).expect_success().out(), "end\n");
    let shown = fleet.d(["logs", "-f", &job, "--since-byte", "6000000"]).expect_code(7);
    assert_eq!(shown.out(), "end\n");
}

#[test]
fn one_that_has_printed_nothing_shows_nothing() {
    let fleet = three();
    let job = detached(&fleet, "w1", "exec sleep 1000");
    let shown = fleet.d(["logs", &job]).expect_success();
    assert!(shown.out().is_empty() && shown.err().is_empty(), "{shown:?}");
    fleet.d(["stop", &job]).expect_success();
}

fn with(settings: &str) -> Fleet {
    let options = DaemonOptions::worker("w1").configuration(&format!("[jobs]\n{settings}"));
    Fleet::builder().daemon(options).start()
}

#[test]
fn what_is_no_longer_kept_is_said_where_it_is_missing() {
    let fleet = with("log_limit = '64KiB'\n");
    let job = detached(&fleet, "w1", "seq 100000; echo problem >&2; exit 4");
    let job = format!("w1/{job}");
    fleet.d(["wait", &job]).expect_code(4);
    let whole: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    for arguments in [&["attach"][..], &["logs", "-f"]] {
        let shown = fleet.d(arguments.iter().chain(&[job.as_str()])).expect_code(251);
        let missing = whole.len() - shown.stdout.len();
        assert!(
            whole.as_bytes().ends_with(&shown.stdout) && shown.stdout.len() > 40_000,
            "{missing} are missing"
        );
        let said = format!("d: {missing} bytes of stdout are no longer kept\nproblem\n");
        assert!(shown.err().starts_with(&said), "{}", shown.err());
        let row = listed(&fleet, &["w1", "-a"]).remove(0);
        assert_eq!((&row["out"], &row["first_out"]), (&json!(whole.len()), &json!(missing)), "{row}");
    }
    let shown = fleet.d(["logs", &job, "--since-byte", "10"]).expect_code(251);
    let missing = whole.len() - shown.stdout.len() - 10;
    assert!(
        shown.err().starts_with(&format!("d: {missing} bytes of output are no longer kept\n")),
        "{shown:?}"
    );
}

#[test]
fn the_oldest_output_goes_first_and_its_end_stays_known() {
    let fleet = with("log_limit = '64KiB'\nlogs_total = '150KiB'\n");
    let running = detached(&fleet, "w1", "head -c 60000 /dev/zero; exec sleep 1000");
    let jobs: Vec<String> = (0..4)
        .map(|code| {
            let job =
                detached(&fleet, "w1", &format!("head -c 60000 /dev/zero; printf oops >&2; exit {code}"));
            fleet.d(["wait", &format!("w1/{job}")]).expect_code(code);
            job
        })
        .collect();
    let all = eventually(SOON * 2, "two of them to go", || {
        let all = listed(&fleet, &["w1", "-a"]);
        let gone = all.iter().filter(|row| row["first_out"] == 60_000).count();
        (gone == 2).then_some(all)
    });
    let first = |job: &String| {
        all.iter().find(|row| row["id"] == job.as_str()).expect("its row")["first_out"].clone()
    };
    let firsts: Vec<_> = jobs.iter().map(first).collect();
    assert_eq!(firsts, [json!(60_000), json!(60_000), json!(0), json!(0)]);
    assert_eq!(first(&running), 0, "what runs is not touched");
    let shown = fleet.d(["logs", &format!("w1/{}", jobs[1])]).expect_code(251);
    assert!(shown.out().is_empty());
    for said in [
        "d: 60000 bytes of stdout are no longer kept\n",
        "d: 4 bytes of stderr are no longer kept\n",
        "has ended: exited with code 1\n",
        "d: output was lost: 60004 bytes that were asked for are no longer kept",
    ] {
        assert!(shown.err().contains(said), "{said}: {shown:?}");
    }
    fleet.d(["attach", &format!("w1/{}", jobs[1])]).expect_code(251);
    assert_eq!(fleet.d(["logs", &format!("w1/{}", jobs[3])]).expect_success().stdout, [0; 60_000]);
    let told = fleet.daemon("w1").stderr();
    assert_eq!(told.matches("dropped the output of an ended job").count(), 2, "{told}");
    // Not more than has to go.
    never(Duration::from_secs(6), "one more is gone", || {
        listed(&fleet, &["w1", "-a"])
            .into_iter()
            .find(|row| row["id"] == jobs[2].as_str() && row["first_out"] != 0)
    });
    fleet.d(["stop", &format!("w1/{running}")]).expect_success();
}
