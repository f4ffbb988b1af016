//! What a keeper does with the words of a daemon, and what it tells it.

use std::time::Instant;

use super::conversation::Newcomer;
use super::inputs::Told;
use super::serve::Keeper;
use super::words::{FromKeeper, Hello, Screen, State, ToKeeper, VERSION};
use super::written::{self, Sync};

/// What is answered to who asks for a terminal of a job that has none.
const NO_TERMINAL: &str = "it has no terminal";

impl Keeper {
    /// Somebody new is there, and counts from now on.
    pub(super) fn on_newcomer(&mut self, newcomer: Newcomer) {
        self.conversation.go_on_with(newcomer);
        self.say_hello();
    }

    /// Tells how everything stands.
    pub(super) fn say_hello(&mut self) {
        let state = match (&self.ended, &self.about.process) {
            (Some(_), _) => State::Ended,
            (None, Some(_)) => State::Running,
            (None, None) => State::Starting,
        };
        let hello = Hello {
            v: VERSION,
            job: self.about.job,
            keeper: self.about.keeper.clone(),
            process: self.about.process.clone(),
            state,
            log: self.output.reach(),
            tty: self.about.tty,
            name: self.about.name.clone(),
            writers: self.inputs.states(),
            trouble: self.output.trouble(),
        };
        self.conversation.say(&FromKeeper::Hello(hello));
    }

    pub(super) fn on_word(&mut self, word: ToKeeper) {
        match word {
            ToKeeper::Hello { .. } => self.say_hello(),
            ToKeeper::Stdin { from, offset, data } => {
                let told = self.inputs.take(&from, offset, &data);
                self.tell_wants(told);
            }
            ToKeeper::Signal { from, n, signal } => self.on_signal(from, n, &signal),
            ToKeeper::Resize { from, n, .. } => {
                let error = match self.inputs.is_new_size(&from, n) {
                    Ok(true) => Some(NO_TERMINAL.to_owned()),
                    Ok(false) => None,
                    Err(error) => Some(error),
                };
                self.conversation.say(&FromKeeper::Resized { from, n, error });
            }
            ToKeeper::Stop { ending } => self.course.stop(ending),
            ToKeeper::Screen { ask } => {
                let (at, error) = (self.output.reach().totals().sum(), Some(NO_TERMINAL.to_owned()));
                let screen = Screen { ask, at, data: bytes::Bytes::new(), size: None, error };
                self.conversation.say(&FromKeeper::Screen(screen));
            }
            ToKeeper::Rename { name } => {
                self.about.name = name;
                self.write_about();
            }
            ToKeeper::Forget { from } => self.inputs.forget(&from),
        }
    }

    /// Applies each signal once, in whatever order and however often it is asked for.
    fn on_signal(&mut self, from: String, n: u64, signal: &str) {
        if !self.course.has_tree() {
            // Not started yet: it is asked for again. Over: there is nothing to signal.
            return;
        }
        let error = match self.inputs.is_new_signal(&from, n) {
            Ok(true) => self.course.signal(signal).err(),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        self.conversation.say(&FromKeeper::Signalled { from, n, error });
    }

    pub(super) fn tell_wants(&mut self, told: Vec<Told>) {
        for (from, want) in told {
            self.conversation.say(&FromKeeper::Want { from, want });
        }
    }

    /// Tells how far the log is, to somebody who has heard what was said before.
    pub(super) fn tell_news(&mut self) {
        if let Some(why) = self.output.new_trouble() {
            self.conversation.say(&FromKeeper::Trouble { why });
        }
        if self.conversation.is_listening()
            && let Some(reach) = self.output.news(Instant::now())
        {
            self.conversation.say(&FromKeeper::Log(reach));
        }
    }

    /// Writes down what has changed about this keeper. It is for people, so nothing depends on it.
    pub(super) fn write_about(&self) {
        if let Err(error) = written::write(&self.place.about_file(), &self.about, Sync::No) {
            tracing::warn!(%error, "writing down what this keeper is");
        }
    }
}
