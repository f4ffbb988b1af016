//! Which of several writers answers the queries that a command sends to its terminal: cursor position, device
//! attributes, colors.
//!
//! The responder is the writer whose terminal size applies: the one that last typed or reported a size. A writer
//! without a terminal responds only if no writer has one. When the responder leaves, the previously active writer
//! takes over. The shim decides from which byte of the output on a change applies, and reports that before it
//! reports more output. No viewer is sent output beyond that point. So each byte has exactly one responder, and all
//! viewers agree on it.
//!
//! Limits: nobody answers a query that is in flight to a viewer that leaves.

use super::job::DurableJob;
use super::viewers::ResponderRank;
use peerbus_protocol::attach::SizeFrom;
use peerbus_shim::ToShim;
use peerbus_shim::messages::ResponderFrom;

/// Responder changes to report: as many as a shim remembers.
const TURNS_MOST: usize = 64;

impl DurableJob {
    /// Records that a writer typed or reported a size.
    pub(super) fn is_active(&mut self, inbox: &str, says_a_size: bool) {
        let Some(seat) = self.viewers.seat_of(inbox) else { return };
        self.activity += 1;
        let has_terminal = seat.has_terminal || says_a_size;
        self.viewers.set_seat(inbox, ResponderRank { has_terminal, active: self.activity });
        self.tell_asked();
    }

    /// The rank of a writer that attaches or returns. Attaching for the first time counts as activity.
    pub(super) fn seat_for(&mut self, inbox: &str, epoch: u64, says_a_size: bool) -> ResponderRank {
        if let Some(seat) = self.viewers.seat_of(inbox) {
            return seat;
        }
        let turns = self.news.borrow().turns.clone();
        let before = turns.iter().rposition(|turn| turn.writer == inbox);
        let active = match before {
            _ if epoch == 1 => {
                self.activity += 1;
                self.activity
            }
            Some(place) => place as u64 + 1,
            None => 0,
        };
        ResponderRank { has_terminal: says_a_size || self.writers.has_resized(inbox), active }
    }

    /// Takes over the responder changes that the shim remembers.
    pub(super) fn take_turns(&mut self, turns: Vec<ResponderFrom>) {
        self.answerer = turns.last().map(|turn| turn.writer.clone());
        self.activity = self.activity.max(turns.len() as u64);
        self.news.send_modify(|news| news.turns = turns.into());
    }

    /// Records a new responder from an offset on.
    pub(super) fn on_turn(&mut self, turn: ResponderFrom) {
        self.news.send_modify(|news| {
            if news.turns.last() != Some(&turn) {
                let forgotten = (news.turns.len() + 1).saturating_sub(TURNS_MOST);
                news.turns = news.turns.iter().skip(forgotten).cloned().chain([turn]).collect();
            }
        });
    }

    /// Records a new terminal size from an offset on.
    pub(super) fn on_size(&mut self, change: SizeFrom) {
        self.tty = Some(change.size);
        self.news.send_modify(|news| {
            let forgotten = (news.sizes.len() + 1).saturating_sub(TURNS_MOST);
            news.sizes = news.sizes.iter().skip(forgotten).copied().chain([change]).collect();
        });
    }

    /// Asks the shim to switch to a new responder, before it receives that writer's input.
    pub(super) fn tell_asked(&mut self) {
        if self.tty.is_none() || !self.runs || self.ended.is_some() {
            return;
        }
        let coming = self.screens.values().filter(|coming| coming.attach.write);
        let coming = coming.map(|coming| (coming.inbox.as_str(), coming.seat));
        let next = self.viewers.writers().chain(coming).max_by_key(|(_, seat)| *seat);
        let next = next.map(|(inbox, _)| inbox.to_owned());
        // If no writer is left, the responder stays until one attaches.
        if next.is_some() && next != self.answerer {
            self.answerer = next;
            self.shim.say(ToShim::Asked { writer: self.answerer.clone().unwrap_or_default() });
        }
    }
}
