//! One connection: connects, subscribes, and serves it until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::{
    Connection, ConnectionState, Settings, Shared, Subscription, account_sync, address_policy, locked,
    message,
};

/// Timeout of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval of pings. Two unanswered pings mean that the connection is dead.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Most permission errors kept.
const REFUSALS_KEPT: usize = 256;

/// Capacity of one subscription, in messages: more than the unacknowledged frames of one job (1,024),
/// so that it suffices for many jobs. Only waiting messages use memory.
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// Connects, serves all subscriptions and the inbox until the connection ends, and returns why it
/// ended.
pub(super) async fn live_once(shared: &Arc<Shared>, settings: &Settings) -> Result<(), String> {
    // A notification per connection: a late one must not end the next connection.
    let broken = Arc::new(Notify::new());
    shared.refusals.send_modify(Vec::clear);
    let ears = Listeners { broken: Arc::clone(&broken), refusals: Arc::clone(&shared.refusals) };
    let client = connect(&ears, settings).await?;
    let connection = Connection { client, broken, over: Arc::new(watch::Sender::new(false)) };
    let mut followers = JoinSet::new();
    let inbox = connection.client.subscribe(shared.inbox.wildcard()).await.map_err(|e| e.to_string())?;
    followers.spawn(follow_inbox(Arc::clone(shared), inbox));
    account_sync::follow(shared, &connection.client, &mut followers).await?;
    let routes = {
        let mut routes = locked(&shared.routes);
        routes.retain(|route| !route.to.is_closed());
        // From here on `Bus::subscribe` sees the connection and subscribes directly.
        *locked(&shared.connection) = Some(connection.clone());
        routes.clone()
    };
    for route in routes {
        follow_later(&connection, route).await;
    }
    shared.last_error.send_replace(None);
    shared.link.send_modify(|link| *link = ConnectionState { up: true, generation: link.generation + 1 });
    let mut stopped = shared.stopped.subscribe();
    tokio::select! {
        () = connection.broken.notified() => {}
        _ = followers.join_next() => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    *locked(&shared.connection) = None;
    connection.over.send_replace(true);
    shared.link.send_modify(|link| link.up = false);
    Ok(())
}

/// Tries the servers of the cluster in turn, starting at a random one.
async fn connect(ears: &Listeners, settings: &Settings) -> Result<async_nats::Client, String> {
    let servers: Vec<_> = settings.address.servers().zip(settings.address.hosts()).collect();
    let first = rand::random_range(0..servers.len().max(1));
    let mut reason = "no server is named".to_owned();
    for (server, (host, port)) in servers.iter().cycle().skip(first).take(servers.len()) {
        if let Err(why) = address_policy::check(settings.reach, host, *port).await {
            reason = why;
            continue;
        }
        match connect_to(ears, settings, server).await {
            Ok(client) => return Ok(client),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

async fn connect_to(
    ears: &Listeners,
    settings: &Settings,
    server: &str,
) -> Result<async_nats::Client, String> {
    let credentials = settings.credentials.clone();
    // The library reconnects by itself and then sends everything queued meanwhile, however late. So
    // after a successful login, the callback gives no credentials to another handshake, which ends the
    // client. Before that, the library may try all addresses of the server's name, so that the last
    // error is the server's own.
    let let_in = Arc::new(AtomicBool::new(false));
    let was_let_in = Arc::clone(&let_in);
    let options = async_nats::ConnectOptions::with_auth_callback(move |nonce| {
        let answer = if was_let_in.load(Ordering::Acquire) {
            Err("this client has had its connection".to_owned())
        } else {
            credentials.answer(&nonce)
        };
        async move { answer.map_err(async_nats::AuthError::new) }
    });
    let ears = ears.clone();
    let client = options
        .name(&settings.name)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .max_reconnects(1)
        // The library calls this for the first connection too; its default delays even that by a
        // millisecond.
        .reconnect_to_server_callback(|servers, _| {
            let first = servers.into_iter().next();
            std::future::ready(first.map(|server| async_nats::ReconnectToServer {
                addr: server.addr,
                delay: Some(Duration::ZERO),
            }))
        })
        .ignore_discovered_servers()
        .event_callback(move |event| {
            ears.on_event(&event);
            std::future::ready(())
        })
        .connect(server)
        .await
        .map_err(|error| sentence(&error))?;
    let_in.store(true, Ordering::Release);
    Ok(client)
}

/// The library's error, with its cause if it has one.
fn sentence(error: &async_nats::ConnectError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{}: {cause}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// The event handlers of one connection.
#[derive(Clone)]
struct Listeners {
    broken: Arc<Notify>,
    refusals: Arc<watch::Sender<Vec<String>>>,
}

impl Listeners {
    fn on_event(&self, event: &async_nats::Event) {
        use async_nats::Event;
        match event {
            Event::Connected => {}
            Event::Disconnected | Event::Closed => self.broken.notify_one(),
            Event::SlowConsumer(_) => tracing::warn!("messages were dropped: this process is too far behind"),
            Event::ServerError(error) => {
                tracing::warn!(%error, "the server refused something");
                // Repeated errors must not evict the others.
                let said = error.to_string();
                self.refusals.send_if_modified(|refusals| {
                    let is_new = refusals.len() < REFUSALS_KEPT && !refusals.contains(&said);
                    is_new.then(|| refusals.push(said)).is_some()
                });
            }
            other => tracing::debug!(event = %other, "bus"),
        }
    }
}

/// Serves one subscription on one connection, in its own task.
pub(super) async fn follow_later(connection: &Connection, route: Subscription) {
    let Connection { client, broken, over } = connection;
    let subscribed = match &route.queue {
        Some(queue) => client.queue_subscribe(route.subject.clone(), queue.clone()).await,
        None => client.subscribe(route.subject.clone()).await,
    };
    match subscribed {
        Ok(messages) => {
            tokio::spawn(follow(Arc::clone(broken), over.subscribe(), route, messages));
        }
        Err(error) => {
            tracing::warn!(subject = route.subject, %error, "subscribing");
            broken.notify_one();
        }
    }
}

async fn follow(
    broken: Arc<Notify>,
    mut over: watch::Receiver<bool>,
    route: Subscription,
    mut messages: async_nats::Subscriber,
) {
    loop {
        let next = tokio::select! {
            next = messages.next() => next,
            () = route.to.closed() => return,
            _ = over.wait_for(|over| *over) => return,
        };
        match next {
            Some(message) => {
                if route.to.send(message::incoming(message)).await.is_err() {
                    return;
                }
            }
            None => break,
        }
    }
    // The subscription ended although it is still wanted: the client is dead, whatever its state
    // claims.
    broken.notify_one();
}

async fn follow_inbox(shared: Arc<Shared>, mut messages: async_nats::Subscriber) {
    while let Some(message) = messages.next().await {
        shared.inbox.deliver(message::incoming(message));
    }
}
