//! `peers.remove`: taking a peer out of the roster and out of the registry.
//!
//! Guarantee: every question is answered: when the database has done it, has refused it, or has gone
//! away before. A peer that still beats joins again with its next heartbeat.

use std::collections::BTreeMap;

use tokio::sync::mpsc::OwnedPermit;

use crate::query::Refusal;
use crate::registry::Removal;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_protocol::PeerId;
use peerbus_protocol::peers::{Found, PeerRow};

use super::Leader;

/// Who waits to hear that a peer is out of the registry.
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

    /// The database took them out, or does not let go of them.
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

    /// The database went away before.
    pub(super) fn not_removed(&mut self, why: &str) {
        for principal in std::mem::take(&mut self.removing.0).into_values().flatten() {
            self.answer(&principal.question, principal.place, Err(Refusal::not_yet_written(why)));
        }
    }
}
