//! `fleet.join.<invitation>`: a guest becomes a member.
//!
//! Guarantees: only the guest of an invitation can redeem it, with a key it has proved to hold, and
//! it becomes the identity that the invitation names. The same key gets an answer however often it
//! asks, since an answer may be lost. A guest with a wrong clock gets an error that says so, and
//! its invitation stays valid.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use peerbus_bus::{Bus, Incoming, Outgoing, Signing};
use peerbus_identity::authority::{Authority, AuthorityError, IdentityRecord};
use peerbus_identity::{PublicKey, SignatureError};
use peerbus_protocol::fleet::{CLOCKS_APART_MS, JOINED_TYPE, JoinRequest, JoinResponse, refused};
use peerbus_protocol::identity::{Name, Standing};
use peerbus_protocol::peers::{Found, GET_TYPE, GetAnswer, GetRequest};
use peerbus_protocol::reply::{ERROR_CODE_HEADER, ERROR_HEADER, ErrorBody};
use peerbus_protocol::{decode, subjects};

/// Timeout for asking the registry whether it hears a peer.
const REGISTRY_WITHIN: Duration = Duration::from_secs(2);

/// Why a join request is refused.
struct Refused {
    word: &'static str,
    code: u16,
    why: String,
}

impl Refused {
    fn new(word: &'static str, code: u16, why: impl Into<String>) -> Self {
        Self { word, code, why: why.into() }
    }
}

/// The answer to a guest; `None` if the request has no valid reply inbox.
pub(super) async fn answered(
    bus: &Bus,
    authority: &Arc<Authority>,
    member: &Signing,
    question: &Incoming,
) -> Option<Outgoing> {
    let reply = question.reply.as_deref().filter(|reply| subjects::is_inbox(reply))?;
    let letter = Outgoing::to(reply);
    Some(match taken_in(bus, authority, member, question).await {
        Ok(joined) => letter.payload(decode::to_json(&joined)),
        Err(Refused { word, code, why }) => {
            tracing::warn!(subject = question.subject, why, "refused a guest");
            let body = decode::to_json(&ErrorBody::new(word, why));
            letter.header(ERROR_HEADER, word).header(ERROR_CODE_HEADER, code).payload(body)
        }
    })
}

async fn taken_in(
    bus: &Bus,
    authority: &Arc<Authority>,
    member: &Signing,
    question: &Incoming,
) -> Result<JoinResponse, Refused> {
    let id = guest(member, question)?;
    let request = JoinRequest::decode(&question.payload)
        .map_err(|bad| Refused::new(refused::BAD_REQUEST, 400, bad.0))?;
    let key = proved(&id, &request)?;
    check_clock(question)?;
    let (entry, identity) = take_up(Arc::clone(authority), id, key).await?;
    tracing::info!(name = %entry.name, standing = %entry.standing, "an invitation was taken up");
    let is_heard = entry.standing.is_machine() && is_heard(bus, &entry.name).await;
    let account = member.trust().account_token();
    Ok(JoinResponse { kind: JOINED_TYPE.to_owned(), identity, account, is_heard })
}

/// The invitation whose guest has signed this request, which must come on the invitation's own
/// subject.
fn guest(member: &Signing, question: &Incoming) -> Result<Name, Refused> {
    let unproven = |why: SignatureError| Refused::new(refused::UNPROVEN, 403, format!("who asks: {why}"));
    let speaker = member.speaker(question).map_err(unproven)?;
    if speaker.standing != Standing::Guest || question.subject != subjects::join(&speaker.name) {
        let why =
            format!("{} ({}) holds no invitation on {}", speaker.name, speaker.standing, question.subject);
        return Err(Refused::new(refused::UNPROVEN, 403, why));
    }
    if !question.reply.as_deref().is_some_and(|reply| subjects::is_inbox_of(reply, &speaker.name)) {
        return Err(Refused::new(refused::UNPROVEN, 403, "the answer is wanted in somebody else's inbox"));
    }
    Ok(speaker.name)
}

/// The new key, if the requester proves that it holds it.
fn proved(invitation: &Name, request: &JoinRequest) -> Result<PublicKey, Refused> {
    let bad = |why: String| Refused::new(refused::BAD_REQUEST, 400, why);
    let key: PublicKey = request.key.parse().map_err(|why| bad(format!("field `key`: {why}")))?;
    if !key.is_of_an_identity() {
        return Err(bad("field `key`: it is no key of an identity".to_owned()));
    }
    let proof =
        BASE64.decode(&request.proof).map_err(|_| bad("field `proof`: it is not base64".to_owned()))?;
    if !key.signed(&JoinRequest::to_be_proved(invitation, &request.key), &proof) {
        return Err(bad("field `proof`: whoever asks does not hold that key".to_owned()));
    }
    Ok(key)
}

fn check_clock(question: &Incoming) -> Result<(), Refused> {
    let now = jiff::Timestamp::now();
    let header = |name: &str| question.headers.get(name);
    let said = question.sealed_parts(&header).time_ms().unwrap_or_default();
    let apart = said.abs_diff(now.as_millisecond());
    if apart <= CLOCKS_APART_MS {
        return Ok(());
    }
    let seconds = apart / 1000;
    let (way, now) =
        (if said < now.as_millisecond() { "behind" } else { "ahead of" }, now.strftime("%Y-%m-%dT%H:%M:%SZ"));
    let why = format!("the clock of the machine is {seconds} s {way} the leader's, where it is {now}");
    Err(Refused::new(refused::CLOCK, 400, why))
}

async fn take_up(
    authority: Arc<Authority>,
    id: Name,
    key: PublicKey,
) -> Result<(IdentityRecord, String), Refused> {
    let taken = tokio::task::spawn_blocking(move || authority.take_up(&id, &key)).await;
    let taken = taken.map_err(|panic| Refused::new(refused::BOOKS, 500, panic.to_string()))?;
    taken.map_err(|error| match &error {
        AuthorityError::NotInvited(_) => Refused::new(refused::NOT_INVITED, 403, error.to_string()),
        AuthorityError::Taken(..) | AuthorityError::Leads(..) => {
            Refused::new(refused::TAKEN, 409, error.to_string())
        }
        _ => {
            // Do not reveal paths of this machine.
            tracing::error!(%error, "the fleet's books");
            let why = "the leader cannot use the fleet's books; its log says why";
            Refused::new(refused::BOOKS, 500, why)
        }
    })
}

/// Whether the registry shows this peer as online.
async fn is_heard(bus: &Bus, name: &Name) -> bool {
    let question = GetRequest { kind: Some(GET_TYPE.to_owned()), peer: name.to_string() };
    let answer = bus.request(subjects::GET, decode::to_json(&question).into(), REGISTRY_WITHIN).await;
    let Ok(answer) = answer else { return false };
    match decode::json::<GetAnswer>(&answer.payload) {
        Ok(GetAnswer { found: Found::One { peer }, .. }) => {
            peer.is_online && peer.peer_id.as_str() == name.as_str()
        }
        _ => false,
    }
}
