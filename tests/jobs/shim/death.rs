//! Shims that are killed, and daemons that are.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use peerbus::process::{ContainmentKind, Detached, ExitKind, clear, open_log};
use peerbus::protocol::Ending;
use peerbus::protocol::frame::StreamKind;
use peerbus::shim::link::start;
use peerbus::shim::messages::{JobSpec, ShimState};
use peerbus::shim::{Found, FromShim, SpawnError, ToShim};

use crate::harness::both;
use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::shim::bench::{Along, Bench, PATIENCE, ended, gone, kill_shim, logged, next, shims_of};

both! {
    a_killed_shim_leaves_its_log_and_no_process
    a_shim_killed_while_it_starts_is_told_apart
    the_newest_connection_counts
    an_end_that_nobody_heard_is_found
}

/// Kills shims at many moments of a job that writes numbers to both streams.
async fn a_killed_shim_leaves_its_log_and_no_process(bench: Bench) {
    for written in [0, 1, 5_000, 70_000, 300_000] {
        let order =
            bench.order("setsid sleep 1000 & i=0; while :; do echo $i; echo $i >&2; i=$((i+1)); done");
        let link = bench.start(&order);
        let seen = logged(&bench, &order, |end| end.sum() >= written).await;
        kill_shim(&link);
        let Found::Died { why, job_scope } = gone(&bench, &order).await else { panic!("it was killed") };
        assert!(why.starts_with("process ") && why.contains(" ended"), "{why}");
        assert_eq!(job_scope.as_ref(), Some(&order.job_scope));
        let cleared = tokio::time::timeout(PATIENCE, clear(&order.job_scope, Duration::from_secs(5))).await;
        cleared.expect("in time").expect("cleared");
        assert_eq!(procs::of_job(&order.spec.job.to_string()), []);
        let mut along = Along::of(&bench.place(&order));
        along.read_on();
        assert!(along.at >= seen.sum(), "{} of {}", along.at, seen.sum());
        for stream in [StreamKind::Out, StreamKind::Err] {
            let text = along.text(stream);
            let expected: String = (0..=text.lines().count()).map(|number| format!("{number}\n")).collect();
            assert!(expected.starts_with(&text), "what was written, to the byte");
        }
    }
}

/// Whenever it is killed, its traces say whether the command may have run.
async fn a_shim_killed_while_it_starts_is_told_apart(bench: Bench) {
    let (mut died, mut none) = (0, 0);
    for pause in (0..40).map(|step| Duration::from_micros(step * 500)) {
        let mark = bench.state.path().join("ran");
        let order = bench.order(&format!("echo > {}; sleep 1000", mark.display()));
        let job = order.spec.job.to_string();
        let killer = std::thread::spawn(move || {
            // The shim itself is looked for by its arguments, as soon as it is there.
            let own = nix::unistd::getpid().as_raw();
            let shim = eventually(PATIENCE, "a shim", || {
                procs::descendants(own).into_iter().find(|process| process.arguments.get(2) == Some(&job))
            });
            std::thread::sleep(pause);
            procs::kill_all(&[shim]);
        });
        let started = bench.try_start(&order);
        killer.join().expect("killed");
        let found = gone(&bench, &order).await;
        match (&started, &found) {
            (Err(SpawnError::Failed(_)), Found::NeverStarted) => {
                none += 1;
                assert!(!mark.exists(), "nothing ran");
            }
            (Err(SpawnError::Died(_)) | Ok(_), Found::Died { job_scope: Some(job_scope), .. }) => {
                died += 1;
                clear(job_scope, Duration::from_secs(5)).await.expect("cleared");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(procs::of_job(&order.spec.job.to_string()), []);
        let _ = std::fs::remove_file(&mark);
    }
    assert!(died > 0, "{died} died, {none} never started");
}

/// A daemon that ends in the moment in which its shim has just started the command leaves it alone, as all others.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_while_it_starts_a_job_leaves_its_shim_alone() {
    let bench = Bench::new(ContainmentKind::Best);
    for _ in 0..50 {
        let order = bench.order("sleep 1000");
        let started = started_by_one_that_ends(&bench, &order);
        match bench.find(&order).await {
            Found::Alive(mut link) => {
                link.say(ToShim::Stop { ending: Ending::TimedOut {} });
                assert_eq!(ended(&mut link).await.ending, Ending::TimedOut {});
            }
            Found::NeverStarted => assert!(matches!(started, Err(SpawnError::Failed(_))), "{started:?}"),
            found => panic!("{started:?}, and then {found:?}"),
        }
        // It could have been too early, or too late.
        if matches!(started, Err(SpawnError::Unheard(_))) {
            return;
        }
    }
    panic!("it never ended in that moment");
}

/// The runtime that all connections of a daemon belong to ends once the shim is there.
fn started_by_one_that_ends(bench: &Bench, order: &JobSpec) -> Result<(), SpawnError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (handle, place) = (runtime.handle().clone(), bench.place(order));
    let containment_manager = &bench.containment_manager;
    std::thread::scope(|scope| {
        let starting = scope.spawn(move || {
            let _inside = handle.enter();
            start(&place, order, containment_manager).map(|_| ())
        });
        let shim = eventually(PATIENCE, "a shim", || shims_of(order).pop());
        let shim = nix::unistd::Pid::from_raw(shim.pid);
        let _ = nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGSTOP);
        runtime.shutdown_background();
        let _ = nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGCONT);
        starting.join().expect("no panic")
    })
}

async fn the_newest_connection_counts(bench: Bench) {
    let order = bench.order("sleep 1000");
    let mut first = bench.start(&order);
    let mut second = bench.link(&order).await;
    assert!(next(&mut first).await.is_none(), "the first is over");
    assert_eq!(second.hello().state, ShimState::Running);
    assert_eq!(second.hello().process, first.hello().process);
    first.say(ToShim::Stop { ending: Ending::TimedOut {} });
    second.say(ToShim::Rename { name: Some("new".to_owned()) });
    second.say(ToShim::Screen { ask: 7 });
    let FromShim::Screen(screen) = next(&mut second).await.expect("an answer") else { panic!("a screen") };
    assert!(screen.ask == 7 && screen.error.is_some() && screen.size.is_none(), "{screen:?}");
    let mut third = bench.link(&order).await;
    assert_eq!(third.hello().name.as_deref(), Some("new"));
    third.say(ToShim::Stop { ending: Ending::Cancelled { why: "enough".to_owned() } });
    assert_eq!(ended(&mut third).await.ending, Ending::Cancelled { why: "enough".to_owned() });
}

async fn an_end_that_nobody_heard_is_found(bench: Bench) {
    let order = bench.order("(trap '' HUP; read x < /dev/zero) & echo said; exit 4");
    drop(bench.start(&order));
    let Found::Ended(end) = gone(&bench, &order).await else { panic!("it ended") };
    assert_eq!((end.ending, end.out.bytes), (Ending::Exited { code: 4 }, 5));
    // Once and for all.
    assert!(matches!(bench.find(&order).await, Found::Ended(_)));
    procs::kill_all(&procs::of_job(&order.spec.job.to_string()));
}

/// Its daemon dies before it has said all of what is to be done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_order_is_none() {
    let bench = Bench::new(ContainmentKind::Best);
    for said in ["", "{\"v\":1,\"directory\":\"/tmp\",\"order\":{", "nonsense\n{}\n"] {
        let order = bench.order("echo ran");
        let place = bench.place(&order);
        std::fs::create_dir_all(place.directory()).expect("made");
        let lock = File::create(place.directory().join("lock")).expect("made");
        lock.lock().expect("free");
        let output = open_log(&place.directory().join("shim.log")).expect("made");
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        let name = order.spec.job.to_string();
        let shim = bench
            .containment_manager
            .while_starting(|| Detached::shim(&bench.containment_manager, &name, &theirs, &output, &lock))
            .expect("started");
        drop((lock, theirs));
        ours.write_all(said.as_bytes()).expect("said");
        let held = File::open(place.directory().join("lock")).expect("there").try_lock_shared();
        assert!(matches!(held, Err(TryLockError::WouldBlock)), "it holds the lock from the first moment on");
        drop(ours);
        let exit = tokio::time::timeout(PATIENCE, shim.exited()).await.expect("it ends");
        assert_eq!(exit.status, ExitKind::Code(0));
        assert!(matches!(bench.find(&order).await, Found::NeverStarted));
        assert!(!place.log().exists());
    }
}
