//! Every way in which a kept job ends.

use peerbus::process::Stdin;
use peerbus::protocol::Ending;
use peerbus::shim::{Found, FromShim, ShimConnection, ToShim};

use crate::harness::both;
use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::shim::bench::{Bench, PATIENCE, ended, gone, logged, next, pid_of, shims_of};

both! {
    an_exit_is_told_as_it_was
    time_is_up_though_nobody_listens
    a_stop_takes_the_whole_tree
    a_signal_is_applied_once
    what_is_left_running_goes_on
    a_shim_does_not_listen_to_signals
}

async fn an_exit_is_told_as_it_was(bench: Bench) {
    let (end, _) = bench.run("exit 255").await;
    assert_eq!(end.ending, Ending::Exited { code: 255 });
    let (end, _) = bench.run("kill -USR1 $$").await;
    assert_eq!(end.ending, Ending::Signalled { signal: "USR1".to_owned(), number: 10 });
    let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let (end, _) = bench.run(busy).await;
    let used = end.rusage.expect("known");
    assert!(used.user_ms + used.system_ms > 50 && used.max_rss_kib > 500, "{used:?}");
    assert!(end.duration_ms >= 50, "{end:?}");
}

async fn time_is_up_though_nobody_listens(bench: Bench) {
    let mut order = bench.order("trap '' TERM; sleep 1000 & echo; wait; sleep 1000");
    order.timeout_ms = Some(300);
    drop(bench.start(&order));
    let Found::Ended(end) = gone(&bench, &order).await else { panic!("it ended") };
    assert_eq!(end.ending, Ending::TimedOut {});
    // It may be up before anything was started.
    assert!(end.killed >= if end.out.bytes > 0 { 2 } else { 1 }, "{end:?}");
    assert_eq!(procs::of_job(&order.spec.job.to_string()), []);
}

async fn a_stop_takes_the_whole_tree(bench: Bench) {
    let order = bench.order("setsid sleep 1000 & (sleep 1000 &) ; echo; sleep 1000");
    let mut link = bench.start(&order);
    logged(&bench, &order, |reach| reach.out > 0).await;
    let why = Ending::Cancelled { why: "enough".to_owned() };
    link.say(ToShim::Stop { ending: why.clone() });
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    let end = ended(&mut link).await;
    assert_eq!((end.ending, end.left_running), (why, 0));
    assert!(end.killed >= 3, "{}", end.killed);
    assert_eq!(procs::of_job(&order.spec.job.to_string()), []);
    gone(&bench, &order).await;
    eventually(PATIENCE, "the end of the shim", || shims_of(&order).is_empty().then_some(()));
}

/// Signals it and waits for the answer.
async fn signal(link: &mut ShimConnection, from: &str, n: u64, signal: &str) -> Option<String> {
    link.say(ToShim::Signal { from: from.to_owned(), n, signal: signal.to_owned() });
    loop {
        match next(link).await.expect("an answer") {
            FromShim::Signalled { from: whose, n: number, error } if whose == from && number == n => {
                return error;
            }
            _ => {}
        }
    }
}

async fn a_signal_is_applied_once(bench: Bench) {
    // Nothing but the shell itself is there to be hit.
    let mut order = bench.order("trap 'echo got it' USR1; echo ready; until read x; do :; done; exit 0");
    order.spec.stdin = Stdin::Pipe;
    let mut link = bench.start(&order);
    logged(&bench, &order, |reach| reach.out == 6).await;
    assert_eq!(signal(&mut link, "ann", 1, "USR1").await, None);
    assert_eq!(signal(&mut link, "ann", 1, "USR1").await, None, "again: it was applied");
    logged(&bench, &order, |reach| reach.out == 13).await;
    // Another daemon is told again, and applies it again in vain.
    let mut link = bench.link(&order).await;
    let ann = link.hello().writers.iter().find(|writer| writer.from == "ann").expect("remembered");
    assert_eq!(ann.signals, 1);
    assert_eq!(signal(&mut link, "ann", 1, "USR1").await, None);
    let error = signal(&mut link, "ann", 2, "NONSENSE").await.expect("an error");
    assert!(error.contains("NONSENSE"), "{error}");
    assert_eq!(signal(&mut link, "bob", 1, "USR1").await, None);
    logged(&bench, &order, |reach| reach.out == 20).await;
    link.say(ToShim::Stdin { from: "ann".to_owned(), offset: 0, data: "\n".into() });
    let end = ended(&mut link).await;
    assert_eq!((end.ending, end.out.bytes), (Ending::Exited { code: 0 }, 20));
}

async fn what_is_left_running_goes_on(bench: Bench) {
    let release = bench.state.path().join("release");
    let said = bench.state.path().join("said");
    let line = format!(
        "(trap '' HUP; until [ -e {0} ]; do sleep 0.02; done; echo more; echo more >&2; echo alive > {1}) & exit 3",
        release.display(),
        said.display()
    );
    let order = bench.order(&line);
    let end = ended(&mut bench.start(&order)).await;
    assert_eq!(end.ending, Ending::Exited { code: 3 });
    assert!(end.left_running >= 1 && end.output_open && end.killed == 0, "{end:?}");
    gone(&bench, &order).await;
    // It can still write, so its pipes are open: to nobody, as its job is over.
    std::fs::write(&release, "").expect("written");
    eventually(PATIENCE, "its word", || std::fs::read_to_string(&said).ok().filter(|text| text == "alive\n"));
    eventually(PATIENCE, "the end of who kept its pipes open", || shims_of(&order).is_empty().then_some(()));
}

async fn a_shim_does_not_listen_to_signals(bench: Bench) {
    use nix::sys::signal::{Signal, kill};
    let order = bench.order("sleep 1000");
    let link = bench.start(&order);
    let shim = nix::unistd::Pid::from_raw(pid_of(&link));
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGPIPE] {
        kill(shim, signal).expect("sent");
    }
    drop(link);
    let mut link = bench.link(&order).await;
    assert_eq!(pid_of(&link), shim.as_raw());
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    let end = ended(&mut link).await;
    assert_eq!(end.ending, Ending::TimedOut {});
}
