//! The log on disk: sizes, rotation, and what an earlier daemon or somebody else has left.

use std::path::Path;

use super::*;
use crate::audit::reading;
use peerbus_protocol::Instance;
use peerbus_protocol::audit::AuditQuery;

fn event() -> AuditEvent {
    AuditEvent::Stopped { instance: Instance::new() }
}

fn open(state: &Path, size: u64) -> Log {
    Log::open(state, &"w1".parse().expect("valid"), size).expect("opens")
}

/// A log with this many lines after its first, closed.
fn written(state: &Path, lines: usize) -> Checkpoint {
    let mut log = open(state, SIZE);
    for _ in 0..lines {
        log.append(&event()).expect("written");
    }
    log.settle().expect("settled");
    log.last().clone()
}

fn faults(state: &Path) -> Vec<String> {
    reading::verify(state).expect("readable").expect("there").faults
}

fn files_of(state: &Path) -> Vec<files::LogFile> {
    files::all(&state.join(files::FOLDER)).expect("readable")
}

/// The only file of a log.
fn file_of(state: &Path) -> PathBuf {
    files_of(state).pop().expect("a file").path
}

#[test]
fn fifty_thousand_lines_stay_within_the_size_and_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), SIZE_MIN);
    for number in 0..50_000 {
        log.append(&event()).expect("written");
        if number % 1_000 == 0 {
            let sizes: u64 = files_of(dir.path()).iter().map(|file| file.size).sum();
            assert!(sizes <= SIZE_MIN, "{sizes}");
        }
    }
    log.settle().expect("settled");
    let verdict = reading::verify(dir.path()).expect("readable").expect("there");
    assert_eq!(verdict.faults, Vec::<String>::new());
    assert!(verdict.first.expect("a line") > 10_000, "{verdict:?}");
    assert!(verdict.lines > 1_000 && verdict.last == Some(log.last().clone()), "{verdict:?}");
    assert_eq!(files_of(dir.path()).len() as u64, FILES);
    // Every file begins where its name says, and one that is taken out is missed.
    for file in files_of(dir.path()) {
        let aside = dir.path().join("aside");
        fs::rename(&file.path, &aside).expect("moved");
        assert!(!faults(dir.path()).is_empty(), "{} is not missed", file.path.display());
        fs::rename(&aside, &file.path).expect("moved");
    }
    assert_eq!(faults(dir.path()), Vec::<String>::new());
}

#[test]
fn a_smaller_size_than_before_removes_more_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), 16 * SIZE_MIN);
    while files_of(dir.path()).iter().map(|file| file.size).sum::<u64>() < 2 * SIZE_MIN {
        for _ in 0..1_000 {
            log.append(&event()).expect("written");
        }
    }
    log.settle().expect("settled");
    let mut log = open(dir.path(), SIZE_MIN);
    log.append(&event()).expect("written");
    log.settle().expect("settled");
    assert!(files_of(dir.path()).iter().map(|file| file.size).sum::<u64>() <= SIZE_MIN);
    assert_eq!(faults(dir.path()), Vec::<String>::new());
}

#[test]
fn the_next_daemon_goes_on_where_the_last_one_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = written(dir.path(), 5);
    let after = written(dir.path(), 5);
    assert_eq!((before.seq, after.seq), (6, 11));
    assert_eq!((files_of(dir.path()).len(), faults(dir.path())), (1, Vec::new()));
}

#[test]
fn lines_beyond_the_head_were_written_by_a_daemon_that_was_killed() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), 5);
    let mut log = open(dir.path(), SIZE);
    log.append(&event()).expect("written");
    drop(log);
    assert_eq!(faults(dir.path()), Vec::<String>::new());
    assert_eq!(written(dir.path(), 1).seq, 8);
    assert_eq!(faults(dir.path()), Vec::<String>::new());
}

#[test]
fn half_a_line_is_cut_off_and_told() {
    for first_line_of_a_file in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let last = written(dir.path(), 5);
        let half = match first_line_of_a_file {
            false => file_of(dir.path()),
            true => files::path(&dir.path().join(files::FOLDER), last.seq + 1),
        };
        let mut file = OpenOptions::new().append(true).create(true).open(half).expect("opens");
        file.write_all(br#"{"seq":7,"prev":"01"#).expect("written");
        let verdict = reading::verify(dir.path()).expect("readable").expect("there");
        assert!(verdict.is_sound() && verdict.notes[0].contains("half a line"), "{verdict:?}");
        assert_eq!(written(dir.path(), 1).seq, if first_line_of_a_file { 9 } else { 8 });
        let verdict = reading::verify(dir.path()).expect("readable").expect("there");
        assert!(verdict.is_sound() && verdict.notes[0].contains("half a line, 19 bytes"), "{verdict:?}");
    }
}

#[test]
fn half_a_line_that_was_a_whole_one_is_no_accident() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), 5);
    let path = file_of(dir.path());
    let length = fs::metadata(&path).expect("there").len();
    OpenOptions::new().write(true).open(&path).expect("opens").set_len(length - 9).expect("cut");
    assert!(!faults(dir.path()).is_empty());
    // Nor does the next daemon take it for one, and nothing that it writes hides it.
    written(dir.path(), 5);
    let said = faults(dir.path()).join("\n");
    assert!(said.contains("the log ends before line 6, which was its last"), "{said}");
}

#[test]
fn what_was_done_while_no_daemon_ran_is_told_by_the_next() {
    type Deed = fn(&Path, &Path);
    let deeds: [(Deed, &str); 7] = [
        (|file, _| fs::remove_file(file).expect("removed"), "ends before line 6"),
        (|_, head| fs::remove_file(head).expect("removed"), "audit.head was removed"),
        (|_, head| fs::write(head, "{}").expect("written"), "audit.head was changed"),
        (|file, _| fs::write(file, "").expect("written"), "ends before line 6"),
        (|file, _| fs::write(file, "\n\n\n").expect("written"), "ends before line 6"),
        (
            |file, _| {
                let text = fs::read_to_string(file).expect("readable");
                let at = text.rfind("\"at\":\"2").expect("a time") + 6;
                fs::write(file, format!("{}3{}", &text[..at], &text[at + 1..])).expect("written");
            },
            "line 6 is not the one that was written",
        ),
        (
            |file, _| {
                let mut file = OpenOptions::new().append(true).open(file).expect("opens");
                file.write_all(b"{\"seq\":7}\n").expect("written");
            },
            "was not written by a daemon",
        ),
    ];
    for (deed, wanted) in deeds {
        let dir = tempfile::tempdir().expect("a directory");
        written(dir.path(), 5);
        deed(&file_of(dir.path()), &checkpoint::path(dir.path()));
        assert!(!faults(dir.path()).is_empty(), "{wanted}");
        let after = written(dir.path(), 5);
        assert!(after.seq > 6, "{wanted}: {after:?}");
        let said = faults(dir.path()).join("\n");
        assert!(said.contains("the daemon itself found") && said.contains(wanted), "{wanted}: {said}");
        // And the one after that has nothing to tell.
        let before = faults(dir.path());
        written(dir.path(), 1);
        assert_eq!(faults(dir.path()), before, "{wanted}");
    }
}

#[test]
fn what_is_done_under_a_running_daemon_is_told_by_it() {
    type Deed = fn(&Path);
    let deeds: [(Deed, &str); 4] = [
        (|file| fs::remove_file(file).expect("removed"), "was removed or replaced"),
        (|file| fs::copy(file, file.with_extension("x")).map(drop).expect("copied"), ""),
        (
            |file| {
                let copy = file.with_extension("copy");
                fs::copy(file, &copy).expect("copied");
                fs::rename(copy, file).expect("moved");
            },
            "was removed or replaced",
        ),
        (
            |file| OpenOptions::new().write(true).open(file).expect("opens").set_len(10).expect("cut"),
            "was cut short",
        ),
    ];
    for (deed, wanted) in deeds {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = open(dir.path(), SIZE);
        (0..3).for_each(|_| log.append(&event()).expect("written"));
        deed(&file_of(dir.path()));
        (0..3).for_each(|_| log.append(&event()).expect("written"));
        log.settle().expect("settled");
        let said = faults(dir.path()).join("\n");
        assert_eq!(said.is_empty(), wanted.is_empty(), "{wanted}: {said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn a_file_with_a_name_of_the_logs_cannot_stop_it() {
    let dir = tempfile::tempdir().expect("a directory");
    written(dir.path(), 5);
    let folder = dir.path().join(files::FOLDER);
    fs::write(files::path(&folder, 7), "garbage\n").expect("written");
    fs::write(files::path(&folder, 4_000), "{\"seq\":4000}\n").expect("written");
    assert!(!faults(dir.path()).is_empty());
    assert_eq!(written(dir.path(), 1).seq, 9);
    let said = faults(dir.path());
    assert!(said[0].contains("4000") && said[0].contains("put aside"), "{said:?}");
    assert_eq!((said.len(), files_of(dir.path()).len()), (1, 2));
}

#[test]
fn pages_have_every_line_once_and_their_size() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = open(dir.path(), SIZE_MIN);
    (0..4_000).for_each(|_| log.append(&event()).expect("written"));
    let whole: Vec<String> = files_of(dir.path())
        .iter()
        .flat_map(|file| {
            fs::read_to_string(&file.path).expect("text").lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let (mut query, mut all) = (AuditQuery::default(), Vec::new());
    loop {
        let page = reading::page(dir.path(), &query, 20_000).expect("a page");
        assert!(decode::to_json(&page.lines).len() <= 20_000 && !page.skipped);
        all.extend(page.lines);
        query.cursor = page.next;
        if query.cursor.is_none() {
            break;
        }
    }
    assert!(all == whole, "{} lines of {}", all.len(), whole.len());
    let last = AuditQuery { last: Some(700), ..AuditQuery::default() };
    let page = reading::page(dir.path(), &last, usize::MAX).expect("a page");
    assert!(page.lines == whole[whole.len() - 700..], "{} lines", page.lines.len());
    let few = AuditQuery { limit: Some(3), ..AuditQuery::default() };
    assert_eq!(reading::page(dir.path(), &few, usize::MAX).expect("a page").lines, whole[..3]);
    let gone = AuditQuery {
        cursor: Some(peerbus_protocol::audit::Cursor { file: 2, offset: 9 }),
        ..AuditQuery::default()
    };
    assert!(reading::page(dir.path(), &gone, usize::MAX).expect("a page").skipped);
}
