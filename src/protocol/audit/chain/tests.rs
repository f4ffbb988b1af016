//! The verification detects and locates every modification of a log.

use proptest::prelude::*;

use super::*;
use crate::Instance;
use crate::audit::AuditEntry;

fn log(lines: u64) -> Vec<Vec<u8>> {
    let mut head = Checkpoint::of_nothing();
    let mut log = Vec::new();
    for seq in 1..=lines {
        let event = match seq {
            1 => AuditEvent::File { peer: "w1".parse().expect("valid"), oldest: 1 },
            _ => AuditEvent::Stopped { instance: Instance::new() },
        };
        let entry = AuditEntry { seq, prev: head.hash, at: "2026-01-02T03:04:05.678Z".to_owned(), event };
        let line = decode::to_json(&entry);
        head = Checkpoint { seq, hash: LineHash::of(&line) };
        log.push(line);
    }
    log
}

fn head_of(log: &[Vec<u8>]) -> Checkpoint {
    Checkpoint { seq: log.len() as u64, hash: LineHash::of(log.last().expect("a line")) }
}

fn check(lines: &[Vec<u8>], head: Checkpoint) -> Verdict {
    let mut chain = Chain::default();
    chain.went_to("the head", head);
    for (number, line) in (1..).zip(lines) {
        chain.line(&format!("line {number}"), line);
    }
    chain.finish()
}

/// The faults of a ten-line log after a change.
#[track_caller]
fn faults(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> String {
    let mut lines = log(10);
    let head = head_of(&lines);
    change(&mut lines);
    let verdict = check(&lines, head);
    assert!(!verdict.is_sound());
    verdict.faults.join("\n")
}

#[test]
fn an_untouched_log_is_sound() {
    let lines = log(10);
    let verdict = check(&lines, head_of(&lines));
    assert_eq!((verdict.faults, verdict.lines, verdict.first), (Vec::new(), 10, Some(1)));
    assert_eq!(verdict.last, Some(head_of(&lines)));
}

#[test]
fn what_was_done_is_told_with_its_place() {
    for (said, wanted) in [
        (faults(|log| drop(log.remove(4))), "line 5: line 5 is missing"),
        (faults(|log| drop(log.drain(3..6))), "line 4: lines 4 to 6 are missing"),
        (faults(|log| log.swap(4, 5)), "line 5 stands after line 6"),
        (faults(|log| log.insert(3, log[2].clone())), "line 3 stands after line 3"),
        (faults(|log| log.truncate(7)), "at the end: lines 8 to 10 are missing, which the head knows of"),
        (faults(Vec::clear), "at the end: lines 1 to 10 are missing"),
        (faults(|log| drop(log.remove(0))), "at the begin: line 1 is missing"),
        (faults(|log| log[5] = b"garbage".to_vec()), "line 6: this is no line of an audit log"),
        (faults(|log| log[9] = log[8].clone()), "stands after"),
        (faults(|log| log[9] = log[9].to_ascii_uppercase()), "no line of an audit log"),
    ] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // The last line: only heads can reveal its change.
    let said = faults(|log| {
        let text = String::from_utf8(log[9].clone()).expect("text").replace("2026", "2027");
        log[9] = text.into_bytes();
    });
    assert!(said.contains("line 10 is not the one that the head knows"), "{said}");
}

#[test]
fn what_was_rotated_out_is_not_missing_and_what_was_taken_is() {
    let head = log(3).pop().map(|line| Checkpoint { seq: 3, hash: LineHash::of(&line) }).expect("three");
    let file = |oldest| AuditEntry {
        seq: 4,
        prev: head.hash.clone(),
        at: String::new(),
        event: AuditEvent::File { peer: "w1".parse().expect("valid"), oldest },
    };
    let sound = |oldest| {
        let line = decode::to_json(&file(oldest));
        check(std::slice::from_ref(&line), Checkpoint { seq: 4, hash: LineHash::of(&line) })
    };
    assert_eq!(sound(4).faults, Vec::<String>::new());
    assert!(sound(2).faults[0].contains("lines 2 to 3 are missing"), "{:?}", sound(2));
}

#[test]
fn many_faults_are_counted() {
    let garbage = vec![b"x".to_vec(); 100];
    let verdict = check(&garbage, Checkpoint::of_nothing());
    assert_eq!((verdict.faults.len(), verdict.more_faults, verdict.lines), (TOLD, 80, 100));
}

proptest! {
    #[test]
    fn any_byte_that_is_changed_is_seen(line in 0..10_usize, place in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut lines = log(10);
        let head = head_of(&lines);
        let at = place.index(lines[line].len());
        prop_assume!(lines[line][at] != to);
        lines[line][at] = to;
        prop_assert!(!check(&lines, head).is_sound());
    }

    #[test]
    fn no_line_can_end_the_check(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let verdict = check(&lines, Checkpoint::of_nothing());
        prop_assert_eq!(verdict.lines, lines.len() as u64);
    }
}
