//! A peer whose daemon hangs is named, and hides nobody else.

use std::time::Instant;

use crate::bench::{SOON, all_are_known, ids, rows, short, start, three};

#[test]
fn a_peer_that_hangs_is_named_and_does_not_hide_the_others() {
    let fleet = three();
    let (one, hidden, third) = (
        start(&fleet, "w1", "exec sleep 1000"),
        start(&fleet, "w2", "exec sleep 1000"),
        start(&fleet, "w3", "exec sleep 1000"),
    );
    let frozen = fleet.daemon("w2");
    frozen.freeze();
    let asked = Instant::now();
    let shown = fleet.d(["jobs", "--json"]).expect_code(252);
    assert!(asked.elapsed() < SOON, "{:?}", asked.elapsed());
    assert_eq!(ids(&rows(&shown.out())), [third.as_str(), &one], "without {hidden}, and in order");
    assert!(shown.err().starts_with("d: timed out: w2: no answer"), "{shown:?}");
    assert_eq!(shown.err().lines().count(), 1, "{shown:?}");
}

#[test]
fn what_a_peer_that_hangs_may_have_is_not_looked_past() {
    let fleet = three();
    let (one, third) = (start(&fleet, "w1", "exec sleep 1000"), start(&fleet, "w3", "exec sleep 1000"));
    let hidden = start(&fleet, "w2", "exec sleep 1000");
    let frozen = fleet.daemon("w2");
    frozen.freeze();
    // All at once: in a quarter of a minute the leader takes w2 for gone.
    let mut unsure = fleet.spawn_d(["stop", &third[32..]]);
    let mut absent = fleet.spawn_d(["stop", short(&hidden)]);
    let mut unheard = fleet.spawn_d(["stop", &format!("w2/{}", short(&hidden)), "--timeout", "1s"]);
    let mut certain = fleet.spawn_d(["wait", short(&one), "--timeout", "1m"]);
    // A whole id is somebody's only: nobody waits for w2, or it would be said.
    let stopped = fleet.d(["stop", &one]).expect_success();
    assert!(stopped.err().is_empty(), "{stopped:?}");
    // Eight characters are as good, and it is said who gave no answer.
    let certain = certain.wait(SOON).expect_code(130);
    assert!(certain.err().starts_with("d: no answer from w2\n"), "{certain:?}");
    let unsure = unsure.wait(SOON).expect_code(252);
    assert!(unsure.err().contains("no answer came from w2, which may have another"), "{unsure:?}");
    let absent = absent.wait(SOON).expect_code(252);
    assert!(absent.err().contains("no answer came from w2, which may have it"), "{absent:?}");
    // Nor is anything said to be stopped by whom nobody hears.
    let unheard = unheard.wait(SOON).expect_code(252);
    assert!(unheard.out().is_empty() && unheard.err().contains("timed out: w2"), "{unheard:?}");
    frozen.thaw();
    all_are_known(&fleet, 4);
    for job in [&hidden, &third] {
        fleet.d(["stop", job]).expect_success();
    }
}
