//! A reader that stands still stops its own command, costs a bounded amount of memory, and delays
//! nobody else.

use std::time::Duration;

use super::bench::{
    MUCH_PATIENCE, PATIENCE, Report, argv, both, bytes_written, fleet, pid_of, settled, sh, sh_with,
};
use crate::harness::child::Live;
use crate::harness::fleet::Fleet;
use crate::harness::procs;
use crate::harness::wait::eventually;

const MIB: u64 = 1 << 20;

/// A window of 1 MiB, and the pipes on the way: of the command, of `d`, each at most 64 KiB here.
const MOST_ON_ITS_WAY: u64 = 2 * MIB;

/// How much more a daemon or a `d` may hold for a job with a full window: the window itself several
/// times over, and what its allocator keeps.
const MOST_HELD: u64 = 24 * MIB;

/// How long nothing moves when a command stands still.
const STANDSTILL: Duration = Duration::from_millis(500);

/// Starts `seq` into a reader that does not read; returns once the command stands still.
fn paused_flood(fleet: &Fleet) -> (Live, String, i32) {
    let marker = procs::marker();
    let live = sh(fleet, &format!("exec -a {marker} seq 1000000000")).paused_output().spawn();
    let pid = pid_of(&marker);
    eventually(PATIENCE, "its first byte", || (bytes_written(pid) > 0).then_some(()));
    let written = settled(STANDSTILL, "what the command wrote", || bytes_written(pid));
    assert!(
        written > 0 && written <= MOST_ON_ITS_WAY,
        "the command wrote {written} bytes to a paused reader"
    );
    (live, marker, pid)
}

#[test]
fn a_paused_reader_stops_its_command_and_no_other() {
    let fleet = fleet();
    let (mut live, marker, pid) = paused_flood(&fleet);
    for _ in 0..5 {
        let finished = argv(&fleet, &["echo", "quick"]).run().expect_success();
        assert_eq!(finished.out(), "quick\n");
    }
    // Much output beside it, too.
    let finished = sh(&fleet, "head -c 16777216 /dev/zero").count_output().spawn().wait(PATIENCE);
    finished.expect_success();
    let written = bytes_written(pid);
    assert!(written <= MOST_ON_ITS_WAY, "it stood still meanwhile: {written}");
    live.stdout.resume();
    live.stdout_reaches(8 * MIB, PATIENCE);
    live.stdout.close();
    live.wait(PATIENCE).expect_code(141);
    assert_eq!(procs::with_argument(&marker), []);
}

#[test]
fn a_gibibyte_for_a_paused_reader_takes_bounded_memory_and_arrives_when_it_goes_on() {
    let fleet = fleet();
    // What a daemon needs at all is not the question.
    argv(&fleet, &["true"]).run().expect_success();
    let daemon = fleet.daemon("w1").pid();
    let before = procs::resident_bytes(daemon);
    // 1.1 GB, if it is let.
    let marker = procs::marker();
    let mut live = sh(&fleet, &format!("exec -a {marker} seq 120000000")).paused_output().spawn();
    let pid = pid_of(&marker);
    let written = settled(STANDSTILL, "what the command wrote", || bytes_written(pid));
    assert!(written <= MOST_ON_ITS_WAY, "the command wrote {written} bytes to a paused reader");
    let own_before = procs::resident_bytes(live.pid());

    live.stdout.resume();
    live.stdout_reaches(64 * MIB, MUCH_PATIENCE);
    live.stdout.pause();
    let written = settled(STANDSTILL, "what the command wrote", || bytes_written(pid));
    let read = live.stdout.total();
    assert!(written <= read + MOST_ON_ITS_WAY, "{written} bytes written, {read} read");
    for (who, pid, before) in [("the daemon", daemon, before), ("d", live.pid(), own_before)] {
        let peak = procs::peak_resident_bytes(pid);
        assert!(peak <= before + MOST_HELD, "{who} grew from {before} to {peak} bytes");
    }

    let bytes = live.stdout.bytes();
    let mut at = 0;
    for number in 1_u32.. {
        let line = format!("{number}\n");
        let Some(said) = bytes.get(at..at + line.len()) else { break };
        assert!(said == line.as_bytes(), "at byte {at}: {:?}", String::from_utf8_lossy(said));
        at += line.len();
    }
    assert!(at as u64 > 64 * MIB - 16);
    live.stdout.close();
    live.wait(PATIENCE).expect_code(141);
    assert_eq!(procs::with_argument(&marker), []);
}

#[test]
fn ten_paused_readers_take_ten_windows() {
    let fleet = fleet();
    argv(&fleet, &["true"]).run().expect_success();
    let daemon = fleet.daemon("w1").pid();
    let before = procs::resident_bytes(daemon);
    let floods: Vec<_> = (0..10).map(|_| paused_flood(&fleet)).collect();
    let held = procs::peak_resident_bytes(daemon).saturating_sub(before);
    assert!(held <= 10 * MOST_ON_ITS_WAY + MOST_HELD, "the daemon holds {held} bytes more");
    assert_eq!(argv(&fleet, &["echo", "quick"]).run().expect_success().out(), "quick\n");
    for (mut live, marker, _) in floods {
        live.stdout.close();
        live.wait(PATIENCE).expect_code(141);
        assert_eq!(procs::with_argument(&marker), []);
    }
}

#[test]
fn a_paused_reader_that_goes_on_gets_the_rest_and_the_end() {
    let fleet = fleet();
    let report = Report::new(&fleet);
    let marker = procs::marker();
    let line = format!("(exec -a {marker} seq 500000); echo end >&2; exit 9");
    let mut live = sh_with(&fleet, &["--report", &report.path()], &line).paused_output().spawn();
    let pid = pid_of(&marker);
    settled(STANDSTILL, "what the command wrote", || bytes_written(pid));
    live.stdout.resume();
    let finished = live.wait(PATIENCE).expect_code(9);
    let wanted: String = (1..=500_000).map(|i| format!("{i}\n")).collect();
    assert!(finished.out() == wanted, "{} bytes of {}", finished.stdout.len(), wanted.len());
    assert_eq!(finished.err(), "end\n");
    assert_eq!(report.read()["result"]["out"]["blake3"], blake3::hash(wanted.as_bytes()).to_hex().as_str());
}

both!(a_command_that_ended_waits_for_its_reader);

/// Everything was written and the command is gone; only the reader is late.
fn a_command_that_ended_waits_for_its_reader(fleet: &Fleet) {
    let marker = procs::marker();
    let done = fleet.path().join("done");
    let line = format!(": {marker}; seq 60000; touch {}; exit 4", done.display());
    let mut live = sh(fleet, &line).paused_output().spawn();
    eventually(PATIENCE, "the command to have written all", || done.exists().then_some(()));
    procs::wait_until_gone(&marker, PATIENCE);
    assert!(live.try_wait(STANDSTILL).is_none(), "d has not written all of it");
    live.stdout.resume();
    let finished = live.wait(PATIENCE).expect_code(4);
    assert!(finished.out().ends_with("\n60000\n"));
}
