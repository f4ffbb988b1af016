//! Disks that are full: the command waits, and nothing is lost.

use peerbus::process::Stdin;
use peerbus::protocol::Ending;
use peerbus::shim::messages::ShimState;
use peerbus::shim::{Found, FromShim, ShimConnection, ToShim};

use crate::harness::both;
use crate::harness::disk::SmallDisk;
use crate::harness::wait::eventually;
use crate::shim::bench::{Along, Bench, PATIENCE, ended, gone, logged, next};

both! {
    a_full_disk_holds_up_the_command_and_loses_nothing
    a_stop_is_obeyed_while_the_disk_is_full
    an_end_waits_for_room
    a_directory_that_is_taken_away_holds_up_nobody
}

/// Listens until the shim says that something holds the job up, or that it no longer does.
async fn trouble(link: &mut ShimConnection) -> Option<String> {
    loop {
        if let FromShim::Trouble { why } = next(link).await.expect("a word before the end") {
            return why;
        }
    }
}

async fn a_full_disk_holds_up_the_command_and_loses_nothing(bench: Bench) {
    let mut order = bench.order("echo first; read go; seq 1 50000; seq 1 20000 >&2");
    order.spec.stdin = Stdin::Pipe;
    std::fs::create_dir_all(bench.place(&order).directory()).expect("made");
    let disk = SmallDisk::at(bench.place(&order).directory());
    let mut link = bench.start(&order);
    logged(&bench, &order, |end| end.out == 6).await;
    disk.fill();
    link.say(ToShim::Stdin { from: "ann".to_owned(), offset: 0, data: "go\n".into() });
    let place = bench.place(&order);
    let why = trouble(&mut link).await.expect("a full disk");
    assert!(why.contains("No space"), "{why}");
    let reader = || peerbus::shim::log::Reader::open(&place.log()).extent().expect("a log").end;
    let stuck = reader();
    // It answers meanwhile.
    link.say(ToShim::Screen { ask: 1 });
    while !matches!(next(&mut link).await.expect("an answer"), FromShim::Screen(_)) {}
    let mut link = bench.link(&order).await;
    assert_eq!(link.hello().trouble.as_ref(), Some(&why), "also to who comes later");
    assert_eq!(reader(), stuck, "the command waits");
    disk.free();
    assert_eq!(trouble(&mut link).await, None);
    let end = ended(&mut link).await;
    assert_eq!(end.ending, Ending::Exited { code: 0 });
    let mut along = Along::of(&place);
    along.read_on();
    along.must_be_all_of(&end);
    let numbers = |to: u32| (1..=to).map(|number| format!("{number}\n")).collect::<String>();
    assert_eq!(along.text(peerbus::protocol::frame::StreamKind::Out), format!("first\n{}", numbers(50_000)));
    assert_eq!(along.text(peerbus::protocol::frame::StreamKind::Err), numbers(20_000));
    gone(&bench, &order).await;
}

async fn a_stop_is_obeyed_while_the_disk_is_full(bench: Bench) {
    let order = bench.order("while :; do echo 12345678901234567890; done");
    std::fs::create_dir_all(bench.place(&order).directory()).expect("made");
    let disk = SmallDisk::at(bench.place(&order).directory());
    let mut link = bench.start(&order);
    disk.fill();
    trouble(&mut link).await.expect("a full disk");
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    eventually(PATIENCE, "the end of its processes", || {
        crate::harness::procs::of_job(&order.spec.job.to_string()).is_empty().then_some(())
    });
    disk.free();
    let end = ended(&mut link).await;
    assert_eq!(end.ending, Ending::TimedOut {});
    let mut along = Along::of(&bench.place(&order));
    along.read_on();
    along.must_be_all_of(&end);
    gone(&bench, &order).await;
}

async fn an_end_waits_for_room(bench: Bench) {
    let order = bench.order("read x < /dev/null; until [ -e /proc/$PPID/none ]; do sleep 1000; done");
    std::fs::create_dir_all(bench.place(&order).directory()).expect("made");
    let disk = SmallDisk::at(bench.place(&order).directory());
    let mut link = bench.start(&order);
    disk.fill();
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    eventually(PATIENCE, "the end of its processes", || {
        crate::harness::procs::of_job(&order.spec.job.to_string()).is_empty().then_some(())
    });
    // It lives and says so, until the end is written down.
    eventually(PATIENCE, "the end of the job", || {
        let found =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(bench.find(&order)));
        match found {
            Found::Alive(now) if now.hello().trouble.is_some() => {
                assert_eq!(now.hello().state, ShimState::Ended);
                link = now;
                Some(())
            }
            Found::Alive(_) => None,
            found => panic!("it cannot have been written: {found:?}"),
        }
    });
    disk.free();
    assert_eq!(ended(&mut link).await.ending, Ending::TimedOut {});
    assert!(matches!(gone(&bench, &order).await, Found::Ended(_)));
}

async fn a_directory_that_is_taken_away_holds_up_nobody(bench: Bench) {
    let mut order = bench.order("echo first; read go; seq 1 200000; exit 3");
    order.spec.stdin = Stdin::Pipe;
    order.log_limit = 100_000;
    let mut link = bench.start(&order);
    logged(&bench, &order, |end| end.out == 6).await;
    // In one step: the shim may write something there at this moment.
    let gone_directory = bench.state.path().join("gone");
    std::fs::rename(bench.place(&order).directory(), &gone_directory).expect("renamed");
    std::fs::remove_dir_all(gone_directory).expect("removed");
    link.say(ToShim::Stdin { from: "ann".to_owned(), offset: 0, data: "go\n".into() });
    let end = ended(&mut link).await;
    assert_eq!(end.ending, Ending::Exited { code: 3 });
    assert_eq!(end.out.bytes, 6 + 1_288_895);
    assert!(matches!(gone(&bench, &order).await, Found::Ended(_)));
}
