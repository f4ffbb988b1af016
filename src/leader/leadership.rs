//! Who answers for the fleet: one leader, and what happens when there are two.
//!
//! The idea: before a leader begins it asks whether somebody answers already, and if so it does not
//! begin. Two that began on both sides of a cut hear each other's heartbeats later. Then the one
//! that has been up for less time stops answering and telling, and says so; it goes on listening,
//! asks now and then whether anybody answers, and begins again when nobody does.

use std::time::Duration;

use tokio::sync::mpsc;

use peerbus_bus::{Bus, BusError, Incoming};
use peerbus_protocol::peers::PeerPage;
use peerbus_protocol::{Instance, PeerId, decode, subjects};

use super::publisher::{INSTANCE_HEADER, LEADER_HEADER};
use super::query;

/// How long another leader may take to say that it is there.
const PATIENCE: Duration = Duration::from_millis(500);

/// How often a silent answerer is asked before it is taken for dead.
const ATTEMPTS: u32 = 3;

/// How often a leader that gave way asks whether anybody answers; anything up to twice as long, so
/// that two that both gave way do not begin again at the same moment.
const ASK_AGAIN: Duration = Duration::from_secs(3);

/// Questions that may wait.
const QUESTIONS_MAX: usize = 1_024;

/// Where questions arrive, while this leader is the one who answers.
pub(super) struct QuerySubscription {
    /// `peers.list`.
    pub(super) list: mpsc::Receiver<Incoming>,
    /// `peers.get`.
    pub(super) get: mpsc::Receiver<Incoming>,
    /// `peers.remove`.
    pub(super) remove: mpsc::Receiver<Incoming>,
}

impl QuerySubscription {
    /// Begins to hear questions.
    pub(super) async fn open(bus: &Bus) -> Self {
        let queue = Some(subjects::REGISTRY_QUEUE);
        let list = bus.subscribe(subjects::LIST, queue, QUESTIONS_MAX).await;
        let get = bus.subscribe(subjects::GET, queue, QUESTIONS_MAX).await;
        let remove = bus.subscribe(subjects::REMOVE, queue, QUESTIONS_MAX).await;
        Self { list, get, remove }
    }
}

/// Who answers now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CurrentLeader {
    /// Nobody.
    Nobody,
    /// A leader.
    Leader(PeerId, Instance),
    /// Somebody who did not say who.
    Stranger,
}

/// Asks who answers for the fleet.
///
/// # Errors
/// When there is no link to ask on.
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

/// Waits until nobody answers for the fleet, then answers.
pub(super) async fn stand_in(bus: &Bus) -> QuerySubscription {
    loop {
        tokio::time::sleep(ASK_AGAIN.mul_f64(rand::random_range(1.0..2.0))).await;
        if matches!(holder(bus).await, Ok(CurrentLeader::Nobody)) {
            return QuerySubscription::open(bus).await;
        }
    }
}

/// Who gave an answer: said in its headers, and in a page.
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
    /// When it is forgotten unless it is heard again, by the presence clock.
    pub(super) until: Duration,
}

impl Competitor {
    /// Whether a leader that has been up for `uptime_s` seconds gives way to this one.
    pub(super) fn outranks(&self, uptime_s: u64, instance: Instance) -> bool {
        (self.uptime_s, self.instance) > (uptime_s, instance)
    }
}
