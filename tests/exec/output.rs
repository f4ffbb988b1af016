//! Every byte the command wrote, in its order, as soon as it was written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::bench::{MUCH_PATIENCE, PATIENCE, Report, argv, fleet, says, sh, sh_with};
use crate::harness::fleet::Fleet;
use crate::harness::procs;

const MIB: u64 = 1 << 20;

/// A file of random bytes.
fn random_file(fleet: &Fleet, name: &str, length: u64) -> PathBuf {
    let path = fleet.path().join(name);
    let mut random = std::io::Read::take(File::open("/dev/urandom").unwrap(), length);
    std::io::copy(&mut random, &mut File::create(&path).unwrap()).unwrap();
    path
}

fn digest_of(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path).unwrap(), &mut hasher).unwrap();
    hasher.finalize().to_hex().to_string()
}

#[test]
fn a_hundred_mebibytes_on_both_streams_at_once() {
    let fleet = fleet();
    let (one, two) = (random_file(&fleet, "one", 100 * MIB), random_file(&fleet, "two", 100 * MIB));
    let (out, err) = (fleet.path().join("out"), fleet.path().join("err"));
    let report = Report::new(&fleet);
    let line = format!("cat {} & cat {} >&2 & wait; exit 3", one.display(), two.display());
    let errors = File::create(&err).unwrap();
    sh_with(&fleet, &["--report", &report.path()], &line)
        .output_to(&out)
        .with(|command| _ = command.stderr(errors))
        .deadline(MUCH_PATIENCE)
        .run()
        .expect_code(3);
    let result = &report.read()["result"];
    for (written, arrived, told) in [(&one, &out, &result["out"]), (&two, &err, &result["err"])] {
        assert_eq!(fs::metadata(arrived).unwrap().len(), 100 * MIB);
        assert_eq!(digest_of(written), digest_of(arrived));
        assert_eq!(told["bytes"], 100 * MIB);
        assert_eq!(told["blake3"], digest_of(written));
    }
}

#[test]
fn a_line_of_five_mebibytes_without_an_end() {
    let fleet = fleet();
    let finished =
        sh(&fleet, "head -c 5242880 /dev/zero | tr '\\0' x; head -c 5242880 /dev/zero | tr '\\0' y >&2")
            .run()
            .expect_success();
    assert_eq!((finished.stdout.len(), finished.stderr.len()), (5_242_880, 5_242_880));
    assert!(
        finished.stdout.iter().all(|byte| *byte == b'x') && finished.stderr.iter().all(|byte| *byte == b'y')
    );
}

#[test]
fn bytes_that_are_no_text() {
    let fleet = fleet();
    let every: Vec<u8> = (0..=255).collect();
    let strange = [&every[..], b"\0\0\xff\xfe\xc3\x28\xed\xa0\x80\r\n\x1b[0m\xf0\x9f", &every].concat();
    let file = fleet.file("strange", &strange);
    let line = format!("cat {0}; cat {0} >&2", file.display());
    let finished = sh(&fleet, &line).run().expect_success();
    assert_eq!(finished.stdout, strange);
    assert_eq!(finished.stderr, strange);
}

#[test]
fn nothing_at_all_and_one_byte() {
    let fleet = fleet();
    let finished = argv(&fleet, &["true"]).run().expect_success();
    assert!(finished.stdout.is_empty() && finished.stderr.is_empty(), "{finished:?}");
    let finished = sh(&fleet, "printf x; printf y >&2").run().expect_success();
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("x", "y"));
}

#[test]
fn a_hundred_thousand_writes_of_one_byte() {
    let fleet = fleet();
    // By turns, so that hardly two of them can share a frame.
    let line = "for ((i = 0; i < 50000; i++)); do printf $((i % 10)); printf $((i % 7)) >&2; done";
    let finished = sh(&fleet, line).deadline(MUCH_PATIENCE).run().expect_success();
    let wanted = |every: u32| (0..50_000).map(|i| (i % every).to_string()).collect::<String>();
    assert!(finished.out() == wanted(10), "stdout differs, {} bytes", finished.stdout.len());
    assert!(finished.err() == wanted(7), "stderr differs, {} bytes", finished.stderr.len());
}

#[test]
fn both_streams_keep_the_order_in_which_the_peer_could_read_them() {
    let fleet = fleet();
    // Before it writes to the other stream it waits until what it wrote was read (FIONREAD).
    let script = r"
        $| = 1; select STDERR; $| = 1;
        sub was_read { my $left = pack 'i', 0; do { ioctl $_[0], 0x541B, $left or die } while unpack 'i', $left }
        for my $i (1 .. 2000) {
            print STDOUT qq(out $i\n); was_read(*STDOUT);
            print STDERR qq(err $i\n); was_read(*STDERR);
        }";
    let both = fleet.path().join("both");
    let file = File::create(&both).unwrap();
    argv(&fleet, &["perl", "-e", script])
        .with(|command| _ = command.stdout(file.try_clone().unwrap()).stderr(file))
        .deadline(MUCH_PATIENCE)
        .run()
        .expect_success();
    let wanted: String = (1..=2000).map(|i| format!("out {i}\nerr {i}\n")).collect();
    let said = fs::read_to_string(both).unwrap();
    let differs = said.lines().zip(wanted.lines()).find(|(said, wanted)| said != wanted);
    assert!(said == wanted, "{} bytes of {}, first {differs:?}", said.len(), wanted.len());
}

#[test]
fn output_is_seen_while_the_command_runs() {
    let fleet = fleet();
    let marker = procs::marker();
    let line = format!(": {marker}; echo one; read -r; echo two >&2; read -r; printf three; read -r");
    let mut live = sh_with(&fleet, &["-i"], &line).open_input().spawn();
    says(&mut live, "one");
    assert!(live.stderr.bytes().is_empty());
    live.write(b"\n").unwrap();
    live.stderr_line(PATIENCE, |said| said == "two");
    live.write(b"\n").unwrap();
    // Not even a whole line is needed.
    assert!(live.stdout.contains(b"one\nthree", PATIENCE));
    assert!(live.ended().is_none());
    assert_eq!(procs::with_argument(&marker).len(), 1);
    live.write(b"\n").unwrap();
    let finished = live.wait(PATIENCE).expect_success();
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("one\nthree", "two\n"));
}

#[test]
fn a_command_that_is_quiet_for_long_is_waited_for() {
    let fleet = fleet();
    // Longer than any silence after which one end doubts the other.
    let finished = sh(&fleet, "echo before; sleep 22; echo after").run().expect_success();
    assert_eq!((finished.out().as_str(), finished.err().as_str()), ("before\nafter\n", ""));
    assert!(finished.took >= Duration::from_secs(22));
}

#[test]
fn output_before_a_violent_end_is_whole() {
    let fleet = fleet();
    let finished = sh(&fleet, "seq 100000; kill -KILL $$").run().expect_code(128 + Signal::SIGKILL as i32);
    let wanted: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
    assert!(finished.out() == wanted, "{} bytes of {}", finished.stdout.len(), wanted.len());
}
