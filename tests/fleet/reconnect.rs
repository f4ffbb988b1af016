//! The link to the bus after a loss: one connection, and nothing of the one before it.

use std::time::Duration;

use crate::harness::fleet::{DaemonOptions, Fleet, READY_DEADLINE};
use crate::harness::server::ServerOptions;
use crate::harness::wait::eventually;

/// What is left of a lost connection must neither end its successor nor live beside it: a
/// subscription of such a one takes requests that are answered on another connection.
#[test]
fn a_daemon_has_one_connection_after_its_server_was_restarted() {
    let fleet = Fleet::builder().daemon(DaemonOptions::worker("w1").through_relay()).start();
    let daemon = fleet.daemon("w1");
    for restart in 1..=3 {
        fleet.server().restart();
        eventually(READY_DEADLINE, "the daemon to answer again", || {
            (fleet.d(["ping", "w1"]).code() == Some(0)).then_some(())
        });
        // A connection that were taken for broken would be replaced within this time.
        std::thread::sleep(Duration::from_millis(500));
        eventually(READY_DEADLINE, "the one connection", || (daemon.relay().open() == 1).then_some(()));
        let lost = daemon.stderr().matches("lost the connection").count();
        assert_eq!(lost, restart, "{}", daemon.stderr());
    }
}

/// The server's own reason is told, also where its name has more than one address.
#[test]
fn a_refused_connection_names_the_servers_reason() {
    let fleet = Fleet::builder().server(ServerOptions::new().token("right")).start();
    let url = format!("nats://wrong@localhost:{}", fleet.server().address().port());
    let finished = fleet.command(["ping", "w1"]).nats(&url).run().expect_code(255);
    assert!(finished.err().contains("authorization violation"), "{}", finished.err());
}
