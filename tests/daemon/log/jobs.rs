//! One line a job: who asked, what, where, as whom, and what became of it.

use serde_json::json;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;
use crate::log::bench::{SOON, about, expect_own_lines, line_of};

fn job_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

#[test]
fn a_job_is_one_line_with_all_there_is_to_know() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let report = fleet.path().join("report.json");
    let place = fleet.directory("a place");
    let command = ["exec", "w1", "-C", place.to_str().unwrap(), "--env", "B=1", "--env", "A=2", "--report"];
    let line = "printf 12345; printf 123 >&2; exit 7";
    let arguments = command.iter().copied().chain([report.to_str().unwrap(), "--sh", line]);
    fleet.d(arguments).expect_code(7);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let job = report["id"].as_str().expect("the report names the job").to_owned();

    let said = line_of(&daemon, &job);
    assert_eq!((said.level.as_str(), said.message.as_str()), ("INFO", "ended"));
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for (name, wanted) in [
        ("job", job.as_str()),
        ("from", &format!("{user}@{host}")),
        ("command", line),
        ("env", "A,B"),
        ("directory", place.to_str().unwrap()),
        ("user", &user),
        ("ending", "exited with code 7"),
        ("out", "5"),
        ("err", "3"),
        ("killed", "0"),
        ("left_running", "0"),
    ] {
        assert_eq!(said.field(name), wanted, "{name}: {said:?}");
    }
    assert!(said.field("caller").starts_with("_INBOX."), "{said:?}");
    assert!(said.field("duration_ms").parse::<u64>().unwrap() < 30_000, "{said:?}");
    // Until another job has had its line, a second one of the first would be there.
    plain(&fleet, &json!({ "argv": ["true"], "directory": "/" }));
    assert_eq!(about(&daemon, &job).len(), 1, "{}", daemon.stderr());
}

/// Runs a plain request to its end, under an id, and returns that.
#[track_caller]
fn plain(fleet: &Fleet, request: &serde_json::Value) -> String {
    let job = job_id();
    let mut request = request.clone();
    request["id"] = json!(job);
    Raw::connect(&fleet.url()).request("exec.w1", request.to_string(), SOON);
    line_of(&fleet.daemon("w1"), &job);
    job
}

#[test]
fn a_plain_request_has_its_line_too_and_what_is_not_known_is_left_out() {
    let configured = DaemonOptions::worker("w1").directory("/");
    let fleet = Fleet::builder().daemon(configured).start();
    let job = plain(&fleet, &json!({ "argv": ["echo", "two words", "it's"] }));
    let said = line_of(&fleet.daemon("w1"), &job);
    assert_eq!(said.field("command"), r"echo 'two words' 'it'\\''s'", "{said:?}");
    assert_eq!((said.field("directory"), said.field("out")), ("/", "15"), "{said:?}");
    assert!(!said.fields.contains_key("from") && !said.fields.contains_key("env"), "{said:?}");
}

#[test]
fn a_refusal_is_one_line_and_a_warning() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let job = plain(&fleet, &json!({ "argv": ["true"], "from": "ann@desk" }));
    let said = line_of(&daemon, &job);
    assert_eq!((said.level.as_str(), said.message.as_str()), ("WARN", "refused a request"));
    assert_eq!((said.field("from"), said.field("command")), ("ann@desk", "true"), "{said:?}");
    assert!(said.field("ending").starts_with("refused: no directory is named"), "{said:?}");
    assert_eq!(about(&daemon, &job).len(), 1);

    let job = plain(&fleet, &json!({ "argv": ["no-such-command"], "directory": "/" }));
    let said = line_of(&daemon, &job);
    assert_eq!((said.level.as_str(), said.message.as_str()), ("INFO", "ended"));
    assert!(said.field("ending").starts_with("not started: "), "{said:?}");
    assert_eq!(about(&daemon, &job).len(), 1);
}

#[test]
fn a_running_job_refuses_a_stranger_in_a_line() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let job = job_id();
    let wait = fleet.path().join("wait");
    nix::unistd::mkfifo(&wait, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    raw.subscribe(&inbox);
    let request = json!({ "id": job, "argv": ["cat", wait], "directory": "/" });
    raw.publish_reply("exec.w1", &inbox, request.to_string());
    raw.barrier();
    let other = json!({ "id": job, "argv": ["echo", "mine"], "directory": "/", "from": "eve@desk" });
    let answer = Raw::connect(&fleet.url()).request("exec.w1", other.to_string(), SOON);
    assert_eq!(answer.json()["ending"]["refused"]["why"], "not_yours", "{answer:?}");
    let said = line_of(&daemon, &job);
    assert_eq!((said.level.as_str(), said.field("from")), ("WARN", "eve@desk"), "{said:?}");
    std::fs::write(&wait, "on").unwrap();
    daemon.wait_for_line(SOON, |line| line.contains(&job) && line.contains(" ended "));
    assert_eq!(about(&daemon, &job).len(), 2);
}

#[test]
fn a_request_that_comes_after_its_cancel_is_refused_in_a_line() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let job = job_id();
    let mut raw = Raw::connect(&fleet.url());
    let answer = raw.request(&format!("exec.w1.{job}.cancel"), json!({ "why": "late" }).to_string(), SOON);
    assert_eq!(answer.json()["answer"], "never_seen", "{answer:?}");
    let request = json!({ "id": job, "argv": ["true"], "directory": "/" });
    raw.request("exec.w1", request.to_string(), SOON);
    let said = line_of(&daemon, &job);
    assert_eq!((said.level.as_str(), said.field("command")), ("WARN", "true"), "{said:?}");
    assert_eq!(said.field("ending"), "refused: late", "{said:?}");
    assert_eq!(about(&daemon, &job).len(), 1);
}

#[test]
fn nobody_forges_a_line_or_a_field() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let forged = "2026-01-01T00:00:00.000Z  INFO ended job=forged";
    let nasty = format!("x\n{forged}\r\x1b[2J\u{202e}\u{85}\u{2028}\" ending=\"exited with code 0");
    let job = plain(
        &fleet,
        &json!({
            "shell_cmd": format!(": '{}'", nasty.replace('\'', "")), "directory": format!("/{nasty}"),
            "from": nasty, "env": { (nasty.replace('=', "")): "1" },
        }),
    );
    let said = line_of(&daemon, &job);
    assert!(said.field("ending").starts_with("not started: "), "{said:?}");
    assert!(said.field("from").starts_with(r"x\n2026-01-01"), "{said:?}");
    assert!(said.field("command").contains(r"\u{1b}[2J\u{202e}"), "{said:?}");

    // Why a job is cancelled is said by its caller.
    let cancelled = job_id();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    let sid = raw.subscribe(&inbox);
    let ran = fleet.path().join("ran");
    let line = format!("touch {}; exec sleep 1000", ran.display());
    let request = json!({ "id": cancelled, "shell_cmd": line, "directory": "/" }).to_string();
    raw.publish_reply("exec.w1", &inbox, request);
    eventually(SOON, "the command to run", || ran.exists().then_some(()));
    raw.publish_reply(&format!("exec.w1.{cancelled}.cancel"), &inbox, json!({ "why": nasty }).to_string());
    raw.expect_on(sid, SOON, "an answer");
    let said = line_of(&daemon, &cancelled);
    assert!(said.field("ending").starts_with(r"cancelled: x\n2026"), "{said:?}");

    // What is malformed is quoted as well.
    let strange = json!({ "type": nasty, "argv": ["true"], "directory": "/" });
    raw.request("exec.w1", strange.to_string(), SOON);
    raw.request("exec.w1", b"\xff\xfe\n2026 INFO forged\x1b[31m", SOON);
    plain(&fleet, &json!({ "argv": ["true"], "directory": "/" }));
    let forgeries = daemon.stderr().lines().filter(|line| line.starts_with(forged)).count();
    assert_eq!(forgeries, 0, "{}", daemon.stderr());
    expect_own_lines(&daemon);
}

#[test]
fn a_long_command_is_cut_between_characters() {
    let fleet = Fleet::of_workers(["w1"]);
    let job = plain(&fleet, &json!({ "shell_cmd": format!(": {}", "ü".repeat(200_000)), "directory": "/" }));
    let said = line_of(&fleet.daemon("w1"), &job);
    assert_eq!(said.field("command"), format!(": {}…", "ü".repeat(298)));
    let line = fleet.daemon("w1").wait_for_line(SOON, |line| line.contains(&job));
    assert!(line.chars().count() < 1000, "{line}");
}

#[test]
fn the_job_of_a_daemon_that_died_has_its_line_from_the_next() {
    let fleet = Fleet::of_workers(["w1"]);
    let daemon = fleet.daemon("w1");
    let job = job_id();
    let mut raw = Raw::connect(&fleet.url());
    let inbox = raw.new_inbox();
    raw.subscribe(&inbox);
    let ran = fleet.path().join("ran");
    let line = format!("touch {}; sleep 1000", ran.display());
    let request = json!({ "id": job, "shell_cmd": line, "directory": "/", "from": "ann@desk" });
    raw.publish_reply("exec.w1", &inbox, request.to_string());
    eventually(SOON, "the command to run", || ran.exists().then_some(()));
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    let said = line_of(&daemon, &job);
    assert_eq!((said.level.as_str(), said.message.as_str()), ("WARN", "ended a dead daemon's job"));
    assert_eq!((said.field("from"), said.field("directory")), ("ann@desk", "/"), "{said:?}");
    assert_eq!(said.field("command"), line, "{said:?}");
    assert!(said.field("ending").starts_with("unknown: its daemon died"), "{said:?}");
    assert_eq!(about(&daemon, &job).len(), 1);
}
