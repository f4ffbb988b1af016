//! Merges the input of several writers into a command's stdin. Each writer has its own offsets.
//!
//! Guarantees: each writer's input reaches the command in order, complete and only once, however often it is
//! sent. Input of different writers is ordered by arrival. The owner's end of input closes the command's
//! stdin. The owner is the named writer, or the first one if none was named.
//!
//! Limits: the shim keeps the state of at most [`WRITERS_MOST`] writers. A new writer replaces the least
//! recently heard one that has only sent signals. If there is none, the new writer's input is closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::unix::pipe::Sender;

use super::messages::WriterState;
use peerbus_process::StdinWriter;
use peerbus_protocol::frame::StdinCredit;
use peerbus_protocol::stdin::{StdinReassembler, WINDOW, WINDOW_OF_OTHERS};

/// Most writers to keep state of.
const WRITERS_MOST: usize = 256;

/// Most bytes that may wait for the command, including those of writers that have left. While more bytes
/// wait, new writers are refused.
const WAITING_MOST: u64 = WRITERS_MOST as u64 * WINDOW_OF_OTHERS + WINDOW;

/// A writer and its new credit.
pub(super) type StdinUpdate = (String, StdinCredit);

#[derive(Debug)]
pub(super) struct StdinMux {
    feed: StdinWriter<Arc<str>>,
    writers: BTreeMap<Arc<str>, Writer>,
    owner: Option<Arc<str>>,
    /// Messages received.
    words: u64,
    /// Whether stdin is a terminal. There, end of input is a typed character, so no writer's end closes
    /// stdin.
    is_terminal: bool,
}

/// The state of one writer.
#[derive(Debug)]
struct Writer {
    joined: StdinReassembler,
    signals: u64,
    resizes: u64,
    /// Whether it has sent input or a size. Then its state is kept until it leaves.
    stays: bool,
    /// The value of `words` at its last message.
    heard: u64,
}

impl StdinMux {
    /// For a command without stdin.
    pub(super) fn closed() -> Self {
        Self { feed: StdinWriter::closed(), ..Self::expected(None) }
    }

    /// For a command whose process is being started.
    pub(super) fn expected(owner: Option<&str>) -> Self {
        let owner = owner.map(Arc::from);
        Self { feed: StdinWriter::expected(), writers: BTreeMap::new(), owner, words: 0, is_terminal: false }
    }

    /// For a command that gets a terminal.
    pub(super) fn of_terminal(owner: Option<&str>) -> Self {
        Self { is_terminal: true, ..Self::expected(owner) }
    }

    /// Sets the pipe of the started process.
    pub(super) fn connect(&mut self, pipe: Sender) {
        self.feed.connect(pipe);
        self.close_with_the_pipe();
    }

    /// Accepts a chunk of a writer (empty for end of input) and writes as much as the command reads. Returns
    /// the updates for the writers, always including this one. It writes first because a complete write
    /// causes no later update.
    pub(super) fn take(&mut self, from: &str, offset: u64, bytes: &Bytes) -> Vec<StdinUpdate> {
        if self.feed.is_open() && self.owner.is_none() {
            self.owner = Some(Arc::from(from));
        }
        // A command that reads nothing needs no state of its writers.
        let is_read = self.feed.is_open() || self.writers.contains_key(from);
        let known = if is_read { self.writer(from) } else { None };
        let Some((name, writer)) = known else { return vec![(from.to_owned(), CLOSED)] };
        writer.stays = true;
        let (fresh, StdinCredit { again, .. }) = writer.joined.take(offset, bytes);
        let has_ended = writer.joined.has_ended();
        let is_owner = self.owner.as_ref() == Some(&name);
        self.feed.push(Arc::clone(&name), fresh);
        if has_ended && is_owner && !self.is_terminal {
            self.feed.end();
            // Further input of the other writers would go nowhere.
            self.writers.values_mut().for_each(|writer| writer.joined.close());
        }
        let mut told = self.write();
        told.retain(|(other, _)| *other != *name);
        if let Some(writer) = self.writers.get_mut(&name) {
            told.push((name.to_string(), StdinCredit { again, ..writer.joined.want() }));
        }
        told
    }

    /// Waits until the pipe accepts queued bytes. Cancel safe.
    pub(super) async fn writable(&self) {
        self.feed.writable().await;
    }

    /// Writes as much as the command reads. Returns the updates for the writers.
    pub(super) fn write(&mut self) -> Vec<StdinUpdate> {
        let was_open = self.feed.is_open();
        let writers = &mut self.writers;
        self.feed.write(|name, count| {
            // An evicted writer that has come back is a new one.
            let is_same = writers.get_key_value(name).is_some_and(|(known, _)| Arc::ptr_eq(known, name));
            if let Some(writer) = writers.get_mut(name).filter(|_| is_same) {
                writer.joined.wrote(count);
            }
        });
        self.close_with_the_pipe();
        let closed_now = was_open && !self.feed.is_open();
        let due = self.writers.iter_mut().filter(|(_, writer)| closed_now || writer.joined.want_is_due());
        due.map(|(name, writer)| (name.to_string(), writer.joined.want())).collect()
    }

    /// Closes stdin. Returns the updates for the writers.
    pub(super) fn close(&mut self) -> Vec<StdinUpdate> {
        self.feed.close();
        self.close_with_the_pipe();
        self.writers.iter_mut().map(|(name, writer)| (name.to_string(), writer.joined.want())).collect()
    }

    fn close_with_the_pipe(&mut self) {
        if !self.feed.is_open() {
            self.writers.values_mut().for_each(|writer| writer.joined.close());
        }
    }

    /// Whether this signal of a writer is new. Marks it as applied.
    ///
    /// # Errors
    /// When there is no room for another writer.
    pub(super) fn is_new_signal(&mut self, from: &str, number: u64) -> Result<bool, String> {
        let (_, writer) = self.writer(from).ok_or_else(too_many)?;
        Ok(is_new(&mut writer.signals, number))
    }

    /// Like [`StdinMux::is_new_signal`], for a terminal size.
    ///
    /// # Errors
    /// As [`StdinMux::is_new_signal`].
    pub(super) fn is_new_size(&mut self, from: &str, number: u64) -> Result<bool, String> {
        let (_, writer) = self.writer(from).ok_or_else(too_many)?;
        writer.stays = true;
        Ok(is_new(&mut writer.resizes, number))
    }

    /// Drops the state of a writer that has left.
    pub(super) fn forget(&mut self, from: &str) {
        self.writers.remove(from);
    }

    /// The state of all writers.
    pub(super) fn states(&mut self) -> Vec<WriterState> {
        let state = |(name, writer): (&Arc<str>, &mut Writer)| WriterState {
            from: name.to_string(),
            want: writer.joined.want(),
            signals: writer.signals,
            resizes: writer.resizes,
        };
        self.writers.iter_mut().map(state).collect()
    }

    /// Finds or adds a writer; `None` if there is no room.
    fn writer(&mut self, from: &str) -> Option<(Arc<str>, &mut Writer)> {
        if !self.writers.contains_key(from) && !self.has_room() {
            return None;
        }
        self.words += 1;
        let name =
            self.writers.get_key_value(from).map_or_else(|| Arc::from(from), |(name, _)| Arc::clone(name));
        let window = if self.owner.as_ref() == Some(&name) { WINDOW } else { WINDOW_OF_OTHERS };
        let is_open = self.feed.is_open();
        let writer = self.writers.entry(Arc::clone(&name)).or_insert_with(|| {
            let mut joined = StdinReassembler::expected(window);
            if !is_open {
                joined.close();
            }
            Writer { joined, signals: 0, resizes: 0, stays: false, heard: 0 }
        });
        writer.heard = self.words;
        Some((name, writer))
    }

    /// Whether there is room for another writer, after evicting one if needed.
    fn has_room(&mut self) -> bool {
        if self.feed.waiting() > WAITING_MOST {
            return false;
        }
        if self.writers.len() < WRITERS_MOST {
            return true;
        }
        let passing = self.writers.iter().filter(|(_, writer)| !writer.stays);
        let silent = passing.min_by_key(|(_, writer)| writer.heard).map(|(name, _)| Arc::clone(name));
        silent.is_some_and(|name| self.writers.remove(&name).is_some())
    }
}

const CLOSED: StdinCredit = StdinCredit { received: 0, limit: 0, again: false, closed: true };

fn too_many() -> String {
    format!("{WRITERS_MOST} write to this job already")
}

fn is_new(last: &mut u64, number: u64) -> bool {
    let is_new = number > *last;
    *last = number.max(*last);
    is_new
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::{self, Receiver};

    async fn connected(owner: Option<&str>) -> (StdinMux, Receiver) {
        let (sender, receiver) = pipe::pipe().expect("a pipe");
        sender.writable().await.expect("an empty pipe takes something");
        let mut inputs = StdinMux::expected(owner);
        inputs.connect(sender);
        (inputs, receiver)
    }

    fn take(inputs: &mut StdinMux, from: &str, offset: u64, bytes: &'static [u8]) -> StdinCredit {
        inputs.take(from, offset, &Bytes::from_static(bytes)).pop().expect("an answer").1
    }

    #[tokio::test]
    async fn each_writer_is_joined_for_itself_and_the_owner_ends_it() {
        let (mut inputs, mut command) = connected(Some("owner")).await;
        assert_eq!(take(&mut inputs, "other", 0, b"1").received, 1);
        assert_eq!(take(&mut inputs, "owner", 0, b"ab").received, 2);
        assert_eq!(take(&mut inputs, "other", 0, b"12").received, 2, "again, and one more");
        assert!(take(&mut inputs, "owner", 5, b"f").again);
        assert!(take(&mut inputs, "other", 2, b"").closed, "its own end");
        inputs.write();
        assert_eq!(take(&mut inputs, "owner", 1, b"bc").received, 3);
        assert!(take(&mut inputs, "owner", 3, b"").closed);
        assert!(take(&mut inputs, "third", 0, b"late").closed);
        inputs.write();
        let mut read = String::new();
        command.read_to_string(&mut read).await.expect("the end of input");
        assert_eq!(read, "1ab2c");
    }

    #[tokio::test]
    async fn the_first_to_write_is_the_owner_where_none_is_named() {
        let (mut inputs, mut command) = connected(None).await;
        assert_eq!(inputs.is_new_signal("third", 1), Ok(true), "to signal is not to write");
        take(&mut inputs, "first", 0, b"a");
        take(&mut inputs, "second", 0, b"");
        take(&mut inputs, "first", 1, b"");
        inputs.write();
        let mut read = String::new();
        command.read_to_string(&mut read).await.expect("the end of input");
        assert_eq!(read, "a");
    }

    #[tokio::test]
    async fn who_wrote_is_told_when_there_is_room_and_when_nobody_reads() {
        let (mut inputs, command) = connected(None).await;
        let much = Bytes::from(vec![7; 300 * 1024]);
        let (_, want) = inputs.take("ann", 0, &much).pop().expect("an answer");
        assert!(want.received == WINDOW && want.limit > WINDOW, "the pipe took some: {want:?}");
        drop(command);
        inputs.writable().await;
        let told = inputs.write();
        assert!(told.iter().all(|(_, want)| want.closed) && told.len() == 1, "{told:?}");
        assert!(take(&mut inputs, "bob", 0, b"x").closed);
    }

    #[test]
    fn signals_and_sizes_are_applied_once() {
        let mut inputs = StdinMux::closed();
        let asked = [("ann", 1), ("ann", 1), ("bob", 1), ("ann", 3), ("ann", 2)];
        let applied = asked.map(|(from, number)| inputs.is_new_signal(from, number));
        assert_eq!(applied, [Ok(true), Ok(false), Ok(true), Ok(true), Ok(false)]);
        assert_eq!(inputs.is_new_size("ann", 1), Ok(true));
        let states = inputs.states();
        assert_eq!(
            states.iter().map(|one| (one.from.as_str(), one.signals)).collect::<Vec<_>>(),
            [("ann", 3), ("bob", 1)]
        );
        assert!(states.iter().all(|one| one.want.closed));
        inputs.forget("ann");
        assert_eq!(inputs.states().len(), 1);
    }

    #[tokio::test]
    async fn so_many_writers_and_no_more() {
        let (mut inputs, _command) = connected(None).await;
        let open = (0..1000).filter(|n| !take(&mut inputs, &n.to_string(), 0, b"x").closed).count();
        assert_eq!(open, WRITERS_MOST);
        assert!(inputs.is_new_signal("another", 1).is_err(), "it would not be remembered");
        assert_eq!(inputs.is_new_signal("7", 1), Ok(true));
        inputs.forget("8");
        assert!(!take(&mut inputs, "another", 0, b"x").closed, "one has made room");
    }

    #[tokio::test]
    async fn who_has_only_signalled_makes_room() {
        let (mut inputs, _command) = connected(None).await;
        for n in 0..1000 {
            assert_eq!(inputs.is_new_signal(&n.to_string(), 1), Ok(true));
            assert_eq!(inputs.is_new_signal("often", 1), Ok(n == 0), "who is heard is remembered");
        }
        assert_eq!(inputs.states().len(), WRITERS_MOST);
        assert_eq!(inputs.is_new_signal("999", 1), Ok(false));
        let open = (0..1000).filter(|n| !take(&mut inputs, &format!("w{n}"), 0, b"x").closed).count();
        assert_eq!(open, WRITERS_MOST);
    }

    #[tokio::test]
    async fn nobody_is_remembered_by_a_command_that_reads_nothing() {
        let mut inputs = StdinMux::closed();
        for n in 0..1000 {
            assert!(take(&mut inputs, &n.to_string(), 0, b"x").closed);
        }
        assert_eq!(inputs.states(), []);
    }

    /// Nobody reads stdin while writers come one by one, type as much as they may, and leave.
    #[tokio::test]
    async fn what_those_who_left_have_typed_is_bounded() {
        let (mut inputs, mut command) = connected(Some("owner")).await;
        let much = Bytes::from(vec![7; WINDOW as usize]);
        let (mut typed, mut last) = (0, String::new());
        for n in 0..2 * WRITERS_MOST {
            let from = n.to_string();
            let want = inputs.take(&from, 0, &much).pop().expect("an answer").1;
            assert!(want.closed == (want.received == 0), "{want:?}");
            typed += want.received;
            inputs.forget(&from);
            last = if want.closed { last } else { from };
        }
        let most = WAITING_MOST + WINDOW_OF_OTHERS;
        assert!(inputs.feed.waiting() <= most && typed > WAITING_MOST, "{typed}");
        assert!(take(&mut inputs, &last, 0, b"x").closed, "so much waits");
        // A writer that comes back is a new one: its earlier bytes do not count.
        read_until_there_wait(&mut inputs, &mut command, typed / 2).await;
        let want = inputs.take(&last, 0, &much).pop().expect("an answer").1;
        assert_eq!((want.received, want.limit), (WINDOW_OF_OTHERS, WINDOW_OF_OTHERS));
        read_until_there_wait(&mut inputs, &mut command, WINDOW_OF_OTHERS).await;
        let want = take(&mut inputs, &last, WINDOW_OF_OTHERS, b"");
        assert_eq!(want.limit, 2 * WINDOW_OF_OTHERS - inputs.feed.waiting());
    }

    async fn read_until_there_wait(inputs: &mut StdinMux, command: &mut Receiver, bytes: u64) {
        let mut read = vec![0; 64 * 1024];
        while inputs.feed.waiting() > bytes {
            let _ = command.read(&mut read).await.expect("readable");
            inputs.writable().await;
            inputs.write();
        }
    }
}
