//! The input of a command from several writers, each joined by its own offsets.
//!
//! Guarantees: what a writer sends reaches the command in its order, without a hole, once, however often it
//! is sent. Between writers the order is that of their coming. The command's end of input is that of its
//! owner, the first who has written if none was named.
//!
//! Limits: [`WRITERS_MOST`] writers are remembered; of those who have only signalled, the one longest silent makes room
//! for another. To more the input is closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::unix::pipe::Sender;

use super::messages::WriterState;
use peerbus_process::StdinWriter;
use peerbus_protocol::frame::StdinCredit;
use peerbus_protocol::stdin::{StdinReassembler, WINDOW, WINDOW_OF_OTHERS};

/// Most writers that are remembered.
const WRITERS_MOST: usize = 256;

/// Most bytes that may wait for the command, of writers that are gone too: while there are more, nobody new is
/// listened to.
const WAITING_MOST: u64 = WRITERS_MOST as u64 * WINDOW_OF_OTHERS + WINDOW;

/// What is to be told: to whom, and what.
pub(super) type StdinUpdate = (String, StdinCredit);

#[derive(Debug)]
pub(super) struct StdinMux {
    feed: StdinWriter<Arc<str>>,
    writers: BTreeMap<Arc<str>, Writer>,
    owner: Option<Arc<str>>,
    /// Words that were heard.
    words: u64,
    /// Whether it is a terminal: what its end is, is typed there too, so nobody's end is the command's.
    is_terminal: bool,
}

/// What is remembered of one.
#[derive(Debug)]
struct Writer {
    joined: StdinReassembler,
    signals: u64,
    resizes: u64,
    /// Whether it has typed or said a size: then it is remembered until it is gone.
    stays: bool,
    /// When it was heard last: each word of anybody counts one.
    heard: u64,
}

impl StdinMux {
    /// For a command that reads nothing.
    pub(super) fn closed() -> Self {
        Self { feed: StdinWriter::closed(), ..Self::expected(None) }
    }

    /// For a command whose process is being made.
    pub(super) fn expected(owner: Option<&str>) -> Self {
        let owner = owner.map(Arc::from);
        Self { feed: StdinWriter::expected(), writers: BTreeMap::new(), owner, words: 0, is_terminal: false }
    }

    /// For one that is going to have a terminal.
    pub(super) fn of_terminal(owner: Option<&str>) -> Self {
        Self { is_terminal: true, ..Self::expected(owner) }
    }

    /// The process is there.
    pub(super) fn connect(&mut self, pipe: Sender) {
        self.feed.connect(pipe);
        self.close_with_the_pipe();
    }

    /// Takes a chunk of a writer, an empty one is its end, and writes what the command can take. Returns what
    /// to tell the writers, this one in any case: after that writing, because where all of it was written at
    /// once nothing tells of it later.
    pub(super) fn take(&mut self, from: &str, offset: u64, bytes: &Bytes) -> Vec<StdinUpdate> {
        if self.feed.is_open() && self.owner.is_none() {
            self.owner = Some(Arc::from(from));
        }
        // Of a command that reads nothing, nobody's input need be remembered.
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
            // What others would write now goes nowhere.
            self.writers.values_mut().for_each(|writer| writer.joined.close());
        }
        let mut told = self.write();
        told.retain(|(other, _)| *other != *name);
        if let Some(writer) = self.writers.get_mut(&name) {
            told.push((name.to_string(), StdinCredit { again, ..writer.joined.want() }));
        }
        told
    }

    /// Waits until something that waits can be written to the command. Cancel safe.
    pub(super) async fn writable(&self) {
        self.feed.writable().await;
    }

    /// Writes what the command can take; returns what the writers should know of it.
    pub(super) fn write(&mut self) -> Vec<StdinUpdate> {
        let was_open = self.feed.is_open();
        let writers = &mut self.writers;
        self.feed.write(|name, count| {
            // One that was forgotten, and has come again since, is another.
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

    /// Nothing more is wanted; returns what the writers should know.
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

    /// Whether this signal of a writer was not applied yet. From now on it was.
    ///
    /// # Errors
    /// When there are too many to remember one more.
    pub(super) fn is_new_signal(&mut self, from: &str, number: u64) -> Result<bool, String> {
        let (_, writer) = self.writer(from).ok_or_else(too_many)?;
        Ok(is_new(&mut writer.signals, number))
    }

    /// The same of a size.
    ///
    /// # Errors
    /// As [`StdinMux::is_new_signal`].
    pub(super) fn is_new_size(&mut self, from: &str, number: u64) -> Result<bool, String> {
        let (_, writer) = self.writer(from).ok_or_else(too_many)?;
        writer.stays = true;
        Ok(is_new(&mut writer.resizes, number))
    }

    /// Nothing more will come from this one.
    pub(super) fn forget(&mut self, from: &str) {
        self.writers.remove(from);
    }

    /// What is remembered of all of them.
    pub(super) fn states(&mut self) -> Vec<WriterState> {
        let state = |(name, writer): (&Arc<str>, &mut Writer)| WriterState {
            from: name.to_string(),
            want: writer.joined.want(),
            signals: writer.signals,
            resizes: writer.resizes,
        };
        self.writers.iter_mut().map(state).collect()
    }

    /// This writer, who may be a new one; `None` when there are too many.
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

    /// Whether there is room for another writer, or can be made.
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

    /// Nobody reads, and one after the other comes, types as much as it may, and leaves.
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
        // One who comes again is another: what it wrote before is not counted for it.
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
