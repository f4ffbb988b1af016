//! One wildcard subscription for every answer this process waits for.
//!
//! Each [`Mailbox`] has a subject of its own below it. The client library's own request mechanism
//! is not used: it forgets to forget requests that timed out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Incoming, locked};
use peerbus_protocol::identity::Name;
use peerbus_protocol::subjects;

/// Bytes that may wait in one mailbox: several times what anybody asks for at once. What comes beyond is dropped, and
/// is missed as what gets lost on its way is.
const WAITING_MOST: usize = 32 << 20;

/// What a message costs beside its payload, in bytes, about.
const MESSAGE_COST: usize = 256;

/// Every open mailbox of one link.
pub(super) struct Inbox {
    base: String,
    prefix: String,
    open: Arc<Mutex<HashMap<String, Slot>>>,
}

/// The way into one mailbox.
struct Slot {
    to: mpsc::UnboundedSender<Incoming>,
    /// Bytes that wait in it.
    waiting: Arc<AtomicUsize>,
}

fn cost(message: &Incoming) -> usize {
    message.payload.len() + MESSAGE_COST
}

impl Inbox {
    /// An inbox, in a fleet with identities that of this name: nobody else may hear what is said to it.
    pub(super) fn new(name: Option<&Name>) -> Self {
        let base = subjects::inbox(name);
        Self { prefix: format!("{base}.{}", Uuid::new_v4().simple()), base, open: Arc::default() }
    }

    /// A new subject of our own that is no mailbox's.
    pub(super) fn own_subject(&self) -> String {
        format!("{}.{}.own", self.base, Uuid::new_v4().simple())
    }

    /// The subject that covers every mailbox.
    pub(super) fn wildcard(&self) -> String {
        format!("{}.*", self.prefix)
    }

    pub(super) fn open(&self) -> Mailbox {
        let token = Uuid::new_v4().simple().to_string();
        let (to, messages) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        locked(&self.open).insert(token.clone(), Slot { to, waiting: Arc::clone(&waiting) });
        let subject = format!("{}.{token}", self.prefix);
        Mailbox { subject, token, messages, waiting, open: Arc::clone(&self.open) }
    }

    /// Puts a message into its mailbox; one for a mailbox that was closed is dropped.
    pub(super) fn deliver(&self, message: Incoming) {
        let Some((_, token)) = message.subject.rsplit_once('.') else { return };
        if let Some(Slot { to, waiting }) = locked(&self.open).get(token) {
            let cost = cost(&message);
            if waiting.load(Ordering::Relaxed).saturating_add(cost) > WAITING_MOST {
                return tracing::debug!("dropped a message: too many wait that nobody takes");
            }
            waiting.fetch_add(cost, Ordering::Relaxed);
            // The receiver may be on its way out; then nobody wants this any more.
            let _ = to.send(message);
        }
    }
}

/// A subject to give as reply, and what arrives on it. Closed when dropped.
///
/// What may arrive is limited by what was asked for (one answer, or a window of output), and, for those who send more,
/// by `WAITING_MOST`.
pub struct Mailbox {
    subject: String,
    token: String,
    messages: mpsc::UnboundedReceiver<Incoming>,
    waiting: Arc<AtomicUsize>,
    open: Arc<Mutex<HashMap<String, Slot>>>,
}

impl Mailbox {
    /// The subject that leads here.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next message. Waits for ever when none comes.
    pub async fn next(&mut self) -> Incoming {
        match self.messages.recv().await {
            Some(message) => {
                self.waiting.fetch_sub(cost(&message), Ordering::Relaxed);
                message
            }
            // The sender lives in the map until this mailbox is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        locked(&self.open).remove(&self.token);
    }
}
