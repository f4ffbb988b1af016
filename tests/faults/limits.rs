//! Servers that take little.

use crate::bench::{exec, expect_exact, sequence};
use crate::harness::fleet::Fleet;
use crate::harness::server::ServerOptions;

#[test]
fn a_server_that_takes_little_carries_output_and_input_in_small_pieces() {
    for limit in [65_536, 32_768, 8_192] {
        let fleet = Fleet::builder().server(ServerOptions::new().max_payload(limit)).worker("w1").start();
        let bytes = sequence(200_000);
        let mut live = exec(&fleet, "seq 1 200000").count_output().spawn();
        expect_exact(&mut live, &bytes, crate::bench::SOON);
        let directory = fleet.path().to_str().unwrap();
        let through = ["exec", "w1", "-C", directory, "-i", "--", "cat"];
        let mut live = fleet.command(through).input(bytes.clone()).count_output().spawn();
        expect_exact(&mut live, &bytes, crate::bench::SOON);
    }
}

#[test]
fn a_request_the_server_would_not_take_is_refused_before_it_is_sent() {
    let fleet = Fleet::builder().server(ServerOptions::new().max_payload(8_192)).worker("w1").start();
    let long = "x".repeat(9_000);
    let finished = exec(&fleet, &format!("echo {long}")).run().expect_code(250);
    assert!(finished.err().starts_with("d: refused:") && finished.err().contains("8192"), "{finished:?}");
    assert!(exec(&fleet, "echo on").run().expect_success().out() == "on\n");
}
