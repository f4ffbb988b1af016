//! `peers.remove`: removes a peer from the roster and from the registry.
//!
//! Guarantee: every query is answered, when the database has deleted the row, has refused to, or
//! becomes unavailable. A peer that still sends heartbeats joins again with the next one.

use std::collections::BTreeMap;

use tokio::sync::mpsc::OwnedPermit;

use crate::query::Refusal;
use crate::registry::Removal;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_protocol::PeerId;
use peerbus_protocol::peers::{Found, PeerRow};

use super::Leader;

/// Clients that wait until a peer is removed from the registry.
#[derive(Default)]
pub(super) struct Removing(BTreeMap<PeerId, Vec<Principal>>);

struct Principal {
    question: Incoming,
    place: OwnedPermit<Outgoing>,
    asked: String,
    row: Box<PeerRow>,
}

impl Leader {
    pub(super) fn remove(&mut self, question: Incoming, place: OwnedPermit<Outgoing>) {
        let allowed = self.may_change(&question);
        match allowed.and_then(|()| self.handler(|handler| handler.to_remove(&question.payload))) {
            Ok((asked, Found::One { peer: row })) => {
                let peer = row.peer_id.clone();
                let effects = self.roster.removed(&peer);
                self.seen.remove(&peer);
                self.apply(effects);
                self.waiting.remove(peer.clone());
                self.removing.0.entry(peer).or_default().push(Principal { question, place, asked, row });
            }
            Ok((asked, nobody)) => {
                let answer = self.handler(|handler| handler.removed(asked, nobody));
                self.answer(&question, place, answer);
            }
            Err(refusal) => self.answer(&question, place, Err(refusal)),
        }
    }

    /// Answers the clients after the database deleted or refused to delete the rows.
    pub(super) fn removed(&mut self, removals: Vec<(PeerId, Removal)>) {
        for (peer, removal) in removals {
            for Principal { question, place, asked, row } in self.removing.0.remove(&peer).unwrap_or_default()
            {
                let answer = match &removal {
                    Removal::Gone => self.handler(|handler| handler.removed(asked, Found::One { peer: row })),
                    Removal::Kept(why) => Err(Refusal::kept(why)),
                };
                self.answer(&question, place, answer);
            }
        }
    }

    /// Answers the waiting clients with an error after the database became unavailable.
    pub(super) fn not_removed(&mut self, why: &str) {
        for principal in std::mem::take(&mut self.removing.0).into_values().flatten() {
            self.answer(&principal.question, principal.place, Err(Refusal::not_yet_written(why)));
        }
    }
}
