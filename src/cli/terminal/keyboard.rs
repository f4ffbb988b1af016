//! What is typed, and what the system tells: another size, that `d` is to end, or to stop for a while.

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

/// As much as is read at once; a person types less.
const AT_ONCE: usize = 4096;

/// How long what begins like a sequence is waited for to go on. An Escape key takes so much longer than others.
const SEQUENCE_GOES_ON: Duration = Duration::from_millis(20);

/// How long a terminal may take for the answer to a last question. Whoever sits at one far away waits for that long.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Keys that are read on a thread of their own.
pub(super) struct Keyboard {
    stop: UnixStream,
    thread: JoinHandle<()>,
}

impl Keyboard {
    /// Hands keys on as soon as they are typed, up to those that leave.
    ///
    /// They are read byte by byte, so that what was typed behind those is left for whoever reads next.
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
                // The terminal was closed, which SIGHUP tells too where it is not ignored. That is no end of input.
                steering.detach();
                std::mem::forget(to);
            }
        });
        Ok(Self { stop, thread })
    }

    /// From now on nothing is read. Whoever was to get the keys must be gone.
    pub(super) fn stop(self) {
        drop(self.stop);
        // One that panicked reads nothing either.
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
                // Somebody else has read it, and made the terminal one that is not waited for.
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

/// The question that every terminal answers, and that comes last: what are you?
pub(super) const LAST_QUESTION: &[u8] = b"\x1b[c";

/// Takes away what a terminal still answers, up to the answer to [`LAST_QUESTION`]: it would be typed to whoever reads
/// next. What is typed meanwhile is lost.
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

/// Reads what no person types on a thread of its own, and hands it on.
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

/// What the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TerminalEvent {
    /// The terminal has another size.
    Size,
    /// Ctrl-C, while keys still make signals.
    Interrupt,
    /// `d` is to end.
    End,
    /// `d` is to stop until it is to go on.
    Suspend,
    /// It goes on, and whoever was there meanwhile may have changed the terminal.
    Continue,
}

/// The signals that `d` listens to while somebody sits at a terminal.
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
