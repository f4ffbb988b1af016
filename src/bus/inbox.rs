//! One wildcard subscription for every answer this process waits for.
//!
//! Each [`Mailbox`] has a subject of its own below it. The client library's own request mechanism
//! is not used: it forgets to forget requests that timed out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Incoming, locked};
use crate::protocol::identity::Name;
use crate::protocol::subjects;

/// Every open mailbox of one link.
pub(super) struct Inbox {
    base: String,
    prefix: String,
    open: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Incoming>>>>,
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
        locked(&self.open).insert(token.clone(), to);
        Mailbox { subject: format!("{}.{token}", self.prefix), token, messages, open: Arc::clone(&self.open) }
    }

    /// Puts a message into its mailbox; one for a mailbox that was closed is dropped.
    pub(super) fn deliver(&self, message: Incoming) {
        let Some((_, token)) = message.subject.rsplit_once('.') else { return };
        if let Some(to) = locked(&self.open).get(token) {
            // The receiver may be on its way out; then nobody wants this any more.
            let _ = to.send(message);
        }
    }
}

/// A subject to give as reply, and what arrives on it. Closed when dropped.
///
/// It has no limit of its own: what may arrive is limited by what was asked for (one answer, or a
/// window of output).
pub struct Mailbox {
    subject: String,
    token: String,
    messages: mpsc::UnboundedReceiver<Incoming>,
    open: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Incoming>>>>,
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
            Some(message) => message,
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
