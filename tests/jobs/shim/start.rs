//! How a shim begins, and what it has.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use peerbus::process::{Command, ContainmentKind, ContainmentManager, JobScope};
use peerbus::protocol::Ending;
use peerbus::protocol::ending::StartFailure;
use peerbus::protocol::frame::StreamKind;
use peerbus::shim::messages::ShimState;
use peerbus::shim::{Found, JobDir, SpawnError};

use crate::harness::both;
use crate::harness::procs;
use crate::harness::wait::eventually;
use crate::shim::bench::{Along, Bench, PATIENCE, ended, gone, kill_shim, pid_of, shims_of};

both! {
    a_job_is_kept_to_its_end
    what_cannot_be_started_leaves_nothing
    a_job_is_started_once
    nothing_of_the_daemon_and_no_secret_shows
    a_shim_is_swept_only_when_it_is_gone
}

async fn a_job_is_kept_to_its_end(bench: Bench) {
    let order = bench.order("echo out; echo err >&2; exit 7");
    let mut link = bench.start(&order);
    assert_eq!(link.hello().state, ShimState::Running);
    let end = ended(&mut link).await;
    assert_eq!(end.ending, Ending::Exited { code: 7 });
    assert_eq!((end.killed, end.left_running, end.output_open), (0, 0, false));
    assert!(link.next().await.is_none(), "the shim is gone");
    let mut along = Along::of(&bench.place(&order));
    along.read_on();
    assert_eq!(
        (along.text(StreamKind::Out).as_str(), along.text(StreamKind::Err).as_str()),
        ("out\n", "err\n")
    );
    along.must_be_all_of(&end);
    let Found::Ended(found) = gone(&bench, &order).await else { panic!("it ended") };
    assert_eq!(*found, end);
    let (JobScope::Cgroup { path } | JobScope::Reaper { lock: path }) = &order.job_scope;
    assert!(!path.exists(), "{}", path.display());
    assert_eq!(JobDir::all(bench.state.path()).expect("read"), [(order.spec.job, bench.place(&order))]);
}

async fn what_cannot_be_started_leaves_nothing(bench: Bench) {
    let mut order = bench.order("");
    order.spec.command = Command::Argv(vec!["no-such-command".to_owned()]);
    let Err(SpawnError::Failed(error)) = bench.try_start(&order) else { panic!("it cannot start") };
    assert_eq!(error.why, StartFailure::CommandNotFound);
    let Found::Ended(found) = bench.find(&order).await else { panic!("that is written down") };
    assert_eq!(found.ending, Ending::NotStarted { why: error.why, message: error.message });
    let mut order = bench.order("true");
    order.spec.directory = "/no/such/directory".to_owned();
    let Err(SpawnError::Failed(error)) = bench.try_start(&order) else { panic!("it cannot start") };
    assert_eq!(error.why, StartFailure::NoSuchDirectory);
    assert_eq!(shims_of(&order), []);
}

async fn a_job_is_started_once(bench: Bench) {
    let order = bench.order("sleep 1000");
    assert!(matches!(bench.find(&order).await, Found::NeverStarted));
    let link = bench.start(&order);
    assert_eq!(shims_of(&order).len(), 1);
    let refused = |bench: &Bench, why: &str| match bench.try_start(&order) {
        Err(SpawnError::Failed(error)) => assert!(error.message.contains(why), "{error}"),
        other => panic!("started again: {other:?}"),
    };
    refused(&bench, "it has one already");
    kill_shim(&link);
    gone(&bench, &order).await;
    refused(&bench, "it has had one before");
    procs::kill_all(&procs::of_job(&order.spec.job.to_string()));
}

async fn nothing_of_the_daemon_and_no_secret_shows(bench: Bench) {
    let mut order = bench.order("echo $SECRET; readlink /proc/self/cwd; exec sleep 1000");
    order.spec.env.push(("SECRET".to_owned(), "mushroom".to_owned()));
    let foreign = fs::File::open("/etc/passwd").expect("a file of the daemon's");
    let mut link = bench.start(&order);
    crate::shim::bench::logged(&bench, &order, |reach| reach.out > 10).await;
    // It has written down what it is, and goes on with that no more.
    let about = || bench.place(&order).about().expect("readable").filter(|about| about.process.is_some());
    eventually(PATIENCE, "what it is", about);
    let shim = pid_of(&link);
    let look = procs::look_at(shim).expect("a shim");
    assert_eq!(look.session, shim, "a session of its own");
    let names: Vec<String> = fs::read_dir(format!("/proc/{shim}/fd"))
        .expect("its descriptors")
        .filter_map(|fd| fs::read_link(fd.expect("one").path()).ok())
        .map(|name| name.display().to_string())
        .collect();
    assert!(!names.iter().any(|name| name == "/etc/passwd"), "{names:?}");
    drop(foreign);
    assert_eq!(procs::working_directory(shim), Some("/".into()));
    let shown = [procs::environment(shim), look.arguments].concat().join(" ");
    assert!(!shown.contains("mushroom") && !shown.contains("SECRET"), "{shown}");
    let directory = bench.place(&order).directory().to_owned();
    let mode = |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    for file in fs::read_dir(&directory).expect("a directory") {
        let path = file.expect("a file").path();
        assert!(mode(&path) & 0o077 == 0, "{}: {:o}", path.display(), mode(&path));
        if path.is_file() {
            let text = fs::read(&path).expect("readable");
            assert!(!String::from_utf8_lossy(&text).contains("mushroom"), "{}", path.display());
        }
    }
    link.say(peerbus::shim::ToShim::Stop { ending: Ending::TimedOut {} });
    assert_eq!(ended(&mut link).await.ending, Ending::TimedOut {});
}

async fn a_shim_is_swept_only_when_it_is_gone(bench: Bench) {
    let order = bench.order("read x");
    let mut order = peerbus::shim::JobSpec { name: Some("session".to_owned()), ..order };
    order.spec.stdin = peerbus::process::Stdin::Pipe;
    let mut link = bench.start(&order);
    let cgroup = bench.containment_manager.cgroups().map(|base| base.join("shims"));
    bench.containment_manager.sweep();
    if let Some(cgroup) = &cgroup {
        let inside = fs::read_to_string(cgroup.join("cgroup.procs")).expect("a cgroup");
        assert!(inside.lines().any(|pid| pid == pid_of(&link).to_string()), "{inside}");
    }
    // With its command as soon as the disk has it.
    let about = eventually(PATIENCE, "what it is", || {
        bench.place(&order).about().expect("readable").filter(|about| about.process.is_some())
    });
    assert_eq!((about.name.as_deref(), about.process), (Some("session"), link.hello().process.clone()));
    link.say(peerbus::shim::ToShim::Stop { ending: Ending::TimedOut {} });
    ended(&mut link).await;
    gone(&bench, &order).await;
    eventually(PATIENCE, "an empty cgroup of shims", || {
        bench.containment_manager.sweep();
        cgroup.as_ref().is_none_or(|cgroup| !cgroup.exists()).then_some(())
    });
}

/// The next daemon sweeps while a shim that its predecessor started makes the cgroup of its job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_by_another_daemon_harms_no_start() {
    let bench = Bench::new(ContainmentKind::Best);
    if bench.containment_manager.cgroups().is_none() {
        // Without cgroups there is nothing to sweep, and `best` is what the other half of the tests is.
        assert!(matches!(bench.order("true").job_scope, JobScope::Reaper { .. }));
        return;
    }
    // The cgroup of the shims themselves is its daemon's own to sweep.
    let mut stays = bench.start(&bench.order("sleep 1000"));
    let next = ContainmentManager::open(bench.state.path(), "unused".into(), ContainmentKind::Best)
        .expect("a containment_manager");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let sweeper = std::thread::spawn(move || {
        let mut sweeps = 0_u64;
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            next.sweep();
            sweeps += 1;
        }
        sweeps
    });
    for _ in 0..30 {
        let order = bench.order("echo here");
        let end = ended(&mut bench.start(&order)).await;
        assert_eq!((end.ending, end.out.bytes), (Ending::Exited { code: 0 }, 5));
    }
    drop(stop);
    assert!(sweeper.join().expect("no panic") > 30);
    stays.say(peerbus::shim::ToShim::Stop { ending: Ending::TimedOut {} });
    ended(&mut stays).await;
}
