//! Whether an answer is by whom it should be, in a fleet whose members sign what they say.

use crate::bus::{Bus, Incoming};
use crate::identity::Signer;
use crate::protocol::PeerId;
use crate::protocol::identity::Standing;

/// Whether an answer is this peer's own.
pub(super) fn is_of(bus: &Bus, peer: &PeerId, answer: &Incoming) -> Result<(), String> {
    match signer(bus, answer)? {
        Some(signer) if signer.name.as_str() != peer.as_str() || !signer.standing.is_machine() => {
            Err(format!("{} answered in place of {peer}", signer.asker()))
        }
        _ => Ok(()),
    }
}

/// Whether an answer is a leader's.
pub(super) fn is_leaders(bus: &Bus, answer: &Incoming) -> Result<(), String> {
    match signer(bus, answer)? {
        Some(signer) if signer.standing != Standing::Leader => {
            Err(format!("{} answered in place of the leader", signer.asker()))
        }
        _ => Ok(()),
    }
}

fn signer(bus: &Bus, answer: &Incoming) -> Result<Option<Signer>, String> {
    let Some(member) = bus.member() else { return Ok(None) };
    member.speaker(answer).map(Some).map_err(|unproven| unproven.to_string())
}
