//! The person's end of a terminal on another machine.
//!
//! ```text
//!  keys ──▶ escape (leave?) ──▶ the job        the job ──▶ questions taken out, if somebody else is asked
//!  size ──▶ the job                                    └─▶ screen: what is shown ──▶ redrawn, put away
//! ```
//!
//! Guarantees: every byte goes to the command as it is typed, Ctrl-C too, in the order of typing. The
//! person's terminal is as it was, however it ends: the command, a key, a signal, a panic. What the
//! program has made of it (the alternate screen, mouse, colors, …) is put away. While the peer is out
//! of reach one line says so, and afterwards everything is drawn as it should be.

mod board;
mod escape;
mod keyboard;

use std::collections::VecDeque;
use std::io::IsTerminal;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::cli::exit::{Failure, UNKNOWN};
use crate::cli::log::escaped;
use crate::cli::output;
use crate::client::exec::{Event, Execution, Integrity, Outcome, Steering};
use crate::process::{Console, console_size};
use crate::protocol::frame::{Accepted, JobState};
use crate::protocol::tty::{MOST, Tty};
use crate::protocol::{Ending, PeerId, TtySize};
use board::Board;
use escape::Keys;
use keyboard::{Signals, read_keys};

pub(in crate::cli) use escape::detach_keys;

/// Output on its way to a terminal: little, so that Ctrl-C is seen to work at once.
pub(in crate::cli) const WINDOW: u64 = 256 * 1024;

/// Typed ahead of a command that does not read. Beyond it nothing is read that somebody types.
const TYPED_AHEAD: usize = 64 * 1024;

/// How the person sits there.
pub(in crate::cli) struct Manner {
    /// Whether what is typed goes to the command.
    pub(in crate::cli) writes: bool,
    /// The keys that leave, if not the usual.
    pub(in crate::cli) detach_keys: Option<Vec<u8>>,
}

/// How it ended for the person.
pub(in crate::cli) enum Left {
    /// The command has ended.
    Ended(Box<Outcome>),
    /// The command goes on.
    Detached { at: u64, why: Parting },
}

/// Why somebody leaves a terminal that goes on.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) enum Parting {
    /// They pressed the keys for it.
    Keys,
    /// Somebody else wanted it.
    By(String),
    /// `d` was ended.
    Ended,
}

/// Says what is to be said to somebody who has left a terminal, and gives the code.
pub(in crate::cli) fn farewell(why: &Parting, peer: &PeerId, word: &str) -> Result<u8, Failure> {
    let goes_on = format!("{word} on {peer}, which goes on; `d attach {peer}/{word}` shows it again");
    match why {
        Parting::Keys => output::say(&format!("left {goes_on}")),
        Parting::By(who) => output::say(&format!("detached by {} from {goes_on}", escaped(who))),
        Parting::Ended => {
            return Err(Failure::new(UNKNOWN, format!("unknown: d was ended, and left {goes_on}")));
        }
    }
    Ok(0)
}

/// The terminal that standard output is, in words for the peer. `None` of the numbers is 0.
pub(in crate::cli) fn own_tty() -> Tty {
    let TtySize { cols, rows } = own_size();
    let word = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let term = std::env::var("TERM").ok();
    let term = term.filter(|term| (1..=64).contains(&term.len()) && term.chars().all(word));
    Tty { cols, rows, term }
}

/// Its size. Where nobody knows, the usual; a larger one than there is stays for the peer to refuse.
pub(in crate::cli) fn own_size() -> TtySize {
    let (cols, rows) = console_size().unwrap_or((0, 0));
    let or = |size: u16, usual: u16| if size == 0 { usual } else { size };
    TtySize { cols: or(cols, TtySize::USUAL.cols), rows: or(rows, TtySize::USUAL.rows) }
}

/// No larger than any terminal is, whoever says so.
fn bounded(size: TtySize) -> TtySize {
    TtySize { cols: size.cols.clamp(1, MOST), rows: size.rows.clamp(1, MOST) }
}

/// Sits at the terminal until the command has ended or the person leaves. `stdin` is where keys go.
pub(in crate::cli) async fn sit(
    mut execution: Execution,
    peer: &PeerId,
    stdin: mpsc::Sender<Bytes>,
    manner: Manner,
) -> (Left, bool) {
    let mut signals = Signals::listen();
    let mut seat = Seat::new(&execution, peer, manner);
    let mut stdin = Some(stdin);
    loop {
        let has_typed = !seat.typed.is_empty();
        let mut is_all = false;
        tokio::select! {
            event = execution.next() => {
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
            () = seat.board.due() => seat.board.say_so(),
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

/// One person at one terminal.
struct Seat {
    steering: Steering,
    board: Board,
    /// The person's own terminal, if keys are typed at one.
    console: Option<Console>,
    escape: Keys,
    keys: mpsc::Receiver<Vec<u8>>,
    /// Where the thread that reads keys puts them; taken when it starts.
    to_keys: Option<mpsc::Sender<Vec<u8>>>,
    typed: VecDeque<Bytes>,
    typed_bytes: usize,
    keys_ended: bool,
    is_in_mid_line: bool,
    writes: bool,
    wants_to_leave: bool,
    is_ended: bool,
}

impl Seat {
    fn new(execution: &Execution, peer: &PeerId, manner: Manner) -> Self {
        let console = Console::of_input();
        let (to_keys, keys) = mpsc::channel(16);
        let escape = match console {
            Some(_) => Keys::new(manner.detach_keys),
            None => Keys::of_nobody(),
        };
        Self {
            steering: execution.steering(),
            board: Board::new(execution.steering(), peer, manner.writes),
            console,
            escape,
            keys,
            to_keys: Some(to_keys),
            typed: VecDeque::new(),
            typed_bytes: 0,
            keys_ended: false,
            is_in_mid_line: false,
            writes: manner.writes,
            wants_to_leave: false,
            is_ended: false,
        }
    }

    /// From a person everything is taken until it is too much, so that the keys that leave work while
    /// the command does not read.
    fn takes_keys(&self) -> bool {
        !self.keys_ended && self.to_keys.is_none() && self.typed_bytes < TYPED_AHEAD
    }

    /// Whether nothing more will be typed, and all was handed on.
    fn is_at_end(&self) -> bool {
        self.keys_ended && self.typed.is_empty()
    }

    fn on_event(&mut self, event: Option<Event>) -> Option<Left> {
        match event {
            Some(Event::Accepted(accepted)) => self.begin(&accepted),
            Some(Event::Screen(bytes)) => self.board.draw(&bytes),
            Some(Event::Output { stream, at, bytes }) => self.board.show(stream, at, &bytes),
            Some(Event::Asked(asked)) => self.board.is_asked(asked),
            Some(Event::NotKept { bytes, .. }) => self.board.not_kept(bytes),
            Some(Event::Interrupted(why)) => self.board.lost(why),
            Some(Event::Resumed) => self.board.is_back(),
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
                let outcome = Outcome { ending, result: None, integrity: Integrity::Whole };
                return Some(Left::Ended(Box::new(outcome)));
            }
        }
        None
    }

    /// The command runs: from now on keys are its.
    fn begin(&mut self, accepted: &Accepted) {
        if accepted.state == JobState::Ended {
            // There is only its end to be told.
            return;
        }
        self.board.begin(bounded(accepted.tty.unwrap_or_else(own_size)));
        let Some(to_keys) = self.to_keys.take() else { return };
        if let Some(console) = &self.console
            && let Err(error) = console.raw()
        {
            self.board.say(format!("this terminal cannot be read key by key: {error}"));
        }
        if self.writes || self.console.is_some() {
            read_keys(to_keys);
        } else {
            self.keys_ended = true;
        }
        self.on_size();
    }

    fn on_keys(&mut self, keys: Option<Vec<u8>>) {
        let Some(keys) = keys else {
            self.keys_ended = true;
            if self.writes && self.console.is_none() {
                // What is not typed ends as if somebody had typed that it does: in the middle of a line the first
                // only hands that on.
                let keys: &[u8] = if self.is_in_mid_line { b"\x04\x04" } else { b"\x04" };
                self.hand_on(keys.to_vec());
            }
            return;
        };
        let typed = self.escape.take(&keys);
        if typed.help {
            self.board.say(escape::HELP.to_owned());
        }
        if self.writes {
            self.hand_on(typed.bytes);
        } else if keys.contains(&0x03) || keys == b"q" {
            self.leave_it();
        }
        if typed.leaves {
            self.leave_it();
        }
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

    fn on_signal(&mut self, signal: keyboard::Told) {
        match signal {
            keyboard::Told::Size => self.on_size(),
            // Until the command runs there is nothing that could be left.
            keyboard::Told::Interrupt if self.to_keys.is_some() => self.steering.cancel("interrupted"),
            keyboard::Told::Interrupt => self.hand_on(b"\x03".to_vec()),
            keyboard::Told::End if std::mem::take(&mut self.is_ended) => self.steering.forget(),
            keyboard::Told::End => {
                self.is_ended = true;
                self.steering.detach();
            }
        }
    }

    /// Says how large the person's terminal is now.
    fn on_size(&mut self) {
        let size = bounded(own_size());
        if self.writes && self.to_keys.is_none() && console_size().is_some() {
            self.board.resize(size);
            self.steering.resize(size);
        }
    }

    /// Puts everything back; says whether our own output was closed meanwhile.
    fn leave(self, left: Left) -> (Left, bool) {
        let all = matches!(&left, Left::Ended(outcome) if outcome.result.is_some());
        let in_mid_line = matches!(left, Left::Detached { .. }) && std::io::stdout().is_terminal();
        let quick = matches!(left, Left::Detached { why: Parting::Ended, .. });
        let closed = self.board.put_away(in_mid_line, all, quick);
        drop(self.console);
        (left, closed)
    }
}
