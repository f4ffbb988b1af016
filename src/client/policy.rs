//! Policy queries to a peer.

use std::time::Duration;

use thiserror::Error;

use super::peers::sentence;
use super::verify;
use peerbus_bus::{Bus, BusError};
use peerbus_protocol::policy::{PolicyAnswer, PolicyQuery};
use peerbus_protocol::reply::ERROR_HEADER;
use peerbus_protocol::{BadMessage, PeerId, decode, subjects};

/// Timeout of the answer: the peer may have to read a slow file system.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a peer gave no answer.
#[derive(Debug, Error)]
pub enum PolicyQueryError {
    /// The bus failed; [`BusError::NoResponders`] means that the peer is absent.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The answer's sender is unproven.
    #[error("an answer that is not proved to be its own: {0}")]
    Unproven(String),
    /// The peer declined; contains its sentence. A peer of an older version does not know the query.
    #[error("it answered: {0}")]
    Declined(String),
    /// The answer is malformed.
    #[error("its answer cannot be understood: {0}")]
    Malformed(#[from] BadMessage),
}

/// Queries a peer's policy. This runs nothing there.
///
/// # Errors
/// If the peer gives no answer.
pub async fn ask(bus: &Bus, peer: &PeerId, question: &PolicyQuery) -> Result<PolicyAnswer, PolicyQueryError> {
    let answer = bus.request(&subjects::policy(peer), decode::to_json(question).into(), PATIENCE).await?;
    verify::is_of(bus, peer, &answer).map_err(PolicyQueryError::Unproven)?;
    if answer.headers.get(ERROR_HEADER).is_some() {
        return Err(PolicyQueryError::Declined(sentence(&answer)));
    }
    Ok(PolicyAnswer::decode(&answer.payload)?)
}
