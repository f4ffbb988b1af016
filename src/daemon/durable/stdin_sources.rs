//! The writers of a job that its shim remembers.
//!
//! A shim remembers a limited number of writers. An evicted writer that comes back would have its input replayed.
//! So a writer is forgotten once it has detached. Writers that vanished may come back; of those, the longest silent
//! are forgotten first, and only beyond [`MANY`].

use std::collections::HashMap;

use peerbus_protocol::frame::StdinCredit;
use peerbus_shim::messages::WriterState;

/// Writers to remember, attached or not: half of what a shim remembers, and twice as many as can be attached at
/// once.
const MANY: usize = 128;

/// The writers of one job.
#[derive(Debug, Default)]
pub(super) struct StdinSources {
    known: HashMap<String, Known>,
    /// Number of shim messages about any of them.
    words: u64,
}

#[derive(Debug)]
struct Known {
    state: WriterState,
    /// Number of the last message about it.
    last: u64,
}

impl StdinSources {
    /// Takes over the writers that the shim reports.
    pub(super) fn are(&mut self, states: Vec<WriterState>) {
        let mut before = std::mem::take(&mut self.known);
        for state in states {
            let last = before.remove(&state.from).map_or(0, |known| known.last);
            self.known.insert(state.from.clone(), Known { state, last });
        }
    }

    /// The last credit of a writer. `None` if the writer is unknown.
    pub(super) fn want(&self, inbox: &str) -> Option<&StdinCredit> {
        self.known.get(inbox).map(|known| &known.state.want)
    }

    /// The number of its last signal.
    pub(super) fn signals(&self, inbox: &str) -> u64 {
        self.known.get(inbox).map_or(0, |known| known.state.signals)
    }

    /// Whether the shim has applied a terminal size of this writer.
    pub(super) fn has_resized(&self, inbox: &str) -> bool {
        self.known.get(inbox).is_some_and(|known| known.state.resizes > 0)
    }

    /// Records credit for a writer. A new writer whose input is closed may be one too many, which the shim does not
    /// remember.
    pub(super) fn wants(&mut self, from: String, want: StdinCredit) {
        self.words += 1;
        match self.known.get_mut(&from) {
            Some(known) => (known.state.want, known.last) = (want, self.words),
            None if want.closed => {}
            None => {
                let state = WriterState { from: from.clone(), want, signals: 0, resizes: 0 };
                self.known.insert(from, Known { state, last: self.words });
            }
        }
    }

    /// Records an applied signal. The shim itself forgets a writer that has done nothing else.
    pub(super) fn signalled(&mut self, from: &str, n: u64) {
        if let Some(known) = self.known.get_mut(from) {
            known.state.signals = known.state.signals.max(n);
        }
    }

    /// Forgets a writer that will send nothing more.
    pub(super) fn forget(&mut self, inbox: &str) {
        self.known.remove(inbox);
    }

    /// The writers to forget because there are too many. None of them is in `stays`.
    pub(super) fn too_many(&self, stays: impl Fn(&str) -> bool) -> Vec<String> {
        let too_many = self.known.len().saturating_sub(MANY);
        if too_many == 0 {
            return Vec::new();
        }
        let mut gone: Vec<(u64, &String)> = self
            .known
            .iter()
            .filter(|(inbox, _)| !stays(inbox))
            .map(|(inbox, it)| (it.last, inbox))
            .collect();
        gone.sort_unstable();
        gone.into_iter().take(too_many).map(|(_, inbox)| inbox.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(received: u64) -> StdinCredit {
        StdinCredit { received, limit: 9, again: false, closed: false }
    }

    #[test]
    fn the_longest_silent_go_and_nobody_who_is_there() {
        let mut writers = StdinSources::default();
        for n in 0..MANY {
            writers.wants(n.to_string(), open(1));
            assert_eq!(writers.too_many(|_| false), Vec::<String>::new());
        }
        writers.wants("0".to_owned(), open(2));
        writers.wants("a".to_owned(), open(1));
        writers.wants("b".to_owned(), open(1));
        assert_eq!(writers.too_many(|inbox| inbox == "2"), ["1", "3"]);
        writers.forget("1");
        writers.forget("3");
        assert_eq!(writers.too_many(|_| false), Vec::<String>::new());
        writers.wants("c".to_owned(), open(1));
        assert_eq!(writers.too_many(|_| true), Vec::<String>::new(), "all are there");
    }

    #[test]
    fn who_is_refused_is_not_remembered() {
        let mut writers = StdinSources::default();
        let closed = StdinCredit { closed: true, ..open(0) };
        writers.wants("late".to_owned(), closed.clone());
        assert_eq!(writers.want("late"), None);
        writers.wants("ann".to_owned(), open(3));
        writers.wants("ann".to_owned(), closed.clone());
        assert_eq!(writers.want("ann"), Some(&closed), "she knows that she need not go on");
    }

    #[test]
    fn the_shim_knows_best() {
        let mut writers = StdinSources::default();
        let state = |from: &str, received| WriterState {
            from: from.to_owned(),
            want: open(received),
            signals: received,
            resizes: 0,
        };
        writers.wants("gone".to_owned(), open(3));
        writers.wants("ann".to_owned(), open(3));
        writers.are(vec![state("ann", 4), state("old", 5)]);
        assert_eq!((writers.want("gone"), writers.want("old")), (None, Some(&open(5))));
        writers.signalled("ann", 2);
        assert_eq!((writers.signals("ann"), writers.signals("gone")), (4, 0));
    }
}
