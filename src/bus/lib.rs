//! How it travels: one link to a NATS server, kept up.
//!
//! The idea: a NATS client object lives for exactly one connection. When that connection ends, for
//! whatever reason — the server went away, the link was cut, the client's own task died of a
//! malformed header — the object is thrown away with everything still queued in it, and a new one
//! is made. So there is one path for every kind of loss, and nothing said while disconnected is
//! ever delivered late, when its speaker has long given up on it.
//!
//! Guarantees: subscriptions and the inbox are re-made on every new connection before the link is
//! reported up; [`Bus::publish`] fails at once while the link is down; no message that arrives can
//! end the process. Limits: like NATS itself, delivery is at most once. What was written just
//! before a cut is lost silently; who cares counts, and asks again.

mod account_sync;
mod address;
mod address_policy;
mod bulk_limiter;
mod connection;
mod credentials;
mod inbox;
mod message;
mod reconnect;
mod signing;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};

pub use address::{BadAddress, NatsAddress};
pub use address_policy::{AddressPolicy, PublicAddress, is_private, public_server};
pub use credentials::{BadCredentials, Credentials};
pub use inbox::Mailbox;
pub use message::{Headers, Incoming, Outgoing};
pub use reconnect::ReconnectPolicy;
pub use signing::Signing;

use bulk_limiter::BulkLimiter;
use inbox::Inbox;
use peerbus_identity::{Invitee, MessageSigner};

/// Has the client library's own panics logged as what they are here: the end of one connection, by
/// a message it could not stand. Otherwise they are printed, with a backtrace, into the error output
/// of whatever runs. To be called once, first of all.
pub fn log_panics_of_the_library() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let ours = |file: &str| file.contains("async-nats") || file.contains("async_nats");
        if panic.location().is_some_and(|place| ours(place.file())) {
            let what = panic.payload_as_str().unwrap_or("it says no more");
            tracing::warn!(what, "a malformed message ended the connection to the bus");
        } else {
            others(panic);
        }
    }));
}

/// What a link to the bus needs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the servers are.
    pub address: NatsAddress,
    /// Who we are to them.
    pub credentials: Credentials,
    /// Which servers may be connected to.
    pub reach: AddressPolicy,
    /// The name this connection carries in the server's own lists.
    pub name: String,
}

impl Settings {
    /// Our place in the fleet, where it has identities.
    #[must_use]
    pub fn member(&self) -> Option<&Signing> {
        match &self.credentials {
            Credentials::Identity(member) => Some(member),
            _ => None,
        }
    }

    fn guest(&self) -> Option<&Invitee> {
        match &self.credentials {
            Credentials::Guest(guest) => Some(guest),
            _ => None,
        }
    }
}

/// Room for the headers of a seal, in bytes, generously: the server counts them as payload.
const SEAL_MOST: usize = 1536;

/// Why something could not be said or asked.
#[derive(Debug, Clone, Error)]
pub enum BusError {
    /// There is no link now. Nothing was sent.
    #[error("not connected to the bus")]
    Disconnected,
    /// The message is larger than the server takes.
    #[error("the message has {size} bytes, the server takes {limit}")]
    TooLarge {
        /// Size of the payload, in bytes.
        size: usize,
        /// The server's limit, in bytes.
        limit: usize,
    },
    /// No answer came in time.
    #[error("no answer from {subject} within {:.1} s", waited.as_secs_f32())]
    Timeout {
        /// What was asked.
        subject: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Nobody listens to the subject.
    #[error("nobody listens to {0}")]
    NoResponders(String),
    /// The server does not let us publish there. Nothing was sent.
    #[error("the bus does not let this identity publish to {0}")]
    Forbidden(String),
    /// The bus cannot be reached, with the sentence that says why.
    #[error("{0}")]
    Unreachable(String),
}

/// The state of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionState {
    /// Whether there is a connection now.
    pub up: bool,
    /// Counts the connections made so far. A higher number than the one remembered means that what
    /// was said before may have been lost.
    pub generation: u64,
}

/// A handle to the link; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    address: NatsAddress,
    connection: Mutex<Option<Connection>>,
    link: watch::Sender<ConnectionState>,
    last_error: watch::Sender<Option<String>>,
    /// What the server refused on this connection, in its words.
    refusals: Arc<watch::Sender<Vec<String>>>,
    routes: Mutex<Vec<Subscription>>,
    inbox: Inbox,
    member: Option<Signing>,
    guest: Option<MessageSigner>,
    /// Counts the accounts of the fleet that were learnt.
    account: watch::Sender<u64>,
    gate: BulkLimiter,
    stopped: watch::Sender<bool>,
}

/// The client object of the one connection it lives for.
#[derive(Clone)]
struct Connection {
    client: async_nats::Client,
    /// Rung when the connection is known to be broken.
    broken: Arc<Notify>,
    /// Whether it has ended, so that nothing is heard on it any more.
    over: Arc<watch::Sender<bool>>,
}

/// A subscription that outlives connections.
#[derive(Clone)]
struct Subscription {
    subject: String,
    queue: Option<String>,
    to: mpsc::Sender<Incoming>,
}

impl Bus {
    /// Starts to keep up a link; returns at once. [`Bus::connected`] waits for it.
    #[must_use]
    pub fn open(settings: Settings, persistence: ReconnectPolicy) -> Self {
        let member = settings.member().cloned();
        let guest = settings.guest();
        let name = member.as_ref().map(|member| &member.own().name).or(guest.map(|guest| &guest.id));
        let shared = Arc::new(Shared {
            address: settings.address.clone(),
            connection: Mutex::new(None),
            link: watch::Sender::new(ConnectionState { up: false, generation: 0 }),
            last_error: watch::Sender::new(None),
            refusals: Arc::new(watch::Sender::new(Vec::new())),
            routes: Mutex::new(Vec::new()),
            inbox: Inbox::new(name),
            guest: guest.map(MessageSigner::of_guest),
            account: watch::Sender::new(0),
            member: member.clone(),
            gate: BulkLimiter::new(),
            stopped: watch::Sender::new(false),
        });
        tokio::spawn(reconnect::keep_up(Arc::clone(&shared), settings, persistence));
        Self { shared }
    }

    /// Waits until the link is up.
    ///
    /// # Errors
    /// After `patience`: [`BusError::Unreachable`] with the last reason.
    pub async fn connected(&self, patience: Duration) -> Result<(), BusError> {
        let mut link = self.shared.link.subscribe();
        let mut stopped = self.shared.stopped.subscribe();
        let up = async {
            tokio::select! {
                up = link.wait_for(|link| link.up) => up.is_ok(),
                _ = stopped.wait_for(|stopped| *stopped) => false,
            }
        };
        match tokio::time::timeout(patience, up).await {
            Ok(true) => Ok(()),
            _ => Err(BusError::Unreachable(
                self.last_error().unwrap_or_else(|| format!("no connection within {patience:?}")),
            )),
        }
    }

    /// Our place in the fleet, where it has identities.
    #[must_use]
    pub fn member(&self) -> Option<&Signing> {
        self.shared.member.as_ref()
    }

    /// Counts the newer accounts of the fleet that were heard; to wait on.
    #[must_use]
    pub fn accounts_learnt(&self) -> watch::Receiver<u64> {
        self.shared.account.subscribe()
    }

    /// Where the bus is said to be.
    #[must_use]
    pub fn address(&self) -> &NatsAddress {
        &self.shared.address
    }

    /// The state of the link, to look at or to wait on.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<ConnectionState> {
        self.shared.link.subscribe()
    }

    /// Why the last attempt to connect failed, if it did.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error.borrow().clone()
    }

    /// Why attempts to connect fail, to wait on; none once one has succeeded.
    #[must_use]
    pub fn errors(&self) -> watch::Receiver<Option<String>> {
        self.shared.last_error.subscribe()
    }

    /// The server's words where it does not let us hear a subject. It says so some time after the
    /// subscription, but before anything that was asked of it later.
    #[must_use]
    pub fn refused_to_hear(&self, subject: &str) -> Option<String> {
        let wanted = format!("Subscription to \"{subject}\"");
        self.shared.refusals.borrow().iter().find(|refusal| refusal.contains(&wanted)).cloned()
    }

    /// Waits until the server refuses a subject to be published to. For ever, where it does not. Cancel safe.
    async fn refused_to_publish(&self, subject: &str) {
        let wanted = format!("Publish to \"{subject}\"");
        let mut refusals = self.shared.refusals.subscribe();
        let refused = refusals.wait_for(|said| said.iter().any(|refusal| refusal.contains(&wanted)));
        if refused.await.is_err() {
            std::future::pending().await
        }
    }

    /// The same of our own inbox, without which no answer arrives.
    #[must_use]
    pub fn refused_to_hear_answers(&self) -> Option<String> {
        self.refused_to_hear(&self.shared.inbox.wildcard())
    }

    /// What the server said of itself, while the link is up.
    #[must_use]
    pub fn server(&self) -> Option<ServerInfo> {
        let info = self.client()?.server_info();
        Some(ServerInfo {
            version: info.version,
            host: info.host,
            auth_required: info.auth_required,
            max_payload: info.max_payload,
        })
    }

    /// The largest payload that can be said, in bytes: what the server takes, less the room for a seal
    /// where there is one; of the usual 1 MiB while that is not known.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        const USUAL: usize = 1 << 20;
        self.room(self.client().map_or(USUAL, |client| client.max_payload()))
    }

    fn room(&self, limit: usize) -> usize {
        if self.shared.member.is_some() { limit.saturating_sub(SEAL_MOST) } else { limit }
    }

    /// Says something.
    ///
    /// # Errors
    /// When there is no link, or the message is too large. Success means queued, not delivered.
    pub async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        let client = self.client().ok_or(BusError::Disconnected)?;
        let limit = self.room(client.max_payload());
        if message.payload.len() > limit {
            return Err(BusError::TooLarge { size: message.payload.len(), limit });
        }
        message::publish(&client, self.sealed(message)).await.map_err(|_| BusError::Disconnected)
    }

    /// A message as it will be said, signed where members sign: nothing of it can be changed any more.
    #[must_use]
    pub fn sealed(&self, message: Outgoing) -> Outgoing {
        if !message.sealed {
            return message;
        }
        let message = match (&self.shared.member, &self.shared.guest) {
            (Some(member), _) => member.sealed(message),
            (None, Some(guest)) => signing::sealed_by(guest, message),
            (None, None) => message,
        };
        Outgoing { sealed: false, ..message }
    }

    /// Says something large, in its turn: at most 1 MiB of such messages is
    /// between here and the server at any time, so that a heartbeat never waits long behind them.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn publish_bulk(&self, message: Outgoing) -> Result<(), BusError> {
        let place = self.shared.gate.enter(message.payload.len()).await;
        self.publish(message).await?;
        self.shared.gate.passed(place, self);
        Ok(())
    }

    /// Waits until everything said so far was written to the socket.
    pub async fn flush(&self) {
        if let Some(client) = self.client() {
            // A failure means that the connection is gone, which its supervisor notices by itself.
            let _ = client.flush().await;
        }
    }

    /// Hears a subject, for as long as the receiver lives, across connections.
    ///
    /// `capacity` counts messages that may wait here; a receiver that falls further behind loses
    /// messages in the end, and the log says so.
    pub async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
        capacity: usize,
    ) -> mpsc::Receiver<Incoming> {
        let (to, messages) = mpsc::channel(capacity);
        let route = Subscription { subject: subject.to_owned(), queue: queue.map(str::to_owned), to };
        let connection = {
            // Under one lock, or a connection made in between would subscribe as well.
            let mut routes = locked(&self.shared.routes);
            routes.push(route.clone());
            locked(&self.shared.connection).clone()
        };
        if let Some(connection) = connection {
            connection::follow_later(&connection, route).await;
        }
        messages
    }

    /// Opens a mailbox of its own: a subject to give as reply, and what arrives on it.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox {
        self.shared.inbox.open()
    }

    /// Asks and waits for one answer.
    ///
    /// # Errors
    /// [`BusError::NoResponders`] at once when nobody listens, [`BusError::Forbidden`] when the server does not let us
    /// ask, [`BusError::Timeout`] after `patience`, [`BusError::Disconnected`] when there is no link to ask on.
    pub async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Incoming, BusError> {
        self.ask(Outgoing::to(subject).payload(payload).sealed(), patience).await
    }

    /// Says something, as it is, and waits for one answer.
    ///
    /// # Errors
    /// As [`Bus::request`].
    pub async fn ask(&self, question: Outgoing, patience: Duration) -> Result<Incoming, BusError> {
        let mut mailbox = self.mailbox();
        let subject = question.subject.clone();
        self.publish(question.reply(mailbox.subject())).await?;
        tokio::select! {
            biased;
            answer = mailbox.next() => match answer.no_responders {
                true => Err(BusError::NoResponders(subject)),
                false => Ok(answer),
            },
            () = self.refused_to_publish(&subject) => Err(BusError::Forbidden(subject)),
            () = tokio::time::sleep(patience) => Err(BusError::Timeout { subject, waited: patience }),
        }
    }

    /// A new subject that we alone hear, to be subscribed to: for what keeps the subject it was said to
    /// first, which a mailbox would not know.
    #[must_use]
    pub fn own_subject(&self) -> String {
        self.shared.inbox.own_subject()
    }

    /// Takes the link down for good, after what was said so far was written.
    pub async fn close(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let _ = tokio::time::timeout(PATIENCE, self.flush()).await;
        self.shared.stopped.send_replace(true);
    }

    fn client(&self) -> Option<async_nats::Client> {
        locked(&self.shared.connection).as_ref().map(|connection| connection.client.clone())
    }
}

/// What a server says of itself.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// The address it listens on.
    pub host: String,
    /// Whether it asks who we are.
    pub auth_required: bool,
    /// The largest payload it takes, in bytes.
    pub max_payload: usize,
}

/// Locks, also after a panic elsewhere: the data behind these locks is replaced whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
