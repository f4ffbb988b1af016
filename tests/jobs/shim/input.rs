//! Standard input of several writers, over connections that come and go.

use bytes::Bytes;
use peerbus::process::Stdin;
use peerbus::protocol::Ending;
use peerbus::protocol::frame::StdinCredit;
use peerbus::shim::{FromShim, JobSpec, ShimConnection, ToShim};

use crate::harness::both;
use crate::shim::bench::{Along, Bench, ended, next};

both! {
    input_is_joined_once_across_connections
    a_command_that_does_not_read_closes_its_input
    who_reads_nothing_is_told_so
}

fn reading(bench: &Bench, line: &str) -> JobSpec {
    let mut order = bench.order(line);
    order.spec.stdin = Stdin::Pipe;
    order.owner = Some("owner".to_owned());
    order
}

fn say(link: &ShimConnection, from: &str, offset: u64, data: &Bytes) {
    link.say(ToShim::Stdin { from: from.to_owned(), offset, data: data.clone() });
}

/// The next thing a writer is told; `None` when the connection has gone.
async fn want(link: &mut ShimConnection, writer: &str) -> Option<StdinCredit> {
    loop {
        match next(link).await? {
            FromShim::Want { from, want } if from == writer => return Some(want),
            _ => {}
        }
    }
}

/// A million bytes, sent over many connections that break at any moment, each time from where the shim
/// says, and a bit from before that.
async fn input_is_joined_once_across_connections(bench: Bench) {
    let order = reading(&bench, "cat; echo other >&2");
    let all = Bytes::from((0..1_000_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect::<Vec<u8>>());
    let mut link = bench.start(&order);
    say(&link, "other", 0, &Bytes::new());
    let mut connections = 0;
    let end = 'over: loop {
        connections += 1;
        let state =
            link.hello().writers.iter().find(|writer| writer.from == "owner").map(|one| one.want.clone());
        let mut want_now =
            state.unwrap_or(StdinCredit { received: 0, limit: 256 * 1024, again: false, closed: false });
        let budget = 30_000 + connections * 7_000;
        let mut sent = 0;
        while sent < budget {
            let from = want_now.received.saturating_sub(100) as usize;
            let to = (from + 20_000).min(all.len()).min(want_now.limit as usize);
            say(&link, "owner", from as u64, &all.slice(from..to));
            sent += to - from;
            if want_now.received as usize == all.len() {
                say(&link, "owner", want_now.received, &Bytes::new());
                break 'over ended(&mut link).await;
            }
            want_now = want(&mut link, "owner").await.expect("a connection");
            assert!(!want_now.closed, "{want_now:?}");
        }
        // What was said last may be heard or not.
        link = bench.link(&order).await;
    };
    assert!(connections > 5, "{connections}");
    assert_eq!(end.ending, Ending::Exited { code: 0 });
    let mut along = Along::of(&bench.place(&order));
    along.read_on();
    along.must_be_all_of(&end);
    assert!(along.read[0] == all[..], "{} of {} bytes", along.read[0].len(), all.len());
}

async fn a_command_that_does_not_read_closes_its_input(bench: Bench) {
    let order = reading(&bench, "head -c 3; exec <&-; echo; sleep 1000");
    let mut link = bench.start(&order);
    say(&link, "owner", 0, &Bytes::from_static(b"abcdef"));
    let much = Bytes::from(vec![b'x'; 200_000]);
    let mut told = want(&mut link, "owner").await.expect("a word");
    while !told.closed {
        say(&link, "owner", told.received, &much);
        told = want(&mut link, "owner").await.expect("a word");
    }
    crate::shim::bench::logged(&bench, &order, |reach| reach.out == 4).await;
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    ended(&mut link).await;
}

async fn who_reads_nothing_is_told_so(bench: Bench) {
    let order = bench.order("sleep 1000");
    let mut link = bench.start(&order);
    say(&link, "owner", 0, &Bytes::from_static(b"abc"));
    assert!(want(&mut link, "owner").await.expect("a word").closed);
    link.say(ToShim::Forget { from: "owner".to_owned() });
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    ended(&mut link).await;
}
