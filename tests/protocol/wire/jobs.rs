//! What is said of a job, from the request to its result.

use peerbus::protocol::attach::{
    AttachFrom, AttachRequest, DETACHED_TYPE, DetachAnswer, DetachRequest, Detached, RENAMED_TYPE,
    RenameRequest, Renamed, ResizeRequest, Responder, ResponderChange, STARTED_TYPE, SizeFrom, Sizes,
    Started, Within,
};
use peerbus::protocol::control::{
    self, CancelAnswer, CancelRequest, Cancelled, Control, Credit, ReleaseRequest, Resume, SignalRequest,
};
use peerbus::protocol::ending::{Refusal, StartFailure};
use peerbus::protocol::exec::{
    self, Collected, ExecRequest, JobResult, OutputHolder, Rusage, StreamOptions, StreamTotal, Truncated,
};
use peerbus::protocol::frame::{
    Accepted, Alive, Challenge, Gap, JobState, Signalled, StdinCredit, StreamKind,
};
use peerbus::protocol::reply::{self, ErrorBody};
use peerbus::protocol::send_buffer::StreamOffsets;
use peerbus::protocol::subjects::Verb;
use peerbus::protocol::task::{Step, Task};
use peerbus::protocol::tty::{Tty, TtySize};
use peerbus::protocol::variables::Variables;
use peerbus::protocol::{Ending, decode};

use crate::wire::{file, golden, golden_by, instance, job, part, peer, text};

/// The blake3 digest of no bytes at all.
const EMPTY: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

fn bare(ending: Ending) -> JobResult {
    JobResult::bare(Some(job()), peer("w1"), instance(), ending)
}

fn whole_result() -> JobResult {
    let total = |bytes, blake3: &str| Some(StreamTotal { bytes, blake3: blake3.to_owned() });
    let hello = blake3::hash(b"hello\n").to_hex().to_string();
    JobResult {
        out: total(6, &hello),
        err: total(0, EMPTY),
        duration_ms: 1234,
        killed: 1,
        left_running: 2,
        output_open: true,
        rusage: Some(Rusage { user_ms: 10, system_ms: 20, max_rss_kib: 3400 }),
        ..bare(Ending::Exited { code: 7 })
    }
}

#[test]
fn a_request() {
    let line = ExecRequest {
        kind: text("peerbus.exec.v1"),
        id: Some(job()),
        directory: text("/opt/app"),
        shell_cmd: text("git pull && make"),
        argv: None,
        env: [("K", "V"), ("LANG", "de_DE")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect(),
        user: None,
        stdin: false,
        tty: None,
        name: None,
        timeout_ms: None,
        no_wait: false,
        durable: false,
        expires_ms: None,
        task: None,
        stream: Some(StreamOptions { window: 1_048_576 }),
        from: None,
        within: Vec::new(),
    };
    golden_by("exec_request_line", &line, ExecRequest::decode);
    let queued = ExecRequest { stream: None, expires_ms: Some(1_751_322_000_000), ..line.clone() };
    golden_by("exec_request_queued", &queued, ExecRequest::decode);
    let leaves = ExecRequest { no_wait: true, ..queued };
    golden_by("exec_request_no_wait", &leaves, ExecRequest::decode);
    let argv = ExecRequest {
        shell_cmd: None,
        argv: Some(["git", "log", "-m", "two words", "", "grüße\n"].map(str::to_owned).to_vec()),
        env: Variables::default(),
        from: text("ann@desk"),
        user: text("ann"),
        stdin: true,
        timeout_ms: Some(30_000),
        directory: text("~/src"),
        ..line
    };
    golden_by("exec_request_argv", &argv, ExecRequest::decode);
    let durable = ExecRequest {
        durable: true,
        tty: Some(Tty {
            cols: 80,
            rows: 24,
            term: text("xterm-256color"),
            colorterm: text("truecolor"),
            locale: [("LANG".to_owned(), "de_DE.UTF-8".to_owned())].into(),
        }),
        name: text("work"),
        ..argv.clone()
    };
    golden_by("exec_request_durable", &durable, ExecRequest::decode);
    assert!(durable.is_durable() && !argv.is_durable());
    let (pull, make) = (
        Step {
            directory: text("/opt/app"),
            shell_cmd: "git pull".to_owned(),
            env: Variables::default(),
            user: None,
            timeout_ms: None,
        },
        Step {
            directory: text("~/app"),
            shell_cmd: "make".to_owned(),
            env: [("CC".to_owned(), "clang".to_owned())].into_iter().collect(),
            user: text("builder"),
            timeout_ms: Some(600_000),
        },
    );
    let task = ExecRequest {
        directory: None,
        argv: None,
        user: None,
        stdin: false,
        tty: None,
        timeout_ms: None,
        from: None,
        name: text("deploy"),
        task: Some(Task { name: "deploy".to_owned(), of: Some(3), steps: vec![pull, make] }),
        ..durable
    };
    golden_by("exec_request_task", &task, ExecRequest::decode);
    assert_eq!(task.parts().len(), 2);
    // What a person types.
    let typed = ExecRequest::decode(br#"{"directory":"/opt/app","shellCmd":"make"}"#).unwrap();
    assert_eq!((typed.shell_cmd, typed.stream, typed.id), (text("make"), None, None));
    assert_eq!((exec::TYPE, exec::WINDOW), ("peerbus.exec.v1", 1_048_576));
    assert_eq!((exec::JOB_VARIABLE, exec::PEER_VARIABLE), ("PEERBUS_JOB", "PEERBUS_PEER"));
}

#[test]
fn a_result() {
    golden("result", &whole_result());
    let holder = |pid, command: &str, server| OutputHolder { pid, command: command.to_owned(), server };
    let cut = JobResult {
        held_by: vec![holder(123, "sleep 4", false), holder(124, "nohup srv", true)],
        output_cut: text("nobody waited for the rest of it"),
        ..whole_result()
    };
    golden("result_cut", &cut);
    assert_eq!(exec::RESULT_TYPE, "peerbus.result.v1");
    let why = "no directory is named".to_owned();
    golden("result_refused", &bare(Ending::Refused { why: Refusal::NoDirectory, message: why }));
}

#[test]
fn a_challenge() {
    golden("challenge", &Challenge { id: job(), challenge: "1200.0c0ffee".to_owned() });
}

#[test]
fn a_plain_reply() {
    let collected = Collected {
        stdout: text("hello\n"),
        stderr_b64: text("/wA="),
        truncated: Truncated { stdout: 0, stderr: 1_000_000 },
        ..Collected::default()
    };
    golden("plain_reply", &JobResult { collected: Some(collected), ..whole_result() });
}

#[test]
fn every_ending() {
    let (why, message) = ("asked to".to_owned(), "enough".to_owned());
    part(&Ending::Exited { code: 7 }, r#"{"exited":{"code":7}}"#);
    part(
        &Ending::Signalled { signal: "KILL".to_owned(), number: 9 },
        r#"{"signalled":{"signal":"KILL","number":9}}"#,
    );
    part(&Ending::TimedOut {}, r#"{"timed_out":{}}"#);
    part(&Ending::Cancelled { why: why.clone() }, r#"{"cancelled":{"why":"asked to"}}"#);
    part(
        &Ending::Refused { why: Refusal::Limit, message: message.clone() },
        r#"{"refused":{"why":"limit","message":"enough"}}"#,
    );
    part(
        &Ending::NotStarted { why: StartFailure::NoSuchUser, message },
        r#"{"not_started":{"why":"no_such_user","message":"enough"}}"#,
    );
    part(&Ending::Offline {}, r#"{"offline":{}}"#);
    part(&Ending::Unknown { why }, r#"{"unknown":{"why":"asked to"}}"#);
}

#[test]
fn every_fixed_word_of_an_ending() {
    for (word, text) in [
        (Refusal::BadRequest, "bad_request"),
        (Refusal::ReplySubject, "reply_subject"),
        (Refusal::NotSupported, "not_supported"),
        (Refusal::NoDirectory, "no_directory"),
        (Refusal::Policy, "policy"),
        (Refusal::User, "user"),
        (Refusal::Limit, "limit"),
        (Refusal::Conflict, "conflict"),
        (Refusal::Stopping, "stopping"),
        (Refusal::Journal, "journal"),
        (Refusal::CancelledBefore, "cancelled_before"),
        (Refusal::NotYours, "not_yours"),
        (Refusal::Taken, "taken"),
        (Refusal::Unproven, "unproven"),
        (Refusal::Expired, "expired"),
        (Refusal::NotDurable, "not_durable"),
        (Refusal::NoSuchJob, "no_such_job"),
    ] {
        part(&word, &format!("{text:?}"));
    }
    for (word, text) in [
        (StartFailure::NoSuchDirectory, "no_such_directory"),
        (StartFailure::NotADirectory, "not_a_directory"),
        (StartFailure::DirectoryDenied, "directory_denied"),
        (StartFailure::NoSuchUser, "no_such_user"),
        (StartFailure::CommandNotFound, "command_not_found"),
        (StartFailure::NotExecutable, "not_executable"),
        (StartFailure::System, "system"),
        (StartFailure::NeverArrived, "never_arrived"),
        (StartFailure::NoSuchPeer, "no_such_peer"),
        (StartFailure::BusUnreachable, "bus_unreachable"),
    ] {
        part(&word, &format!("{text:?}"));
    }
}

#[test]
fn the_frames_of_a_stream() {
    let accepted =
        Accepted { state: JobState::Running, stdin_received: 5, signals: 1, ..Accepted::ended(instance()) };
    golden("accepted", &accepted);
    let durable = Accepted {
        durable: true,
        from: Some(StreamOffsets { out: 100, err: 7 }),
        tty: Some(TtySize { cols: 80, rows: 24 }),
        term: text("xterm-256color"),
        nonce: text("00112233445566778899aabbccddeeff"),
        ..accepted
    };
    golden("accepted_durable", &durable);
    golden("want", &StdinCredit { received: 65_536, limit: 327_680, again: true, closed: false });
    golden("signalled", &Signalled { n: 1, error: None });
    golden("signalled_error", &Signalled { n: 2, error: text("\"NOSUCH\" is not a signal") });
    golden("alive", &Alive { out: 1, err: 2, stdin_received: 3, waiting: None });
    let holder = OutputHolder { pid: 123, command: "sleep 4".to_owned(), server: false };
    golden("alive_waiting", &Alive { out: 1, err: 2, stdin_received: 3, waiting: Some(vec![holder]) });
    golden("gap", &Gap { stream: StreamKind::Err, from: 100, to: 200 });
    for (state, word) in
        [(JobState::Starting, "starting"), (JobState::Running, "running"), (JobState::Ended, "ended")]
    {
        part(&state, &format!("{word:?}"));
    }
    part(&StreamKind::Out, "\"out\"");
    part(&StreamKind::Err, "\"err\"");
    // Fields that may be left out.
    let want: StdinCredit = decode::json(br#"{"received":1,"limit":2}"#).unwrap();
    assert_eq!(want, StdinCredit { received: 1, limit: 2, again: false, closed: false });
}

#[test]
fn the_words_of_a_caller() {
    let credit = Credit {
        epoch: 2,
        instance: Some(instance()),
        limit: 2_097_152,
        frames: 1_100,
        out: 1_000_000,
        err: 48_576,
        done: true,
    };
    let about = |verb: Verb| {
        move |payload: &[u8]| Control::decode(verb, None, bytes::Bytes::copy_from_slice(payload))
    };
    let resume = Resume {
        epoch: 3,
        instance: Some(instance()),
        out: 1_000_000,
        err: 48_576,
        limit: 2_097_152,
        write: false,
        sealed: false,
        within: Vec::new(),
    };
    let writer = Resume { write: true, ..resume.clone() };
    let reader_resumes = Resume { sealed: true, ..resume.clone() };
    let attach = AttachRequest {
        epoch: 1,
        instance: None,
        from: AttachFrom::Byte(1_048_576),
        window: 1_048_576,
        write: true,
        tty: Some(TtySize { cols: 80, rows: 24 }),
        sealed: false,
        within: Vec::new(),
    };
    let outer = "0197c0de-0000-7000-8000-00000000beef".parse().unwrap();
    let within = vec![Within { peer: peer("w1"), job: job() }, Within { peer: peer("w2"), job: outer }];
    let nested = AttachRequest { from: AttachFrom::Now, within, ..attach.clone() };
    let reader = AttachRequest { write: false, tty: None, sealed: true, ..attach.clone() };
    let resize = ResizeRequest { n: 2, instance: Some(instance()), cols: 100, rows: 30 };
    let signal = SignalRequest { n: 1, instance: None, signal: "INT".to_owned() };
    let cancel = CancelRequest { instance: Some(instance()), why: text("d was ended"), unless_begun: false };
    golden("credit", &credit);
    golden("resume", &resume);
    golden("resume_writer", &writer);
    golden("resume_sealed", &reader_resumes);
    golden("attach", &attach);
    golden("attach_sealed", &reader);
    golden("attach_within", &nested);
    golden("resize", &resize);
    let rename = RenameRequest { instance: None, name: "build".to_owned(), was: text("work") };
    golden("rename", &rename);
    let detach = DetachRequest { instance: None, from: text("ann@desk") };
    golden("detach", &detach);
    golden("signal", &signal);
    golden("cancel", &cancel);
    let why = text("cancelled while it waited in the queue");
    golden("cancel_unless_begun", &CancelRequest { instance: None, why, unless_begun: true });
    let release = ReleaseRequest { instance: Some(instance()) };
    golden("release", &release);
    // As a daemon takes them.
    for (name, verb, wanted) in [
        ("credit", Verb::Credit, Control::Credit(credit)),
        ("resume", Verb::Resume, Control::Resume(resume)),
        ("resume_writer", Verb::Resume, Control::Resume(writer)),
        ("resume_sealed", Verb::Resume, Control::Resume(reader_resumes)),
        ("attach", Verb::Attach, Control::Attach(attach)),
        ("attach_sealed", Verb::Attach, Control::Attach(reader)),
        ("attach_within", Verb::Attach, Control::Attach(nested)),
        ("resize", Verb::Resize, Control::Resize(resize)),
        ("rename", Verb::Rename, Control::Rename(rename)),
        ("release", Verb::Release, Control::Release(release)),
        ("detach", Verb::Detach, Control::Detach(detach)),
        ("signal", Verb::Signal, Control::Signal(signal)),
        ("cancel", Verb::Cancel, Control::Cancel(cancel)),
    ] {
        assert_eq!(about(verb)(file(name).as_bytes()), Ok(wanted), "{name}");
    }
    for (verb, word, field) in [
        (Verb::Attach, r#"{"epoch":0,"from":"now","window":1}"#, "`epoch`"),
        (Verb::Attach, r#"{"epoch":1,"from":"now","window":0}"#, "`window`"),
        (Verb::Attach, r#"{"epoch":1,"from":"there","window":1}"#, "`from`"),
        (Verb::Resize, r#"{"n":1,"cols":0,"rows":1}"#, "`tty.cols`"),
        (Verb::Rename, r#"{"was":"work"}"#, "`name`"),
        (Verb::Rename, r#"{"name":"a/b"}"#, "`name`"),
        (Verb::Detach, r#"{"from":7}"#, "`from`"),
    ] {
        assert!(about(verb)(word.as_bytes()).unwrap_err().0.contains(field), "{word}");
    }
    assert_eq!(about(Verb::Cancel)(b""), Ok(Control::Cancel(CancelRequest::default())));
    assert_eq!(about(Verb::Detach)(b""), Ok(Control::Detach(DetachRequest::default())));
    assert_eq!(about(Verb::Result)(b""), Ok(Control::Result));
    let chunk = Control::decode(Verb::Stdin, Some(7), bytes::Bytes::from_static(b"\0\xff"));
    assert_eq!(chunk, Ok(Control::Stdin { offset: 7, bytes: bytes::Bytes::from_static(b"\0\xff") }));
    assert!(about(Verb::Stdin)(b"x").unwrap_err().0.contains("`D-Offset`"));
    assert_eq!((control::FRAMES_IN_FLIGHT, control::CREDIT_EVERY_MS), (1_024, 5_000));
}

#[test]
fn a_durable_job_that_runs() {
    let started =
        Started { kind: STARTED_TYPE.to_owned(), id: job(), peer: peer("w1"), instance: instance() };
    golden("started", &started);
    assert_eq!(STARTED_TYPE, "peerbus.started.v1");
    let (kind, name) = (RENAMED_TYPE.to_owned(), "build".to_owned());
    golden("renamed", &Renamed { kind, id: job(), instance: instance(), name });
    let kind = DETACHED_TYPE.to_owned();
    golden("detach_answer", &DetachAnswer { kind, id: job(), instance: instance(), viewers: 2 });
    let turns = vec![ResponderChange { at: 0, asked: true }, ResponderChange { at: 4096, asked: false }];
    golden("asked", &Responder { turns });
    let size = |cols, rows| TtySize { cols, rows };
    let sizes = vec![SizeFrom { at: 0, size: size(80, 24) }, SizeFrom { at: 4096, size: size(120, 40) }];
    golden("sized", &Sizes { sizes });
    golden("detached", &Detached { by: "ann".to_owned() });
    assert_eq!((RENAMED_TYPE, DETACHED_TYPE), ("peerbus.renamed.v1", "peerbus.detached.v1"));
    part(&AttachFrom::Byte(7), r#"{"byte":7}"#);
    for (from, word) in
        [(AttachFrom::Start, "start"), (AttachFrom::Now, "now"), (AttachFrom::Screen, "screen")]
    {
        part(&from, &format!("{word:?}"));
    }
}

#[test]
fn the_answer_to_a_cancel() {
    let answer = |answer, result| CancelAnswer {
        kind: "peerbus.cancel_answer.v1".to_owned(),
        id: job(),
        instance: instance(),
        answer,
        result,
    };
    golden("cancel_answer_never_seen", &answer(Cancelled::NeverSeen, None));
    golden("cancel_answer_ended", &answer(Cancelled::Ended, Some(Box::new(whole_result()))));
    part(&Cancelled::Running, "\"running\"");
    assert_eq!(control::CANCEL_TYPE, "peerbus.cancel_answer.v1");
}

#[test]
fn an_error() {
    let body = ErrorBody {
        id: Some(job()),
        ending: Some(Ending::Refused { why: Refusal::Limit, message: "enough".to_owned() }),
        ..ErrorBody::new("refused", "enough")
    };
    golden("error", &body);
    golden("error_without_a_job", &ErrorBody::new("bad_request", "field `peer`: it is missing"));
    assert_eq!(reply::ERROR_TYPE, "peerbus.error.v1");
}
