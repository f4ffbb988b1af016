//! The local side of a terminal on another machine.
//!
//! ```text
//!  keys ──▶ decode ──▶ escape (detach?) ──▶ the job
//!  size ──▶ the job        the job ──▶ queries removed unless this client answers them ──▶ shown
//!                                  └─▶ screen: for redraw and reset; a view, if the sizes differ
//! ```
//!
//! Guarantees: every byte goes to the command in the order of typing, even Ctrl-C. Bytes typed
//! after the detach keys are left for the shell. The local terminal is restored however the session
//! ends: exit, detach, a signal, a panic. Restoring resets the program's modes (the alternate
//! screen, mouse, colors, …) and discards late answers of the terminal. While the peer is
//! unreachable, one line says so, and afterwards the screen is redrawn.

mod decode;
mod display;
mod escape;
mod keyboard;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::exec::{InputLost, Streams, Written, waiting_for};
use crate::exit::{CliError, UNKNOWN};
use crate::output;
use display::{Away, Display};
use escape::{Keys, Typed};
use keyboard::{Keyboard, Signals, read_input, take_answers};
use peerbus_client::exec::{Completion, Event, Execution, ExecutionHandle, Integrity};
use peerbus_process::{Console, console_size, suspend};
use peerbus_protocol::frame::{Accepted, JobState};
use peerbus_protocol::tty::{LOCALE_VARIABLES, MOST, Tty, is_locale, is_terminal_name};
use peerbus_protocol::{Ending, PeerId, TtySize};

pub(crate) use escape::detach_keys;

/// Most output in flight to a terminal: little, so that Ctrl-C has a visible effect at once.
pub(crate) const WINDOW: u64 = 256 * 1024;

/// Most input typed ahead of a command that does not read. Beyond it, `d` stops reading the
/// keyboard.
const TYPED_AHEAD: usize = 64 * 1024;

/// First pause before end of file is typed again for input that is not a terminal; the pauses grow.
/// A program that is just starting may have discarded the first one.
const END_AGAIN: Duration = Duration::from_secs(1);

/// How the user takes part in the session.
pub(crate) struct Manner {
    /// Whether typed input goes to the command.
    pub(crate) writes: bool,
    /// The detach keys, if not the default ones.
    pub(crate) detach_keys: Option<Vec<u8>>,
    /// Whether end of file of a non-terminal input is typed, too; otherwise the session is only
    /// watched.
    pub(crate) types_end: bool,
}

/// How the session ended for the user.
pub(crate) enum Left {
    /// The command has ended.
    Ended(Box<Completion>),
    /// The command goes on.
    Detached { at: u64, why: Parting },
}

/// Why the user leaves a terminal that keeps running.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parting {
    /// The user pressed the detach keys.
    Keys,
    /// Another client detached this one.
    By(String),
    /// `d` was ended.
    Ended,
}

/// Prints the message for a user who has left the terminal, and returns the exit code.
pub(crate) fn farewell(why: &Parting, peer: &PeerId, word: &str) -> Result<u8, CliError> {
    let goes_on = format!("{word} on {peer}, which goes on; `d attach {peer}/{word}` shows it again");
    match why {
        Parting::Keys => output::say(&format!("left {goes_on}")),
        Parting::By(who) => output::say(&format!("detached by {who} from {goes_on}")),
        Parting::Ended => {
            return Err(CliError::new(UNKNOWN, format!("unknown: d was ended, and left {goes_on}")));
        }
    }
    Ok(0)
}

/// The terminal of standard output, described for the peer. An unknown number is 0.
pub(crate) fn own_tty() -> Tty {
    let TtySize { cols, rows } = own_size();
    let kind = |name| std::env::var(name).ok().filter(|kind| is_terminal_name(kind));
    let locale =
        LOCALE_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let locale = locale.filter(|(name, value)| is_locale(name, value)).collect();
    Tty { cols, rows, term: kind("TERM"), colorterm: kind("COLORTERM"), locale }
}

/// Reports that the command got another TERM than the local one.
pub(crate) fn say_replaced_term(peer: &PeerId, accepted: &Accepted) {
    if let Some(term) = &accepted.term {
        let own = std::env::var("TERM").unwrap_or_default();
        output::say(&format!("{peer} does not know terminals of kind {own}: TERM is {term} there"));
    }
}

/// The local terminal's size: a default if unknown, and at most what a peer accepts.
pub(crate) fn own_size() -> TtySize {
    let (cols, rows) = console_size().unwrap_or((0, 0));
    let or = |size: u16, usual: u16| if size == 0 { usual } else { size };
    bounded(TtySize { cols: or(cols, TtySize::USUAL.cols), rows: or(rows, TtySize::USUAL.rows) })
}

/// Limits a size to the range of real terminals.
fn bounded(size: TtySize) -> TtySize {
    TtySize { cols: size.cols.clamp(1, MOST), rows: size.rows.clamp(1, MOST) }
}

/// Runs the terminal session until the command ends or the user leaves. `stdin` takes the keys.
pub(crate) async fn sit(
    mut execution: Execution,
    peer: &PeerId,
    stdin: mpsc::Sender<Bytes>,
    manner: Manner,
) -> (Left, Streams) {
    let mut signals = Signals::listen();
    let mut seat = TerminalSession::new(&execution, peer, manner);
    let mut stdin = Some(stdin);
    loop {
        let has_typed = !seat.typed.is_empty();
        let mut is_all = false;
        tokio::select! {
            event = execution.next() => {
                if let Some(Event::Accepted(accepted)) = &event && seat.starts_it() {
                    say_replaced_term(peer, accepted);
                }
                if let Some(left) = seat.on_event(event) {
                    return seat.leave(left);
                }
            }
            keys = seat.keys.recv(), if seat.takes_keys() => seat.on_keys(keys),
            Ok(room) = reserve(stdin.as_ref()), if has_typed || seat.is_at_end() => match seat.typed.pop_front() {
                Some(bytes) => {
                    seat.typed_bytes -= bytes.len();
                    room.send(bytes);
                }
                None => is_all = true,
            },
            signal = signals.next() => seat.on_signal(signal),
            () = seat.board.due() => seat.board.on_due(),
            () = due(seat.end_again) => seat.type_end(),
        }
        if is_all {
            stdin = None;
        }
    }
}

async fn reserve(stdin: Option<&mpsc::Sender<Bytes>>) -> Result<mpsc::Permit<'_, Bytes>, ()> {
    match stdin {
        Some(stdin) => stdin.reserve().await.map_err(drop),
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One user's session at one terminal.
struct TerminalSession {
    steering: ExecutionHandle,
    board: Display,
    /// The local terminal, if the input is one.
    console: Option<Console>,
    keyboard: Option<Keyboard>,
    keys: mpsc::Receiver<Typed>,
    /// The key decoder, and the channel for the thread that reads keys. The thread takes them when
    /// it starts.
    to_keys: Option<(Keys, mpsc::Sender<Typed>)>,
    typed: VecDeque<Bytes>,
    typed_bytes: usize,
    keys_ended: bool,
    input_lost: InputLost,
    is_in_mid_line: bool,
    writes: bool,
    types_end: bool,
    /// When end of file is typed again.
    end_again: Option<Instant>,
    end_pause: Duration,
    wants_to_leave: bool,
    is_ended: bool,
}

impl TerminalSession {
    fn new(execution: &Execution, peer: &PeerId, manner: Manner) -> Self {
        let console = Console::of_input();
        let (to_keys, keys) = mpsc::channel(16);
        let meaning = match manner.writes {
            true => Keys::new(manner.detach_keys),
            false => Keys::of_watcher(manner.detach_keys),
        };
        Self {
            steering: execution.steering(),
            board: Display::new(execution.steering(), peer, manner.writes, own_size()),
            console,
            keyboard: None,
            keys,
            to_keys: Some((meaning, to_keys)),
            typed: VecDeque::new(),
            typed_bytes: 0,
            keys_ended: false,
            input_lost: InputLost::default(),
            is_in_mid_line: false,
            writes: manner.writes,
            types_end: manner.types_end,
            end_again: None,
            end_pause: END_AGAIN,
            wants_to_leave: false,
            is_ended: false,
        }
    }

    /// Whether keyboard input is taken. It is taken up to a limit even if the command does not
    /// read, so that the detach keys keep working.
    fn takes_keys(&self) -> bool {
        !self.keys_ended && self.to_keys.is_none() && self.typed_bytes < TYPED_AHEAD
    }

    /// Whether the input has ended and was handed on completely.
    fn is_at_end(&self) -> bool {
        self.keys_ended && self.typed.is_empty() && self.end_again.is_none()
    }

    /// Whether this client started the command and it does not run yet.
    fn starts_it(&self) -> bool {
        self.types_end && self.to_keys.is_some()
    }

    fn on_event(&mut self, event: Option<Event>) -> Option<Left> {
        match event {
            Some(Event::Accepted(accepted)) => self.begin(&accepted),
            Some(Event::Screen(bytes)) => self.board.draw(&bytes),
            Some(Event::Output { stream, at, bytes }) => self.board.show(stream, at, &bytes),
            Some(Event::Asked(asked)) => self.board.is_asked(asked),
            Some(Event::Sized(sizes)) => self.board.is_sized(sizes),
            Some(Event::NotKept { bytes, .. }) => self.board.not_kept(bytes),
            Some(Event::Interrupted(why)) => self.board.lost(why),
            Some(Event::Resumed) => self.board.is_back(),
            Some(Event::Waiting(holders)) => self.board.say(waiting_for(&holders, "it may be left")),
            Some(Event::Ended(outcome)) => {
                self.is_ended = true;
                return Some(Left::Ended(outcome));
            }
            Some(Event::Detached { at, by }) => {
                let why = match by {
                    Some(who) => Parting::By(who),
                    None if self.wants_to_leave => Parting::Keys,
                    None => Parting::Ended,
                };
                return Some(Left::Detached { at, why });
            }
            None => {
                let ending = Ending::Unknown { why: "the conversation broke off inside d".to_owned() };
                let outcome = Completion { ending, result: None, integrity: Integrity::Whole };
                return Some(Left::Ended(Box::new(outcome)));
            }
        }
        None
    }

    /// Handles the start of the command: from now on it gets the keys.
    fn begin(&mut self, accepted: &Accepted) {
        if accepted.state == JobState::Ended {
            // Only the end of the input is sent.
            return;
        }
        let at = accepted.from.unwrap_or_default().sum();
        self.board.begin(bounded(accepted.tty.unwrap_or_else(own_size)), at);
        let Some((meaning, to_keys)) = self.to_keys.take() else { return };
        match &self.console {
            Some(console) => {
                let reading = console
                    .raw()
                    .and_then(|()| Keyboard::read(console, meaning, to_keys, self.steering.clone()));
                match reading {
                    Ok(keyboard) => self.keyboard = Some(keyboard),
                    Err(error) => {
                        self.board.say(format!("this terminal cannot be read key by key: {error}"));
                    }
                }
            }
            None if self.writes => read_input(to_keys, self.steering.clone(), self.input_lost.clone()),
            None => self.keys_ended = true,
        }
        self.on_size();
    }

    fn on_keys(&mut self, typed: Option<Typed>) {
        let Some(typed) = typed else {
            self.keys_ended = true;
            if self.writes && self.console.is_none() && self.types_end {
                self.type_end();
            }
            return;
        };
        if typed.help {
            self.board.say(escape::HELP.to_owned());
        }
        if self.writes {
            self.hand_on(typed.bytes);
        }
        if typed.leaves {
            self.leave_it();
        }
    }

    /// Ends a non-terminal input as a user would, with an end-of-file key. In the middle of a line
    /// the first one only submits the line, so it is repeated. An input that has ended stays ended
    /// for later readers.
    fn type_end(&mut self) {
        if self.typed.is_empty() || self.end_again.is_none() {
            let keys: &[u8] = if self.is_in_mid_line { b"\x04\x04" } else { b"\x04" };
            self.hand_on(keys.to_vec());
        }
        self.end_again = Some(Instant::now() + self.end_pause);
        self.end_pause *= 2;
    }

    fn hand_on(&mut self, bytes: Vec<u8>) {
        if let Some(last) = bytes.last() {
            self.is_in_mid_line = !matches!(last, b'\r' | b'\n' | 0x03 | 0x04);
            self.typed_bytes += bytes.len();
            self.typed.push_back(bytes.into());
        }
    }

    fn leave_it(&mut self) {
        self.wants_to_leave = true;
        self.steering.detach();
    }

    fn on_signal(&mut self, signal: keyboard::TerminalEvent) {
        match signal {
            keyboard::TerminalEvent::Size => self.on_size(),
            // Before the command runs there is nothing to detach from.
            keyboard::TerminalEvent::Interrupt if self.to_keys.is_some() => {
                self.steering.cancel("interrupted")
            }
            keyboard::TerminalEvent::Interrupt => self.hand_on(b"\x03".to_vec()),
            keyboard::TerminalEvent::Suspend => self.suspend(),
            keyboard::TerminalEvent::Continue => self.go_on(),
            keyboard::TerminalEvent::End if std::mem::take(&mut self.is_ended) => self.steering.forget(),
            keyboard::TerminalEvent::End => {
                self.is_ended = true;
                self.steering.detach();
            }
        }
    }

    /// Stops `d`; others may use the terminal until it continues.
    fn suspend(&mut self) {
        self.board.is_suspended();
        let put_back = self.console.as_ref().map_or(Ok(()), Console::restore);
        if let Err(error) = put_back.and_then(|()| suspend()) {
            self.board.say(format!("d cannot be stopped: {error}"));
        }
    }

    /// Continues after `d` was stopped, by itself or by an uncatchable signal.
    fn go_on(&mut self) {
        if self.to_keys.is_some() {
            return;
        }
        if let Some(Err(error)) = self.console.as_ref().map(Console::raw) {
            self.board.say(format!("this terminal cannot be read key by key: {error}"));
        }
        self.board.goes_on();
        self.on_size();
    }

    /// Sends the new size of the local terminal.
    fn on_size(&mut self) {
        let (own, follows) = (own_size(), self.writes && console_size().is_some());
        if self.to_keys.is_none() {
            self.board.is_at(own, follows);
            if follows {
                self.steering.resize(bounded(own));
            }
        }
    }

    /// Restores the terminal. Also returns errors of `d`'s own streams.
    fn leave(mut self, left: Left) -> (Left, Streams) {
        self.keys.close();
        if let Some(keyboard) = self.keyboard.take() {
            keyboard.stop();
        }
        let all = matches!(&left, Left::Ended(outcome) if outcome.result.is_some());
        let in_mid_line = matches!(left, Left::Detached { .. }) && std::io::stdout().is_terminal();
        let quick = matches!(left, Left::Detached { why: Parting::Ended, .. });
        let asks = self.console.is_some() && self.board.may_be_answered();
        let away = Away { in_mid_line, everything_was_shown: all, quick, asks };
        let output = self.board.put_away(away);
        if let Some(console) = self.console.as_ref().filter(|_| asks && output == Written::Whole) {
            take_answers(console);
        }
        drop(self.console);
        (left, Streams { output, input_lost: self.input_lost.why() })
    }
}
