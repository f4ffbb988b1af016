//! What a line holds, and what it must not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::audit::bench::{SOON, about, ask, events, expect_sound, files, folder, job_id, lines, run_one};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;

#[test]
fn a_job_is_two_lines_with_all_there_is_to_know() {
    let fleet = Fleet::of_workers(["w1"]);
    let report = fleet.path().join("report.json");
    let place = fleet.directory("a place");
    let command = ["exec", "w1", "-C", place.to_str().unwrap(), "--env", "B=hunter2", "--env", "A=2"];
    let line = "printf 12345; printf 123 >&2; exit 7";
    let more = ["--report", report.to_str().unwrap(), "--sh", line];
    fleet.d(command.iter().chain(&more)).expect_code(7);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let job = report["id"].as_str().expect("the report names the job");

    let said = about(&fleet, job);
    assert_eq!(events(&said), ["begun", "ended"]);
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for line_of in &said {
        for (key, wanted) in [
            ("principal", json!(null)),
            ("from", json!(format!("{user}@{host}"))),
            ("command", json!(line)),
            ("env", json!(["A", "B"])),
            ("env_left_out", json!(0)),
            ("directory", json!(place)),
            ("user", json!(user)),
            ("decision", json!("allowed")),
            ("rule", json!("rule 1")),
        ] {
            assert_eq!(line_of[key], wanted, "{key}: {line_of}");
        }
        assert!(line_of["caller"].as_str().unwrap().starts_with("_INBOX."), "{line_of}");
    }
    assert_eq!(said[1]["ending"], json!({ "exited": { "code": 7 } }));
    assert_eq!((&said[1]["out"], &said[1]["err"]), (&json!(5), &json!(3)));
    assert!(said[1]["duration_ms"].as_u64().unwrap() < 30_000, "{}", said[1]);
    // Numbers without a hole, from the first.
    let numbers: Vec<u64> = lines(&fleet, &[]).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(events(&lines(&fleet, &[]))[..2], ["file", "started"]);

    let table = fleet.d(["audit", "w1"]).expect_success().out();
    let row = table.lines().find(|row| row.contains(&job[28..])).expect("its row");
    for wanted in [line, "allowed", "exited with code 7, 5+3 B", &user] {
        assert!(row.contains(wanted), "{wanted}: {table}");
    }
    for path in files(&fleet) {
        assert!(!fs::read_to_string(path).unwrap().contains("hunter2"), "the value of a variable");
    }
    fleet.daemon("w1").terminate().expect_success();
    expect_sound(&fleet);
    let text = fs::read_to_string(&files(&fleet)[0]).unwrap();
    assert!(text.lines().last().unwrap().contains(r#""event":"stopped""#), "{text}");
}

#[test]
fn only_its_owner_may_look_at_it() {
    let fleet = Fleet::of_workers(["w1"]);
    run_one(&fleet);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder(&fleet)), 0o700);
    assert_eq!(mode(&files(&fleet)[0]), 0o600);
    assert_eq!(mode(&folder(&fleet).with_file_name("audit.head")), 0o600);
}

#[test]
fn a_refusal_is_a_line_with_its_reason() {
    let fleet = Fleet::of_workers(["w1"]);
    let (job, _) = ask(&fleet, json!({ "argv": ["true"], "from": "ann@desk", "env": { "PIN": "4711" } }));
    let said = about(&fleet, &job);
    assert_eq!(events(&said), ["refused"]);
    assert_eq!(said[0]["decision"], "refused");
    assert_eq!(said[0]["ending"]["refused"]["why"], "no_directory", "{}", said[0]);
    assert_eq!((&said[0]["from"], &said[0]["env"]), (&json!("ann@desk"), &json!(["PIN"])));
    // What was allowed and could not be started has its end as well.
    let (job, _) = ask(&fleet, json!({ "argv": ["no-such-command"], "directory": "/" }));
    let said = about(&fleet, &job);
    assert_eq!(events(&said), ["begun", "ended"]);
    assert_eq!(said[1]["ending"]["not_started"]["why"], "command_not_found");
    assert!(!fs::read_to_string(&files(&fleet)[0]).unwrap().contains("4711"));
}

#[test]
fn long_and_nasty_texts_stay_one_line_and_a_known_command() {
    let fleet = Fleet::of_workers(["w1"]);
    let nasty = "x\n{\"seq\":1}\r\u{1b}[2J\u{2028}";
    let long = format!(": '{nasty}' {}", "ü".repeat(100_000));
    let (job, _) = ask(&fleet, json!({ "shell_cmd": long, "directory": "/", "from": nasty }));
    let said = about(&fleet, &job);
    assert_eq!(events(&said), ["begun", "ended"]);
    let command = said[0]["command"].as_str().unwrap();
    assert!(command.chars().count() == 4_097 && command.ends_with('…'), "{command}");
    assert_eq!(said[0]["command_blake3"], blake3::hash(long.as_bytes()).to_hex().to_string());
    let names: Vec<String> = (0..200).map(|number| format!("V{number:03}")).collect();
    let env: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), json!("v"))).collect();
    let (job, _) = ask(&fleet, json!({ "argv": ["true"], "directory": "/", "env": env }));
    let said = about(&fleet, &job);
    assert_eq!((said[0]["env"].as_array().unwrap().len(), &said[0]["env_left_out"]), (100, &json!(100)));
    // A table shows no control character of anybody's.
    let table = fleet.d(["audit", "w1"]).expect_success().out();
    assert!(!table.contains('\u{1b}') && !table.contains('\u{2028}'), "{table:?}");
    expect_sound(&fleet);
}

/// As JSON each of these characters takes six bytes: together more than the longest line that is read.
#[test]
fn whatever_a_request_is_made_of_its_lines_can_be_read() {
    let fleet = Fleet::of_workers(["w1"]);
    let name = |number: usize| format!("{}{number:03}", "\u{1}".repeat(197));
    let env: serde_json::Map<_, _> = (0..200).map(|number| (name(number), json!("v"))).collect();
    let command = format!(": '{}'", "\u{1}".repeat(100_000));
    let (job, _) = ask(&fleet, json!({ "shell_cmd": command, "directory": "/", "env": env }));
    let said = about(&fleet, &job);
    assert_eq!(events(&said), ["begun", "ended"]);
    let shown = said[0]["command"].as_str().unwrap();
    assert!(shown.starts_with("(4") && shown.contains(" bytes, blake3 "), "{shown}");
    let first = said[0]["env"][0].as_str().unwrap();
    assert!(first.contains(" bytes, blake3 "), "{first}");
    assert_eq!(said[0]["env_left_out"], 100);
    expect_sound(&fleet);
}

#[test]
fn garbage_is_counted_and_pushes_nothing_out() {
    let fleet = Fleet::of_workers(["w1"]);
    let job = run_one(&fleet);
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    for number in 0..3_000 {
        raw.publish_reply("exec.w1", &inbox, format!("garbage {number}"));
    }
    raw.publish("exec.w1", "nobody to answer");
    raw.barrier();
    let counted = eventually(SOON, "all of it to be counted", || {
        let said = lines(&fleet, &[]);
        let floods: Vec<_> = said.into_iter().filter(|line| line["event"] == "malformed").collect();
        let count: u64 = floods.iter().map(|line| line["count"].as_u64().unwrap()).sum();
        (count == 3_001).then_some(floods)
    });
    assert!(counted.len() <= 5, "{} lines", counted.len());
    let example = &counted[0]["examples"][0];
    assert!(example["why"].as_str().unwrap().contains("not JSON"), "{example}");
    assert_eq!(example["caller"], inbox);
    assert_eq!(about(&fleet, &job).len(), 2);
    expect_sound(&fleet);
}

#[test]
fn a_flood_of_refusals_is_summed_up() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1")).start();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    for _ in 0..1_000 {
        raw.publish_reply("exec.w1", &inbox, json!({ "id": job_id(), "argv": ["true"] }).to_string());
    }
    for _ in 0..1_000 {
        raw.expect_on(sid, SOON, "a refusal");
    }
    let (whole, summed) = eventually(SOON, "all of them to be written down", || {
        let said = lines(&fleet, &[]);
        let whole = said.iter().filter(|line| line["event"] == "refused").count() as u64;
        let many = said.iter().filter(|line| line["event"] == "many_refused");
        let summed: u64 = many.map(|line| line["count"].as_u64().unwrap()).sum();
        (whole + summed == 1_000).then_some((whole, summed))
    });
    assert!(whole >= 256 && summed > 0, "{whole} and {summed}");
}

#[test]
fn lines_of_a_time_and_the_last_few() {
    let fleet = Fleet::of_workers(["w1"]);
    run_one(&fleet);
    let early = lines(&fleet, &[]);
    let moment = early.last().unwrap()["at"].as_str().unwrap().to_owned();
    let job = run_one(&fleet);
    let late = lines(&fleet, &["--since", &moment]);
    assert!(late.iter().all(|line| line["at"].as_str().unwrap() >= moment.as_str()), "{late:?}");
    assert!(late.iter().filter(|line| line["job"] == job.as_str()).count() == 2, "{late:?}");
    assert!(late.len() < early.len() + 2, "{late:?}");
    assert_eq!(lines(&fleet, &["--since", "1h"]).len(), early.len() + 2);
    assert_eq!(lines(&fleet, &["--since", "2999-01-01T00:00:00Z"]).len(), 0);
    let last = lines(&fleet, &["-n", "1"]);
    assert_eq!((events(&last), &last[0]["job"]), (vec!["ended"], &json!(job)));
    for (wrong, named) in [
        (vec!["audit", "w1", "--since", "soon"], "soon"),
        (vec!["audit", "w1", "-n", "0"], "0"),
        (vec!["audit"], "PEER"),
    ] {
        let said = fleet.d(&wrong).expect_code(2);
        assert!(said.err().starts_with("d: ") && said.err().contains(named), "{said:?}");
    }
    let answer = Raw::connect(&fleet.url()).request("exec.w1.audit", r#"{"since":"soon"}"#, SOON);
    assert_eq!(answer.header("Nats-Service-Error"), Some("bad_request"), "{answer:?}");
    assert!(answer.json()["message"].as_str().unwrap().contains("`since`"), "{answer:?}");
    fleet.d(["audit", "w9"]).expect_code(253);
}
