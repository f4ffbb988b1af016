//! From what a person typed to a peer: an id, a hostname or an address.
//!
//! An id needs nobody's help. Hostnames and addresses are resolved by the leader, or, while it is
//! away, by asking every peer. Nothing is cached: a wrong machine is worse than a slow answer.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::peers::{self, RegistryError};
use super::proof;
use crate::bus::{Bus, Outgoing};
use crate::protocol::PeerId;
use crate::protocol::decode;
use crate::protocol::peers::{Found, is_name, is_short_name};
use crate::protocol::service::{Document, PING_ALL};

/// How long all peers are listened to when they are asked who they are.
const ROLL_CALL: Duration = Duration::from_millis(400);

/// Where a name leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// To this peer, which the registry believes to be there.
    Peer(PeerId),
    /// To this peer, which is known and not on the bus.
    Offline(PeerId),
}

/// Why a name leads nowhere.
#[derive(Debug, Error)]
pub enum NotFound {
    /// No peer of that name is known.
    #[error("no peer has the id, hostname or address {0:?}")]
    Unknown(String),
    /// More than one peer has that hostname or address.
    #[error("{name:?} is ambiguous: {} have it; name one of them by its id", listed(ids))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Who has it.
        ids: Vec<PeerId>,
    },
    /// The registry is away, and no peer answers to the name.
    #[error("no peer answers to {name:?}, and the registry cannot be asked: {registry}")]
    RegistryAway {
        /// What was asked for.
        name: String,
        /// Why the registry gave no answer.
        registry: RegistryError,
    },
}

fn listed(ids: &[PeerId]) -> String {
    ids.iter().map(PeerId::as_str).collect::<Vec<_>>().join(", ")
}

/// Finds a peer by any of its names.
///
/// # Errors
/// When nobody, or more than one, has that name.
pub async fn find(bus: &Bus, name: &str) -> Result<Finding, NotFound> {
    match peers::get(bus, name).await {
        Ok(answer) => match answer.found {
            Found::One { peer } if peer.is_online => Ok(Finding::Peer(peer.peer_id)),
            Found::One { peer } => Ok(Finding::Offline(peer.peer_id)),
            Found::None {} => Err(NotFound::Unknown(name.to_owned())),
            Found::Many { ids } => Err(NotFound::Ambiguous { name: name.to_owned(), ids }),
        },
        Err(registry) => ask_everyone(bus, name, registry).await,
    }
}

/// Has every peer on the bus say who it is.
async fn ask_everyone(bus: &Bus, name: &str, registry: RegistryError) -> Result<Finding, NotFound> {
    // Who has the name, and whose hostname it is the beginning of.
    let (mut ids, mut short) = (BTreeSet::new(), BTreeSet::new());
    let mut answers = bus.mailbox();
    let asked = bus.publish(Outgoing::to(PING_ALL).reply(answers.subject()).payload(Bytes::new())).await;
    let roll_call = async {
        while asked.is_ok() {
            let answer = answers.next().await;
            if answer.no_responders {
                return;
            }
            if let Ok(document) = decode::json::<Document>(&answer.payload)
                && let Some((peer, exactly)) = named(&document, name)
                && proof::is_of(bus, &peer, &answer).is_ok()
            {
                if exactly { &mut ids } else { &mut short }.insert(peer);
            }
        }
    };
    // The end of the time is the ordinary end: nobody knows how many are going to answer.
    let _ = tokio::time::timeout(ROLL_CALL, roll_call).await;
    let ids: Vec<PeerId> = if ids.is_empty() { short } else { ids }.into_iter().collect();
    match ids.as_slice() {
        [] => Err(NotFound::RegistryAway { name: name.to_owned(), registry }),
        [one] => Ok(Finding::Peer(one.clone())),
        _ => Err(NotFound::Ambiguous { name: name.to_owned(), ids }),
    }
}

/// The peer's id, where the name is one of its names, or the short form of its hostname; and whether it is exactly one.
fn named(document: &Document, name: &str) -> Option<(PeerId, bool)> {
    let has = |key: &str, is: fn(&str, &str) -> bool| {
        document.metadata.get(key).is_some_and(|value| is(name, value))
    };
    let exactly = has("peer", is_name) || has("hostname", is_name) || has("ip_address", is_name);
    match exactly || has("hostname", is_short_name) {
        true => Some((document.metadata.get("peer")?.parse().ok()?, exactly)),
        false => None,
    }
}
