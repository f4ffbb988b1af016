//! Checks who signed an answer, in a fleet with identities.

use peerbus_bus::{Bus, Incoming};
use peerbus_identity::Signer;
use peerbus_protocol::PeerId;
use peerbus_protocol::identity::Standing;
use peerbus_protocol::peers::{is_among, is_name};

/// Whether this peer signed the answer.
pub(super) fn is_of(bus: &Bus, peer: &PeerId, answer: &Incoming) -> Result<(), String> {
    signer_of(bus, peer, answer).map(drop)
}

/// The signer of an answer, which must be this peer; `None` in a fleet without identities.
pub(super) fn signer_of(bus: &Bus, peer: &PeerId, answer: &Incoming) -> Result<Option<Signer>, String> {
    match signer(bus, answer)? {
        Some(signer) if !is_the_peer(&signer, peer) => {
            Err(format!("{} answered in place of {peer}", signer.principal()))
        }
        signer => Ok(signer),
    }
}

/// Whether a name belongs to this peer: as its id, or by its certificate. Always true in a fleet
/// without identities.
pub(super) fn is_named(bus: &Bus, peer: &PeerId, name: &str, certificate: Option<&str>) -> bool {
    let Some(member) = bus.member() else { return true };
    is_name(name, peer.as_str())
        || certificate.is_some_and(|token| {
            let holder = member.trust().member(token);
            holder.is_ok_and(|holder| is_the_peer(&holder, peer) && is_among(name, &holder.names))
        })
}

fn is_the_peer(signer: &Signer, peer: &PeerId) -> bool {
    signer.name.as_str() == peer.as_str() && signer.standing.is_machine()
}

/// Whether a leader signed the answer.
pub(super) fn is_leaders(bus: &Bus, answer: &Incoming) -> Result<(), String> {
    match signer(bus, answer)? {
        Some(signer) if signer.standing != Standing::Leader => {
            Err(format!("{} answered in place of the leader", signer.principal()))
        }
        _ => Ok(()),
    }
}

fn signer(bus: &Bus, answer: &Incoming) -> Result<Option<Signer>, String> {
    let Some(member) = bus.member() else { return Ok(None) };
    member.speaker(answer).map(Some).map_err(|unproven| unproven.to_string())
}
