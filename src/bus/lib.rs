//! The connection to NATS, kept up across losses.
//!
//! A NATS client object lives for exactly one connection. When the connection ends for any reason
//! (server gone, link cut, client task dead after a malformed header), the bus drops the object with
//! everything queued in it, and creates a new one. So every kind of loss takes one code path. No
//! message published before a loss arrives after its sender has given up on it.
//!
//! Guarantees: the bus re-creates subscriptions and the inbox on every new connection before it reports
//! the link as up. [`Bus::publish`] fails at once while the link is down. No incoming message can end
//! the process.
//!
//! Limits: delivery is at most once, as in NATS. Messages written just before a loss are lost silently.
//! Callers that need delivery must count and retry.

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

/// Logs panics of the NATS client library as the end of one connection. Otherwise the default hook
/// prints them with a backtrace to stderr. Call it once, before anything else.
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

/// The settings of a connection to the bus.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The servers.
    pub address: NatsAddress,
    /// Our credentials.
    pub credentials: Credentials,
    /// Which servers the bus may connect to.
    pub reach: AddressPolicy,
    /// Name of this connection in the server's lists.
    pub name: String,
}

impl Settings {
    /// Our membership, in a fleet with identities.
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

/// Space reserved for signature headers, in bytes, because the server counts them as payload.
const SEAL_MOST: usize = 1536;

/// Why a publish or a request failed.
#[derive(Debug, Clone, Error)]
pub enum BusError {
    /// The link is down. Nothing was sent.
    #[error("not connected to the bus")]
    Disconnected,
    /// The message exceeds the server's limit.
    #[error("the message has {size} bytes, the server takes {limit}")]
    TooLarge {
        /// Size of the payload, in bytes.
        size: usize,
        /// The server's limit, in bytes.
        limit: usize,
    },
    /// No answer arrived in time.
    #[error("no answer from {subject} within {:.1} s", waited.as_secs_f32())]
    Timeout {
        /// Subject of the request.
        subject: String,
        /// How long the request waited.
        waited: Duration,
    },
    /// The subject has no subscribers.
    #[error("nobody listens to {0}")]
    NoResponders(String),
    /// The server denies publishing to the subject. Nothing was sent.
    #[error("the bus does not let this identity publish to {0}")]
    Forbidden(String),
    /// The bus is unreachable; the sentence says why.
    #[error("{0}")]
    Unreachable(String),
}

/// The state of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionState {
    /// Whether a connection exists now.
    pub up: bool,
    /// Counts the connections so far. A changed number means that earlier messages may be lost.
    pub generation: u64,
}

/// A handle to the bus; cheap to clone.
#[derive(Clone)]
pub struct Bus {
    shared: Arc<Shared>,
}

struct Shared {
    address: NatsAddress,
    connection: Mutex<Option<Connection>>,
    link: watch::Sender<ConnectionState>,
    last_error: watch::Sender<Option<String>>,
    /// Permission errors of this connection, in the server's words.
    refusals: Arc<watch::Sender<Vec<String>>>,
    routes: Mutex<Vec<Subscription>>,
    inbox: Inbox,
    member: Option<Signing>,
    guest: Option<MessageSigner>,
    /// Counts the new account JWTs received.
    account: watch::Sender<u64>,
    gate: BulkLimiter,
    stopped: watch::Sender<bool>,
}

/// The client object of one connection.
#[derive(Clone)]
struct Connection {
    client: async_nats::Client,
    /// Notified when the connection is known to be broken.
    broken: Arc<Notify>,
    /// Whether the connection has ended, so that no more messages arrive.
    over: Arc<watch::Sender<bool>>,
}

/// A subscription that survives reconnects.
#[derive(Clone)]
struct Subscription {
    subject: String,
    queue: Option<String>,
    to: mpsc::Sender<Incoming>,
}

impl Bus {
    /// Starts connecting in the background and returns at once. [`Bus::connected`] waits for the
    /// connection.
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

    /// Our membership, in a fleet with identities.
    #[must_use]
    pub fn member(&self) -> Option<&Signing> {
        self.shared.member.as_ref()
    }

    /// Counts the new account JWTs received, to wait on.
    #[must_use]
    pub fn accounts_learnt(&self) -> watch::Receiver<u64> {
        self.shared.account.subscribe()
    }

    /// The configured server address.
    #[must_use]
    pub fn address(&self) -> &NatsAddress {
        &self.shared.address
    }

    /// The state of the link, to read or to wait on.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<ConnectionState> {
        self.shared.link.subscribe()
    }

    /// Why the last attempt to connect failed, if it failed.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error.borrow().clone()
    }

    /// Why attempts to connect fail, to wait on; `None` after a success.
    #[must_use]
    pub fn errors(&self) -> watch::Receiver<Option<String>> {
        self.shared.last_error.subscribe()
    }

    /// The server's error if it denied the subscription to a subject. The error arrives after the
    /// subscription, but before the answer to any later request.
    #[must_use]
    pub fn refused_to_hear(&self, subject: &str) -> Option<String> {
        let wanted = format!("Subscription to \"{subject}\"");
        self.shared.refusals.borrow().iter().find(|refusal| refusal.contains(&wanted)).cloned()
    }

    /// Waits until the server denies publishing to a subject, or forever. Cancel safe.
    async fn refused_to_publish(&self, subject: &str) {
        let wanted = format!("Publish to \"{subject}\"");
        let mut refusals = self.shared.refusals.subscribe();
        let refused = refusals.wait_for(|said| said.iter().any(|refusal| refusal.contains(&wanted)));
        if refused.await.is_err() {
            std::future::pending().await
        }
    }

    /// The same for our own inbox, without which no answer arrives.
    #[must_use]
    pub fn refused_to_hear_answers(&self) -> Option<String> {
        self.refused_to_hear(&self.shared.inbox.wildcard())
    }

    /// The server's information about itself, while the link is up.
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

    /// The largest payload that fits, in bytes: the server's limit, minus the space for a signature if
    /// we sign. Assumes the default limit of 1 MiB while the limit is unknown.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        const USUAL: usize = 1 << 20;
        self.room(self.client().map_or(USUAL, |client| client.max_payload()))
    }

    fn room(&self, limit: usize) -> usize {
        if self.shared.member.is_some() { limit.saturating_sub(SEAL_MOST) } else { limit }
    }

    /// Publishes a message.
    ///
    /// # Errors
    /// If the link is down, or the message is too large. Success means queued, not delivered.
    pub async fn publish(&self, message: Outgoing) -> Result<(), BusError> {
        let client = self.client().ok_or(BusError::Disconnected)?;
        let limit = self.room(client.max_payload());
        if message.payload.len() > limit {
            return Err(BusError::TooLarge { size: message.payload.len(), limit });
        }
        message::publish(&client, self.sealed(message)).await.map_err(|_| BusError::Disconnected)
    }

    /// Signs a message now, in a fleet with identities. The signed message must not change.
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

    /// Publishes a bulk message. At most 1 MiB of bulk is in flight to the server at any time, so that
    /// a heartbeat never waits long behind it.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    pub async fn publish_bulk(&self, message: Outgoing) -> Result<(), BusError> {
        let place = self.shared.gate.enter(message.payload.len()).await;
        self.publish(message).await?;
        self.shared.gate.passed(place, self);
        Ok(())
    }

    /// Waits until everything published so far is written to the socket.
    pub async fn flush(&self) {
        if let Some(client) = self.client() {
            // A failure means that the connection is gone; the reconnect loop notices that itself.
            let _ = client.flush().await;
        }
    }

    /// Subscribes to a subject across reconnects, until the receiver is dropped.
    ///
    /// Up to `capacity` messages wait in the channel. A receiver that falls further behind loses
    /// messages, and the log says so.
    pub async fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
        capacity: usize,
    ) -> mpsc::Receiver<Incoming> {
        let (to, messages) = mpsc::channel(capacity);
        let route = Subscription { subject: subject.to_owned(), queue: queue.map(str::to_owned), to };
        let connection = {
            // Hold the lock for both steps; otherwise a connection made in between would subscribe
            // twice.
            let mut routes = locked(&self.shared.routes);
            routes.push(route.clone());
            locked(&self.shared.connection).clone()
        };
        if let Some(connection) = connection {
            connection::follow_later(&connection, route).await;
        }
        messages
    }

    /// Opens a mailbox: a reply subject of its own, and the messages that arrive there.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox {
        self.shared.inbox.open()
    }

    /// Sends a request and waits for one answer.
    ///
    /// # Errors
    /// [`BusError::NoResponders`] at once if the subject has no subscribers, [`BusError::Forbidden`] if
    /// the server denies publishing, [`BusError::Timeout`] after `patience`, [`BusError::Disconnected`]
    /// if the link is down.
    pub async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Incoming, BusError> {
        self.ask(Outgoing::to(subject).payload(payload).sealed(), patience).await
    }

    /// Publishes the given message and waits for one answer.
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

    /// A new subject of our own inbox, to subscribe to. Use it for messages that keep their original
    /// subject, because a mailbox would not recognize them.
    #[must_use]
    pub fn own_subject(&self) -> String {
        self.shared.inbox.own_subject()
    }

    /// Flushes, then closes the connection for good.
    pub async fn close(&self) {
        const PATIENCE: Duration = Duration::from_secs(2);
        let _ = tokio::time::timeout(PATIENCE, self.flush()).await;
        self.shared.stopped.send_replace(true);
    }

    fn client(&self) -> Option<async_nats::Client> {
        locked(&self.shared.connection).as_ref().map(|connection| connection.client.clone())
    }
}

/// A server's information about itself.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Its version.
    pub version: String,
    /// Its listen address.
    pub host: String,
    /// Whether it requires authentication.
    pub auth_required: bool,
    /// Its largest payload, in bytes.
    pub max_payload: usize,
}

/// Locks, ignoring poison: writers replace the data behind these locks as a whole.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
