//! Every byte of output, whoever reads along meanwhile.

use bytes::BytesMut;
use peerbus::protocol::Ending;
use peerbus::protocol::frame::StreamKind;
use peerbus::shim::log::{Piece, Reader};
use peerbus::shim::{Found, FromShim};

use crate::harness::both;
use crate::shim::bench::{Along, Bench, PATIENCE, ended, gone, logged, next};

both! {
    a_hundred_mebibytes_while_connections_come_and_go
    news_of_the_log_come_at_once
    the_oldest_is_dropped_and_that_is_said
}

const MIB: u64 = 1 << 20;

/// 60 MiB to stdout and 40 MiB to stderr, in pieces of odd sizes; their digests are known before.
async fn a_hundred_mebibytes_while_connections_come_and_go(bench: Bench) {
    let line =
        "head -c 62914560 /dev/zero | tr '\\0' 'o' & head -c 41943040 /dev/zero | tr '\\0' 'e' >&2 & wait";
    let mut order = bench.order(line);
    order.log_limit = 200 * MIB;
    let mut link = bench.start(&order);
    let reader = {
        // Somebody who reads along, straight from the disk.
        let mut along = Along::of(&bench.place(&order));
        std::thread::spawn(move || {
            while along.at < 100 * MIB {
                along.read_on();
                std::thread::yield_now();
            }
            along
        })
    };
    let (mut connections, mut last) = (1, 0);
    let end = 'over: loop {
        // Each hears a little, and is gone without a word.
        for _ in 0..connections % 7 {
            match next(&mut link).await {
                Some(FromShim::Log(reach)) => {
                    let now = reach.totals().sum();
                    assert!(now >= last, "{now} after {last}");
                    last = now;
                }
                Some(FromShim::Ended(end)) => break 'over *end,
                Some(_) => {}
                None => break,
            }
        }
        link = match bench.find(&order).await {
            Found::Alive(link) => link,
            Found::Ended(end) => break *end,
            found => panic!("{found:?}"),
        };
        connections += 1;
    };
    assert!(connections > 0, "somebody came again while it wrote");
    assert_eq!(end.ending, Ending::Exited { code: 0 });
    assert_eq!((end.out.bytes, end.err.bytes, end.first.sum()), (60 * MIB, 40 * MIB, 0));
    let expected = |byte: u8, length: u64| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&vec![byte; length as usize]);
        hasher.finalize().to_hex().to_string()
    };
    assert_eq!(end.out.blake3, expected(b'o', 60 * MIB));
    assert_eq!(end.err.blake3, expected(b'e', 40 * MIB));
    reader.join().expect("read").must_be_all_of(&end);
    assert!(matches!(gone(&bench, &order).await, Found::Ended(found) if *found == end));
}

async fn news_of_the_log_come_at_once(bench: Bench) {
    let mut order = bench.order("while read line; do echo \"$line\"; done");
    order.spec.stdin = peerbus::process::Stdin::Pipe;
    let mut link = bench.start(&order);
    let mut reader = Reader::open(&bench.place(&order).log());
    let mut at = 0;
    for word in ["one\n", "two\n", "three\n"] {
        let data = bytes::Bytes::from_static(word.as_bytes());
        link.say(peerbus::shim::ToShim::Stdin { from: "ann".to_owned(), offset: at, data });
        let mut seen = BytesMut::new();
        while seen.len() < word.len() {
            let FromShim::Log(reach) = next(&mut link).await.expect("news") else { continue };
            // What was told of can be read.
            while at < reach.totals().sum() {
                let Piece::Bytes { bytes, stream: StreamKind::Out, offset } =
                    reader.read(at, 100).expect("a log")
                else {
                    panic!("it was told of")
                };
                assert_eq!(offset, at);
                at += bytes.len() as u64;
                seen.extend_from_slice(&bytes);
            }
        }
        assert_eq!(seen, word);
    }
    link.say(peerbus::shim::ToShim::Stop { ending: Ending::TimedOut {} });
    ended(&mut link).await;
}

async fn the_oldest_is_dropped_and_that_is_said(bench: Bench) {
    let mut order = bench.order("seq 1 200000; echo over >&2");
    order.log_limit = 256 << 10;
    let mut link = bench.start(&order);
    let end = ended(&mut link).await;
    assert!(end.first.sum() > 0, "{end:?}");
    assert_eq!(end.out.bytes, 1_288_895, "as many as there are");
    let mut along = Along::of(&bench.place(&order));
    along.read_on();
    assert_eq!(along.dropped, end.first.sum());
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(expected.ends_with(&along.text(StreamKind::Out)) && along.text(StreamKind::Err) == "over\n");
    assert_eq!(along.read[0].len() as u64, end.out.bytes - end.first.out);
    let kept: u64 = std::fs::read_dir(bench.place(&order).log())
        .expect("a log")
        .map(|file| file.expect("a file").metadata().expect("its size").len())
        .sum();
    assert!(kept <= 256 << 10, "{kept}");
}

/// Somebody reads along with each of many jobs at once, and one stands still.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_holds_up_nobody() {
    let bench = Bench::new(peerbus::process::ContainmentKind::Reaper);
    let order = bench.order("i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done; sleep 1000");
    let mut silent = bench.start(&order);
    let expected: u64 = (0..3000_u64).map(|number| number.to_string().len() as u64 + 1).sum();
    logged(&bench, &order, |end| end.out == expected).await;
    silent.say(peerbus::shim::ToShim::Stop { ending: Ending::TimedOut {} });
    let words = tokio::time::timeout(PATIENCE, async {
        let mut words = 0;
        while let Some(word) = silent.next().await {
            words += 1;
            if let FromShim::Ended(end) = word {
                assert_eq!(end.out.bytes, expected);
                return words;
            }
        }
        panic!("no end")
    });
    words.await.expect("in time");
}
