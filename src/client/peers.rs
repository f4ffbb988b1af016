//! Requests to the registry, and to one peer.

use std::time::{Duration, Instant};

use thiserror::Error;

use super::verify;
use peerbus_bus::{Bus, BusError, Incoming};
use peerbus_protocol::decode;
use peerbus_protocol::health::Health;
use peerbus_protocol::heartbeat::Heartbeat;
use peerbus_protocol::peers::{
    Found, GET_TYPE, GetAnswer, GetRequest, LIST_TYPE, ListRequest, PEER_TYPE, PeerPage, PeerRow,
    REMOVE_TYPE, REMOVED_TYPE,
};
use peerbus_protocol::reply::{ERROR_HEADER, ErrorBody};
use peerbus_protocol::{BadMessage, PeerId, subjects};

/// Timeout of a leader's answer. It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to restart a list after the leader changed in the middle.
const LIST_ATTEMPTS: usize = 3;

/// Why the registry gave no answer.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No leader is on the bus.
    #[error("no leader answers on the bus")]
    NoLeader,
    /// The answer's sender is unproven.
    #[error("an answer that is not proved to be a leader's: {0}")]
    Unproven(String),
    /// The leader declined; contains its sentence.
    #[error("the leader answered: {0}")]
    Declined(String),
    /// The answer is malformed.
    #[error("the leader's answer cannot be understood: {0}")]
    Malformed(#[from] BadMessage),
    /// The leader changed repeatedly during the list.
    #[error("the leader changed while its list was read")]
    Changing,
    /// The bus failed.
    #[error(transparent)]
    Bus(BusError),
}

impl From<BusError> for RegistryError {
    fn from(error: BusError) -> Self {
        match error {
            BusError::NoResponders(_) => Self::NoLeader,
            other => Self::Bus(other),
        }
    }
}

/// All peers, and the leader that listed them.
#[derive(Debug, Clone)]
pub struct PeerList {
    /// The leader that answered.
    pub leader: PeerId,
    /// How long that leader has listened without interruption, in milliseconds.
    pub age_ms: u64,
    /// All peers, sorted by id.
    pub rows: Vec<PeerRow>,
    /// Whether the registry is full and has ignored further peers.
    pub left_out: bool,
}

/// Most bytes of all pages of a registry.
const PAGES_MOST: usize = 512 << 20;

/// All peers, sorted by id; complete or an error.
///
/// # Errors
/// If no leader answers, or a page is missing.
pub async fn list(bus: &Bus) -> Result<Vec<PeerRow>, RegistryError> {
    Ok(census(bus).await?.rows)
}

/// All peers, with the leader that listed them.
///
/// # Errors
/// As [`list`].
pub async fn census(bus: &Bus) -> Result<PeerList, RegistryError> {
    for _ in 0..LIST_ATTEMPTS {
        if let Some(census) = census_once(bus).await? {
            return Ok(census);
        }
    }
    Err(RegistryError::Changing)
}

/// Reads all pages once; `None` if the leader changed in between.
async fn census_once(bus: &Bus) -> Result<Option<PeerList>, RegistryError> {
    let (mut rows, mut left_out, mut bytes) = (Vec::new(), false, 0);
    let mut request = ListRequest { kind: Some(LIST_TYPE.to_owned()), after: None, limit: None };
    let mut leader = None;
    loop {
        let (page, size): (PeerPage, _) = sized(bus, subjects::LIST, &request).await?;
        // Signing leaders repeat the request's fields; a difference means that someone altered the
        // request.
        if bus.member().is_some() && page.after != request.after {
            return Err(BadMessage("it begins at another place than was asked for".to_owned()).into());
        }
        if *leader.get_or_insert(page.leader_instance) != page.leader_instance {
            return Ok(None);
        }
        if page.next.is_some() && page.peers.is_empty() {
            return Err(BadMessage("a page has no peer, and others follow".to_owned()).into());
        }
        rows.extend(page.peers);
        bytes += size;
        if bytes > PAGES_MOST {
            return Err(BadMessage(format!("its list goes on beyond {} MiB", PAGES_MOST >> 20)).into());
        }
        left_out |= page.left_out;
        let Some(next) = page.next else {
            return Ok(Some(PeerList { leader: page.leader, age_ms: page.age_ms, rows, left_out }));
        };
        if request.after.as_ref().is_some_and(|after| *after >= next) {
            return Err(BadMessage("its pages do not advance".to_owned()).into());
        }
        request.after = Some(next);
    }
}

/// Looks up an id, a hostname or an address in the registry. In a fleet with identities, a name
/// resolves to a peer only if the peer's certificate has that name, whatever the leader answers.
///
/// # Errors
/// If no leader answers.
pub async fn get(bus: &Bus, name: &str) -> Result<GetAnswer, RegistryError> {
    let request = GetRequest { kind: Some(GET_TYPE.to_owned()), peer: name.to_owned() };
    let mut answer = answers(ask(bus, subjects::GET, &request).await?, PEER_TYPE, name)?;
    if let Found::One { peer } = &answer.found
        && !verify::is_named(bus, &peer.peer_id, name, answer.certificate.as_deref())
    {
        answer.claimed_by = vec![peer.peer_id.clone()];
        answer.found = Found::None {};
    }
    Ok(answer)
}

/// Removes a peer from the registry, by id, hostname or address. A returned peer is also removed from
/// the database.
///
/// # Errors
/// If no leader answers, or it cannot write its registry.
pub async fn remove(bus: &Bus, name: &str) -> Result<GetAnswer, RegistryError> {
    let request = GetRequest { kind: Some(REMOVE_TYPE.to_owned()), peer: name.to_owned() };
    answers(ask(bus, subjects::REMOVE, &request).await?, REMOVED_TYPE, name)
}

/// Whether an answer matches this request; the answer to an altered request names another peer.
fn answers(answer: GetAnswer, kind: &str, name: &str) -> Result<GetAnswer, RegistryError> {
    if answer.kind == kind && answer.asked == name {
        return Ok(answer);
    }
    Err(BadMessage(format!("it is about {:?}, and {name:?} was asked for", answer.asked)).into())
}

async fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
    bus: &Bus,
    subject: &str,
    question: &Q,
) -> Result<A, RegistryError> {
    Ok(sized(bus, subject, question).await?.0)
}

/// The same, with the size of the answer in bytes.
async fn sized<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
    bus: &Bus,
    subject: &str,
    question: &Q,
) -> Result<(A, usize), RegistryError> {
    let answer = bus.request(subject, decode::to_json(question).into(), PATIENCE).await?;
    if let Err(why) = verify::is_leaders(bus, &answer) {
        return Err(RegistryError::Unproven(why));
    }
    if answer.headers.get(ERROR_HEADER).is_some() {
        return Err(RegistryError::Declined(sentence(&answer)));
    }
    Ok((decode::json(&answer.payload)?, answer.payload.len()))
}

/// The sentence of an error answer, or a substitute if there is none.
pub(super) fn sentence(answer: &Incoming) -> String {
    match decode::json::<ErrorBody>(&answer.payload) {
        Ok(body) => body.message,
        Err(_) => answer.headers.get(ERROR_HEADER).unwrap_or("an error without a sentence").to_owned(),
    }
}

/// Requests a heartbeat from a peer; returns it with the round-trip time.
///
/// # Errors
/// As [`Bus::request`]; [`BusError::NoResponders`] means that the peer is not on the bus.
pub async fn ping(bus: &Bus, peer: &PeerId, patience: Duration) -> Result<(Heartbeat, Duration), PingError> {
    let asked = Instant::now();
    let answer = bus.request(&subjects::ping(peer), bytes::Bytes::new(), patience).await?;
    let took = asked.elapsed();
    verify::is_of(bus, peer, &answer).map_err(PingError::Unproven)?;
    Ok((Heartbeat::decode(&answer.payload)?, took))
}

/// Requests the health of a peer; returns it with the round-trip time.
///
/// # Errors
/// As [`ping`]. A daemon of an older version declines the request.
pub async fn health(bus: &Bus, peer: &PeerId, patience: Duration) -> Result<(Health, Duration), PingError> {
    let asked = Instant::now();
    let answer = bus.request(&subjects::health(peer), bytes::Bytes::new(), patience).await?;
    let took = asked.elapsed();
    verify::is_of(bus, peer, &answer).map_err(PingError::Unproven)?;
    if answer.headers.get(ERROR_HEADER).is_some() {
        return Err(PingError::Malformed(BadMessage(sentence(&answer))));
    }
    Ok((Health::decode(&answer.payload)?, took))
}

/// Why a request to a peer failed.
#[derive(Debug, Error)]
pub enum PingError {
    /// No answer.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The answer's sender is unproven.
    #[error("an answer that is not proved to be its own: {0}")]
    Unproven(String),
    /// The answer is malformed.
    #[error("its answer cannot be understood: {0}")]
    Malformed(#[from] BadMessage),
}
