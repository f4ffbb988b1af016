//! `peers.remove`: taking a peer out of the roster and out of the registry.
//!
//! Guarantee: the answer comes when the database has it, or says that it has not. A peer that
//! still beats joins again with its next heartbeat.

use std::collections::BTreeMap;

use tokio::sync::mpsc::OwnedPermit;

use crate::bus::{Incoming, Outgoing};
use crate::leader::query::Refusal;
use crate::protocol::PeerId;
use crate::protocol::peers::{Found, PeerRow};

use super::Leader;

/// Who waits to hear that a peer is out of the registry.
#[derive(Default)]
pub(super) struct Removing(BTreeMap<PeerId, Vec<Asker>>);

struct Asker {
    question: Incoming,
    place: OwnedPermit<Outgoing>,
    asked: String,
    row: Box<PeerRow>,
}

impl Leader {
    pub(super) fn remove(&mut self, question: Incoming, place: OwnedPermit<Outgoing>) {
        match self.desk(|desk| desk.to_remove(&question.payload)) {
            Ok((asked, Found::One { peer: row })) => {
                let peer = row.peer_id.clone();
                let effects = self.roster.removed(&peer);
                self.seen.remove(&peer);
                self.apply(effects);
                self.waiting.remove(peer.clone());
                self.removing.0.entry(peer).or_default().push(Asker { question, place, asked, row });
            }
            Ok((asked, nobody)) => {
                let answer = self.desk(|desk| desk.removed(asked, nobody));
                self.answer(&question, place, answer);
            }
            Err(refusal) => self.answer(&question, place, Err(refusal)),
        }
    }

    /// The database took them out.
    pub(super) fn removed(&mut self, peers: &[PeerId]) {
        let askers: Vec<Asker> =
            peers.iter().filter_map(|peer| self.removing.0.remove(peer)).flatten().collect();
        for asker in askers {
            let Asker { question, place, asked, row } = asker;
            let answer = self.desk(|desk| desk.removed(asked, Found::One { peer: row }));
            self.answer(&question, place, answer);
        }
    }

    /// The database went away before.
    pub(super) fn not_removed(&mut self, why: &str) {
        for asker in std::mem::take(&mut self.removing.0).into_values().flatten() {
            self.answer(&asker.question, asker.place, Err(Refusal::not_yet_written(why)));
        }
    }
}
