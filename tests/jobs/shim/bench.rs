//! A containment manager of the test's own, short ways to have a job kept, and somebody who reads along.

use std::cell::RefCell;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use peerbus::process::{Command, ContainmentKind, ContainmentManager, Links, Spec, Stdin};
use peerbus::protocol::JobId;
use peerbus::protocol::exec::StreamTotal;
use peerbus::protocol::frame::StreamKind;
use peerbus::protocol::send_buffer::StreamOffsets;
use peerbus::shim::link::{find, start};
use peerbus::shim::log::{Piece, Reader};
use peerbus::shim::{Found, FromShim, JobDir, JobEnd, JobSpec, ShimConnection, SpawnError};

use crate::harness::procs;
use crate::harness::scratch::Scratch;
use crate::harness::wait::within;

/// Long enough for anything on a busy machine; reached only by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often something that gives no event of its own is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) struct Bench {
    pub(crate) state: Scratch,
    pub(crate) containment_manager: ContainmentManager,
    started: RefCell<Vec<(JobId, i32)>>,
}

impl Bench {
    pub(crate) fn new(containment: ContainmentKind) -> Self {
        let state = Scratch::new();
        let containment_manager =
            ContainmentManager::open(state.path(), env!("CARGO_BIN_EXE_d").into(), containment);
        Self {
            containment_manager: containment_manager.expect("a containment_manager"),
            state,
            started: RefCell::default(),
        }
    }

    pub(crate) fn place(&self, order: &JobSpec) -> JobDir {
        JobDir::of(self.state.path(), order.spec.job)
    }

    /// An order for a shell line.
    pub(crate) fn order(&self, line: &str) -> JobSpec {
        let job = JobId::new();
        let spec = Spec {
            job,
            directory: "/".to_owned(),
            links: Links::Followed,
            command: Command::Shell { shell: None, line: line.to_owned() },
            env: vec![("PEERBUS_JOB".to_owned(), job.to_string())],
            user: None,
            stdin: Stdin::Null,
            tty: None,
            start_within: None,
        };
        let job_scope = self.containment_manager.job_scope(job);
        let (timeout_ms, tty, name, owner, task) = (None, None, None, None, None);
        JobSpec { spec, job_scope, timeout_ms, tty, name, owner, task, no_wait: false, log_limit: 64 << 20 }
    }

    pub(crate) fn start(&self, order: &JobSpec) -> ShimConnection {
        self.try_start(order).expect("started")
    }

    pub(crate) fn try_start(&self, order: &JobSpec) -> Result<ShimConnection, SpawnError> {
        let started =
            tokio::task::block_in_place(|| start(&self.place(order), order, &self.containment_manager));
        let (link, identity) = started?;
        let hello = link.hello();
        assert_eq!(hello.process.as_ref(), Some(&identity));
        self.started.borrow_mut().push((order.spec.job, pid_of(&link)));
        Ok(link)
    }

    /// Runs a line to its end; returns that, and all it wrote to both streams.
    pub(crate) async fn run(&self, line: &str) -> (JobEnd, [Vec<u8>; 2]) {
        let order = self.order(line);
        let ended = ended(&mut self.start(&order)).await;
        let mut along = Along::of(&self.place(&order));
        along.read_on();
        along.must_be_all_of(&ended);
        (ended, along.read)
    }

    pub(crate) async fn find(&self, order: &JobSpec) -> Found {
        tokio::time::timeout(PATIENCE, find(&self.place(order))).await.expect("an answer").expect("looked at")
    }

    /// A second connection.
    pub(crate) async fn link(&self, order: &JobSpec) -> ShimConnection {
        match self.find(order).await {
            Found::Alive(link) => link,
            found => panic!("not alive: {found:?}"),
        }
    }
}

impl Drop for Bench {
    /// Nothing is left running, also by a test that failed; and as no shim is, the containment manager that goes now
    /// leaves no cgroup behind.
    fn drop(&mut self) {
        for (job, shim) in self.started.borrow().iter() {
            let job = job.to_string();
            let lives = || procs::look_at(*shim).filter(|process| process.arguments.contains(&job));
            if std::thread::panicking() {
                if lives().is_some() {
                    let _ = kill(Pid::from_raw(*shim), Signal::SIGKILL);
                }
                procs::kill_all(&procs::of_job(&job));
            }
            within(PATIENCE, || lives().is_none().then_some(()));
        }
    }
}

/// The shims of a job that run: they are this process' children.
pub(crate) fn shims_of(order: &JobSpec) -> Vec<procs::Process> {
    let job = order.spec.job.to_string();
    let below = procs::descendants(nix::unistd::getpid().as_raw()).into_iter();
    below.filter(|process| process.arguments.contains(&job)).collect()
}

pub(crate) fn pid_of(link: &ShimConnection) -> i32 {
    i32::try_from(link.hello().shim.pid).expect("a pid")
}

pub(crate) async fn next(link: &mut ShimConnection) -> Option<FromShim> {
    tokio::time::timeout(PATIENCE, link.next()).await.expect("a word in time")
}

/// Listens until the job has ended.
pub(crate) async fn ended(link: &mut ShimConnection) -> JobEnd {
    loop {
        if let FromShim::Ended(ended) = next(link).await.expect("a word before the end") {
            return *ended;
        }
    }
}

/// Waits until the log is as far as that, as the disk says.
pub(crate) async fn logged(
    bench: &Bench,
    order: &JobSpec,
    enough: impl Fn(StreamOffsets) -> bool,
) -> StreamOffsets {
    let mut reader = Reader::open(&bench.place(order).log());
    let until_then = async {
        loop {
            let end = reader.extent().expect("a log").end;
            if enough(end) {
                return end;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, until_then).await.expect("output in time")
}

/// Waits until a shim is gone, as its lock says.
pub(crate) async fn gone(bench: &Bench, order: &JobSpec) -> Found {
    let until_gone = async {
        loop {
            match bench.find(order).await {
                Found::Alive(_) => tokio::task::yield_now().await,
                found => return found,
            }
        }
    };
    tokio::time::timeout(PATIENCE, until_gone).await.expect("gone in time")
}

pub(crate) fn kill_shim(link: &ShimConnection) {
    kill(Pid::from_raw(pid_of(link)), Signal::SIGKILL).expect("killed");
}

/// Somebody who reads along.
pub(crate) struct Along {
    reader: Reader,
    pub(crate) at: u64,
    pub(crate) read: [Vec<u8>; 2],
    pub(crate) dropped: u64,
}

impl Along {
    pub(crate) fn of(place: &JobDir) -> Self {
        Self { reader: Reader::open(&place.log()), at: 0, read: [Vec::new(), Vec::new()], dropped: 0 }
    }

    /// Reads all there is.
    pub(crate) fn read_on(&mut self) {
        loop {
            match self.reader.read(self.at, 64 * 1024).expect("a log") {
                Piece::End => return,
                Piece::Dropped { to } => {
                    self.dropped += to.sum() - self.at;
                    self.at = to.sum();
                }
                Piece::Bytes { stream, offset, bytes } => {
                    let read = &mut self.read[stream as usize];
                    assert!(self.dropped > 0 || offset == read.len() as u64, "a hole at {offset}");
                    read.extend_from_slice(&bytes);
                    self.at += bytes.len() as u64;
                }
            }
        }
    }

    pub(crate) fn text(&self, stream: StreamKind) -> String {
        String::from_utf8_lossy(&self.read[stream as usize]).into_owned()
    }

    /// Whether what was read is what was written, to the byte.
    pub(crate) fn must_be_all_of(&self, ended: &JobEnd) {
        for (read, total) in self.read.iter().zip([&ended.out, &ended.err]) {
            let blake3 = blake3::hash(read).to_hex().to_string();
            assert_eq!(StreamTotal { bytes: read.len() as u64, blake3 }, *total);
        }
    }
}
