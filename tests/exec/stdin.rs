//! Standard input arrives to the last byte, and so does its end.

use std::time::Duration;

use crate::harness::fleet::Fleet;

/// The end may come before the command is there: nothing else would ever close its input.
#[test]
fn an_empty_input_ends_at_once() {
    let fleet = Fleet::of_workers(["w1"]);
    for _ in 0..5 {
        let run = fleet.command(["exec", "w1", "-C", "/", "-i", "--", "cat"]);
        let finished = run.input("").deadline(Duration::from_secs(30)).run().expect_success();
        assert_eq!(finished.out(), "");
    }
}

/// A hostname looks like a peer's id, and is asked for as one first. What was read meanwhile must not
/// be missing.
#[test]
fn nothing_is_missing_where_the_peer_is_called_by_its_hostname() {
    let fleet = Fleet::of_workers(["w1"]);
    let name = nix::unistd::gethostname().expect("a hostname").to_string_lossy().to_ascii_lowercase();
    let input = vec![b'x'; 300_000];
    let run = fleet.command(["exec", &name, "-C", "/", "-i", "--", "wc", "-c"]);
    assert_eq!(run.input(input).run().expect_success().out().trim(), "300000");
}
