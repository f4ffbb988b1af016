//! Values of variables and passwords in addresses are nowhere to be read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::fleet::{DCommand, DaemonOptions, Fleet};
use crate::harness::nats::Raw;
use crate::harness::scratch::{Scratch, unless_gone};
use crate::log::bench::{SOON, line_of};

const SECRET: &str = "s3cr3t-value";

/// Every file below a directory that holds the secret.
fn files_with_it(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in unless_gone(fs::read_dir(directory)).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with_it(&path));
        } else if path.is_file() {
            let bytes = unless_gone(fs::read(&path)).unwrap_or_default();
            if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

/// Has every kind of job run with a secret, and one refused, on a daemon that says all it can.
fn with_secrets(containment: &str) {
    let talkative = DaemonOptions::worker("w1")
        .env("PEERBUS_LOG", "trace,async_nats=trace")
        .env("PEERBUS_CONTAINMENT", containment)
        .configuration(&format!("env = {{ OWN = '{SECRET}' }}\n"));
    let fleet = Fleet::builder().daemon(talkative).start();
    let daemon = fleet.daemon("w1");
    let variable = format!("PASS={SECRET}");
    let arguments = ["exec", "w1", "-C", "/", "--env", variable.as_str(), "--sh", "echo ${#PASS} ${#OWN}"];
    let finished = fleet.d(arguments).expect_success();
    assert_eq!(finished.out(), format!("{} {}\n", SECRET.len(), SECRET.len()), "it got its variables");

    let mut raw = Raw::connect(&fleet.url());
    let mut jobs = Vec::new();
    for request in [
        json!({ "argv": ["true"], "directory": "/", "env": { "PASS": SECRET } }),
        json!({ "argv": ["true"], "env": { "PASS": SECRET } }),
        json!({ "argv": ["no-such-command"], "directory": "/", "env": { "PASS": SECRET } }),
    ] {
        let mut request = request;
        let job = uuid::Uuid::now_v7().to_string();
        request["id"] = json!(job);
        let answer = raw.request("exec.w1", request.to_string(), SOON);
        assert!(!answer.text().contains(SECRET), "{answer:?}");
        jobs.push(job);
    }
    for wrong in [
        json!({ "argv": ["true"], "env": format!("PASS={SECRET}") }),
        json!({ "argv": ["true"], "env": { "PASS": [SECRET] } }),
        json!({ "argv": ["true"], "env": { (format!("PASS={SECRET}")): "" } }),
    ] {
        let answer = raw.request("exec.w1", wrong.to_string(), SOON);
        let said = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(said.contains("`env") && !said.contains(SECRET), "{said}");
    }
    for job in &jobs {
        assert_eq!(
            daemon
                .wait_for_line(SOON, |line| line.contains(job.as_str()) && line.contains(" env=PASS "))
                .matches(SECRET)
                .count(),
            0
        );
    }
    let said = daemon.stderr();
    assert!(said.contains("DEBUG"), "it says all it can: {said}");
    assert!(!said.contains(SECRET), "{said}");
    assert_eq!(files_with_it(daemon.state_directory()), Vec::<PathBuf>::new());
    let finished = daemon.terminate();
    assert!(!finished.err().contains(SECRET), "{finished:?}");
    assert_eq!(files_with_it(daemon.state_directory()), Vec::<PathBuf>::new());
}

#[test]
fn values_of_variables_are_nowhere() {
    with_secrets("best");
}

#[test]
fn values_of_variables_are_nowhere_with_reapers() {
    with_secrets("reaper");
}

#[test]
fn the_password_of_an_address_is_nowhere() {
    let fleet = Fleet::builder().start();
    let url = fleet.url().replace("nats://", &format!("nats://{SECRET}@"));
    let worker = DaemonOptions::worker("w1").nats(&url).flag("-vv");
    let daemon = fleet.add(worker);
    let job = uuid::Uuid::now_v7().to_string();
    let request = json!({ "id": job, "argv": ["true"], "directory": "/" });
    Raw::connect(&fleet.url()).request("exec.w1", request.to_string(), SOON);
    line_of(&daemon, &job);
    fleet.server().kill();
    daemon.wait_for_line(SOON, |line| line.contains("connecting to the bus at"));
    assert!(!daemon.stderr().contains(SECRET), "{}", daemon.stderr());
    assert_eq!(files_with_it(daemon.state_directory()), Vec::<PathBuf>::new());
}

#[test]
fn a_refused_start_repeats_no_password() {
    let scratch = Scratch::new();
    let public = format!("nats://me:{SECRET}@8.8.8.8:4222");
    let database = format!("postgres://me:{SECRET}@db/peers?password={SECRET}");
    let parameter = format!("sqlite:///x.db?password={SECRET}");
    for (flags, named) in [
        (["--broker", "managed", "--nats", public.as_str()], "8.8.8.8"),
        (["--role", "leader", "--database-url", database.as_str()], "password"),
        (["--role", "leader", "--database-url", parameter.as_str()], "password"),
    ] {
        let words = ["daemon", "run", "--id", "w1"].into_iter().chain(flags);
        let finished = DCommand::new(scratch.path(), words).run().expect_code(2);
        assert!(finished.err().contains(named) && !finished.err().contains(SECRET), "{finished:?}");
    }
}
