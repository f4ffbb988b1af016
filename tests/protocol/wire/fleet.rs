//! What is said where a fleet with identities grows and changes, and an invitation as it is handed over.

use peerbus::identity::InviteToken;
use peerbus::protocol::fleet::{AccountMessage, JoinRequest, JoinResponse};
use peerbus::protocol::identity::Standing;

use crate::wire::{file, golden_by};

/// Stands for a token, of which only NATS and `src/identity` know the inside.
const TOKEN: &str = "eyJ0eXAiOiJKV1QifQ.e30.c2ln";

#[test]
fn the_account() {
    golden_by("account", &AccountMessage::new(TOKEN.to_owned()), AccountMessage::decode);
}

#[test]
fn taking_an_invitation_up() {
    let request = JoinRequest {
        kind: "peerbus.join.v1".to_owned(),
        key: "UDMK6MJIIE2UMDHKFGYGEJ2LUTMPYW4POCMOYCVLAFTPS6CKKOPFRAJR".to_owned(),
        proof: "c2lnbmF0dXJl".to_owned(),
    };
    golden_by("join", &request, JoinRequest::decode);
    let joined = JoinResponse {
        kind: "peerbus.joined.v1".to_owned(),
        identity: TOKEN.to_owned(),
        account: TOKEN.to_owned(),
        is_heard: false,
    };
    golden_by("joined", &joined, JoinResponse::decode);
    let id = "5b1f".parse().unwrap();
    assert_eq!(JoinRequest::to_be_proved(&id, "UABC"), b"peerbus.join.v1 5b1f UABC");
}

/// It is put together again from its parts, so it must stay what it was when another version made it.
#[test]
fn an_invitation_that_was_made_before_is_still_one() {
    let line = file("invitation");
    let line: String = serde_json::from_str(&line).unwrap();
    let ticket = InviteToken::read(&line).expect("whole");
    assert_eq!((ticket.name.as_str(), ticket.standing), ("vps", Standing::Worker));
    assert_eq!((ticket.bus.as_str(), ticket.until - ticket.issued), ("nats://10.0.0.1:4222", 3600));
    assert_eq!(ticket.text(), line);
}
