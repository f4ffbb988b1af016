//! The join request to the leader, and the verification of its answer.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::exit::{BUS_UNREACHABLE, CliError, REFUSED};
use peerbus_bus::{Bus, BusError, Incoming};
use peerbus_identity::{IdentityFile, InviteToken, Key, TrustStore};
use peerbus_protocol::decode;
use peerbus_protocol::fleet::{JOIN_TYPE, JoinRequest, JoinResponse, refused};
use peerbus_protocol::identity::Standing;
use peerbus_protocol::reply::{ERROR_HEADER, ErrorBody};
use peerbus_protocol::subjects;

/// Timeout of the leader's answer; it writes to disk first.
const PATIENCE: Duration = Duration::from_secs(10);

/// A new membership.
pub(super) struct Taken {
    pub(super) identity: IdentityFile,
    /// Whether the leader hears its daemon.
    pub(super) is_heard: bool,
}

/// Why the join failed.
#[derive(Debug)]
pub(super) enum NotTakenIn {
    /// The leader is offline.
    NoLeader,
    /// The connection failed.
    Bus(BusError),
    /// The invitation is used, expired or revoked.
    NotInvited(String),
    /// The leader refuses for another reason: error name and message.
    Refused(String, String),
    /// The answer is not signed by the fleet.
    Unproven(String),
}

impl From<NotTakenIn> for CliError {
    fn from(not: NotTakenIn) -> Self {
        const STILL_GOOD: &str = "the invitation is still good";
        match not {
            NotTakenIn::NoLeader => CliError::new(
                BUS_UNREACHABLE,
                format!("no leader answers on the bus; {STILL_GOOD}, and the same command tries again"),
            ),
            NotTakenIn::Bus(error) => CliError::new(
                BUS_UNREACHABLE,
                format!("bus unreachable: {error}; the same command tries again"),
            ),
            NotTakenIn::NotInvited(why) => CliError::new(REFUSED, format!("refused: {why}")),
            NotTakenIn::Refused(word, why) if word == refused::CLOCK => CliError::new(
                REFUSED,
                format!("refused: {why}; set it (`timedatectl set-ntp true`) and try again: {STILL_GOOD}"),
            ),
            NotTakenIn::Refused(_, why) => CliError::new(REFUSED, format!("refused: {why}")),
            NotTakenIn::Unproven(why) => CliError::new(
                REFUSED,
                format!(
                    "what answers on this bus is not the fleet's leader, and nothing was taken from it: {why}"
                ),
            ),
        }
    }
}

/// Requests membership with this key.
pub(super) async fn ask(bus: &Bus, ticket: &InviteToken, key: &Key) -> Result<Taken, NotTakenIn> {
    let public = key.public().to_string();
    let proof = key.sign(&JoinRequest::to_be_proved(&ticket.guest.id, &public));
    let question = JoinRequest { kind: JOIN_TYPE.to_owned(), key: public, proof: BASE64.encode(proof) };
    let subject = subjects::join(&ticket.guest.id);
    let answer = bus.request(&subject, decode::to_json(&question).into(), PATIENCE).await;
    let answer = answer.map_err(|error| match error {
        BusError::NoResponders(_) => NotTakenIn::NoLeader,
        error => NotTakenIn::Bus(error),
    })?;
    if let Some(word) = answer.headers.get(ERROR_HEADER) {
        // Unsigned refusals are accepted: a forger gains nothing by one.
        let why = decode::json::<ErrorBody>(&answer.payload).map_or_else(|bad| bad.0, |body| body.message);
        return Err(match word {
            refused::NOT_INVITED => NotTakenIn::NotInvited(why),
            word => NotTakenIn::Refused(word.to_owned(), why),
        });
    }
    believed(ticket, key, &answer).map_err(NotTakenIn::Unproven)
}

/// Verifies the whole answer against the fleet's key, the name and the standing in the token.
fn believed(ticket: &InviteToken, key: &Key, answer: &Incoming) -> Result<Taken, String> {
    let joined = JoinResponse::decode(&answer.payload).map_err(|bad| bad.0)?;
    let trust = TrustStore::new(ticket.fleet.clone(), &joined.account).map_err(|bad| bad.to_string())?;
    let header = |name: &str| answer.headers.get(name);
    let speaker = trust.signer(&answer.sealed_parts(&header)).map_err(|why| why.to_string())?;
    if speaker.standing != Standing::Leader {
        return Err(format!("{} ({}) is no leader", speaker.name, speaker.standing));
    }
    let own = trust.member(&joined.identity).map_err(|why| why.to_string())?;
    if own.key != *key.public() || own.name != ticket.name || own.standing != ticket.standing {
        return Err(format!(
            "it makes this machine {} ({}), and the invitation is for {} ({})",
            own.name, own.standing, ticket.name, ticket.standing
        ));
    }
    let JoinResponse { identity, account, is_heard, .. } = joined;
    let identity = IdentityFile { token: identity, key: key.clone(), fleet: ticket.fleet.clone(), account };
    Ok(Taken { identity, is_heard })
}
