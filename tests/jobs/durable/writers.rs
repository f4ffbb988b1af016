//! Those who write to one job: many, one after the other, and more than they may.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::durable::bench::{SOON, ending, job_id, shim_pid};
use crate::harness::fleet::Fleet;
use crate::harness::nats::{Message, Raw};
use crate::harness::procs;
use crate::harness::wait::eventually;

/// Somebody with an inbox, who speaks the protocol.
struct Writer {
    job: String,
    inbox: String,
    frames: u64,
}

impl Writer {
    /// Starts a job that reads its input.
    fn starting(raw: &mut Raw, fleet: &Fleet, line: &str) -> (Writer, Value) {
        let job = job_id();
        let request = json!({
            "id": job, "directory": fleet.path(), "shell_cmd": line, "durable": true, "stdin": true,
            "stream": {"window": 4096}
        });
        let writer = Writer::new(raw, &job);
        raw.publish_reply("exec.w1", &writer.inbox, request.to_string());
        let want = writer.want(raw);
        (writer, want)
    }

    fn attaching(raw: &mut Raw, job: &str) -> (Writer, Value) {
        let writer = Writer::new(raw, job);
        let attach = json!({"epoch": 1, "from": "now", "window": 4096, "write": true});
        writer.say(raw, "attach", &attach.to_string());
        let want = writer.want(raw);
        (writer, want)
    }

    fn new(raw: &mut Raw, job: &str) -> Writer {
        let inbox = raw.new_inbox();
        let frames = raw.subscribe(&inbox);
        Writer { job: job.to_owned(), inbox, frames }
    }

    fn say(&self, raw: &mut Raw, verb: &str, payload: &str) {
        raw.publish_reply(&format!("exec.w1.{}.{verb}", self.job), &self.inbox, payload);
    }

    fn types(&self, raw: &mut Raw, offset: u64, bytes: &[u8]) {
        let subject = format!("exec.w1.{}.stdin", self.job);
        raw.publish_headers(&subject, &self.inbox, &[("D-Offset", &offset.to_string())], bytes);
    }

    /// The next thing it is told of its input.
    #[track_caller]
    fn want(&self, raw: &mut Raw) -> Value {
        loop {
            let frame: Message = raw.expect_on(self.frames, SOON, "a frame");
            assert_ne!(frame.header("D-Kind"), Some("answer"), "{frame:?}");
            if frame.header("D-Kind") == Some("want") {
                return frame.json();
            }
        }
    }

    #[track_caller]
    fn want_until(&self, raw: &mut Raw, received: u64) -> Value {
        loop {
            let want = self.want(raw);
            if want["received"] == received {
                return want;
            }
            assert!(want["received"].as_u64() < Some(received) && want["closed"] == false, "{want}");
        }
    }
}

/// Some say that they leave, others are gone.
#[test]
fn however_many_have_written_another_still_can() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut raw = Raw::connect(&fleet.url());
    let (owner, _) = Writer::starting(&mut raw, &fleet, "cat > typed");
    for n in 0..300 {
        let (writer, _) = Writer::attaching(&mut raw, &owner.job);
        writer.types(&mut raw, 0, b"x");
        writer.want_until(&mut raw, 1);
        if n % 2 == 0 {
            let done = json!({"epoch": 1, "limit": 4096, "frames": 1024, "out": 0, "err": 0, "done": true});
            writer.say(&mut raw, "credit", &done.to_string());
            raw.unsubscribe(writer.frames);
        } else {
            raw.unsubscribe(writer.frames);
            // What it had not heard of; the answer finds nobody.
            writer.types(&mut raw, 0, b"x");
        }
    }
    let (last, _) = Writer::attaching(&mut raw, &owner.job);
    last.types(&mut raw, 0, b"last");
    last.want_until(&mut raw, 4);
    owner.types(&mut raw, 0, b"");
    assert_eq!(ending(&fleet, &owner.job), json!({"exited": {"code": 0}}));
    let typed = std::fs::read_to_string(fleet.path().join("typed")).unwrap();
    assert_eq!(typed, format!("{}last", "x".repeat(300)));
}

#[test]
fn what_one_is_told_that_it_may_send_is_taken() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut raw = Raw::connect(&fleet.url());
    // It reads nothing, so whatever is received is what was granted.
    let (owner, first) =
        Writer::starting(&mut raw, &fleet, "until [ -e go ]; do sleep 0.02; done; wc -c > count");
    let (other, second) = Writer::attaching(&mut raw, &owner.job);
    let mut sum = 0;
    for (writer, want, granted) in [(&owner, first, 256 * 1024), (&other, second, 32 * 1024)] {
        assert_eq!(want, json!({"received": 0, "limit": granted, "again": false, "closed": false}));
        for offset in (0..granted).step_by(32 * 1024) {
            writer.types(&mut raw, offset, &[b'x'; 32 * 1024]);
        }
        writer.want_until(&mut raw, granted);
        sum += granted;
    }
    owner.types(&mut raw, 256 * 1024, b"");
    std::fs::write(fleet.path().join("go"), "").unwrap();
    assert_eq!(ending(&fleet, &owner.job), json!({"exited": {"code": 0}}));
    assert_eq!(std::fs::read_to_string(fleet.path().join("count")).unwrap().trim(), sum.to_string());
}

/// A shim that does not read, and a writer that does not care what it was granted.
#[test]
fn what_waits_for_a_shim_takes_little_of_its_daemon() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut raw = Raw::connect(&fleet.url());
    let (owner, _) = Writer::starting(&mut raw, &fleet, "wc -c > count");
    let shim = Pid::from_raw(shim_pid(&fleet, &owner.job));
    kill(shim, Signal::SIGSTOP).unwrap();
    let daemon = fleet.daemon("w1").pid();
    let before = procs::resident_bytes(daemon);
    let chunk = vec![b'x'; 64 * 1024];
    for _ in 0..3_000 {
        owner.types(&mut raw, 0, &chunk);
    }
    // All of it has come to the job, when that answers what was said after it; it may have no room for the question.
    let question = format!("exec.w1.{}.result", owner.job);
    eventually(SOON, "an answer", || {
        (!raw.request_many(&question, "", std::time::Duration::from_millis(200)).is_empty()).then_some(())
    });
    let held = procs::peak_resident_bytes(daemon).saturating_sub(before);
    kill(shim, Signal::SIGCONT).unwrap();
    assert!(held < 100 << 20, "{held} bytes of 187 MiB");
    owner.types(&mut raw, 64 * 1024, b"");
    loop {
        let want = owner.want(&mut raw);
        if want["closed"] == true {
            break;
        }
        owner.types(&mut raw, 64 * 1024, b"");
    }
    assert_eq!(ending(&fleet, &owner.job), json!({"exited": {"code": 0}}));
    assert_eq!(std::fs::read_to_string(fleet.path().join("count")).unwrap().trim(), "65536");
}
