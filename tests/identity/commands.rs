//! What everybody does every day, with everybody signing.

use std::time::Duration;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::server::ServerOptions;

const SOON: Duration = Duration::from_secs(20);

fn fleet() -> Fleet {
    Fleet::builder().secured().leader("lead").worker("w1").start()
}

#[test]
fn commands_run_are_steered_and_end_as_ever() {
    let fleet = fleet();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], SOON);
    let done = fleet.d(["exec", "w1", "-C", "/", "--sh", "echo out; echo err >&2; exit 7"]).expect_code(7);
    assert_eq!((done.out().as_str(), done.err().as_str()), ("out\n", "err\n"));
    let done =
        fleet.d(["exec", "lead", "-C", "/", "--", "head", "-c", "3000000", "/dev/zero"]).expect_success();
    assert_eq!(done.stdout.len(), 3_000_000);
    fleet.d(["ping", "w1", "--timeout", "20s"]).expect_success();
    fleet.d(["peer", "show", "w1"]).expect_success();
    fleet.d(["exec", "nobody", "-C", "/", "--", "true"]).expect_code(254);
    fleet.daemon("w1").terminate();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "offline")], SOON);
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_code(253);
    fleet.d(["peer", "rm", "w1"]).expect_success();
    fleet.wait_for_states(&[("lead", "online")], SOON);
}

#[test]
fn input_and_signals_reach_the_command() {
    let fleet = Fleet::builder().secured().daemon(DaemonOptions::worker("w1")).start();
    let words = "some words\n".repeat(50_000);
    let done = fleet.command(["exec", "w1", "-C", "/", "-i", "--", "cat"]).input(words.as_str()).run();
    assert!(done.expect_success().out() == words);
    let mut live = fleet.spawn_d(["exec", "w1", "-C", "/", "--sh", "echo here; sleep 60 & wait"]);
    live.stdout_line(SOON, |line| line == "here");
    live.signal(nix::sys::signal::Signal::SIGINT);
    live.wait(SOON).expect_code(130);
}

/// Ready would be a lie: nobody could run anything there.
#[test]
fn a_daemon_that_may_not_hear_its_requests_does_not_say_that_it_is_ready() {
    let fleet = Fleet::builder().server(ServerOptions::new().user_with(
        "w1",
        "secret",
        r#"{ publish: ">", subscribe: { deny: ["exec.w1"] } }"#,
    ));
    let fleet = fleet.start();
    let url = fleet.server().url().replace("nats://", "nats://w1:secret@");
    let daemon = fleet.add_starting(DaemonOptions::worker("w1").nats(&url));
    let ended = daemon.wait_for_end(SOON).expect_code(1);
    assert!(ended.err().contains("does not let this daemon hear what is said to w1"), "{ended:?}");
}

/// As a server does that is too old to know the rights of identities.
#[test]
fn a_daemon_that_may_not_hear_answers_says_so() {
    let denied = r#"{ publish: ">", subscribe: { deny: ["_INBOX.>"] } }"#;
    let server = ServerOptions::new().user_with("w1", "secret", denied);
    let fleet = Fleet::builder().server(server).start();
    let url = fleet.server().url().replace("nats://", "nats://w1:secret@");
    let ended = fleet.add_starting(DaemonOptions::worker("w1").nats(&url)).wait_for_end(SOON).expect_code(1);
    assert!(ended.err().contains("does not let this daemon hear answers"), "{ended:?}");
    assert!(ended.err().contains("2.12 or newer"), "{ended:?}");
}
