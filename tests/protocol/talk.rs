//! A caller by hand: requests, words about a job, and the frames that come back.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::fleet::Fleet;
use crate::harness::nats::{Message, Raw};
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Long enough for what must not arrive to have arrived.
pub(crate) const A_WHILE: Duration = Duration::from_millis(400);

/// A fleet of one worker, `w1`.
pub(crate) fn one_worker() -> Fleet {
    Fleet::of_workers(["w1"])
}

/// A new job id.
pub(crate) fn job_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A plain request for a shell line.
pub(crate) fn plain(directory: &Path, line: &str) -> Value {
    json!({ "directory": directory, "shell_cmd": line })
}

/// A request for a stream.
pub(crate) fn streamed(id: &str, directory: &Path, line: &str, window: u64) -> Value {
    json!({
        "type": "peerbus.exec.v1", "id": id, "directory": directory, "shell_cmd": line,
        "stream": { "window": window },
    })
}

/// How many lines a file has; none when it is not there.
pub(crate) fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Waits until a file is there.
#[track_caller]
pub(crate) fn wait_for_file(path: &Path) {
    eventually(SOON, &format!("{} to appear", path.display()), || path.exists().then_some(()));
}

/// The fixed word, the code and the sentence of an error.
#[track_caller]
pub(crate) fn error_of(answer: &Message) -> (String, u16, String) {
    let header = |name: &str| match answer.header(name) {
        Some(value) => value.to_owned(),
        None => panic!("an error without {name}: {answer:?}"),
    };
    let body = answer.json();
    assert_eq!(body["type"], "peerbus.error.v1", "{answer:?}");
    let word = header("Nats-Service-Error");
    assert_eq!(body["error"], word.as_str(), "{answer:?}");
    let code = header("Nats-Service-Error-Code").parse().expect("the code is a number");
    (word, code, body["message"].as_str().expect("a sentence").to_owned())
}

/// One frame of a stream, or an answer beside it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: String,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) offset: Option<u64>,
    pub(crate) message: Message,
}

impl Frame {
    #[track_caller]
    fn of(message: Message) -> Frame {
        let number = |name: &str| message.header(name).map(|text| text.parse::<u64>().expect(name));
        let kind = message.header("D-Kind").unwrap_or_else(|| panic!("no D-Kind: {message:?}")).to_owned();
        let (epoch, seq) = match kind.as_str() {
            "answer" => (0, 0),
            _ => (number("D-Epoch").expect("D-Epoch"), number("D-Seq").expect("D-Seq")),
        };
        Frame { kind, epoch, seq, offset: number("D-Offset"), message }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        self.message.json()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.message.payload
    }

    pub(crate) fn is_output(&self) -> bool {
        matches!(self.kind.as_str(), "out" | "err")
    }
}

/// A whole stream.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    pub(crate) kinds: Vec<String>,
    pub(crate) result: Value,
}

impl Story {
    pub(crate) fn code(&self) -> Option<i64> {
        self.result["ending"]["exited"]["code"].as_i64()
    }

    /// Fails the test unless the totals and digests of the result are those of what came.
    #[track_caller]
    pub(crate) fn expect_whole(&self) {
        for (name, bytes) in [("out", &self.out), ("err", &self.err)] {
            assert_eq!(self.result[name]["bytes"], bytes.len(), "{name}: {}", self.result);
            let digest = blake3::hash(bytes).to_hex().to_string();
            assert_eq!(self.result[name]["blake3"], digest, "{name}: {}", self.result);
        }
    }
}

/// Someone who starts jobs and hears their frames.
pub(crate) struct Caller {
    pub(crate) raw: Raw,
    pub(crate) inbox: String,
    sid: u64,
}

impl Caller {
    #[track_caller]
    pub(crate) fn new(url: &str) -> Caller {
        let mut raw = Raw::connect(url);
        let inbox = raw.new_inbox();
        let sid = raw.subscribe(&inbox);
        Caller { raw, inbox, sid }
    }

    /// Sends a request; its frames come to our inbox.
    #[track_caller]
    pub(crate) fn request(&mut self, request: &Value) {
        self.raw.publish_reply("exec.w1", &self.inbox, request.to_string());
    }

    /// Waits until the daemon knows that a job runs, which the command may know before it: until then a signal is not
    /// applied, and is to be sent again.
    #[track_caller]
    pub(crate) fn see_it_run(&mut self, request: &Value) {
        while self.frame_of("accepted").json()["state"] != "running" {
            self.request(request);
        }
    }

    /// Says something of a job.
    #[track_caller]
    pub(crate) fn say(&mut self, job: &str, verb: &str, body: impl AsRef<[u8]>) {
        self.raw.publish_reply(&format!("exec.w1.{job}.{verb}"), &self.inbox, body);
    }

    /// Sends a piece of standard input.
    #[track_caller]
    pub(crate) fn stdin(&mut self, job: &str, offset: u64, bytes: &[u8]) {
        let subject = format!("exec.w1.{job}.stdin");
        self.raw.publish_headers(&subject, &self.inbox, &[("D-Offset", &offset.to_string())], bytes);
    }

    /// The next frame, within `deadline`.
    pub(crate) fn next(&mut self, deadline: Duration) -> Option<Frame> {
        self.raw.next_on(self.sid, deadline).map(Frame::of)
    }

    /// The next frame.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Frame {
        Frame::of(self.raw.expect_on(self.sid, SOON, "a frame"))
    }

    /// The next frame of a kind; what comes before it is passed over.
    #[track_caller]
    pub(crate) fn frame_of(&mut self, kind: &str) -> Frame {
        loop {
            let frame = self.frame();
            if frame.kind == kind {
                return frame;
            }
            assert_ne!(frame.kind, "end", "the stream ended before a frame {kind} came");
        }
    }

    /// Reads output of stdout until it is `bytes` long, without giving credit.
    #[track_caller]
    pub(crate) fn read_out(&mut self, bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < bytes {
            let frame = self.frame_of("out");
            assert_eq!(frame.offset, Some(out.len() as u64));
            out.extend_from_slice(frame.bytes());
        }
        out
    }

    /// Follows a stream from its first frame to its end as a good caller does, checking every
    /// number on the way.
    #[track_caller]
    pub(crate) fn follow(&mut self, job: &str) -> Story {
        let mut story = Story::default();
        let mut last = 0;
        loop {
            let frame = self.frame();
            if frame.kind == "answer" || (frame.seq <= last && frame.kind == "accepted") {
                continue;
            }
            assert_eq!((frame.epoch, frame.seq), (1, last + 1), "{frame:?}");
            last = frame.seq;
            story.kinds.push(frame.kind.clone());
            match frame.kind.as_str() {
                "out" => take(&mut story.out, &frame),
                "err" => take(&mut story.err, &frame),
                "result" => story.result = frame.json(),
                "end" => {
                    assert!(frame.bytes().is_empty(), "{frame:?}");
                    self.credit(job, 1, last, &story, true);
                    return story;
                }
                _ => {}
            }
            if frame.is_output() {
                self.credit(job, 1, last, &story, false);
            }
        }
    }

    /// Acknowledges all that was read and grants another mebibyte.
    #[track_caller]
    pub(crate) fn credit(&mut self, job: &str, epoch: u64, seq: u64, story: &Story, done: bool) {
        let (out, err) = (story.out.len(), story.err.len());
        let credit = json!({
            "epoch": epoch, "limit": out + err + (1 << 20), "frames": seq + 1024, "out": out, "err": err,
            "done": done,
        });
        self.say(job, "credit", credit.to_string());
    }

    /// Asks for the kept result of a job.
    #[track_caller]
    pub(crate) fn result(&mut self, job: &str) -> Message {
        self.raw.request(&format!("exec.w1.{job}.result"), "", SOON)
    }
}

#[track_caller]
fn take(to: &mut Vec<u8>, frame: &Frame) {
    assert_eq!(frame.offset, Some(to.len() as u64), "{frame:?}");
    assert!(!frame.bytes().is_empty() && frame.bytes().len() <= 64 * 1024, "{frame:?}");
    to.extend_from_slice(frame.bytes());
}
