//! The log in the system's journal: priorities instead of times, and only where it is the journal.

use std::process::Command;

use serde_json::json;

use crate::harness::child::Live;
use crate::harness::fleet::{DCommand, READY_DEADLINE};
use crate::harness::nats::Raw;
use crate::harness::scratch::Scratch;
use crate::harness::server::Server;
use crate::log::bench::{Line, SOON};

/// Starts `d` with `JOURNAL_STREAM` as a service has it, when `of` is 2: device and inode of stderr.
fn with_stream_of(of: u8, scratch: &Scratch, arguments: &[&str]) -> Live {
    let script = format!("JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/{of}) exec \"$@\"");
    let command = DCommand::new(scratch.path(), arguments).with(|command| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.env_clear().current_dir(command.get_current_dir().unwrap());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(std::process::Stdio::null());
        shell.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        *command = shell;
    });
    command.spawn()
}

/// What a daemon says of a job and of a refusal, from the line after `ready` on.
fn said_with_stream_of(of: u8) -> Vec<String> {
    let (server, scratch) = (Server::start(), Scratch::new());
    let state = scratch.path().join("state");
    let url = server.url();
    let arguments = ["daemon", "run", "--id", "w1", "--nats", &url, "--state-dir", state.to_str().unwrap()];
    let mut daemon = with_stream_of(of, &scratch, &arguments);
    daemon.stderr_line(READY_DEADLINE, |line| line.starts_with("ready peer=w1"));
    let mut raw = Raw::connect(&url);
    raw.request("exec.w1", json!({ "argv": ["true"], "directory": "/" }).to_string(), SOON);
    raw.request("exec.w1", json!({ "argv": ["true"] }).to_string(), SOON);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let text = daemon.wait(SOON).expect_success().err();
    text.lines()
        .filter(|line| line.contains("ended job=") || line.contains("refused"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn lines_in_the_journal_begin_with_their_priority() {
    let said = said_with_stream_of(2);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("<6>ended job="), "{said:?}");
    assert!(said[1].starts_with("<4>refused a request job="), "{said:?}");
}

#[test]
fn another_file_is_not_the_journal() {
    let said = said_with_stream_of(1);
    assert_eq!(said.len(), 2, "{said:?}");
    let levels: Vec<String> = said.iter().map(|line| Line::parse(line).expect(line).level).collect();
    assert_eq!(levels, ["INFO", "WARN"]);
}

#[test]
fn why_a_daemon_could_not_start_is_an_error_in_the_journal() {
    let scratch = Scratch::new();
    let arguments = ["daemon", "run", "--id", "Not an id"];
    let finished = with_stream_of(2, &scratch, &arguments).wait(SOON).expect_code(2);
    assert!(finished.err().starts_with("<3>d: "), "{finished:?}");
    let finished = with_stream_of(1, &scratch, &arguments).wait(SOON).expect_code(2);
    assert!(finished.err().starts_with("d: "), "{finished:?}");
}
