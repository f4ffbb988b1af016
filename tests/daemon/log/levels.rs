//! How much is said: the flag, else the variable, else the file; a mistake is refused.

use serde_json::json;

use crate::harness::fleet::{DCommand, DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::scratch::Scratch;
use crate::log::bench::{SOON, about};

/// The levels at which a daemon with these settings speaks of a job that ended and of one it refused.
fn levels(fleet: &Fleet, options: DaemonOptions) -> Vec<String> {
    let daemon = fleet.add(options);
    let mut raw = Raw::connect(&fleet.url());
    let subject = format!("exec.{}", daemon.id());
    let mut said = Vec::new();
    for place in [json!("/"), json!(null)] {
        let job = uuid::Uuid::now_v7().to_string();
        let request = json!({ "id": job, "argv": ["true"], "directory": place });
        raw.request(&subject, request.to_string(), SOON);
        // All there is to say of a job is said before its answer.
        said.extend(about(&daemon, &job).into_iter().map(|line| line.level));
    }
    // What is said is read by a thread of its own; at the end all of it has been.
    let text = daemon.terminate().err();
    let all = text.lines().filter_map(crate::log::bench::Line::parse).map(|line| line.level);
    said.extend(all);
    said.sort_unstable();
    said.dedup();
    said
}

#[test]
fn the_flag_is_stronger_than_the_variable_and_that_than_the_file() {
    let fleet = Fleet::builder().start();
    let worker = |id: &str| DaemonOptions::worker(id);
    assert_eq!(levels(&fleet, worker("w1")), ["INFO", "WARN"], "the default");
    let file = |id: &str| worker(id).configuration("log = 'debug'\n");
    assert_eq!(levels(&fleet, file("w2")), ["DEBUG", "INFO", "WARN"], "the file");
    let variable = |id: &str| file(id).env("PEERBUS_LOG", "warn");
    assert_eq!(levels(&fleet, variable("w3")), ["WARN"], "the variable");
    assert_eq!(levels(&fleet, variable("w4").flag("-v")), ["DEBUG", "INFO", "WARN"], "the flag");
    assert_eq!(levels(&fleet, file("w5").env("PEERBUS_LOG", "off")), [""; 0], "nothing");
    let directives = "warn,peerbus_daemon::request_summary=info";
    assert_eq!(
        levels(&fleet, worker("w6").configuration(&format!("log = '{directives}'\n"))),
        ["INFO", "WARN"]
    );
}

#[test]
fn a_mistake_is_refused_with_its_place() {
    let scratch = Scratch::new();
    let daemon = || DCommand::new(scratch.path(), ["daemon", "run", "--id", "w1"]);
    for wrong in ["inof", "peerbus=loud", "info,"] {
        let finished = daemon().env("PEERBUS_LOG", wrong).run().expect_code(2);
        assert!(finished.err().starts_with(&format!("d: PEERBUS_LOG: log: \"{wrong}\"")), "{finished:?}");
        scratch.file("config.toml", format!("tags = []\nlog = '{wrong}'\n"));
        let finished = daemon().run().expect_code(2);
        let said = finished.err();
        assert!(said.contains("line 2: log: ") && said.contains(wrong), "{finished:?}");
        scratch.file("config.toml", "");
        let finished = DCommand::new(scratch.path(), ["status"]).env("PEERBUS_LOG", wrong).run();
        assert!(finished.expect_code(2).err().contains("PEERBUS_LOG"), "a command line is as strict");
    }
}

#[test]
fn a_command_line_says_nothing_of_itself_whatever_the_file_says() {
    let fleet = Fleet::of_workers(["w1"]);
    let loud = fleet.file("loud.toml", "log = 'trace'\n");
    let run = |flags: &[&str]| {
        let words = flags.iter().chain(&["exec", "w1", "-C", "/", "--", "true"]);
        fleet.command(words).env("PEERBUS_CONFIG", &loud).run().expect_success()
    };
    assert_eq!(run(&[]).err(), "");
    assert!(run(&["-vv"]).err().contains("DEBUG"), "unless it is asked to");
}
