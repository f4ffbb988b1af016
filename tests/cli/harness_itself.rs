//! The harness, tried by itself: a test that trusts it must be able to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::child::{Keep, Live, piped};
use crate::harness::fleet::{DCommand, READY_DEADLINE};
use crate::harness::nats::{Login, Raw};
use crate::harness::procs;
use crate::harness::relay::{Direction, Relay};
use crate::harness::scratch::{Scratch, end_forgotten};
use crate::harness::server::{Server, ServerOptions};
use crate::harness::wait::{eventually, never, within};
use nix::sys::signal::Signal;
use peerbus::process::cgroups_of;

const SOON: Duration = Duration::from_secs(30);
/// Long enough for what must not arrive to have arrived.
const A_WHILE: Duration = Duration::from_millis(300);

/// A pair of clients: one that hears `subject` and answers nothing, one that publishes.
fn pair(hearing: &str, publishing: &str, subject: &str) -> (Raw, u64, Raw) {
    let mut hearer = Raw::connect(hearing);
    let sid = hearer.subscribe(subject);
    (hearer, sid, Raw::connect(publishing))
}

#[test]
fn a_server_carries_messages_with_headers_and_replies() {
    let server = Server::start();
    let (mut hearer, sid, mut publisher) = pair(&server.url(), &server.url(), "a.>");
    publisher.publish_headers("a.b", "back", &[("D-Kind", "out"), ("D-Seq", "1")], b"\x00\xff\r\n!");
    let message = hearer.expect_on(sid, SOON, "the message");
    assert_eq!(message.subject, "a.b");
    assert_eq!(message.reply.as_deref(), Some("back"));
    assert_eq!((message.header("d-kind"), message.header("D-Seq")), (Some("out"), Some("1")));
    assert_eq!(message.payload, b"\x00\xff\r\n!");
    assert_eq!(message.status, None);

    publisher.publish("a.c", "");
    let message = hearer.expect_on(sid, SOON, "the empty message");
    assert!(message.payload.is_empty() && message.reply.is_none());
}

#[test]
fn a_request_is_answered_or_has_no_responders() {
    let server = Server::start();
    let mut principal = Raw::connect(&server.url());
    assert!(principal.request("nobody", "?", SOON).is_no_responders());

    let (mut answerer, sid, _) = pair(&server.url(), &server.url(), "somebody");
    let answering = std::thread::spawn(move || {
        let question = answerer.expect_on(sid, SOON, "the question");
        answerer.publish(&question.reply.clone().unwrap(), format!("{}!", question.text()));
        answerer.barrier();
    });
    assert_eq!(principal.request("somebody", "hello", SOON).text(), "hello!");
    answering.join().unwrap();
}

#[test]
fn the_raw_client_can_say_what_no_client_should() {
    let server = Server::start();
    let (mut hearer, sid, mut publisher) = pair(&server.url(), &server.url(), ">");
    publisher.publish_bytes(b"a", b"", Some(b"NATS/1.0\r\nX: a\rb\r\n\r\n"), b"1");
    let message = hearer.expect_on(sid, SOON, "the message with a bare \\r");
    assert_eq!(message.header("X"), Some("a\rb"));
    publisher.publish_bytes(b"b\xff\xfe", b"", None, b"2");
    let message = hearer.expect_on(sid, SOON, "the message with a broken subject");
    assert_eq!(message.text(), "2");
    publisher.publish_bytes(b"c", b"", Some(b"no headers at all"), b"3");
    let message = hearer.expect_on(sid, SOON, "the message with a broken block of headers");
    assert_eq!((message.headers.len(), message.text().as_str()), (0, "3"));
}

#[test]
fn a_queue_group_shares_and_an_ended_subscription_hears_nothing() {
    let server = Server::start();
    let mut hearer = Raw::connect(&server.url());
    let first = hearer.subscribe_queue("work", "group");
    let second = hearer.subscribe_queue("work", "group");
    let mut publisher = Raw::connect(&server.url());
    publisher.publish("work", "1");
    publisher.barrier();
    hearer.barrier();
    assert!(hearer.next(SOON).is_some());
    assert!(hearer.next(A_WHILE).is_none());
    hearer.unsubscribe(first);
    hearer.unsubscribe(second);
    publisher.publish("work", "2");
    publisher.barrier();
    assert!(hearer.next(A_WHILE).is_none());
}

#[test]
fn a_killed_server_comes_back_on_the_same_port() {
    let server = Server::start();
    let url = server.url();
    let mut client = Raw::connect(&url);
    let before = server.pid();
    server.kill();
    assert!(client.wait_for_disconnect(SOON));
    assert!(procs::look_at(before).is_none());
    assert!(Raw::try_connect(&url, &Login::default()).is_err());

    server.restart();
    assert_ne!(server.pid(), before);
    assert_eq!(server.url(), url);
    assert!(Raw::connect(&url).request("nobody", "", SOON).is_no_responders());

    server.stop();
    server.restart();
    Raw::connect(&url);
}

#[test]
fn a_frozen_server_says_nothing_until_it_thaws() {
    let server = Server::start();
    let mut client = Raw::connect(&server.url());
    server.freeze();
    procs::wait_for_state(server.pid(), 'T', SOON);
    assert!(client.try_barrier(A_WHILE).is_err());
    server.thaw();
    client.barrier();
}

#[test]
fn a_server_asks_for_a_token_or_a_user_and_keeps_permissions() {
    let open = |server: &Server, login: &Login| Raw::try_connect(&server.url(), login);
    let token = Login { token: Some("secret".to_owned()), ..Login::default() };
    let server = ServerOptions::new().token("secret").start();
    assert!(open(&server, &Login::default()).is_err());
    assert!(open(&server, &token).is_ok());

    let alice = Login { user: Some(("alice".to_owned(), "a".to_owned())), ..Login::default() };
    let bob = Login { user: Some(("bob".to_owned(), "b".to_owned())), ..Login::default() };
    let options = ServerOptions::new().user("alice", "a").user_with("bob", "b", "{ publish: \"b.>\" }");
    let server = options.start();
    assert!(open(&server, &token).is_err());
    assert!(open(&server, &alice).is_ok());
    let mut bob = open(&server, &bob).unwrap();
    bob.publish("b.c", "allowed");
    bob.barrier();
    assert_eq!(bob.errors, Vec::<String>::new());
    bob.publish("a.c", "not allowed");
    bob.barrier();
    assert!(bob.errors[0].starts_with("Permissions Violation for Publish"), "{:?}", bob.errors);
}

#[test]
fn a_server_has_the_settings_it_was_given() {
    let options = ServerOptions::new().max_payload(4096).ping(Duration::from_millis(200), 1).jetstream();
    let server = options.start();
    assert!(server.version().starts_with("2."), "{}", server.version());
    let mut client = Raw::connect(&server.url());
    assert_eq!(client.max_payload(), 4096);
    assert_eq!(client.info()["jetstream"], true);
    client.answer_pings(false);
    assert!(client.wait_for_disconnect(SOON), "a client that answers no ping is dropped");

    server.reload(&ServerOptions::new().max_payload(8192).jetstream());
    assert_eq!(Raw::connect(&server.url()).max_payload(), 8192);
}

#[test]
fn a_cut_link_resets_and_refuses_until_it_heals() {
    let server = Server::start();
    let relay = Relay::to(server.address());
    let mut client = Raw::connect(&relay.url());
    assert_eq!((relay.connections(), relay.open()), (1, 1));
    relay.cut();
    assert_eq!(relay.open(), 0);
    assert!(client.wait_for_disconnect(SOON));
    assert!(Raw::try_connect(&relay.url(), &Login::default()).is_err());
    relay.wait_for_connections(2, SOON);
    relay.heal();
    Raw::connect(&relay.url());
}

#[test]
fn a_link_is_cut_on_the_very_byte() {
    let server = Server::start();
    let relay = Relay::to(server.address());
    let (mut hearer, sid, mut publisher) = pair(&relay.url(), &server.url(), "data");
    for attempt in 0..2 {
        let before = relay.passed(Direction::ToClient);
        relay.cut_after(Direction::ToClient, 100_000);
        for _ in 0..40 {
            publisher.publish("data", vec![b'x'; 8192]);
        }
        relay.wait_until_cut(SOON);
        // A PING of the server, 6 bytes, may have passed just before the cut was set.
        let early = relay.passed(Direction::ToClient) - before - 100_000;
        assert!([0, 6].contains(&early), "{early} bytes too many");
        let mut got = 0;
        while hearer.next_on(sid, SOON).is_some() {
            got += 1;
        }
        assert_eq!(got, 12, "whole messages before the cut, attempt {attempt}");
        relay.heal();
        hearer = Raw::connect(&relay.url());
        assert_eq!(hearer.subscribe("data"), sid);
    }
}

#[test]
fn a_frozen_link_loses_nothing() {
    let server = Server::start();
    let relay = Relay::to(server.address());
    let (mut hearer, sid, mut publisher) = pair(&relay.url(), &server.url(), "data");
    relay.freeze();
    publisher.publish("data", "held");
    publisher.barrier();
    never(A_WHILE, "a message through a frozen link", || hearer.next_on(sid, Duration::ZERO));
    let late = Raw::try_connect_within(&relay.url(), &Login::default(), A_WHILE);
    assert_eq!(late.err().unwrap().kind(), std::io::ErrorKind::TimedOut, "no greeting, no refusal");
    assert_eq!(relay.open(), 1);
    relay.heal();
    assert_eq!(hearer.expect_on(sid, SOON, "what was held").text(), "held");

    relay.freeze_way(Direction::ToServer);
    publisher.publish("data", "down");
    assert_eq!(hearer.expect_on(sid, SOON, "the other direction").text(), "down");
    assert!(hearer.try_barrier(A_WHILE).is_err());
    relay.cut();
    assert!(hearer.wait_for_disconnect(SOON), "a cut ends a frozen connection too");
}

#[test]
fn a_throttled_link_is_as_slow_as_it_should_be_in_that_direction_only() {
    let server = Server::start();
    let relay = Relay::to(server.address());
    let (mut hearer, sid, mut publisher) = pair(&relay.url(), &server.url(), "data");
    relay.throttle_way(Direction::ToClient, 400_000);
    let begin = Instant::now();
    for _ in 0..20 {
        publisher.publish("data", vec![b'x'; 10_000]);
    }
    for _ in 0..20 {
        hearer.expect_on(sid, SOON, "a message");
    }
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(480), "200 kB at 400 kB/s took {took:?}");
    assert!(took < Duration::from_secs(20), "200 kB at 400 kB/s took {took:?}");

    let begin = Instant::now();
    let mut up = Raw::connect(&relay.url());
    // At 400 kB/s this would take more than twenty seconds, and so would what follows.
    for _ in 0..10 {
        up.publish("elsewhere", vec![b'x'; 900_000]);
    }
    up.barrier();
    assert!(begin.elapsed() < Duration::from_secs(10), "the other direction took {:?}", begin.elapsed());

    relay.throttle(0);
    let begin = Instant::now();
    for _ in 0..10 {
        publisher.publish("data", vec![b'x'; 900_000]);
    }
    for _ in 0..10 {
        hearer.expect_on(sid, SOON, "a message");
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "without a limit it took {:?}", begin.elapsed());
}

#[test]
fn a_delayed_link_is_late_and_not_slow() {
    let server = Server::start();
    let relay = Relay::to(server.address());
    let mut client = Raw::connect(&relay.url());
    relay.delay(Duration::from_millis(100));
    let begin = Instant::now();
    client.barrier();
    let round_trip = begin.elapsed();
    assert!(round_trip >= Duration::from_millis(200), "{round_trip:?}");

    let begin = Instant::now();
    // One by one they would take twenty seconds.
    for _ in 0..200 {
        client.publish("data", vec![b'x'; 20_000]);
    }
    client.barrier();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "two hundred messages are under way together: {took:?}");
}

#[test]
fn a_relay_counts_and_can_be_waited_for() {
    let server = Server::start();
    let relay = Relay::to(server.address());
    let mut client = Raw::connect(&relay.url());
    let before = relay.passed(Direction::ToServer);
    let sending = std::thread::spawn(move || {
        for _ in 0..10 {
            client.publish("data", vec![b'x'; 10_000]);
        }
        client.barrier();
    });
    relay.wait_until_passed(Direction::ToServer, before + 100_000, SOON);
    sending.join().unwrap();
    assert!(relay.passed(Direction::ToClient) > 0);
    eventually(SOON, "the connection to be gone", || (relay.open() == 0).then_some(()));
}

#[test]
fn a_relay_leads_to_a_server_that_comes_back() {
    let server = Server::start();
    let relay = Relay::to(server.address());
    let mut client = Raw::connect(&relay.url());
    server.kill();
    assert!(client.wait_for_disconnect(SOON));
    assert!(Raw::try_connect(&relay.url(), &Login::default()).is_err());
    server.restart();
    Raw::connect(&relay.url()).barrier();
}

fn shell(script: &str) -> std::process::Command {
    let mut command = piped("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn a_child_is_heard_while_it_runs_and_ends_with_its_code() {
    let mut command = shell("echo one; echo two >&2; read line; echo got $line; exit 7");
    command.stdin(std::process::Stdio::piped());
    let mut live = Live::start("a shell", command).unwrap();
    live.stdout_line(SOON, |line| line == "one");
    live.stderr_line(SOON, |line| line == "two");
    assert!(live.try_wait(A_WHILE).is_none());
    live.write(b"three\n").unwrap();
    let finished = live.wait(SOON).expect_code(7);
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("one\ngot three\n", "two\n"));

    let mut live = Live::start("a shell", shell("exec sleep 1000")).unwrap();
    live.signal(Signal::SIGTERM);
    assert_eq!(live.wait(SOON).signal(), Some(15));
}

#[test]
fn a_child_whose_output_is_paused_stops_and_one_whose_output_is_closed_gets_sigpipe() {
    let mut live = Live::start_keeping("yes", piped("yes"), Keep::Count, true).unwrap();
    assert!(!live.stdout.reaches(1, A_WHILE));
    live.stdout.resume();
    live.stdout_reaches(1_000_000, SOON);
    live.stdout.pause();
    live.stdout.close();
    assert_eq!(live.wait(SOON).signal(), Some(13));
    assert!(live.stdout.bytes().is_empty() && live.stdout.total() >= 1_000_000);
}

#[test]
fn a_late_child_is_killed_and_its_output_shown() {
    let failure = std::panic::catch_unwind(|| {
        Live::start("a shell", shell("echo so far; exec sleep 1000")).unwrap().wait(A_WHILE);
    });
    let text = failure.unwrap_err().downcast::<String>().unwrap();
    assert!(text.contains("still running after") && text.contains("so far"), "{text}");
}

#[test]
fn a_dropped_child_is_gone() {
    let marker = procs::marker();
    let mut command = piped("sh");
    command.args(["-c", "while :; do sleep 1; done", &marker]);
    let live = Live::start("a shell", command).unwrap();
    let found = procs::wait_until_running(&marker, 1, SOON);
    assert_eq!(found[0].pid, live.pid());
    drop(live);
    procs::wait_until_gone(&marker, SOON);
}

#[test]
fn children_die_with_the_test_process_however_it_ends() {
    // This test is its own child: there it starts a server and a shell, and waits to be killed.
    const AS_CHILD: &str = "HARNESS_TEST_AS_CHILD";
    if let Some(marker) = std::env::var_os(AS_CHILD) {
        let server = Server::start();
        let mut command = piped("sh");
        command.args(["-c".as_ref(), "while :; do sleep 1; done".as_ref(), marker.as_os_str()]);
        // Made in a thread that ends at once: the child must not end with the thread.
        let _live = std::thread::spawn(|| Live::start("a shell", command)).join().unwrap().unwrap();
        std::fs::write("server-pid", server.pid().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    let scratch = crate::harness::scratch::Scratch::new();
    let marker = procs::marker();
    let mut command = piped(std::env::current_exe().unwrap());
    command
        .args(["--exact", "harness_itself::children_die_with_the_test_process_however_it_ends"])
        .env(AS_CHILD, &marker)
        .env("TMPDIR", scratch.path())
        .current_dir(scratch.path());
    let mut run = Live::start("a run of the tests", command).unwrap();
    let server = eventually(SOON * 3, "the run to have started its children", || {
        std::fs::read_to_string(scratch.path().join("server-pid")).ok()?.parse::<i32>().ok()
    });
    procs::wait_until_running(&marker, 1, SOON);
    never(A_WHILE, "a child ended with the thread that made it", || {
        procs::with_argument(&marker).is_empty().then_some(())
    });
    assert!(procs::look_at(server).is_some());
    run.kill();
    procs::wait_until_gone(&marker, SOON);
    eventually(SOON, "the server to be gone", || procs::look_at(server).is_none().then_some(()));
}

#[test]
fn processes_are_found_by_job_family_and_directory() {
    let scratch = crate::harness::scratch::Scratch::new();
    let marker = procs::marker();
    let mut command = piped("sh");
    // A child and, with setsid, a grandchild in a session of its own.
    command
        .args(["-c", "setsid sleep 1000 & exec sleep 1000", &marker])
        .env("PEERBUS_JOB", &marker)
        .current_dir(scratch.path());
    let live = Live::start("a shell", command).unwrap();
    let found = within(SOON, || {
        let found = procs::of_job(&marker);
        let settled = found.len() == 2 && found.iter().all(|process| process.arguments[0] == "sleep");
        settled.then_some(found)
    })
    .expect("two processes of the job");
    assert_ne!(found[0].session, found[1].session);
    let below = procs::descendants(live.pid());
    assert_eq!(below.len(), 1);
    assert_eq!(procs::touching(scratch.path()).len(), 2);
    assert!(procs::resident_bytes(live.pid()) > 0);
    procs::kill_all(&found);
    procs::wait_until_job_gone(&marker, SOON);
}

#[test]
fn d_runs_in_a_private_environment_and_to_its_end() {
    let fleet = crate::harness::fleet::Fleet::builder().client_relay().start();
    assert_eq!(fleet.url(), fleet.client_relay().url());
    let finished = fleet.d(["--version"]);
    assert_eq!(finished.signal(), None, "{finished:?}");
    // The same environment, seen by a program that shows it.
    let show = fleet.command(["unused"]).instead("env").run().expect_success();
    let shown = show.out();
    let names = |start: &str| shown.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((names("NATS_"), names("PEERBUS_"), names("CARGO")), (1, 2, 0), "{shown}");
    for variable in ["HOME", "TMPDIR", "XDG_RUNTIME_DIR", "PEERBUS_RUNTIME_DIR", "PEERBUS_CONFIG"] {
        let start = format!("{variable}={}/", fleet.path().display());
        assert_eq!(names(&start), 1, "{variable} is in the fleet's directory: {shown}");
    }
    let echoed = fleet.command(["unused"]).instead("cat").input("in and out").run().expect_success();
    assert_eq!(echoed.out(), "in and out");
}

#[test]
fn what_a_fleet_leaves_behind_ends_with_it() {
    let marker = procs::marker();
    {
        let fleet = crate::harness::fleet::Fleet::builder().start();
        // It leaves its parent's family and session, as a job's grandchild may.
        let script = format!("setsid sh -c 'while :; do sleep 1; done' {marker} >/dev/null 2>&1 &");
        fleet
            .command(["unused"])
            .instead("sh")
            .with(|command| {
                command.args(["-c", &script]);
            })
            .run()
            .expect_success();
        procs::wait_until_running(&marker, 1, SOON);
    }
    procs::wait_until_gone(&marker, SOON);
}

/// A daemon with jobs that would go on for ever.
fn a_daemon_with_jobs(place: &Scratch, server: &Server, containment: &str) -> (Live, Vec<procs::Process>) {
    let (home, state) = (place.directory("home"), place.directory("state"));
    let daemon = DCommand::new(&home, ["daemon", "run", "--id", "w1"])
        .env("PEERBUS_STATE_DIR", &state)
        .env("PEERBUS_CONTAINMENT", containment)
        .nats(&server.url());
    let mut daemon = daemon.spawn();
    daemon.stderr_line(READY_DEADLINE, |line| line.starts_with("ready peer=w1"));
    let marker = procs::marker();
    let goes_on = format!("sh -c 'sleep 1000; :' {marker}");
    let line = format!("trap '' TERM; setsid {goes_on} & {goes_on}; :");
    let foreground = ["exec", "w1", "-C", "/", "--sh", &line];
    let durable = ["exec", "-d", "w1", "-C", "/", "--sh", &line];
    let caller = DCommand::new(&home, foreground).nats(&server.url()).spawn();
    DCommand::new(&home, durable).nats(&server.url()).run().expect_success();
    let jobs = procs::wait_until_running(&marker, 6, SOON);
    drop(caller);
    // While a process becomes another one, it has no arguments.
    let is_shim = |process: &procs::Process| process.arguments.get(1).is_some_and(|word| word == "shim");
    let shim = procs::descendants(daemon.pid()).into_iter().find(is_shim);
    (daemon, jobs.into_iter().chain(shim).collect())
}

fn nothing_is_left(state: &Path, processes: &[procs::Process]) {
    assert_eq!(processes.len(), 7, "{processes:#?}");
    let lives =
        |seen: &&procs::Process| procs::look_at(seen.pid).is_some_and(|now| now.started == seen.started);
    assert_eq!(processes.iter().filter(lives).collect::<Vec<_>>(), Vec::<&procs::Process>::new());
    assert_eq!(cgroups_of(state).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn a_test_that_ends_leaves_nothing_running() {
    let server = Server::start();
    for containment in ["best", "reaper"] {
        let place = Scratch::new();
        let (mut daemon, processes) = a_daemon_with_jobs(&place, &server, containment);
        daemon.kill();
        let state = place.path().join("state");
        drop(place);
        // Its cgroups are named after a directory that is gone.
        std::fs::create_dir_all(&state).unwrap();
        nothing_is_left(&state, &processes);
        std::fs::remove_dir_all(state.parent().unwrap()).unwrap();
    }
}

#[test]
fn what_a_killed_test_has_left_is_ended_by_the_next_one() {
    let server = Server::start();
    let parent = Scratch::new();
    for containment in ["best", "reaper"] {
        let place = Scratch::below(parent.path());
        let (mut daemon, processes) = a_daemon_with_jobs(&place, &server, containment);
        daemon.kill();
        end_forgotten(parent.path());
        let lives = |seen: &&procs::Process| procs::look_at(seen.pid).is_some();
        assert!(processes.iter().filter(lives).count() >= 4, "its test lives: {processes:#?}");

        let left = place.forsake();
        end_forgotten(parent.path());
        nothing_is_left(&left.join("state"), &processes);
        assert!(left.join("home").is_dir(), "its files stay");
    }
}
