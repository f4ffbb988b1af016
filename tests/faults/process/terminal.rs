//! Commands in a terminal: it is theirs, it tells sizes and signals, and no byte of it is lost.

use peerbus::process::{ExitKind, Spec, StartedInTerminal, Terminal};
use peerbus::protocol::{TtySize, ending::StartFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::both;
use crate::process::bench::{Bench, PATIENCE, argv, exit_of, line};

both! {
    it_controls_its_session the_kind_of_terminal sizes_are_told keys_become_signals all_output_then_the_end
    every_byte_both_ways the_end_comes_with_the_last_holder its_user_owns_it pipes_are_not_for_it
    a_failure_closes_it
}

const SIZE: TtySize = TtySize { cols: 100, rows: 30 };

fn in_terminal(spec: Spec) -> Spec {
    Spec { tty: Some(SIZE), ..spec }
}

async fn all_of(terminal: &mut Terminal) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, terminal.read_to_end(&mut all));
    read.await.expect("the end of the terminal").expect("bytes");
    String::from_utf8(all).expect("text")
}

/// Reads until `wanted` was seen, and returns all that was.
async fn until(terminal: &mut Terminal, wanted: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let count = terminal.read_buf(&mut seen).await.expect("bytes");
            assert!(count > 0, "the end came before {wanted:?}: {:?}", String::from_utf8_lossy(&seen));
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, read).await;
    in_time.unwrap_or_else(|_| panic!("{wanted:?} in time"));
    String::from_utf8_lossy(&seen).into_owned()
}

async fn output(bench: &Bench, text: &str) -> String {
    let mut started = bench.start_in_terminal(&in_terminal(line(text))).expect("started");
    let all = all_of(&mut started.terminal).await;
    assert_eq!(exit_of(&mut started.process).await.status, ExitKind::Code(0), "{all}");
    all
}

async fn it_controls_its_session(bench: Bench) {
    let told = output(
        &bench,
        "tty; echo to the terminal >/dev/tty; ps -o tty=,sid=,pgid=,tpgid= -p $$ | xargs; echo $$",
    )
    .await;
    let lines: Vec<&str> = told.lines().collect();
    let [tty, written, ids, pid] = lines.as_slice() else { panic!("{told}") };
    assert_eq!(*written, "to the terminal");
    assert_eq!(
        *ids,
        format!("{} {pid} {pid} {pid}", tty.trim_start_matches("/dev/")),
        "its own session, in front"
    );
}

async fn the_kind_of_terminal(bench: Bench) {
    assert_eq!(output(&bench, "echo $TERM").await, "xterm-256color\r\n");
}

async fn sizes_are_told(bench: Bench) {
    // The shell forgets a signal that comes while it does what the trap says, so that is little.
    let script =
        "trap told=1 WINCH; told=1; while :; do [ \"$told\" ] && told= && stty size; sleep 0.02; done";
    let mut started = bench.start_in_terminal(&in_terminal(line(script))).expect("started");
    until(&mut started.terminal, "30 100\r\n").await;
    for size in [TtySize { cols: 1, rows: 1 }, TtySize { cols: 1000, rows: 1000 }] {
        started.terminal.resize(size).expect("resized");
        assert_eq!(started.terminal.size().expect("a size"), size);
        until(&mut started.terminal, &format!("{} {}\r\n", size.rows, size.cols)).await;
    }
}

/// Ctrl-C and Ctrl-\ end what is in front and nothing else; Ctrl-Z stops it.
async fn keys_become_signals(bench: Bench) {
    let shell = argv(&["bash", "--norc", "--noprofile", "-i"]);
    let mut started = bench.start_in_terminal(&in_terminal(shell)).expect("started");
    let StartedInTerminal { terminal, process, .. } = &mut started;
    terminal.write_all(b"PS1='> code $? '; echo be''gun\n").await.expect("typed");
    until(terminal, "begun\r\n").await;
    for (key, code) in [(&b"\x03"[..], 130), (b"\x1c", 131), (b"\x1a", 148)] {
        // It says that it is in front, so the key cannot come too early.
        terminal.write_all(b"sh -c 'echo in fr''ont; exec sleep 1000'\n").await.expect("typed");
        until(terminal, "in front\r\n").await;
        terminal.write_all(key).await.expect("typed");
        until(terminal, &format!("> code {code} ")).await;
    }
    // The shell may not know yet that the stopped one has ended, and warn once.
    terminal.write_all(b"kill -KILL %1\nexit 7\nexit 7\n").await.expect("typed");
    all_of(terminal).await;
    assert_eq!(exit_of(process).await.status, ExitKind::Code(7));
}

async fn all_output_then_the_end(bench: Bench) {
    let told = output(&bench, "stty -opost; seq 1 200000").await;
    let wanted: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(told == wanted, "{} bytes instead of {}", told.len(), wanted.len());
}

/// Bytes 0 to 255, a thousand times, through a terminal that changes nothing.
async fn every_byte_both_ways(bench: Bench) {
    let raw = line("stty raw -echo; echo ready; head -c 256000");
    let StartedInTerminal { mut terminal, mut process, .. } =
        bench.start_in_terminal(&in_terminal(raw)).expect("started");
    until(&mut terminal, "ready\n").await;
    let all: Vec<u8> = (0..1000).flat_map(|_| 0..=255).collect();
    let (sent, mut writer) = (all.clone(), terminal.clone());
    let writing = tokio::spawn(async move { writer.write_all(&sent).await });
    let mut back = vec![0; all.len()];
    let read = tokio::time::timeout(PATIENCE, terminal.read_exact(&mut back));
    read.await.expect("all of it in time").expect("bytes");
    writing.await.expect("a task").expect("typed");
    assert!(back == all, "what came back is not what was typed");
    assert_eq!(exit_of(&mut process).await.status, ExitKind::Code(0));
}

/// As long as somebody can still write there, it is not over.
async fn the_end_comes_with_the_last_holder(bench: Bench) {
    let fifo = bench.state.path().join("go");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
    let script = format!("trap '' HUP; (read -r go <{}; echo late) & exit 0", fifo.display());
    let mut started = bench.start_in_terminal(&in_terminal(line(&script))).expect("started");
    exit_of(&mut started.process).await;
    tokio::fs::write(&fifo, "go\n").await.expect("let go");
    assert_eq!(all_of(&mut started.terminal).await, "late\r\n");
}

async fn its_user_owns_it(bench: Bench) {
    let spec =
        Spec { user: Some("nobody".to_owned()), ..line("stat -c %U:%a $(tty); : <$(tty) && echo opened") };
    let mut started = bench.start_in_terminal(&in_terminal(spec)).expect("started");
    assert_eq!(all_of(&mut started.terminal).await, "nobody:620\r\nopened\r\n");
}

async fn pipes_are_not_for_it(bench: Bench) {
    let error = bench.start(&in_terminal(line("true"))).expect_err("it was to have a terminal");
    assert!(error.message.contains("was to run in a terminal"), "{error}");
}

async fn a_failure_closes_it(bench: Bench) {
    let error = bench.start_in_terminal(&in_terminal(argv(&["no-such-command"]))).expect_err("not found");
    assert_eq!(error.why, StartFailure::CommandNotFound);
    let spec = Spec { user: Some("no-such-user".to_owned()), ..argv(&["true"]) };
    assert_eq!(
        bench.start_in_terminal(&in_terminal(spec)).expect_err("nobody").why,
        StartFailure::NoSuchUser
    );
}
