//! The terminal of a job in its shim, with its screen and its effective size.
//!
//! The effective size is that of the writer who typed or resized last, because this user wants to see the
//! result. It is applied before the typed input.
//!
//! A query of the command may reach several viewers, but only one may answer: the one that the daemon named
//! last. The shim decides from which byte of the output each choice applies, because it reads the output.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use bytes::Bytes;

use super::messages::{self, ResponderFrom};
use peerbus_process::Terminal;
use peerbus_protocol::TtySize;
use peerbus_protocol::attach::SizeFrom;
use peerbus_screen::Screen;

/// Most writers whose sizes are kept. Other writers' sizes apply only when they are sent.
const SIZES_MOST: usize = 256;

/// Most responder changes to keep: more than can occur while output is in flight.
const TURNS_MOST: usize = 64;

/// Most size changes to keep.
const CHANGES_MOST: usize = 64;

/// A terminal and its screen.
#[derive(Debug)]
pub(super) struct JobTerminal {
    terminal: Terminal,
    screen: Screen,
    /// The offset of the output that the screen has reached.
    shown: u64,
    sizes: BTreeMap<String, TtySize>,
    /// The recent sizes, each with the offset of its first byte.
    changes: VecDeque<SizeFrom>,
    /// The recent responders, each with the offset of its first byte.
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

    /// Feeds output of the job to the screen.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        self.screen.feed(bytes);
        self.shown += bytes.len() as u64;
    }

    /// Applies the size of the writer who types. Returns the new size.
    pub(super) fn typed_by(&mut self, writer: &str) -> TtySize {
        let size = self.sizes.get(writer).copied();
        if let Some(size) = size.filter(|size| *size != self.screen.size())
            && let Err(error) = self.apply(size)
        {
            tracing::warn!(%error, "the terminal cannot be given another size");
        }
        self.screen.size()
    }

    /// Applies a new size of a writer.
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

    /// Drops the state of a writer that has left.
    pub(super) fn forget(&mut self, writer: &str) {
        self.sizes.remove(writer);
    }

    /// Makes this writer the responder from now on. The first responder also answers the queries before it.
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

    /// The recent sizes, each with the offset of its first byte.
    pub(super) fn changes(&self) -> Vec<SizeFrom> {
        self.changes.iter().copied().collect()
    }

    /// The last size change.
    pub(super) fn last_change(&self) -> Option<SizeFrom> {
        self.changes.back().copied()
    }

    /// The recent responders, each with the offset of its first byte.
    pub(super) fn turns(&self) -> Vec<ResponderFrom> {
        self.turns.iter().cloned().collect()
    }

    /// A snapshot that draws the same screen on another terminal.
    pub(super) fn screen(&mut self, ask: u64) -> messages::ScreenSnapshot {
        let data = Bytes::from(self.screen.snapshot());
        messages::ScreenSnapshot { ask, at: self.shown, data, size: Some(self.screen.size()), error: None }
    }
}
