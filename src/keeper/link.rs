//! The daemon's end of a keeper: talking to one. Where it comes from, [`start`] and [`find`] say.

use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::wire::{self, Hearing, LINE_MOST, Saying};
use super::words::{FromKeeper, Hello, ToKeeper};

pub use super::finding::{Found, find};
pub use super::starting::{NoStart, start};

/// Words that were heard and not asked for yet. A keeper with more to say waits, and says only the newest of
/// what tells how things are.
const WORDS_AHEAD: usize = 16;

/// A connection to a keeper. To drop it changes nothing for the job.
#[derive(Debug)]
pub struct Link {
    hello: Hello,
    words: mpsc::Receiver<FromKeeper>,
    orders: mpsc::UnboundedSender<ToKeeper>,
}

impl Link {
    /// Takes over a connection on which the keeper has said hello.
    pub(super) fn new(hello: Hello, hearing: Hearing, saying: Saying) -> Self {
        let (sender, words) = mpsc::channel(WORDS_AHEAD);
        let (orders, receiver) = mpsc::unbounded_channel();
        tokio::spawn(hear(hearing, sender));
        tokio::spawn(speak(saying, receiver));
        Self { hello, words, orders }
    }

    /// The same of a connection that nobody has read from since the hello.
    pub(super) fn over(hello: Hello, stream: UnixStream) -> Self {
        let (hearing, saying) = wire::split(stream);
        Self::new(hello, hearing, saying)
    }

    /// How the job stood when this was made.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// What the keeper says next; `None` when the connection is gone, and [`find`] says what became of the
    /// keeper. Cancel safe.
    pub async fn next(&mut self) -> Option<FromKeeper> {
        self.words.recv().await
    }

    /// Says something. Does not wait; a word that the keeper never gets is one whose answer never comes.
    pub fn say(&self, word: ToKeeper) {
        // Without a connection there is nobody to say it to, which `next` shows.
        let _ = self.orders.send(word);
    }
}

async fn hear(mut hearing: Hearing, words: mpsc::Sender<FromKeeper>) {
    loop {
        let word = tokio::select! {
            word = hearing.word(LINE_MOST) => word,
            () = words.closed() => return,
        };
        match word {
            Ok(Some(word)) => {
                if words.send(word).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return tracing::debug!(%error, "the connection to a keeper is gone"),
        }
    }
}

async fn speak(mut saying: Saying, mut orders: mpsc::UnboundedReceiver<ToKeeper>) {
    while let Some(word) = orders.recv().await {
        // All of it waits in the queue already; a connection that is gone shows where it is read.
        if saying.say(&word).is_err() || saying.flush().await.is_err() {
            return;
        }
    }
}
