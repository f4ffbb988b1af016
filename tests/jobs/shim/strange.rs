//! What nobody should say, versions that are not ours, and shims that do not answer.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peerbus::process::{ProcessKey, clear};
use peerbus::protocol::Ending;
use peerbus::shim::link::find;
use peerbus::shim::{Found, FromShim, JobDir, JobSpec, ToShim};
use serde_json::{Value, json};

use crate::harness::both;
use crate::harness::procs;
use crate::shim::bench::{Bench, PATIENCE, ended, gone, next, pid_of};

both! {
    nonsense_changes_nothing
    a_newer_daemon_is_understood
    a_newer_shim_is_understood
    a_shim_that_hangs_is_not_dead
    what_a_reboot_leaves_is_dead
    garbage_in_its_files_is_the_end_of_it
    strangers_are_not_listened_to
}

fn socket(bench: &Bench, order: &JobSpec) -> UnixStream {
    let stream = UnixStream::connect(bench.place(order).directory().join("socket")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn say(stream: &mut UnixStream, line: &Value) {
    writeln!(stream, "{line}").expect("said");
}

fn heard(lines: &mut impl BufRead) -> Value {
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line in time");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

async fn nonsense_changes_nothing(bench: Bench) {
    let order = bench.order("sleep 1000");
    let mut link = bench.start(&order);
    let shim = pid_of(&link);
    let mut endless = socket(&bench, &order);
    let block = vec![b'x'; 1 << 20];
    // It lets go of who says too much, and of who says nothing it knows.
    while endless.write_all(&block).is_ok() {}
    let mut rude = socket(&bench, &order);
    writeln!(rude, "GET / HTTP/1.1\r\n\r").expect("said");
    say(&mut rude, &json!({"stop": {"ending": {"timed_out": {}}}}));
    assert_eq!(rude.read(&mut [0; 100]).expect("the end"), 0, "a stop without a hello is none");
    let mut polite = socket(&bench, &order);
    say(&mut polite, &json!({"hello": {"v": 1}}));
    polite
        .write_all(b"\x00\xff\n{\"stop\":7}\n[]\n{\"signal\":{\"from\":\"ann\"}}\n{\"screen\":{\"a")
        .expect("said");
    drop(polite);
    link = bench.link(&order).await;
    assert_eq!(pid_of(&link), shim);
    let held = procs::peak_resident_bytes(shim);
    assert!(held < 64 << 20, "{held} bytes");
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    assert_eq!(ended(&mut link).await.ending, Ending::TimedOut {});
}

async fn a_newer_daemon_is_understood(bench: Bench) {
    let order = bench.order("sleep 1000");
    let _link = bench.start(&order);
    let mut newer = socket(&bench, &order);
    let mut lines = BufReader::new(newer.try_clone().expect("a second end"));
    say(&mut newer, &json!({"hello": {"v": 9, "instance": null, "dialect": ["x"]}}));
    let hello = heard(&mut lines);
    assert_eq!(hello["hello"]["state"], "running", "{hello}");
    say(&mut newer, &json!({"pause": {"for": "ever"}}));
    say(&mut newer, &json!({"resize": {"from": "ann", "n": 1, "cols": 80, "rows": 24, "pixels": [1, 2]}}));
    assert_eq!(heard(&mut lines), json!({"resized": {"from": "ann", "n": 1, "error": "it has no terminal"}}));
    say(&mut newer, &json!({"stop": {"ending": {"hibernated": {"until": "spring"}}}}));
    let Found::Ended(end) = tokio::task::block_in_place(|| {
        let all: Vec<String> = lines.lines().map(|line| line.expect("text")).collect();
        assert!(all.last().is_some_and(|line| line.starts_with("{\"ended\":")), "{all:?}");
        tokio::runtime::Handle::current().block_on(gone(&bench, &order))
    }) else {
        panic!("it ended")
    };
    assert!(matches!(end.ending, Ending::Cancelled { .. }), "{end:?}");
}

/// Somebody who plays a shim: holds the lock and listens.
fn play(place: &JobDir) -> (File, UnixListener) {
    fs::create_dir_all(place.directory()).expect("made");
    let lock = File::create(place.directory().join("lock")).expect("made");
    lock.lock().expect("held");
    (lock, UnixListener::bind(place.directory().join("socket")).expect("listening"))
}

async fn a_newer_shim_is_understood(bench: Bench) {
    let order = bench.order("");
    let place = bench.place(&order);
    let (lock, listener) = play(&place);
    let own = ProcessKey::of_self().expect("our own");
    let ended_file = place.directory().join("ended.json");
    let shim = std::thread::spawn(move || {
        let (mut daemon, _) = listener.accept().expect("a daemon");
        let mut lines = BufReader::new(daemon.try_clone().expect("a second end"));
        assert_eq!(heard(&mut lines)["hello"]["v"], 1);
        let reach = json!({"out": 1, "err": 0, "first_out": 0, "first_err": 0, "compressed": true});
        say(&mut daemon, &json!({"weather": {"rain": true}}));
        say(
            &mut daemon,
            &json!({"hello": {
                "v": 9, "job": order.spec.job, "shim": own, "process": own, "state": "running", "log": reach,
                "mood": "fine", "writers": [{"from": "ann", "received": 3, "limit": 9, "height": 180}]
            }}),
        );
        daemon.write_all(b"garbage\n").expect("said");
        say(&mut daemon, &json!({"log": reach}));
        let total = json!({"bytes": 1, "blake3": "x"});
        let end = json!({
            "v": 9, "ending": {"vaporized": {"by": "sun"}}, "out": total, "err": total, "first": {"out": 0, "err": 0},
            "killed": 0, "left_running": 0, "output_open": false, "duration_ms": 7, "ended_at": "soon", "soul": 1
        });
        fs::write(ended_file, end.to_string()).expect("written");
        say(&mut daemon, &json!({"ended": end}));
        drop(lock);
    });
    let mut link = bench.link(&bench_order(&bench, &place)).await;
    assert_eq!(link.hello().writers[0].want.received, 3);
    assert!(matches!(next(&mut link).await, Some(FromShim::Log(reach)) if reach.out == 1));
    let end = ended(&mut link).await;
    let Ending::Unknown { why } = &end.ending else { panic!("nobody knows that one: {end:?}") };
    assert!(why.contains("vaporized"), "{why}");
    assert!(next(&mut link).await.is_none());
    tokio::task::spawn_blocking(|| shim.join()).await.expect("joined").expect("no panic");
    assert!(matches!(find(&place).await.expect("looked at"), Found::Ended(found) if *found == end));
}

/// An order for the job of this place.
fn bench_order(bench: &Bench, place: &JobDir) -> JobSpec {
    let name = place.directory().file_name().and_then(|name| name.to_str()).expect("a name");
    let mut order = bench.order("");
    order.spec.job = name.parse().expect("a job");
    order
}

async fn a_shim_that_hangs_is_not_dead(bench: Bench) {
    let order = bench.order("sleep 1000");
    let link = bench.start(&order);
    let shim = Pid::from_raw(pid_of(&link));
    drop(link);
    kill(shim, Signal::SIGSTOP).expect("stopped");
    let error = find(&bench.place(&order)).await.expect_err("it does not answer");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(error.to_string().contains(&format!("process {shim}, lives")), "{error}");
    kill(shim, Signal::SIGCONT).expect("woken");
    let mut link = bench.link(&order).await;
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    ended(&mut link).await;
}

async fn what_a_reboot_leaves_is_dead(bench: Bench) {
    let order = bench.order("");
    let place = bench.place(&order);
    // The socket and the lock are there, and nobody is behind them.
    drop(play(&place));
    assert!(matches!(find(&place).await.expect("looked at"), Found::NeverStarted));
    let another = ProcessKey { boot_id: "another".to_owned(), ..ProcessKey::of_self().expect("our own") };
    let about = json!({
        "v": 1, "job": order.spec.job, "shim": another, "version": "0",
        "job_scope": order.job_scope, "log_limit": 1, "started_at": "then"
    });
    fs::write(place.directory().join("shim.json"), about.to_string()).expect("written");
    match find(&place).await.expect("looked at") {
        Found::Died { why, job_scope } => {
            assert!(why.contains("machine was started anew") && job_scope == Some(order.job_scope), "{why}");
        }
        found => panic!("{found:?}"),
    }
}

/// A shim that is gone will not write them again: what cannot be read now never will.
async fn garbage_in_its_files_is_the_end_of_it(bench: Bench) {
    let order = bench.order("sleep 1000");
    let place = bench.place(&order);
    let file = |name: &str| place.directory().join(name);
    let died = async |what: &str| match find(&place).await.expect("looked at") {
        Found::Died { why, job_scope } => {
            assert!(why.contains(what), "{why}");
            job_scope
        }
        found => panic!("{found:?}"),
    };
    let link = bench.start(&order);
    let about = logged_about(&place).await;
    crate::shim::bench::kill_shim(&link);
    gone(&bench, &order).await;
    for garbage in [b"".as_slice(), b"{", b"\0\0\0\0", b"{\"v\":1}\n", b"\xff"] {
        fs::write(file("shim.json"), garbage).expect("written");
        assert_eq!(died("shim.json: ").await, None, "where it lived is not known by it");
        fs::write(file("ended.json"), garbage).expect("written");
        assert_eq!(died("ended.json: ").await, None);
        fs::write(file("shim.json"), &about).expect("written");
        assert_eq!(died("ended.json: ").await, Some(order.job_scope.clone()));
        fs::remove_file(file("ended.json")).expect("removed");
    }
    // It may have run once, so it is not started again.
    fs::write(file("shim.json"), "").expect("written");
    assert!(bench.try_start(&order).is_err());
    clear(&order.job_scope, PATIENCE).await.expect("cleared");
    assert_eq!(procs::of_job(&order.spec.job.to_string()), []);
}

/// What the shim wrote of itself, with the command it has started.
async fn logged_about(place: &JobDir) -> Vec<u8> {
    let written = async {
        while place.about().expect("readable").is_none_or(|about| about.process.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("written in time");
    fs::read(place.directory().join("shim.json")).expect("there")
}

/// The calling thread alone is another user from now on.
fn become_nobody() {
    use nix::libc;
    const NOBODY: libc::uid_t = 65534;
    const AS_BEFORE: libc::uid_t = libc::uid_t::MAX;
    // SAFETY: a plain system call, which unlike the function of this name changes this thread only.
    let changed = unsafe { libc::syscall(libc::SYS_setresuid, AS_BEFORE, NOBODY, AS_BEFORE) };
    assert_eq!(changed, 0, "this test needs root");
}

/// Root may do anything, but a job's own user is not who its shim listens to.
async fn strangers_are_not_listened_to(bench: Bench) {
    let order = bench.order("sleep 1000");
    let mut link = bench.start(&order);
    // As if somebody had opened every door on the way.
    let directory = bench.place(&order).directory().to_owned();
    let socket = directory.join("socket");
    for path in socket.ancestors().take(4) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("opened");
    }
    let stranger = std::thread::spawn(move || {
        become_nobody();
        let mut stream = UnixStream::connect(&socket).expect("every door is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        // It may be shown the door before it has said a word.
        let said = stream.write_all(b"{\"hello\":{\"v\":1}}\n");
        said.and_then(|()| stream.read(&mut [0; 100]))
    });
    let heard = tokio::task::spawn_blocking(|| stranger.join()).await.expect("joined").expect("no panic");
    // The end, or the word that what was said will not be read.
    assert!(heard.as_ref().map_or(true, |read| *read == 0), "{heard:?}");
    link.say(ToShim::Screen { ask: 1 });
    assert!(matches!(next(&mut link).await, Some(FromShim::Screen(_))), "it listens to us as before");
    let said = fs::read_to_string(directory.join("shim.log")).expect("a log");
    assert!(said.contains("they are user 65534"), "{said}");
    link.say(ToShim::Stop { ending: Ending::TimedOut {} });
    ended(&mut link).await;
}
