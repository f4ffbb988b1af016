//! Resolves what a user typed to a peer: an id, a hostname or an address.
//!
//! An id needs no lookup. The leader resolves hostnames and addresses; while it is away, the client
//! asks every peer. Nothing is cached, because a wrong machine is worse than a slow answer. In a fleet
//! with identities, a peer has only the names in its certificate, whoever answers.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::peers::{self, RegistryError};
use super::verify;
use peerbus_bus::{Bus, Outgoing};
use peerbus_protocol::PeerId;
use peerbus_protocol::decode;
use peerbus_protocol::peers::{Found, is_among, is_name, is_short_name};
use peerbus_protocol::service::{PING_ALL, ServiceDocument};

/// How long to collect answers of all peers.
const ROLL_CALL: Duration = Duration::from_millis(400);

/// The result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// A peer that the registry considers online.
    Peer(PeerId),
    /// A known peer that is not on the bus.
    Offline(PeerId),
}

/// Why a name does not resolve.
#[derive(Debug, Error)]
pub enum NotFound {
    /// No known peer has the name.
    #[error("no peer has the id, hostname or address {0:?}")]
    Unknown(String),
    /// More than one peer has that hostname or address.
    #[error("{name:?} is ambiguous: {} have it; name one of them by its id", listed(ids))]
    Ambiguous {
        /// The requested name.
        name: String,
        /// The peers that have it.
        ids: Vec<PeerId>,
    },
    /// Peers claim the name, but no certificate confirms it.
    #[error(
        "{name:?} is only what {} says of itself, which leads nowhere: ask by the id; here a name counts where the peer \
         was invited with it (`d invite PEER --name HOSTNAME --address IP`)",
        listed(ids)
    )]
    Claimed {
        /// The requested name.
        name: String,
        /// The peers that claim it.
        ids: Vec<PeerId>,
    },
    /// The registry is away, and no peer answers to the name.
    #[error("no peer answers to {name:?}, and the registry cannot be asked: {registry}")]
    RegistryAway {
        /// The requested name.
        name: String,
        /// Why the registry gave no answer.
        registry: RegistryError,
    },
}

fn listed(ids: &[PeerId]) -> String {
    ids.iter().map(PeerId::as_str).collect::<Vec<_>>().join(", ")
}

/// Finds a peer by id, hostname or address.
///
/// # Errors
/// If no peer, or more than one, has that name.
pub async fn resolve(bus: &Bus, name: &str) -> Result<Resolution, NotFound> {
    match peers::get(bus, name).await {
        Ok(answer) => match answer.found {
            Found::One { peer } if peer.is_online => Ok(Resolution::Peer(peer.peer_id)),
            Found::One { peer } => Ok(Resolution::Offline(peer.peer_id)),
            Found::None {} if answer.claimed_by.is_empty() => Err(NotFound::Unknown(name.to_owned())),
            Found::None {} => Err(NotFound::Claimed { name: name.to_owned(), ids: answer.claimed_by }),
            Found::Many { ids } => Err(NotFound::Ambiguous { name: name.to_owned(), ids }),
        },
        Err(registry) => ask_everyone(bus, name, registry).await,
    }
}

/// Asks every peer on the bus for its names.
async fn ask_everyone(bus: &Bus, name: &str, registry: RegistryError) -> Result<Resolution, NotFound> {
    // Peers with the exact name, with it as short hostname, and with only a claim to it.
    let (mut ids, mut short, mut claimed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut answers = bus.mailbox();
    let asked = bus.publish(Outgoing::to(PING_ALL).reply(answers.subject()).payload(Bytes::new())).await;
    let roll_call = async {
        while asked.is_ok() {
            let answer = answers.next().await;
            if answer.no_responders {
                return;
            }
            if let Ok(document) = decode::json::<ServiceDocument>(&answer.payload)
                && let Some(peer) = document.metadata.get("peer").and_then(|peer| peer.parse().ok())
                && let Ok(signer) = verify::signer_of(bus, &peer, &answer)
            {
                let said = named(&document, name);
                match signer {
                    None => match said {
                        Some(true) => ids.insert(peer),
                        Some(false) => short.insert(peer),
                        None => false,
                    },
                    Some(_) if is_name(name, peer.as_str()) => ids.insert(peer),
                    Some(signer) if signer.names.iter().any(|own| is_name(name, own)) => ids.insert(peer),
                    Some(signer) if is_among(name, &signer.names) => short.insert(peer),
                    Some(_) => said.is_some() && claimed.insert(peer),
                };
            }
        }
    };
    // The timeout is the normal end: the number of answers is unknown.
    let _ = tokio::time::timeout(ROLL_CALL, roll_call).await;
    let ids: Vec<PeerId> = if ids.is_empty() { short } else { ids }.into_iter().collect();
    match ids.as_slice() {
        [] if !claimed.is_empty() => {
            Err(NotFound::Claimed { name: name.to_owned(), ids: claimed.into_iter().collect() })
        }
        [] => Err(NotFound::RegistryAway { name: name.to_owned(), registry }),
        [one] => Ok(Resolution::Peer(one.clone())),
        _ => Err(NotFound::Ambiguous { name: name.to_owned(), ids }),
    }
}

/// `Some(true)` if the peer has exactly this name, `Some(false)` if it is its short hostname, else
/// `None`.
fn named(document: &ServiceDocument, name: &str) -> Option<bool> {
    let has = |key: &str, is: fn(&str, &str) -> bool| {
        document.metadata.get(key).is_some_and(|value| is(name, value))
    };
    let exactly = has("peer", is_name) || has("hostname", is_name) || has("ip_address", is_name);
    match exactly || has("hostname", is_short_name) {
        true => Some(exactly),
        false => None,
    }
}
