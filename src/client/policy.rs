//! Asking a peer what its policy allows.

use std::time::Duration;

use thiserror::Error;

use super::peers::sentence;
use super::verify;
use peerbus_bus::{Bus, BusError};
use peerbus_protocol::policy::{PolicyAnswer, PolicyQuery};
use peerbus_protocol::reply::ERROR_HEADER;
use peerbus_protocol::{BadMessage, PeerId, decode, subjects};

/// How long a peer may take: it may have to look at a slow file system.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a peer gave no answer.
#[derive(Debug, Error)]
pub enum PolicyQueryError {
    /// The bus failed; [`BusError::NoResponders`] means that the peer is not there.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// An answer of which nobody knows whether it is the peer's.
    #[error("an answer that is not proved to be its own: {0}")]
    Unproven(String),
    /// It declined, with its sentence. One of an older version does not know the question.
    #[error("it answered: {0}")]
    Declined(String),
    /// Its answer cannot be understood.
    #[error("its answer cannot be understood: {0}")]
    Malformed(#[from] BadMessage),
}

/// Asks a peer. Nothing runs there for it.
///
/// # Errors
/// When it gives no answer.
pub async fn ask(bus: &Bus, peer: &PeerId, question: &PolicyQuery) -> Result<PolicyAnswer, PolicyQueryError> {
    let answer = bus.request(&subjects::policy(peer), decode::to_json(question).into(), PATIENCE).await?;
    verify::is_of(bus, peer, &answer).map_err(PolicyQueryError::Unproven)?;
    if answer.headers.get(ERROR_HEADER).is_some() {
        return Err(PolicyQueryError::Declined(sentence(&answer)));
    }
    Ok(PolicyAnswer::decode(&answer.payload)?)
}
