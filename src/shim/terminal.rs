//! The terminal of a job as its shim has it: with what it shows, and the size that counts.
//!
//! The size is that of the writer who typed or said a size last: who types wants to see what it does.
//! A size is applied before what is typed with it.
//!
//! What a command asks its terminal may reach several, and one only is to answer: whom the daemon names last. From
//! which byte of the output on that holds is settled here, where the bytes are read.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;

use super::messages::{self, ResponderFrom};
use peerbus_process::Terminal;
use peerbus_protocol::TtySize;
use peerbus_protocol::attach::SizeFrom;
use peerbus_screen::Screen;

/// Writers whose sizes are remembered; the others' count when they say them.
const SIZES_MOST: usize = 256;

/// Turns that are remembered: more than come about while output is on its way.
const TURNS_MOST: usize = 64;

/// Sizes that are remembered together with where they began.
const CHANGES_MOST: usize = 64;

/// A terminal, and what it shows.
#[derive(Debug)]
pub(super) struct JobTerminal {
    terminal: Terminal,
    screen: Screen,
    /// How much of the job's output the screen shows.
    shown: u64,
    sizes: BTreeMap<String, TtySize>,
    /// How large it is, from which byte on.
    changes: VecDeque<SizeFrom>,
    /// Who answers, from which byte on.
    turns: VecDeque<ResponderFrom>,
}

impl JobTerminal {
    pub(super) fn new((terminal, size): (Terminal, TtySize)) -> Self {
        Self {
            terminal,
            screen: Screen::new(size),
            shown: 0,
            sizes: BTreeMap::new(),
            changes: VecDeque::from([SizeFrom { at: 0, size }]),
            turns: VecDeque::new(),
        }
    }

    /// Shows what the job wrote.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        self.screen.feed(bytes);
        self.shown += bytes.len() as u64;
    }

    /// Somebody types: the terminal takes the size they see it at. Returns the size it has then.
    pub(super) fn typed_by(&mut self, writer: &str) -> TtySize {
        let size = self.sizes.get(writer).copied();
        if let Some(size) = size.filter(|size| *size != self.screen.size())
            && let Err(error) = self.apply(size)
        {
            tracing::warn!(%error, "the terminal cannot be given another size");
        }
        self.screen.size()
    }

    /// Somebody sees the terminal at this size.
    pub(super) fn resize(&mut self, writer: &str, size: TtySize) -> io::Result<()> {
        if self.sizes.len() < SIZES_MOST || self.sizes.contains_key(writer) {
            self.sizes.insert(writer.to_owned(), size);
        }
        self.apply(size)
    }

    fn apply(&mut self, size: TtySize) -> io::Result<()> {
        self.terminal.resize(size)?;
        if size != self.screen.size() {
            if self.changes.len() >= CHANGES_MOST {
                self.changes.pop_front();
            }
            self.changes.push_back(SizeFrom { at: self.shown, size });
        }
        self.screen.resize(size);
        Ok(())
    }

    /// This writer is gone.
    pub(super) fn forget(&mut self, writer: &str) {
        self.sizes.remove(writer);
    }

    /// From now on this writer answers what the command asks. What it asked before anybody was there is the first
    /// one's.
    pub(super) fn asks(&mut self, writer: String) -> ResponderFrom {
        if let Some(last) = self.turns.back().filter(|last| last.writer == writer) {
            return last.clone();
        }
        let at = if self.turns.is_empty() { 0 } else { self.shown };
        if self.turns.len() >= TURNS_MOST {
            self.turns.pop_front();
        }
        let turn = ResponderFrom { at, writer };
        self.turns.push_back(turn.clone());
        turn
    }

    /// How large it is, from which byte on, as far as that is remembered.
    pub(super) fn changes(&self) -> Vec<SizeFrom> {
        self.changes.iter().copied().collect()
    }

    /// The last of those.
    pub(super) fn last_change(&self) -> Option<SizeFrom> {
        self.changes.back().copied()
    }

    /// Who answers, from which byte on, as far as that is remembered.
    pub(super) fn turns(&self) -> Vec<ResponderFrom> {
        self.turns.iter().cloned().collect()
    }

    /// What brings another terminal to the same picture.
    pub(super) fn screen(&mut self, ask: u64) -> messages::ScreenSnapshot {
        let data = Bytes::from(self.screen.snapshot());
        messages::ScreenSnapshot { ask, at: self.shown, data, size: Some(self.screen.size()), error: None }
    }
}
