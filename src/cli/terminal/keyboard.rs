//! Keyboard input and signals: a new terminal size, termination, suspension.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::mpsc;

use super::decode::{Decoder, Token};
use super::escape::{Keys, Typed};
use crate::exec::InputLost;
use crate::signals::{listen, received};
use peerbus_client::exec::ExecutionHandle;
use peerbus_process::{Blocking, CONTINUES, Console, SUSPENDS, Wait, wait_for_keys};

/// Bytes per read; a user types less.
const AT_ONCE: usize = 4096;

/// How long to wait for the rest of an incomplete sequence. Delays an Escape key by this much.
const SEQUENCE_GOES_ON: Duration = Duration::from_millis(20);

/// Timeout for the answer to the last query. A slow terminal connection may delay the end by this
/// much.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// A thread that reads keys.
pub(super) struct Keyboard {
    stop: UnixStream,
    thread: JoinHandle<()>,
}

impl Keyboard {
    /// Hands keys on as soon as they are typed, up to the detach keys.
    ///
    /// Reads byte by byte, so that bytes after the detach keys are left for the next reader.
    pub(super) fn read(
        console: &Console,
        keys: Keys,
        to: mpsc::Sender<Typed>,
        steering: ExecutionHandle,
    ) -> io::Result<Self> {
        let input = console.input()?;
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::spawn(move || {
            if read_until_left(input, &stopped, keys, &to).is_err() {
                // The terminal was closed, which SIGHUP also reports unless ignored. This is not
                // the end of the input.
                steering.detach();
                std::mem::forget(to);
            }
        });
        Ok(Self { stop, thread })
    }

    /// Stops reading. The receiver of the keys must already be gone.
    pub(super) fn stop(self) {
        drop(self.stop);
        // A thread that panicked has stopped reading, too.
        let _ = self.thread.join();
    }
}

fn read_until_left(
    mut input: File,
    stopped: &UnixStream,
    mut keys: Keys,
    to: &mpsc::Sender<Typed>,
) -> io::Result<()> {
    loop {
        let count =
            match wait_for_keys(&input, Some(stopped), keys.are_waiting().then_some(SEQUENCE_GOES_ON))? {
                Wait::Stopped => return Ok(()),
                Wait::TimedOut => {
                    let _ = to.blocking_send(keys.flush());
                    continue;
                }
                Wait::Typed(count) => count,
            };
        let mut typed = Typed::default();
        for _ in 0..count.clamp(1, AT_ONCE) {
            let mut byte = [0];
            match input.read(&mut byte) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Another process has read the input and made the terminal non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            let Typed { bytes, leaves, help } = keys.take(&byte);
            typed.bytes.extend(bytes);
            typed.help |= help;
            typed.leaves |= leaves;
            if leaves {
                break;
            }
        }
        let leaves = typed.leaves;
        if to.blocking_send(typed).is_err() || leaves {
            return Ok(());
        }
    }
}

/// The query that every terminal answers (device attributes), sent last.
pub(super) const LAST_QUESTION: &[u8] = b"\x1b[c";

/// Discards pending answers of the terminal, up to the answer to [`LAST_QUESTION`]: the next reader
/// would get them as input. Keys typed meanwhile are lost.
pub(super) fn take_answers(console: &Console) {
    let Ok(mut input) = console.input() else { return };
    let end = Instant::now() + ANSWERS_WITHIN;
    let (mut decoder, mut is_last) = (Decoder::default(), false);
    while !is_last {
        let left = end.saturating_duration_since(Instant::now());
        let mut byte = [0];
        match wait_for_keys(&input, None::<&File>, Some(left)) {
            Ok(Wait::Typed(1..))
                if !left.is_zero() && input.read(&mut byte).is_ok_and(|count| count == 1) => {}
            _ => return,
        }
        let [byte] = byte;
        decoder.feed(byte, &mut |token, bytes| {
            is_last |= token == Token::Report && bytes.starts_with(b"\x1b[?") && bytes.ends_with(b"c");
        });
    }
}

/// Reads input that is not a terminal on a thread of its own, and hands it on.
pub(super) fn read_input(to: mpsc::Sender<Typed>, steering: ExecutionHandle, lost: InputLost) {
    std::thread::spawn(move || {
        let mut input = Blocking(std::io::stdin());
        let mut buffer = [0; AT_ONCE];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                    if to.blocking_send(Typed { bytes, ..Typed::default() }).is_err() {
                        return;
                    }
                }
                Err(error) => return lost.tell(&error, &steering, to),
            }
        }
    });
}

/// An event from the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TerminalEvent {
    /// The terminal's size changed.
    Size,
    /// Ctrl-C, while the terminal still makes signals of keys.
    Interrupt,
    /// `d` must end.
    End,
    /// `d` must stop until SIGCONT.
    Suspend,
    /// `d` continues; other programs may have changed the terminal meanwhile.
    Continue,
}

/// The signals that `d` handles during a terminal session.
pub(super) struct Signals {
    size: Option<Signal>,
    interrupt: Option<Signal>,
    ends: [Option<Signal>; 3],
    suspend: Option<Signal>,
    goes_on: Option<Signal>,
}

impl Signals {
    pub(super) fn listen() -> Self {
        let ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        Self {
            size: listen(SignalKind::window_change()),
            interrupt: listen(SignalKind::interrupt()),
            ends: ends.map(listen),
            suspend: listen(SignalKind::from_raw(SUSPENDS)),
            goes_on: listen(SignalKind::from_raw(CONTINUES)),
        }
    }

    pub(super) async fn next(&mut self) -> TerminalEvent {
        let [terminate, hangup, quit] = &mut self.ends;
        tokio::select! {
            () = received(&mut self.size) => TerminalEvent::Size,
            () = received(&mut self.interrupt) => TerminalEvent::Interrupt,
            () = received(terminate) => TerminalEvent::End,
            () = received(hangup) => TerminalEvent::End,
            () = received(quit) => TerminalEvent::End,
            () = received(&mut self.suspend) => TerminalEvent::Suspend,
            () = received(&mut self.goes_on) => TerminalEvent::Continue,
        }
    }
}
