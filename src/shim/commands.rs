//! Handles the daemon's messages, and reports changes to it.

use std::time::Instant;

use super::connection::NewConnection;
use super::messages::{FromShim, Hello, ScreenSnapshot, ShimState, ToShim, VERSION};
use super::serve::Shim;
use super::stdin_mux::StdinUpdate;
use super::steps::Steps;
use super::terminal::JobTerminal;
use peerbus_protocol::{Ending, TtySize};

/// The answer to terminal requests for a job without a terminal.
const NO_TERMINAL: &str = "it has no terminal";

impl Shim {
    /// Replaces the current connection.
    pub(super) fn on_newcomer(&mut self, newcomer: NewConnection) {
        self.output.pace(None);
        self.conversation.go_on_with(newcomer);
        self.say_hello();
    }

    /// Sends the whole state.
    pub(super) fn say_hello(&mut self) {
        let state = match (&self.ended, &self.about.process) {
            (Some(_), _) => ShimState::Ended,
            (None, Some(_)) => ShimState::Running,
            (None, None) => ShimState::Starting,
        };
        let hello = Hello {
            v: VERSION,
            job: self.about.job,
            shim: self.about.shim.clone(),
            process: self.about.process.clone(),
            state,
            log: self.output.reach(),
            tty: self.about.tty,
            name: self.about.name.clone(),
            writers: self.inputs.states(),
            trouble: self.output.trouble(),
            asked: self.terminal.as_ref().map(JobTerminal::turns),
            step: self.steps.as_ref().map(Steps::at),
            sizes: self.terminal.as_ref().map(JobTerminal::changes).unwrap_or_default(),
            waiting: self.waiting.clone(),
        };
        self.conversation.say(&FromShim::Hello(Box::new(hello)));
    }

    /// Handles a message, then reports the terminal size if it has changed.
    pub(super) fn on_word(&mut self, word: ToShim) {
        let before = self.terminal.as_ref().and_then(JobTerminal::last_change);
        self.obey(word);
        let now = self.terminal.as_ref().and_then(JobTerminal::last_change);
        if let Some(change) = now.filter(|_| before.is_some() && now != before) {
            self.conversation.say(&FromShim::Sized(change));
        }
    }

    fn obey(&mut self, word: ToShim) {
        match word {
            ToShim::Hello { .. } => self.say_hello(),
            ToShim::Stdin { from, offset, data } => {
                if let Some(terminal) = &mut self.terminal
                    && !data.is_empty()
                {
                    self.about.tty = Some(terminal.typed_by(&from));
                }
                let told = self.inputs.take(&from, offset, &data);
                self.tell_wants(told);
            }
            ToShim::Signal { from, n, signal } => self.on_signal(from, n, &signal),
            ToShim::Resize { from, n, size } => {
                let error = match self.inputs.is_new_size(&from, n) {
                    Ok(true) => self.resize(&from, size).err(),
                    Ok(false) => None,
                    Err(error) => Some(error),
                };
                self.conversation.say(&FromShim::Resized { from, n, error });
            }
            ToShim::Stop { ending } => {
                if let Some(steps) = &mut self.steps {
                    steps.call_off(&ending);
                }
                self.lifecycle.stop(ending);
            }
            ToShim::Release {} => {
                if let Some(steps) = &mut self.steps {
                    steps.call_off(&Ending::Cancelled { why: "interrupted".to_owned() });
                }
                self.lifecycle.release(Instant::now());
            }
            ToShim::Screen { ask } => {
                let screen = match &mut self.terminal {
                    Some(terminal) => terminal.screen(ask),
                    None => self.no_screen(ask),
                };
                self.conversation.say(&FromShim::Screen(screen));
            }
            ToShim::Pace { until } => self.output.pace(until.filter(|_| self.terminal.is_some())),
            ToShim::Asked { writer } => {
                if let Some(terminal) = &mut self.terminal {
                    let turn = terminal.asks(writer);
                    self.conversation.say(&FromShim::Asked(turn));
                }
            }
            ToShim::Rename { name } => {
                self.about.name = name;
                self.write_about();
            }
            ToShim::Forget { from } => {
                self.inputs.forget(&from);
                if let Some(terminal) = &mut self.terminal {
                    terminal.forget(&from);
                }
            }
        }
    }

    /// Reports the holders of the output if they have changed.
    pub(super) fn tell_waiting(&mut self) {
        let waiting = self.lifecycle.waits_for(Instant::now());
        if waiting != self.waiting {
            self.waiting.clone_from(&waiting);
            self.conversation.say(&FromShim::Waiting { on: waiting });
        }
    }

    fn resize(&mut self, from: &str, size: TtySize) -> Result<(), String> {
        size.check().map_err(|bad| bad.to_string())?;
        let terminal = self.terminal.as_mut().ok_or(NO_TERMINAL)?;
        terminal.resize(from, size).map_err(|error| error.to_string())?;
        self.about.tty = Some(size);
        Ok(())
    }

    fn no_screen(&self, ask: u64) -> ScreenSnapshot {
        let (at, error) = (self.output.reach().totals().sum(), Some(NO_TERMINAL.to_owned()));
        ScreenSnapshot { ask, at, data: bytes::Bytes::new(), size: None, error }
    }

    /// Applies each signal once, in whatever order and however often it arrives.
    fn on_signal(&mut self, from: String, n: u64, signal: &str) {
        if !self.lifecycle.has_tree() {
            // Not started yet: the daemon repeats the request. Over: nothing to signal.
            return;
        }
        let error = match self.inputs.is_new_signal(&from, n) {
            Ok(true) => {
                let applied = self.lifecycle.signal(signal);
                if let (Ok(()), Some(steps)) = (&applied, &mut self.steps) {
                    steps.signalled(signal);
                }
                applied.err()
            }
            Ok(false) => None,
            Err(error) => Some(error),
        };
        self.conversation.say(&FromShim::Signalled { from, n, error });
    }

    pub(super) fn tell_wants(&mut self, told: Vec<StdinUpdate>) {
        for (from, want) in told {
            self.conversation.say(&FromShim::Want { from, want });
        }
    }

    /// Reports the progress of the log, once the daemon has read the earlier messages.
    pub(super) fn tell_news(&mut self) {
        if let Some(why) = self.output.new_trouble() {
            self.conversation.say(&FromShim::Trouble { why });
        }
        if self.conversation.is_listening()
            && let Some(reach) = self.output.news(Instant::now())
        {
            self.conversation.say(&FromShim::Log(reach));
        }
    }

    /// Updates the shim's description once its command is running: a failed start removes that file. The
    /// update is informative, so nothing waits for it.
    pub(super) fn write_about(&mut self) {
        if self.about.process.is_some() {
            self.about_file.write(self.about.clone());
        }
    }
}
