//! Who of several writers answers what a command asks its terminal: where its cursor is, what it is, its colors.
//!
//! The one whose size counts: who typed, or said a size, last; of those who have no terminal anyone only where nobody
//! has one. When that one leaves it is whoever was active before. The shim settles from which byte of the output on
//! that holds, and says so before it says that there is more; no viewer is sent what goes beyond that. So each byte
//! has one who is asked, and everybody agrees on who that is, whatever is on its way at the moment.
//!
//! Limits: a question that was on its way to somebody who leaves is answered by nobody.

use super::job::DurableJob;
use super::viewers::ResponderRank;
use peerbus_protocol::attach::SizeFrom;
use peerbus_shim::ToShim;
use peerbus_shim::messages::ResponderFrom;

/// Turns that are told: as many as a shim remembers.
const TURNS_MOST: usize = 64;

impl DurableJob {
    /// Somebody types, or says a size.
    pub(super) fn is_active(&mut self, inbox: &str, says_a_size: bool) {
        let Some(seat) = self.viewers.seat_of(inbox) else { return };
        self.activity += 1;
        let has_terminal = seat.has_terminal || says_a_size;
        self.viewers.set_seat(inbox, ResponderRank { has_terminal, active: self.activity });
        self.tell_asked();
    }

    /// The seat of somebody who comes, or comes back. Whoever comes for the first time is active by that.
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

    /// What the shim remembers of who was asked.
    pub(super) fn take_turns(&mut self, turns: Vec<ResponderFrom>) {
        self.answerer = turns.last().map(|turn| turn.writer.clone());
        self.activity = self.activity.max(turns.len() as u64);
        self.news.send_modify(|news| news.turns = turns.into());
    }

    /// From a place on somebody else is asked.
    pub(super) fn on_turn(&mut self, turn: ResponderFrom) {
        self.news.send_modify(|news| {
            if news.turns.last() != Some(&turn) {
                let forgotten = (news.turns.len() + 1).saturating_sub(TURNS_MOST);
                news.turns = news.turns.iter().skip(forgotten).cloned().chain([turn]).collect();
            }
        });
    }

    /// From a place on its terminal has another size.
    pub(super) fn on_size(&mut self, change: SizeFrom) {
        self.tty = Some(change.size);
        self.news.send_modify(|news| {
            let forgotten = (news.sizes.len() + 1).saturating_sub(TURNS_MOST);
            news.sizes = news.sizes.iter().skip(forgotten).copied().chain([change]).collect();
        });
    }

    /// Has the shim settle from where on it is somebody else. Said before what they type.
    pub(super) fn tell_asked(&mut self) {
        if self.tty.is_none() || !self.runs || self.ended.is_some() {
            return;
        }
        let coming = self.screens.values().filter(|coming| coming.attach.write);
        let coming = coming.map(|coming| (coming.inbox.as_str(), coming.seat));
        let next = self.viewers.writers().chain(coming).max_by_key(|(_, seat)| *seat);
        let next = next.map(|(inbox, _)| inbox.to_owned());
        // Where nobody is left, it is as it was until somebody comes.
        if next.is_some() && next != self.answerer {
            self.answerer = next;
            self.shim.say(ToShim::Asked { writer: self.answerer.clone().unwrap_or_default() });
        }
    }
}
