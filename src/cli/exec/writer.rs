//! Writes the command's output to our own outputs, on a thread of its own. A stalled pager blocks
//! only this thread. Missing credit then stops the command, but the connection to the peer keeps
//! working.

use std::convert::Infallible;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use peerbus_client::exec::ExecutionHandle;
use peerbus_process::Blocking;
use peerbus_protocol::frame::StreamKind;

/// Timeout for pending output if it may have no reader.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// A piece to write, in order.
enum Piece {
    Output(StreamKind, Bytes),
    /// Bytes for a terminal, and the number of output bytes they stand for.
    Shown(Bytes, usize),
    /// A line of `d`'s own.
    Said(String),
    /// Dropped when everything before it is written.
    Mark(Sender<Infallible>),
}

/// The state of `d`'s own outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Written {
    /// Everything was written.
    #[default]
    Whole,
    /// An output was closed, as by `| head`, or is stalled.
    Closed,
    /// An output failed, as on a full disk; the message says which one, and why.
    Failed(String),
}

/// The writing thread.
pub(crate) struct Writer {
    pieces: Sender<Piece>,
    thread: JoinHandle<()>,
    /// Closed by the thread when it ends.
    ended: Receiver<Infallible>,
    progress: Arc<Progress>,
}

/// Progress of the thread.
#[derive(Default)]
struct Progress {
    /// Whether an output was closed or failed; then nothing more is written.
    closed: AtomicBool,
    /// The error of an output that failed for another reason.
    failed: OnceLock<String>,
    /// Output bytes handed to the thread and not written yet.
    unwritten: AtomicU64,
}

impl Progress {
    fn wrote(&self, count: usize) {
        self.unwritten.fetch_sub(count as u64, Ordering::AcqRel);
    }

    fn written(&self) -> Written {
        match (self.failed.get(), self.closed.load(Ordering::Acquire)) {
            (Some(why), _) => Written::Failed(why.clone()),
            (None, true) => Written::Closed,
            (None, false) => Written::Whole,
        }
    }
}

impl Writer {
    pub(crate) fn start(steering: ExecutionHandle) -> Self {
        let (pieces, work) = channel();
        let progress = Arc::<Progress>::default();
        let noted = Arc::clone(&progress);
        let (ends, ended) = channel();
        let thread = std::thread::spawn(move || {
            let _ends = ends;
            write_all(&work, &steering, &noted);
        });
        Self { pieces, thread, ended, progress }
    }

    /// Queues a piece. Never blocks: the window limits the bytes in flight.
    pub(crate) fn write(&self, stream: StreamKind, bytes: Bytes) {
        self.hand_on(Piece::Output(stream, bytes));
    }

    /// Queues bytes that draw a terminal; they are not counted.
    pub(crate) fn draw(&self, bytes: Bytes) {
        self.show(bytes, 0);
    }

    /// Queues bytes shown in place of this many bytes of output.
    pub(crate) fn show(&self, bytes: Bytes, stands_for: usize) {
        self.hand_on(Piece::Shown(bytes, stands_for));
    }

    /// Queues a message after everything so far.
    pub(crate) fn say(&self, text: String) {
        self.hand_on(Piece::Said(text));
    }

    /// Waits until everything so far is written, up to a timeout.
    pub(crate) fn wait_until_written(&self, patience: Duration) {
        let (mark, reached) = channel();
        self.hand_on(Piece::Mark(mark));
        let _ = reached.recv_timeout(patience);
    }

    fn hand_on(&self, piece: Piece) {
        self.progress.unwritten.fetch_add(piece.counts() as u64, Ordering::AcqRel);
        // The thread ends only after the channel closes, so this cannot fail earlier.
        let _ = self.pieces.send(piece);
    }

    /// Ends the thread and returns the state of the outputs. Unless `wait_for_all` is set, a
    /// stalled output delays this only briefly, and the message says what is missing from it.
    pub(crate) fn finish(self, wait_for_all: bool) -> Written {
        if wait_for_all {
            drop(self.pieces);
            return match self.thread.join() {
                Ok(()) => self.progress.written(),
                Err(_) => Written::Failed("the thread that writes output broke off inside d".to_owned()),
            };
        }
        let (written, unwritten) = self.stop();
        if written == Written::Whole && unwritten > 0 {
            super::output::say(&format!(
                "the output stands still: up to {unwritten} bytes that came are not in it"
            ));
        }
        written
    }

    /// Like [`Writer::finish`], for detaching after `received` bytes. Also returns the offset up to
    /// which everything was written, for resuming. LIMIT: a stalled output may have taken more of a
    /// piece than the system reported. Those bytes are shown again after resuming; none is lost.
    pub(crate) fn leave(self, received: u64) -> (Written, u64) {
        let (written, unwritten) = self.stop();
        (written, received.saturating_sub(unwritten))
    }

    /// Waits for pending output up to a timeout, then discards it. Returns the state of the
    /// outputs, and the number of bytes not written.
    fn stop(self) -> (Written, u64) {
        let progress = Arc::clone(&self.progress);
        self.finish_within(LAST_BYTES);
        let written = progress.written();
        progress.closed.store(true, Ordering::Release);
        (written, progress.unwritten.load(Ordering::Acquire))
    }

    /// Waits until everything is written, up to a timeout, since there may be no reader any more.
    pub(crate) fn finish_within(self, patience: Duration) -> Written {
        drop(self.pieces);
        match (self.ended.recv_timeout(patience), self.progress.written()) {
            (Err(RecvTimeoutError::Timeout), Written::Whole) => Written::Closed,
            (_, written) => written,
        }
    }
}

impl Piece {
    /// The number of output bytes it stands for.
    fn counts(&self) -> usize {
        match self {
            Self::Output(_, bytes) => bytes.len(),
            Self::Shown(_, stands_for) => *stands_for,
            Self::Said(_) | Self::Mark(_) => 0,
        }
    }
}

fn write_all(work: &Receiver<Piece>, steering: &ExecutionHandle, progress: &Progress) {
    // Unbuffered, so that a piece is handed to the system as soon as it is written.
    let mut outputs = [duplicate(io::stdout()), duplicate(io::stderr())];
    // Checked now, since this is unknown once an output is closed.
    let are_terminals = [io::stdout().is_terminal(), io::stderr().is_terminal()];
    while let Ok(piece) = work.recv() {
        let counts = piece.counts();
        let (stream, bytes, is_output) = match piece {
            Piece::Output(stream, bytes) => (stream, bytes, true),
            Piece::Shown(bytes, _) => (StreamKind::Out, bytes, false),
            Piece::Said(text) => {
                super::output::say(&text);
                continue;
            }
            Piece::Mark(mark) => {
                drop(mark);
                continue;
            }
        };
        if !progress.closed.load(Ordering::Acquire) {
            // A part of a redraw does not stand for a part of the output.
            let wrote = |count| {
                if is_output {
                    progress.wrote(count)
                }
            };
            match write(&mut outputs[stream as usize], &bytes, wrote) {
                Ok(()) if is_output => {}
                Ok(()) => progress.wrote(counts),
                Err(error) => {
                    if !are_terminals[stream as usize] && error.kind() != ErrorKind::BrokenPipe {
                        let _ = progress.failed.set(format!("writing {}: {error}", name(stream)));
                    }
                    progress.closed.store(true, Ordering::Release);
                    give_up(are_terminals[stream as usize], steering);
                }
            }
        }
        // Without a reader, pieces are discarded, so that the command can still be stopped.
        if counts > 0 {
            steering.wrote(stream, counts);
        }
    }
}

/// Handles an output that cannot be written any more.
fn give_up(is_terminal: bool, steering: &ExecutionHandle) {
    match is_terminal {
        // The terminal window was closed, and SIGHUP may come later. A durable job keeps running.
        true => steering.detach(),
        false => steering.output_closed(),
    }
}

fn name(stream: StreamKind) -> &'static str {
    match stream {
        StreamKind::Out => "standard output",
        StreamKind::Err => "standard error",
    }
}

fn duplicate(output: impl AsFd) -> io::Result<Blocking<OwnedFd>> {
    Ok(Blocking(output.as_fd().try_clone_to_owned()?))
}

/// Calls `wrote` for each part written.
fn write(
    output: &mut io::Result<Blocking<OwnedFd>>,
    mut bytes: &[u8],
    wrote: impl Fn(usize),
) -> io::Result<()> {
    let output = output.as_mut().map_err(|error| io::Error::from(error.kind()))?;
    while !bytes.is_empty() {
        match output.write(bytes)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            count => {
                wrote(count);
                bytes = &bytes[count..];
            }
        }
    }
    Ok(())
}
