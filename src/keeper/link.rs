//! The daemon's end of a keeper: starting one, finding one, and talking to it.

use std::io;

use super::place::Place;
use super::words::{Ended, FromKeeper, Hello, Order, ToKeeper};
use crate::process::{Identity, Lodging, Nursery, StartError};

/// Why there is no running command.
#[derive(Debug, thiserror::Error)]
pub enum NoStart {
    /// It could not be started. Nothing of it ran, and no keeper is left.
    #[error("{0}")]
    Failed(StartError),
    /// The keeper died while it started the command, so that may have run: [`find`] says what is left.
    #[error("{0}")]
    Died(String),
}

/// What is there of a job's keeper.
#[derive(Debug)]
pub enum Found {
    /// It lives, and answers.
    Alive(Link),
    /// It has written down how the job ended, and is gone.
    Ended(Box<Ended>),
    /// It is gone and has not written that. What it leaves behind is to be cleared.
    Died {
        /// What is known of it.
        why: String,
        /// Where the job's processes lived.
        lodging: Lodging,
    },
    /// There was none, or it never came as far as starting the command.
    NeverStarted,
}

/// A connection to a keeper. To drop it changes nothing for the job.
#[derive(Debug)]
pub struct Link {
    hello: Hello,
}

/// Starts a keeper that starts the command. Blocks on fork, exec and slow file systems, so it belongs on
/// a thread that may block, inside the context of a runtime. Once it has returned `Ok` the command runs.
///
/// # Errors
/// When the command was not started, or nobody can say.
pub fn start(place: &Place, order: &Order, nursery: &Nursery) -> Result<(Link, Identity), NoStart> {
    let _ = (place, order, nursery);
    Err(NoStart::Died("not yet".to_owned()))
}

/// Looks for the keeper of a job. Whether there is one, its lock decides, however long it takes to answer.
///
/// # Errors
/// When that cannot be looked at; `TimedOut` when it lives and does not answer, of which nothing follows.
pub async fn find(place: &Place) -> io::Result<Found> {
    let _ = place;
    Ok(Found::NeverStarted)
}

impl Link {
    /// How the job stood when this was made.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// What the keeper says next; `None` when the connection is gone, and [`find`] says what became of the
    /// keeper. Cancel safe.
    pub async fn next(&mut self) -> Option<FromKeeper> {
        None
    }

    /// Says something. Does not wait; a word that the keeper never gets is one whose answer never comes.
    pub fn say(&self, word: ToKeeper) {
        let _ = word;
    }
}
