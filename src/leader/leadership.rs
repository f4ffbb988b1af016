//! Leadership: which leader answers for the fleet, and what happens if there are two.
//!
//! The idea: before a leader starts, it asks whether another one answers, and if so, it does not
//! start. Two leaders that started on both sides of a network partition hear each other's
//! heartbeats later. Then the one with the shorter uptime gives way: it stops answering and
//! publishing events, and logs that. It keeps listening, asks now and then whether a leader
//! answers, and starts to serve again if none does.

use std::time::Duration;

use tokio::sync::mpsc;

use peerbus_bus::{Bus, BusError, Incoming};
use peerbus_protocol::peers::PeerPage;
use peerbus_protocol::{Instance, PeerId, decode, subjects};

use super::publisher::{INSTANCE_HEADER, LEADER_HEADER};
use super::query;

/// Timeout for another leader's answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a silent subscriber is asked before it counts as dead.
const ATTEMPTS: u32 = 3;

/// How often a leader that gave way asks whether another one answers. The pause is randomly up to
/// twice as long, so that two leaders that both gave way do not start again at the same moment.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Most queued queries.
const QUESTIONS_MAX: usize = 1_024;

/// The subscriptions to queries, while this leader is the one that answers.
pub(super) struct QuerySubscription {
    /// `peers.list`.
    pub(super) list: mpsc::Receiver<Incoming>,
    /// `peers.get`.
    pub(super) get: mpsc::Receiver<Incoming>,
    /// `peers.remove`.
    pub(super) remove: mpsc::Receiver<Incoming>,
}

impl QuerySubscription {
    /// Subscribes to the queries.
    pub(super) async fn open(bus: &Bus) -> Self {
        let queue = Some(subjects::REGISTRY_QUEUE);
        let list = bus.subscribe(subjects::LIST, queue, QUESTIONS_MAX).await;
        let get = bus.subscribe(subjects::GET, queue, QUESTIONS_MAX).await;
        let remove = bus.subscribe(subjects::REMOVE, queue, QUESTIONS_MAX).await;
        Self { list, get, remove }
    }
}

/// The leader that answers now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CurrentLeader {
    /// No leader.
    Nobody,
    /// A leader.
    Leader(PeerId, Instance),
    /// A subscriber that did not identify itself.
    Stranger,
}

/// Asks which leader answers for the fleet.
///
/// # Errors
/// If there is no connection.
pub(super) async fn holder(bus: &Bus) -> Result<CurrentLeader, BusError> {
    for _ in 0..ATTEMPTS {
        match bus.request(subjects::LIST, query::shortest_list().into(), PATIENCE).await {
            Ok(answer) => return Ok(signature(&answer)),
            Err(BusError::NoResponders(_)) => return Ok(CurrentLeader::Nobody),
            Err(BusError::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(CurrentLeader::Stranger)
}

/// Waits until no other leader answers, then subscribes.
pub(super) async fn stand_in(bus: &Bus) -> QuerySubscription {
    loop {
        tokio::time::sleep(ASK_AGAIN.mul_f64(rand::random_range(1.0..2.0))).await;
        if matches!(holder(bus).await, Ok(CurrentLeader::Nobody)) {
            return QuerySubscription::open(bus).await;
        }
    }
}

/// The leader that sent an answer, from its headers and from the page itself.
fn signature(answer: &Incoming) -> CurrentLeader {
    let headers = &answer.headers;
    let by_header = (headers.get(LEADER_HEADER), headers.get(INSTANCE_HEADER));
    if let (Some(Ok(peer)), Some(Ok(instance))) = (by_header.0.map(str::parse), by_header.1.map(str::parse)) {
        return CurrentLeader::Leader(peer, instance);
    }
    match decode::json::<PeerPage>(&answer.payload) {
        Ok(page) => CurrentLeader::Leader(page.leader, page.leader_instance),
        Err(_) => CurrentLeader::Stranger,
    }
}

/// Another leader that was heard.
#[derive(Debug, Clone)]
pub(super) struct Competitor {
    /// Its peer id.
    pub(super) peer: PeerId,
    /// Its instance.
    pub(super) instance: Instance,
    /// How long it has been up, in seconds.
    pub(super) uptime_s: u64,
    /// When it expires unless it is heard again, by the presence clock.
    pub(super) until: Duration,
}

impl Competitor {
    /// Whether a leader with an uptime of `uptime_s` seconds must give way to this one.
    pub(super) fn outranks(&self, uptime_s: u64, instance: Instance) -> bool {
        (self.uptime_s, self.instance) > (uptime_s, instance)
    }
}
