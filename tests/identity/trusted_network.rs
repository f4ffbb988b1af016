//! Trusted mode, never by accident: without an identity a daemon joins no bus that everybody reaches.

use std::fs;
use std::time::Duration;

use crate::harness::fleet::{DCommand, DaemonOptions, Fleet};

/// Long enough for a refusal on a busy machine. A daemon that tried an address which does not answer would try it for
/// ever.
const AT_ONCE: Duration = Duration::from_secs(30);

/// An address for documentation: public, and nobody's.
const PUBLIC: &str = "192.0.2.1:4222";

#[track_caller]
fn refused(fleet: &Fleet, url: &str, named: &str) {
    let daemon = fleet.add_starting(DaemonOptions::worker("w1").nats(url));
    let ended = daemon.wait_for_end(AT_ONCE).expect_code(1);
    for wanted in [named, "has no identity of its own", "trusted_network true", "`d init`"] {
        assert!(ended.err().contains(wanted), "{wanted}: {ended:?}");
    }
    assert!(!ended.err().contains("ready peer=") && !ended.err().contains("hunter2"), "{ended:?}");
    let state = fs::read_to_string(daemon.state_directory().join("state.json")).unwrap();
    assert!(state.contains(r#""state":"failed""#) && state.contains("has no identity"), "{state}");
}

#[test]
fn a_public_bus_is_refused_before_anything_is_sent() {
    let fleet = Fleet::builder().start();
    refused(&fleet, &format!("nats://{PUBLIC}"), "192.0.2.1 is a public address");
    // Whoever has read a token or a password has it, too.
    refused(&fleet, &format!("nats://hunter2@{PUBLIC}"), "192.0.2.1 is a public address");
    refused(&fleet, &format!("tls://me:hunter2@{PUBLIC}"), "192.0.2.1 is a public address");
    refused(&fleet, "nats://[2001:db8::1]:4222", "2001:db8::1 is a public address");
    // One of several is enough, wherever it stands.
    refused(&fleet, &format!("{},nats://{PUBLIC}", fleet.url()), "192.0.2.1 is a public address");
}

#[test]
fn a_configuration_may_say_that_the_network_is_trusted() {
    let fleet = Fleet::builder().start();
    let trusting = DaemonOptions::worker("w1").configuration("trusted_network = true\n");
    // Beside a server that answers: which of them is tried first is left to chance.
    let daemon = fleet.add_starting(trusting.nats(&format!("{},nats://{PUBLIC}", fleet.url())));
    daemon.wait_until_ready();
    fleet.d(["ping", "w1", "--timeout", "20s"]).expect_success();
}

#[test]
fn who_has_an_identity_may_go_anywhere() {
    let fleet = Fleet::builder().secured().open_broker().start();
    let member = DaemonOptions::worker("w1");
    let daemon = fleet.add_starting(member.nats(&format!("{},nats://{PUBLIC}", fleet.url())));
    daemon.wait_until_ready();
    daemon.terminate().expect_success();
}

/// The server knows who it is, but it would believe whoever the server lets in.
#[test]
fn credentials_that_are_no_identity_do_not_count_as_one() {
    let fleet = Fleet::builder().start();
    let seed = nkeys::KeyPair::new_user().seed().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\nany\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    let creds = fleet.file("w1.creds", text);
    let known = DaemonOptions::worker("w1").flag("--creds").flag(&creds);
    let daemon = fleet.add_starting(known.nats(&format!("nats://{PUBLIC}")));
    let ended = daemon.wait_for_end(AT_ONCE).expect_code(1);
    assert!(ended.err().contains("has no identity of its own") && !ended.err().contains(&seed), "{ended:?}");
}

#[test]
fn a_name_is_what_it_resolves_to() {
    let fleet = Fleet::builder().start();
    let port = fleet.url().rsplit_once(':').unwrap().1.to_owned();
    let local = fleet.add_starting(DaemonOptions::worker("w1").nats(&format!("nats://localhost:{port}")));
    local.wait_until_ready();
    // One that is not known yet is asked for again, and not connected to meanwhile.
    let unknown = fleet.add_starting(DaemonOptions::worker("w2").nats("nats://no-such-name.invalid:4222"));
    unknown.wait_for_line(Duration::from_secs(20), |line| line.contains("looking no-such-name.invalid up"));
    assert!(unknown.is_running());
}

#[test]
fn the_doctor_tells_of_it() {
    let fleet = Fleet::builder().start();
    for (configuration, detail) in [
        ("", "a daemon without an identity does not join it"),
        ("trusted_network = true\n", "trusted_network allows it"),
    ] {
        let home = fleet.directory("patient");
        fs::write(home.join("config.toml"), configuration).unwrap();
        let arguments = ["doctor", "--connect-timeout", "200ms"];
        let sick = DCommand::new(&home, arguments).nats(&format!("nats://{PUBLIC}")).run().expect_code(1);
        assert!(sick.out().contains("192.0.2.1 is a public address"), "{sick:?}");
        assert!(sick.out().contains(detail), "{sick:?}");
    }
    let sound = fleet.command(["doctor"]).run();
    assert!(sound.out().contains("on this machine or a private network"), "{sound:?}");
}
