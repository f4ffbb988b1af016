//! Tests of records: written, torn, pruned and read again.

use std::time::SystemTime;

use super::prune::prune;
use super::*;
use peerbus_protocol::Ending;

fn begun(id: JobId) -> StartRecord {
    StartRecord {
        id,
        instance: Instance::new(),
        caller: "_INBOX.x".into(),
        request: "digest".into(),
        from: None,
        principal: None,
        standing: None,
        at: now(),
        command: "true".into(),
        directory: "/".into(),
        user: None,
        job_scope: None,
        queued: false,
        durable: false,
        tty: false,
        name: None,
    }
}

fn result(id: JobId) -> JobResult {
    let peer = "w1".parse().expect("valid");
    JobResult::bare(Some(id), peer, Instance::new(), Ending::Exited { code: 7 })
}

/// Later daemons must be able to read records of earlier ones.
#[test]
fn a_record_is_written_and_read_letter_by_letter() {
    let golden = include_str!("../../../tests/golden/journal_record.jsonl");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("record");
    let mut again = File::create(&path).expect("made");
    for line in golden.lines() {
        let step: Step = decode::json(line.as_bytes()).expect(line);
        write_step(&mut again, &step).expect("written");
    }
    assert_eq!(fs::read_to_string(&path).expect("readable"), golden);
    let record = read_record(&path).expect("a record");
    assert_eq!(record.begun.command, "git pull");
    assert_eq!(record.process.expect("started").pid, 4711);
    assert_eq!(record.result.expect("ended").ending, Ending::Exited { code: 7 });
    // A later version may add fields; steps must stay distinguishable.
    let later = golden.replace("{\"step\"", "{\"later\":{\"a\":[1]},\"step\"");
    fs::write(&path, later).expect("written");
    assert_eq!(read_record(&path).expect("a record").begun, record.begun);
}

#[test]
fn an_id_begins_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    let entry = journal.begin(&begun(id)).expect("first");
    assert_eq!(journal.begin(&begun(id)).expect_err("second").kind(), io::ErrorKind::AlreadyExists);
    entry.ended(&result(id)).expect("ends");
    assert_eq!(journal.begin(&begun(id)).expect_err("third").kind(), io::ErrorKind::AlreadyExists);
    let record = journal.find(id).expect("readable").expect("known");
    assert_eq!(record.result.expect("ended").ending, Ending::Exited { code: 7 });
    assert!(journal.left_open().expect("readable").is_empty());
}

#[test]
fn what_a_crash_cut_off_did_not_happen() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    let mut entry = journal.begin(&begun(id)).expect("begins");
    let process = ProcessKey::of_self().expect("our own");
    entry.started(&process).expect("starts");
    entry.file.write_all(br#"{"step":"ended","at":"2026-"#).expect("a torn line");
    drop(entry);
    let (entry, record) = journal.left_open().expect("readable").pop().expect("one is open");
    assert_eq!((record.process, record.result), (Some(process), None));
    entry.ended_for_another(&result(id)).expect("ends");
    let record = journal.find(id).expect("readable").expect("known");
    assert_eq!(record.result.expect("ended").ending, Ending::Exited { code: 7 });
}

#[test]
fn whoever_looks_finds_a_record_whole_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut found = 0;
            while found < 1000 {
                found += u32::from(journal.find(id).expect("readable whenever it is there").is_some());
            }
        });
        while !looking.is_finished() {
            journal.begin(&begun(id)).expect("begins").withdraw().expect("withdrawn");
        }
        looking.join().expect("it was whole each time");
    });
}

#[test]
fn a_record_that_came_to_no_name_is_not_known_and_goes() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let (left, other) = (journal.new.join("x"), journal.open.join("somebody's"));
    fs::write(&left, "{").expect("written");
    fs::write(&other, "{").expect("written");
    assert!(journal.left_open().expect("readable").is_empty());
    assert!(!left.exists() && other.exists());
}

#[test]
fn an_ending_that_was_written_is_not_written_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    let mut entry = journal.begin(&begun(id)).expect("begins");
    let result = result(id);
    let ended = Step::Ended { at: now(), result: Box::new(result.clone()) };
    write_step(&mut entry.file, &ended).expect("written");
    drop(entry);
    let (entry, record) = journal.left_open().expect("readable").pop().expect("one is open");
    assert_eq!(record.result, Some(result));
    entry.closed_for_another().expect("closes");
    assert!(journal.left_open().expect("readable").is_empty());
    let text = fs::read_to_string(journal.ended.join(id.to_string())).expect("there");
    assert_eq!(text.matches("\"step\":\"ended\"").count(), 1, "{text}");
    assert!(text.len() < RESERVE, "its room was given back");
}

#[test]
fn a_record_that_is_no_record_stays_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    fs::write(journal.open.join(id.to_string()), b"garbage").expect("written");
    assert!(journal.left_open().expect("readable").is_empty());
    assert_eq!(journal.begin(&begun(id)).expect_err("known").kind(), io::ErrorKind::AlreadyExists);
    assert!(journal.find(id).is_err());
}

#[test]
fn the_oldest_are_forgotten_first() {
    let dir = tempfile::tempdir().expect("a directory");
    for (index, name) in ["old", "newer", "newest"].into_iter().enumerate() {
        let file = File::create(dir.path().join(name)).expect("made");
        let written = SystemTime::now() - Duration::from_secs(100 - index as u64);
        file.set_modified(written).expect("set");
    }
    prune(dir.path(), Duration::from_secs(3600), 2).expect("pruned");
    assert!(!dir.path().join("old").exists() && dir.path().join("newest").exists());
    prune(dir.path(), Duration::from_secs(1), 2).expect("pruned");
    assert!(!dir.path().join("newest").exists());
}

/// A message as the queue delivers it.
fn delivered() -> Delivered {
    let message = peerbus_bus::Incoming {
        subject: "queue.w1.x".to_owned(),
        reply: None,
        headers: peerbus_bus::Headers::of([("D-Identity", "token"), ("D-Time", "17"), ("Other", "x")]),
        payload: bytes::Bytes::from_static(b"{}\xff"),
        no_responders: false,
        status: None,
    };
    Delivered { message, confirm: "$JS.ACK.QUEUE.w1.1".to_owned() }
}

#[test]
fn one_from_the_queue_is_kept_until_it_starts() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let id = JobId::new();
    let begun = StartRecord { queued: true, ..begun(id) };
    let mut entry = journal.begin_queued(&begun, &delivered()).expect("begins");
    let record = journal.find(id).expect("readable").expect("known");
    assert!(record.begun.queued && !record.starting && journal.has_copy(id));
    let copy = journal.copies().expect("readable").pop().expect("one");
    let (copied, original) = (copy.delivered.expect("readable"), delivered());
    assert_eq!((copy.id, &copied.confirm), (id, &original.confirm));
    assert_eq!(copied.message.payload, original.message.payload);
    for (name, value) in [("D-Identity", Some("token")), ("D-Time", Some("17")), ("D-Signature", None)] {
        assert_eq!(copied.message.headers.get(name), value, "{name}");
    }
    entry.starting().expect("written");
    assert!(journal.find(id).expect("readable").expect("known").starting);
    journal.drop_copy(id).expect("removed");
    journal.drop_copy(id).expect("there is none");
    assert!(!journal.has_copy(id) && journal.copies().expect("readable").is_empty());
    entry.withdraw().expect("removed");
    assert!(journal.find(id).expect("readable").is_none());
    fs::write(dir.path().join("journal/queued").join(id.to_string()), "{").expect("written");
    fs::write(dir.path().join("journal/queued/.tmp123"), "{").expect("a draft");
    let broken = journal.copies().expect("readable");
    assert!(broken.len() == 1 && broken[0].delivered.is_err());
}

/// The steps of every queued job.
#[test]
fn the_steps_of_one_from_the_queue_letter_by_letter() {
    let text = concat!(
        r#"{"step":"begun","id":"0197c0de-0000-7000-8000-00000000cafe","instance":"11111111-2222-4333-8444-555555555555","caller":"_INBOX_ann.queued","request":"d1935","at":"2026-11-21T10:11:12Z","command":"make","directory":"/","user":null,"job_scope":null,"queued":true}"#,
        "\n",
        r#"{"step":"starting","at":"2026-11-21T10:11:13Z"}"#,
        "\n",
    );
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("record");
    let mut again = File::create(&path).expect("made");
    for line in text.lines() {
        let step: Step = decode::json(line.as_bytes()).expect(line);
        write_step(&mut again, &step).expect("written");
    }
    assert_eq!(fs::read_to_string(&path).expect("readable"), text);
    let record = read_record(&path).expect("a record");
    assert!(record.starting && record.begun.queued && record.process.is_none());
}

#[test]
fn an_id_from_the_queue_is_known_or_known_to_be_forgotten() {
    let dir = tempfile::tempdir().expect("a directory");
    let before = jiff::Timestamp::now().as_millisecond() - 1;
    let journal = Journal::open(dir.path()).expect("opens");
    let born = journal.remembers_since_ms().expect("known");
    assert!((before - 1_000..=jiff::Timestamp::now().as_millisecond()).contains(&born), "{born}");
    let end = |queued: bool, age: Duration| {
        let id = JobId::new();
        let entry = journal.begin(&StartRecord { queued, ..begun(id) }).expect("begins");
        entry.ended(&result(id)).expect("ends");
        let file = File::options().append(true).open(journal.ended.join(id.to_string())).expect("there");
        file.set_modified(SystemTime::now() - age).expect("set");
        id
    };
    let (old, day) = (KEEP_FOR + Duration::from_secs(60), Duration::from_secs(24 * 3600));
    let asked = end(false, old);
    journal.prune(KEEP_FOR).expect("pruned");
    assert!(journal.find(asked).expect("readable").is_none());
    assert_eq!(journal.remembers_since_ms().expect("known"), born, "it was none of the queue");
    let (forgotten, kept) = (end(true, old), end(true, day));
    journal.prune(KEEP_FOR).expect("pruned");
    assert!(journal.find(forgotten).expect("readable").is_none());
    assert!(journal.find(kept).expect("readable").is_some());
    let since = journal.remembers_since_ms().expect("known");
    assert_eq!(since, forgotten.made_ms().max(born));
    // The next daemon knows it, too.
    let again = Journal::open(dir.path()).expect("opens");
    assert_eq!(again.remembers_since_ms().expect("known"), since);
    fs::write(dir.path().join("journal/forgotten"), "soon").expect("written");
    assert!(again.remembers_since_ms().is_err(), "what cannot be read is not guessed");
}

#[test]
fn of_many_who_want_a_name_at_once_one_gets_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let begin = || {
        let wanted = StartRecord { name: Some("work".to_owned()), durable: true, ..begun(JobId::new()) };
        journal.begin_as(&wanted, || journal.begin(&wanted)).map(|_| wanted.id)
    };
    let tried: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(begin)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let (got, refused): (Vec<_>, Vec<_>) = tried.into_iter().partition(Result::is_ok);
    let got: Vec<JobId> = got.into_iter().flatten().collect();
    assert_eq!((got.len(), refused.len()), (1, 7));
    let is_named = |why: &NotNamed| matches!(why, NotNamed::Taken { by, .. } if *by == got[0]);
    assert!(refused.into_iter().filter_map(Result::err).all(|why| is_named(&why)));
}

#[test]
fn what_is_refused_takes_no_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let named = || StartRecord { name: Some("work".to_owned()), durable: true, ..begun(JobId::new()) };
    std::thread::scope(|scope| {
        let refusing = scope.spawn(|| {
            for refused in std::iter::repeat_with(named).take(2000) {
                journal.bury(&refused, &result(refused.id)).expect("buried");
            }
        });
        while !refusing.is_finished() {
            let wanted = named();
            let entry = journal.begin_as(&wanted, || journal.begin(&wanted)).expect("nobody has the name");
            entry.ended(&result(wanted.id)).expect("ended");
        }
    });
}

/// A concurrent reader sees the old or the new name. Later steps follow the replaced record.
#[test]
fn a_name_is_given_once_and_the_record_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("opens");
    let named =
        |name: &str| StartRecord { name: Some(name.to_owned()), durable: true, ..begun(JobId::new()) };
    let (one, other) = (named("one"), named("other"));
    let mut entry = journal.begin(&one).expect("begun");
    let theirs = journal.begin(&other).expect("begun");
    assert!(matches!(entry.rename("other"), Err(NotNamed::Taken { by, .. }) if by == other.id));
    let process = ProcessKey::of_self().expect("a process");
    entry.started(&process).expect("written");
    for round in 0..100 {
        entry.rename(&format!("name-{round}")).expect("renamed");
    }
    let record = journal.find(one.id).expect("readable").expect("there");
    assert_eq!(record.begun, StartRecord { name: Some("name-99".to_owned()), ..one.clone() });
    assert_eq!(record.process, Some(process));
    let size = fs::metadata(dir.path().join("journal/open").join(one.id.to_string())).expect("there").len();
    assert!((RESERVE as u64..2 * RESERVE as u64).contains(&size), "{size} bytes: it does not grow");
    // An ended job does not keep its name.
    theirs.ended(&result(other.id)).expect("ended");
    entry.rename("other").expect("free again");
    entry.ended(&result(one.id)).expect("ended");
    let record = journal.find(one.id).expect("readable").expect("there");
    assert_eq!((record.begun.name.as_deref(), record.result.is_some()), (Some("other"), true));
    assert_eq!(fs::read_dir(dir.path().join("journal/results")).expect("there").count(), 0);
}
