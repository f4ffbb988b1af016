//! Standard input: every byte, its end, and a command that does not want it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::bench::{MUCH_PATIENCE, PATIENCE, Report, argv, both, fleet, own_failure, says, sh, sh_with};
use crate::harness::fleet::Fleet;
use crate::harness::procs;

/// Bytes that do not repeat for long, so that a missing or doubled piece shows.
fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"standard input").finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn twenty_mebibytes_through_cat() {
    let fleet = fleet();
    let input = bytes(20 << 20);
    let finished = fleet
        .command(["exec", "w1", "-C", "/tmp", "-i", "--", "cat"])
        .input(input.clone())
        .deadline(MUCH_PATIENCE)
        .run()
        .expect_success();
    assert!(finished.stdout == input, "{} of {} bytes came back", finished.stdout.len(), input.len());
    assert!(finished.stderr.is_empty());
}

#[test]
fn a_file_as_input() {
    let fleet = fleet();
    let input = bytes(3 << 20);
    let file = File::open(fleet.file("input", &input)).unwrap();
    let finished = fleet
        .command(["exec", "w1", "-C", "/tmp", "--stdin", "--", "cat"])
        .with(|command| _ = command.stdin(file))
        .run()
        .expect_success();
    assert!(finished.stdout == input, "{} of {} bytes came back", finished.stdout.len(), input.len());
}

#[test]
fn an_empty_input_ends_at_once() {
    let fleet = fleet();
    let finished = sh_with(&fleet, &["-i"], "cat; echo end").input("").run().expect_success();
    assert_eq!(finished.out(), "end\n");
    let finished = sh_with(&fleet, &["-i"], "cat; echo end").run().expect_success();
    assert_eq!(finished.out(), "end\n");
}

#[test]
fn a_slow_command_gets_every_byte() {
    let fleet = fleet();
    // The last byte first, so that all is read, and in between it does not read.
    let script = r"
        my ($all, $piece) = ('', '');
        while (sysread STDIN, $piece, 40_000) { $all .= $piece; select undef, undef, undef, 0.01 }
        binmode STDOUT; print $all";
    let input = bytes(3 << 20);
    let finished = fleet
        .command(["exec", "w1", "-C", "/tmp", "-i", "--", "perl", "-e", script])
        .input(input.clone())
        .run()
        .expect_success();
    assert!(finished.stdout == input, "{} of {} bytes came back", finished.stdout.len(), input.len());
}

#[test]
fn a_conversation() {
    let fleet = fleet();
    let line = "while read -r line; do echo \"got $line\"; done; echo end";
    let mut live = sh_with(&fleet, &["-i"], line).open_input().spawn();
    for word in ["one", "two words", "grüße"] {
        live.write(format!("{word}\n").as_bytes()).unwrap();
        says(&mut live, &format!("got {word}"));
    }
    live.close_stdin();
    let finished = live.wait(PATIENCE).expect_success();
    assert_eq!(finished.out(), "got one\ngot two words\ngot grüße\nend\n");
}

/// As node, bun, .NET, expect and GNU parallel hand a pipe on: the flag is the pipe's, whoever set it.
fn non_blocking(pipe: impl AsFd) {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
}

#[test]
fn pipes_that_do_not_block_are_waited_for() {
    let fleet = fleet();
    let (input, mut to) = std::io::pipe().unwrap();
    non_blocking(&input);
    let mut live = sh_with(&fleet, &["-i"], "read -r line; echo \"$line\"; wc -c")
        .with(|command| _ = command.stdin(input))
        .spawn();
    // It has nothing to read until the command has answered.
    to.write_all(b"begun\n").unwrap();
    says(&mut live, "begun");
    to.write_all(&bytes(300_000)).unwrap();
    drop(to);
    assert_eq!(live.wait(PATIENCE).expect_success().out(), "begun\n300000\n");

    // A listing that is longer than the pipe.
    let many: String = (0..1_000).map(|n| format!("A_VARIABLE_{n} = 'x'\n")).collect();
    let file = fleet.file("many.toml", format!("[env]\n{many}"));
    let show = ["config", "show", "--config", file.to_str().unwrap()];
    let whole = fleet.d(show).expect_success().stdout;
    let (mut from, output) = std::io::pipe().unwrap();
    non_blocking(&output);
    fcntl(&output, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut live = fleet.command(show).with(|command| _ = command.stdout(output)).spawn();
    let mut read = Vec::new();
    from.read_to_end(&mut read).unwrap();
    live.wait(PATIENCE).expect_success();
    assert!(whole.len() > 4096 && read == whole, "{} of {} bytes", read.len(), whole.len());
}

#[test]
fn input_that_cannot_be_read_is_no_end_of_it() {
    let fleet = &fleet();
    for flags in [vec![], vec!["--durable"], vec!["-t"]] {
        let report = Report::new(fleet);
        let (path, ended) = (report.path(), fleet.path().join("ended"));
        let flags = [&["-i", "--report", &path], &flags[..]].concat();
        let directory = File::open(fleet.path()).unwrap();
        let finished = sh_with(fleet, &flags, &format!("cat; touch {}", ended.display()))
            .with(|command| _ = command.stdin(directory))
            .run();
        let said = own_failure(finished, 248, "input lost: reading standard input: Is a directory");
        assert!(said.contains("the command was stopped") && !ended.exists(), "{flags:?}: {said}");
        let report = report.read();
        assert_eq!(report["exit_code"], 248);
        assert!(report["input_lost"].as_str().unwrap().contains("Is a directory"), "{report}");
    }
}

both!(a_command_that_reads_only_the_beginning a_command_that_closes_its_input_goes_on);

fn a_command_that_reads_only_the_beginning(fleet: &Fleet) {
    let input = bytes(5 << 20);
    let finished = fleet
        .command(["exec", "w1", "-C", "/tmp", "-i", "--", "head", "-c", "10"])
        .input(input.clone())
        .run()
        .expect_success();
    assert_eq!(finished.stdout, input[..10]);
    assert_eq!(finished.err(), "");
}

fn a_command_that_closes_its_input_goes_on(fleet: &Fleet) {
    let report = Report::new(fleet);
    let line = "exec <&-; echo closed; seq 100000 | tail -1; exit 5";
    let finished =
        sh_with(fleet, &["-i", "--report", &report.path()], line).input(bytes(2 << 20)).run().expect_code(5);
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("closed\n100000\n", ""));
    assert_eq!(report.read()["result"]["left_running"], 0);
}

#[test]
fn the_end_of_a_command_does_not_wait_for_more_input() {
    let fleet = fleet();
    let mut live = sh_with(&fleet, &["-i"], "read -r line; echo \"$line\"; exit 6").open_input().spawn();
    live.write(b"enough\n").unwrap();
    // Its input stays open.
    assert_eq!(live.wait(PATIENCE).expect_code(6).out(), "enough\n");
}

#[test]
fn without_the_flag_input_is_empty_and_not_taken() {
    let fleet = fleet();
    let mut live = sh(&fleet, "cat; readlink /proc/self/fd/0").open_input().spawn();
    assert_eq!(live.wait(PATIENCE).expect_success().out(), "/dev/null\n");
    // Nor is it taken from a script that runs `d` in a loop.
    let finished = fleet
        .command(["unused"])
        .instead("sh")
        .with(|command| {
            let d = env!("CARGO_BIN_EXE_d");
            command.args(["-c", &format!("while read -r w; do {d} exec w1 -C / -- echo $w; done")]);
        })
        .input("one\ntwo\nthree\n")
        .run()
        .expect_success();
    assert_eq!(finished.out(), "one\ntwo\nthree\n");
}

#[test]
fn input_waits_for_a_command_that_does_not_read_yet() {
    let fleet = fleet();
    let marker = procs::marker();
    let go = fleet.path().join("go");
    let line = format!(": {marker}; until [ -e {} ]; do sleep 0.05; done; cat", go.display());
    let input = bytes(4 << 20);
    let live = sh_with(&fleet, &["-i"], &line).input(input.clone()).spawn();
    procs::wait_until_running(&marker, 1, PATIENCE);
    // A window of it is taken; nobody is held up by the rest.
    assert_eq!(argv(&fleet, &["echo", "beside"]).run().expect_success().out(), "beside\n");
    std::fs::write(go, "").unwrap();
    let finished = { live }.wait(PATIENCE).expect_success();
    assert!(finished.stdout == input, "{} of {} bytes came back", finished.stdout.len(), input.len());
}
