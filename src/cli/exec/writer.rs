//! Writing the command's output to our own, on a thread of its own: a pager that stands still stops
//! this thread, and through the missing credit the command, but not the conversation.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::exec::Steering;
use crate::protocol::frame::StreamKind;

/// Pause before a write to an output that somebody made non-blocking is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(2);

/// Something to be written, in its turn.
enum Piece {
    Output(StreamKind, Bytes),
    /// What is shown on a terminal, and how many bytes of output that stands for.
    Shown(Bytes, usize),
    /// A line of `d`'s own.
    Said(String),
}

/// The writing thread.
pub(in crate::cli) struct Writer {
    pieces: Sender<Piece>,
    thread: JoinHandle<()>,
    closed: Arc<AtomicBool>,
}

impl Writer {
    pub(in crate::cli) fn start(steering: Steering) -> Self {
        let (pieces, work) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&closed);
        let thread = std::thread::spawn(move || write_all(&work, &steering, &noted));
        Self { pieces, thread, closed }
    }

    /// Hands a piece on. Never waits: the window limits how much can be under way.
    pub(in crate::cli) fn write(&self, stream: StreamKind, bytes: Bytes) {
        self.hand_on(Piece::Output(stream, bytes));
    }

    /// The same of what draws a terminal; nobody counts it.
    pub(in crate::cli) fn draw(&self, bytes: Bytes) {
        self.show(bytes, 0);
    }

    /// The same of what is shown in place of so many bytes of output.
    pub(in crate::cli) fn show(&self, bytes: Bytes, stands_for: usize) {
        self.hand_on(Piece::Shown(bytes, stands_for));
    }

    /// Says something behind all that was handed on so far.
    pub(in crate::cli) fn say(&self, text: String) {
        self.hand_on(Piece::Said(text));
    }

    fn hand_on(&self, piece: Piece) {
        // The thread ends only after this.
        let _ = self.pieces.send(piece);
    }

    /// Ends the thread, and says whether an output was closed. One that stands still is left
    /// behind, where not everything was written.
    pub(in crate::cli) fn finish(self, everything_was_written: bool) -> bool {
        drop(self.pieces);
        let ended = !everything_was_written || self.thread.join().is_ok();
        !ended || self.closed.load(Ordering::Acquire)
    }

    /// Waits until everything is written, and no longer than this: nobody may read it any more. Says whether it is.
    pub(in crate::cli) fn finish_within(self, patience: Duration) -> bool {
        let Self { pieces, thread, closed } = self;
        drop(pieces);
        let end = Instant::now() + patience;
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(TRY_AGAIN);
        }
        thread.is_finished() && !closed.load(Ordering::Acquire)
    }
}

fn write_all(work: &Receiver<Piece>, steering: &Steering, closed: &AtomicBool) {
    // Unbuffered: a piece is on its way when it was written.
    let mut outputs = [duplicate(io::stdout()), duplicate(io::stderr())];
    // Of one that was closed nobody can tell any more.
    let are_terminals = [io::stdout().is_terminal(), io::stderr().is_terminal()];
    while let Ok(piece) = work.recv() {
        let (stream, bytes, counts) = match piece {
            Piece::Output(stream, bytes) => (stream, bytes.clone(), bytes.len()),
            Piece::Shown(bytes, stands_for) => (StreamKind::Out, bytes, stands_for),
            Piece::Said(text) => {
                super::output::say(&text);
                continue;
            }
        };
        if !closed.load(Ordering::Acquire)
            && let Err(error) = write(&mut outputs[stream as usize], &bytes)
        {
            closed.store(true, Ordering::Release);
            match error.kind() {
                // Somebody has closed the window, of which SIGHUP may tell later than this: what outlives its
                // caller goes on.
                _ if are_terminals[stream as usize] => steering.detach(),
                ErrorKind::BrokenPipe => steering.output_closed(),
                _ => {
                    super::output::say(&format!("writing output: {error}"));
                    steering.output_closed();
                }
            }
        }
        // What nobody reads any more is discarded, so that the command can be stopped.
        if counts > 0 {
            steering.wrote(stream, counts);
        }
    }
}

fn duplicate(output: impl AsFd) -> io::Result<File> {
    Ok(File::from(output.as_fd().try_clone_to_owned()?))
}

fn write(output: &mut io::Result<File>, mut bytes: &[u8]) -> io::Result<()> {
    let output = output.as_mut().map_err(|error| io::Error::from(error.kind()))?;
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(TRY_AGAIN),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
