//! The daemon's end of a shim connection. [`start`] and [`find`] create it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};

use super::messages::{FromShim, Hello, ToShim};
use super::wire::{self, LINE_MOST, MessageReader, MessageWriter};

pub use super::discover::{Found, find, reacts};
pub use super::spawn::{SpawnError, start};

/// Queue length for received messages. If the queue is full, the shim waits; of state reports it then sends
/// only the newest.
const WORDS_AHEAD: usize = 16;

/// Most bytes queued for a shim that does not read: as much as its writers may have in flight. Most messages
/// beyond that are repetitions.
const WAITING_MOST: usize = 4 << 20;

/// Size of a message without its data, in bytes, rounded up.
const WORD: usize = 256;

/// A connection to a shim. Dropping this does not affect the job.
#[derive(Debug)]
pub struct ShimConnection {
    hello: Box<Hello>,
    words: mpsc::Receiver<FromShim>,
    orders: Arc<Requests>,
}

impl ShimConnection {
    /// Takes over a connection on which the shim has sent its hello.
    pub(super) fn new(hello: Hello, hearing: MessageReader, saying: MessageWriter) -> Self {
        let (sender, words) = mpsc::channel(WORDS_AHEAD);
        let orders = Arc::<Requests>::default();
        tokio::spawn(hear(hearing, sender));
        tokio::spawn(speak(saying, Arc::clone(&orders)));
        Self { hello: Box::new(hello), words, orders }
    }

    /// Like `new`, for a stream from which nothing was read after the hello.
    pub(super) fn over(hello: Hello, stream: UnixStream) -> Self {
        let (hearing, saying) = wire::split(stream);
        Self::new(hello, hearing, saying)
    }

    /// The state of the job when this connection was made.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The next message of the shim; `None` when the connection is gone. Then [`find`] tells what happened to
    /// the shim. Cancel safe.
    pub async fn next(&mut self) -> Option<FromShim> {
        self.words.recv().await
    }

    /// Sends a message without waiting. A lost message is never answered. If too much is queued for a shim
    /// that does not read, messages that the sender repeats until they are answered are dropped.
    pub fn say(&self, word: ToShim) {
        self.orders.push(word);
    }
}

impl Drop for ShimConnection {
    fn drop(&mut self) {
        self.orders.close();
    }
}

/// The queue of messages to send, in order.
#[derive(Debug, Default)]
struct Requests {
    waiting: Mutex<Waiting>,
    rung: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    words: VecDeque<ToShim>,
    bytes: usize,
    /// Whether the sender has finished or the connection is gone.
    closed: bool,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, word: ToShim) {
        self.lock().push(word);
        self.rung.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.rung.notify_one();
    }

    /// The next message; `None` when nothing more comes. For a single consumer.
    async fn next(&self) -> Option<ToShim> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(word) = waiting.pop() {
                    return Some(word);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.rung.notified().await;
        }
    }
}

impl Waiting {
    fn push(&mut self, word: ToShim) {
        let size = size_of(&word);
        let is_repeated = matches!(
            word,
            ToShim::Stdin { .. } | ToShim::Signal { .. } | ToShim::Resize { .. } | ToShim::Screen { .. }
        );
        if self.closed || (is_repeated && self.bytes + size > WAITING_MOST) {
            return;
        }
        // Only the newest counts.
        if let ToShim::Pace { .. } = word
            && let Some(older) = self.words.iter_mut().find(|older| matches!(older, ToShim::Pace { .. }))
        {
            *older = word;
            return;
        }
        self.bytes += size;
        self.words.push_back(word);
    }

    fn pop(&mut self) -> Option<ToShim> {
        let word = self.words.pop_front()?;
        self.bytes -= size_of(&word);
        Some(word)
    }
}

fn size_of(word: &ToShim) -> usize {
    WORD + match word {
        ToShim::Stdin { data, .. } => data.len(),
        _ => 0,
    }
}

async fn hear(mut hearing: MessageReader, words: mpsc::Sender<FromShim>) {
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
            Err(error) => return tracing::debug!(%error, "the connection to a shim is gone"),
        }
    }
}

async fn speak(mut saying: MessageWriter, orders: Arc<Requests>) {
    while let Some(word) = orders.next().await {
        // The data is queued already. The reading side reports a broken connection.
        if saying.say(&word).is_err() || saying.flush().await.is_err() {
            return orders.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use peerbus_protocol::Ending;

    fn stdin(offset: u64) -> ToShim {
        ToShim::Stdin { from: "ann".to_owned(), offset, data: Bytes::from(vec![7; 64 * 1024]) }
    }

    fn stop() -> ToShim {
        ToShim::Stop { ending: Ending::TimedOut {} }
    }

    fn pace(until: u64) -> ToShim {
        ToShim::Pace { until: Some(until) }
    }

    #[test]
    fn what_waits_for_a_shim_that_does_not_read_is_bounded() {
        let mut waiting = Waiting::default();
        for n in 0..1_000 {
            waiting.push(stdin(n));
            waiting.push(pace(n));
        }
        assert!(waiting.bytes <= WAITING_MOST && waiting.bytes > WAITING_MOST / 2, "{}", waiting.bytes);
        for n in 0..100_000 {
            waiting.push(ToShim::Signal { from: "ann".to_owned(), n, signal: "INT".to_owned() });
        }
        assert!(waiting.words.len() < 20_000, "{}", waiting.words.len());
        waiting.push(stop());
        let mut said: Vec<ToShim> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!((said.pop(), waiting.bytes), (Some(stop()), 0), "what is said once is not passed over");
        assert_eq!(said.remove(0), stdin(0), "in order");
        assert_eq!(said.remove(0), pace(999), "the newest, and once");
        assert!(said.iter().all(|word| !matches!(word, ToShim::Pace { .. })));
        waiting.push(stdin(1_000));
        assert_eq!(waiting.pop(), Some(stdin(1_000)), "there is room again");
    }

    #[tokio::test]
    async fn all_that_was_said_is_heard_and_then_nothing() {
        let orders = Arc::<Requests>::default();
        let listener = tokio::spawn({
            let orders = Arc::clone(&orders);
            async move {
                let mut heard = Vec::new();
                while let Some(word) = orders.next().await {
                    heard.push(word);
                }
                heard
            }
        });
        orders.push(stop());
        orders.push(pace(1));
        orders.close();
        orders.push(stop());
        assert_eq!(listener.await.expect("no panic"), [stop(), pace(1)]);
    }
}
