//! What the cases have in common: jobs with known output, and people who attach to them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use peerbus::bus::{AddressPolicy, Bus, Credentials, ReconnectPolicy, Settings};
use peerbus::client::exec::{self, AttachOptions, Completion, Event, Integrity, Timeouts};
use peerbus::protocol::Ending;
use peerbus::protocol::attach::AttachFrom;
use peerbus::protocol::frame::{Accepted, StreamKind};
use serde_json::{Value, json};

use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::nats::{Message, Raw};
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A command in a place of its own that counts until a file `stop` appears there: numbered lines on both outputs, then
/// how many it were, and exit code 7. Notes its process id, once each time it is run.
pub(crate) struct Counter {
    place: PathBuf,
    pace: &'static str,
}

impl Counter {
    pub(crate) fn new(fleet: &Fleet, name: &str) -> Counter {
        Counter::with_pace(fleet, name, "0.005")
    }

    /// With so many seconds between two lines.
    pub(crate) fn with_pace(fleet: &Fleet, name: &str, pace: &'static str) -> Counter {
        let place = fleet.directory(name);
        nix::unistd::mkfifo(&place.join("fifo"), Mode::S_IRWXU).unwrap();
        Counter { place, pace }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "cd {}; echo $$ >> pids; i=0; while [ ! -e stop ]; do i=$((i+1)); echo line $i; echo note $i >&2; \
             read -t {} <> fifo; done; echo all $i; exit 7",
            self.place.display(),
            self.pace
        )
    }

    pub(crate) fn stop(&self) {
        std::fs::write(self.place.join("stop"), "").unwrap();
    }

    /// The process ids it noted: one for each time it was run.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let noted = std::fs::read_to_string(self.place.join("pids")).unwrap_or_default();
        noted.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Fails the test unless not a line is missing, double or in the wrong place.
    #[track_caller]
    pub(crate) fn expect_whole(out: &[u8], err: &[u8]) {
        let out = String::from_utf8(out.to_vec()).expect("text");
        let mut count = 0;
        for line in out.lines().take_while(|line| !line.starts_with("all")) {
            count += 1;
            assert_eq!(line, format!("line {count}"));
        }
        let end = format!("all {count}\n");
        // It may be told to stop before it has begun to count.
        assert!(out == end || out.ends_with(&format!("\n{end}")), "the last line of {count}");
        let notes: String = (1..=count).map(|number| format!("note {number}\n")).collect();
        assert!(err == notes.as_bytes(), "stderr differs: {}", String::from_utf8_lossy(err));
    }
}

/// `d exec` of a shell line on `w1`, in the fleet's directory.
pub(crate) fn exec(fleet: &Fleet, flags: &[&str], line: &str) -> DCommand {
    let place = fleet.path().to_str().unwrap().to_owned();
    let words = ["exec", "w1", "-C", &place].into_iter().chain(flags.iter().copied()).chain(["--sh", line]);
    fleet.command(words.collect::<Vec<_>>())
}

/// Starts a job that nobody follows; its id.
#[track_caller]
pub(crate) fn start(fleet: &Fleet, line: &str) -> String {
    let finished = exec(fleet, &["-d"], line).run().expect_success();
    let id = finished.out().trim().to_owned();
    assert_eq!(finished.out(), format!("{id}\n"), "nothing but the id");
    assert!(uuid::Uuid::parse_str(&id).is_ok(), "{finished:?}");
    id
}

/// What came to somebody who attached.
#[derive(Debug, Default, Clone)]
pub(crate) struct Heard {
    pub(crate) accepted: Option<Accepted>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    pub(crate) not_kept: Vec<(StreamKind, u64)>,
    pub(crate) resumed: u32,
    pub(crate) outcome: Option<Completion>,
    pub(crate) left_at: Option<u64>,
    over: bool,
}

impl Heard {
    /// The exit code, where all of it came.
    pub(crate) fn code(&self) -> Option<i32> {
        match self.outcome.as_ref()? {
            Completion { ending: Ending::Exited { code }, integrity: Integrity::Whole, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Somebody who attached with `d`'s own client, on a connection of its own.
pub(crate) struct Watch {
    heard: Arc<(Mutex<Heard>, Condvar)>,
    steering: exec::ExecutionHandle,
}

impl Watch {
    /// Attaches to a job of `w1`, to read.
    pub(crate) fn attach(fleet: &Fleet, job: &str, from: AttachFrom) -> Watch {
        Watch::with(&fleet.url(), Credentials::None, job, from)
    }

    /// The same by a member of a fleet with identities.
    pub(crate) fn attach_with(fleet: &Fleet, creds: &Path, job: &str, from: AttachFrom) -> Watch {
        Watch::with(&fleet.url(), Credentials::from_file(creds).expect("an identity"), job, from)
    }

    fn with(url: &str, credentials: Credentials, job: &str, from: AttachFrom) -> Watch {
        let address = url.parse().expect("an address");
        let settings =
            Settings { address, credentials, reach: AddressPolicy::Anywhere, name: "watch".to_owned() };
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let (told, taken) = std::sync::mpsc::channel();
        let (job, noted) = (job.parse().expect("an id"), Arc::clone(&heard));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let bus = Bus::open(settings, ReconnectPolicy::UntilClosed);
                bus.connected(SOON).await.expect("the bus");
                let window = peerbus::protocol::exec::WINDOW;
                let how = AttachOptions {
                    from,
                    window,
                    write: false,
                    tty: None,
                    sealed: false,
                    within: Vec::new(),
                };
                let (_stdin, chunks) = tokio::sync::mpsc::channel(1);
                let peer = "w1".parse().expect("valid");
                let patience = Timeouts { absent: SOON };
                let mut execution = exec::attach(&bus, peer, job, how, chunks, patience);
                let steering = execution.steering();
                told.send(execution.steering()).unwrap();
                while let Some(event) = execution.next().await {
                    note(&noted, &steering, event);
                }
                bus.close().await;
            });
        });
        Watch { heard, steering: taken.recv_timeout(SOON).expect("attached") }
    }

    /// Leaves.
    pub(crate) fn detach(&self) {
        self.steering.detach();
    }

    /// Waits until what came is enough.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, enough: impl Fn(&Heard) -> bool) -> Heard {
        let (heard, changed) = &*self.heard;
        let end = Instant::now() + SOON * 2;
        let mut heard = heard.lock().unwrap();
        while !enough(&heard) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !heard.over, "waited in vain for {what}: {}", described(&heard));
            heard = changed.wait_timeout(heard, left).unwrap().0;
        }
        heard.clone()
    }

    /// Waits for output that comes from now on.
    #[track_caller]
    pub(crate) fn expect_more(&self) {
        let now = self.heard.0.lock().unwrap().out.len();
        self.until("more output", |heard| heard.out.len() > now + 100);
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(&self) -> Heard {
        self.until("the end", |heard| heard.over)
    }
}

fn described(heard: &Heard) -> String {
    let Heard { accepted, out, err, resumed, outcome, left_at, .. } = heard;
    let (out, err) = (out.len(), err.len());
    format!("{accepted:?}, {out} and {err} bytes, resumed {resumed} times, {outcome:?}, left at {left_at:?}")
}

fn note(noted: &(Mutex<Heard>, Condvar), steering: &exec::ExecutionHandle, event: Event) {
    let mut heard = noted.0.lock().unwrap();
    match event {
        Event::Accepted(accepted) => heard.accepted = Some(accepted),
        Event::Output { stream, bytes, .. } => {
            match stream {
                StreamKind::Out => heard.out.extend_from_slice(&bytes),
                StreamKind::Err => heard.err.extend_from_slice(&bytes),
            }
            steering.wrote(stream, bytes.len());
        }
        Event::NotKept { stream, bytes } => heard.not_kept.push((stream, bytes)),
        Event::Screen(_) | Event::Interrupted(_) | Event::Asked(_) | Event::Sized(_) | Event::Waiting(_) => {}
        Event::Resumed => heard.resumed += 1,
        Event::Ended(outcome) => (heard.outcome, heard.over) = (Some(*outcome), true),
        Event::Detached { at, .. } => (heard.left_at, heard.over) = (Some(at), true),
    }
    noted.1.notify_all();
}

/// The whole output of a job that ends by itself, and how it ended.
#[track_caller]
pub(crate) fn read_all(fleet: &Fleet, job: &str) -> Heard {
    Watch::attach(fleet, job, AttachFrom::Start).end()
}

pub(crate) fn job_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A plain request for a durable job, in the fleet's directory.
pub(crate) fn request(fleet: &Fleet, id: &str, line: &str) -> Value {
    json!({ "id": id, "directory": fleet.path(), "shell_cmd": line, "durable": true })
}

/// What the peer says of a job's end.
#[track_caller]
pub(crate) fn result(fleet: &Fleet, id: &str) -> Message {
    Raw::connect(&fleet.server().url()).request(&format!("exec.w1.{id}.result"), "", SOON)
}

/// Waits until the peer knows how a job ended; its ending.
#[track_caller]
pub(crate) fn ending(fleet: &Fleet, id: &str) -> Value {
    eventually(SOON, "the job to end", || {
        let said = result(fleet, id).json();
        said.get("ending").filter(|ending| !ending.is_null()).cloned()
    })
}

/// The ids below a directory of the journal.
pub(crate) fn journalled(fleet: &Fleet, which: &str) -> Vec<String> {
    let directory = fleet.daemon("w1").state_directory().join("journal").join(which);
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What a job's shim writes.
pub(crate) fn directory(fleet: &Fleet, id: &str) -> PathBuf {
    fleet.daemon("w1").state_directory().join("jobs").join(id)
}

/// The first segment of a job's log, without an ending.
pub(crate) fn segment(fleet: &Fleet, id: &str) -> PathBuf {
    directory(fleet, id).join("log").join(format!("{:020}", 0))
}

/// Events of the audit log about a job, oldest first; not of what people did with it.
pub(crate) fn audited(fleet: &Fleet, id: &str) -> Vec<String> {
    let finished = fleet.command(["audit", "w1", "--json"]).run().expect_success();
    let lines = finished.out();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let about = lines.filter(|line| line["request"]["job"] == id || line["job"] == id);
    let events = about.map(|line| line["event"].as_str().unwrap_or_default().to_owned());
    events.filter(|event| event != "steered").collect()
}

/// The process id of a job's shim.
#[track_caller]
pub(crate) fn shim_pid(fleet: &Fleet, id: &str) -> i32 {
    let place = fleet.daemon("w1").state_directory().join("jobs").join(id);
    let text = std::fs::read_to_string(place.join("shim.json")).expect("shim.json");
    let about: Value = serde_json::from_str(&text).expect("JSON");
    about["shim"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid")
}

/// How many lines a file has; none when it is not there.
pub(crate) fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}
