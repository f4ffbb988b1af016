//! Writing the command's output to our own, on a thread of its own: a pager that stands still stops
//! this thread, and through the missing credit the command, but not the conversation.

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

/// How long an output may take for what is on its way to it when nobody knows whether it is read.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// Something to be written, in its turn.
enum Piece {
    Output(StreamKind, Bytes),
    /// What is shown on a terminal, and how many bytes of output that stands for.
    Shown(Bytes, usize),
    /// A line of `d`'s own.
    Said(String),
    /// To be dropped when everything before it was written.
    Mark(Sender<Infallible>),
}

/// How `d`'s own outputs fared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Written {
    /// They took what they were given.
    #[default]
    Whole,
    /// One was closed, as by `| head`, or stands still.
    Closed,
    /// One could not be written to, as on a full disk; the sentence says which, and why.
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

/// How far the thread is.
#[derive(Default)]
struct Progress {
    /// Whether an output was closed, or failed; nothing is written any more then.
    closed: AtomicBool,
    /// Why one failed that was not closed.
    failed: OnceLock<String>,
    /// Bytes of output that were handed on and not written.
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

    /// Hands a piece on. Never waits: the window limits how much can be under way.
    pub(crate) fn write(&self, stream: StreamKind, bytes: Bytes) {
        self.hand_on(Piece::Output(stream, bytes));
    }

    /// The same of what draws a terminal; nobody counts it.
    pub(crate) fn draw(&self, bytes: Bytes) {
        self.show(bytes, 0);
    }

    /// The same of what is shown in place of so many bytes of output.
    pub(crate) fn show(&self, bytes: Bytes, stands_for: usize) {
        self.hand_on(Piece::Shown(bytes, stands_for));
    }

    /// Says something behind all that was handed on so far.
    pub(crate) fn say(&self, text: String) {
        self.hand_on(Piece::Said(text));
    }

    /// Waits until all that was handed on so far is written, and no longer than this.
    pub(crate) fn wait_until_written(&self, patience: Duration) {
        let (mark, reached) = channel();
        self.hand_on(Piece::Mark(mark));
        let _ = reached.recv_timeout(patience);
    }

    fn hand_on(&self, piece: Piece) {
        self.progress.unwritten.fetch_add(piece.counts() as u64, Ordering::AcqRel);
        // The thread ends only after this.
        let _ = self.pieces.send(piece);
    }

    /// Ends the thread, and says how the outputs fared. Where not all of it is waited for, as when nobody knows
    /// the ending, one that stands still does not hold us up for long, and what is not in it is said.
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

    /// The same for a job that is left as it is, of which so much was received. Says, too, up to where it was written:
    /// there one may go on. LIMIT: an output that stands still may have taken more of a piece than the system has told
    /// us, which is shown again then; none is missing.
    pub(crate) fn leave(self, received: u64) -> (Written, u64) {
        let (written, unwritten) = self.stop();
        (written, received.saturating_sub(unwritten))
    }

    /// Waits for what is on its way, unless that takes too long: whatever would take longer is not written any more.
    /// Says how the outputs fared, and how many bytes were not written.
    fn stop(self) -> (Written, u64) {
        let progress = Arc::clone(&self.progress);
        self.finish_within(LAST_BYTES);
        let written = progress.written();
        progress.closed.store(true, Ordering::Release);
        (written, progress.unwritten.load(Ordering::Acquire))
    }

    /// Waits until everything is written, and no longer than this: nobody may read it any more.
    pub(crate) fn finish_within(self, patience: Duration) -> Written {
        drop(self.pieces);
        match (self.ended.recv_timeout(patience), self.progress.written()) {
            (Err(RecvTimeoutError::Timeout), Written::Whole) => Written::Closed,
            (_, written) => written,
        }
    }
}

impl Piece {
    /// How many bytes of output it stands for.
    fn counts(&self) -> usize {
        match self {
            Self::Output(_, bytes) => bytes.len(),
            Self::Shown(_, stands_for) => *stands_for,
            Self::Said(_) | Self::Mark(_) => 0,
        }
    }
}

fn write_all(work: &Receiver<Piece>, steering: &ExecutionHandle, progress: &Progress) {
    // Unbuffered: a piece is on its way when it was written.
    let mut outputs = [duplicate(io::stdout()), duplicate(io::stderr())];
    // Of one that was closed nobody can tell any more.
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
            // Of what is shown in place of output no part stands for a part of that.
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
        // What nobody reads any more is discarded, so that the command can be stopped.
        if counts > 0 {
            steering.wrote(stream, counts);
        }
    }
}

/// An output cannot be written to any more.
fn give_up(is_terminal: bool, steering: &ExecutionHandle) {
    match is_terminal {
        // Somebody has closed the window, of which SIGHUP may tell later than this: what outlives its
        // caller goes on.
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

/// Tells of each part that was written.
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
