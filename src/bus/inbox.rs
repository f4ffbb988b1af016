//! One wildcard subscription for all answers to this process.
//!
//! Each [`Mailbox`] has its own subject below it. The bus does not use the client library's request
//! mechanism, because that leaks the entries of requests that timed out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Incoming, locked};
use peerbus_protocol::identity::Name;
use peerbus_protocol::subjects;

/// Most bytes that wait in one mailbox: several times the most anyone requests at once. The inbox drops
/// messages beyond that; receivers treat them like messages lost in transit.
const WAITING_MOST: usize = 32 << 20;

/// Approximate memory cost of a message beside its payload, in bytes.
const MESSAGE_COST: usize = 256;

/// All open mailboxes of one bus.
pub(super) struct Inbox {
    base: String,
    prefix: String,
    open: Arc<Mutex<HashMap<String, Slot>>>,
}

/// The sending side of one mailbox.
struct Slot {
    to: mpsc::UnboundedSender<Incoming>,
    /// Bytes that wait in it.
    waiting: Arc<AtomicUsize>,
}

fn cost(message: &Incoming) -> usize {
    message.payload.len() + MESSAGE_COST
}

impl Inbox {
    /// Creates an inbox. In a fleet with identities it belongs to this name, and no one else may
    /// subscribe to it.
    pub(super) fn new(name: Option<&Name>) -> Self {
        let base = subjects::inbox(name);
        Self { prefix: format!("{base}.{}", Uuid::new_v4().simple()), base, open: Arc::default() }
    }

    /// A new subject of our own that belongs to no mailbox.
    pub(super) fn own_subject(&self) -> String {
        format!("{}.{}.own", self.base, Uuid::new_v4().simple())
    }

    /// The wildcard subject that covers all mailboxes.
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

    /// Delivers a message to its mailbox; drops it if the mailbox is closed.
    pub(super) fn deliver(&self, message: Incoming) {
        let Some((_, token)) = message.subject.rsplit_once('.') else { return };
        if let Some(Slot { to, waiting }) = locked(&self.open).get(token) {
            let cost = cost(&message);
            if waiting.load(Ordering::Relaxed).saturating_add(cost) > WAITING_MOST {
                return tracing::debug!("dropped a message: too many wait that nobody takes");
            }
            waiting.fetch_add(cost, Ordering::Relaxed);
            // A failure means that the receiver was just dropped.
            let _ = to.send(message);
        }
    }
}

/// A reply subject and the messages that arrive on it. Dropping it closes it.
///
/// The request limits what may arrive (one answer, or a window of output); `WAITING_MOST` limits
/// senders that ignore that.
pub struct Mailbox {
    subject: String,
    token: String,
    messages: mpsc::UnboundedReceiver<Incoming>,
    waiting: Arc<AtomicUsize>,
    open: Arc<Mutex<HashMap<String, Slot>>>,
}

impl Mailbox {
    /// The reply subject.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The next message. Waits forever if none arrives.
    pub async fn next(&mut self) -> Incoming {
        match self.messages.recv().await {
            Some(message) => {
                self.waiting.fetch_sub(cost(&message), Ordering::Relaxed);
                message
            }
            // Unreachable: the map keeps the sender until this mailbox is dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        locked(&self.open).remove(&self.token);
    }
}
