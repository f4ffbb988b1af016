//! Authenticates requests and checks that they are no replays.
//!
//! In a fleet with identities every request is signed by its sender. So is every control message, except credit for
//! a job that ends with its caller. [`super::nonces`] protects control messages against replay; this module
//! protects requests. A signature does not expire. A request that may be a recording runs only after its caller has
//! signed it again over a challenge. This applies to requests made before this daemon started, or by a clock far
//! from ours. A wrong clock costs one round trip; a replay never runs.
//!
//! The daemon does not store challenges. A challenge has its time of issue and a MAC, which only this daemon can
//! compute, over the time, the job and the caller's key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::context::Context;
use peerbus_bus::Incoming;
use peerbus_identity::PublicKey;
use peerbus_protocol::identity::Principal;
use peerbus_protocol::signature::{CHALLENGE, TIME};
use peerbus_protocol::{JobId, subjects};

/// Maximum clock difference and age of a request without a challenge.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// Lifetime of a challenge.
const CHALLENGE_HOLDS: Duration = Duration::from_secs(60);

/// The signed properties of a request besides its content.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    key: PublicKey,
    /// By the caller's clock, in milliseconds since 1970.
    made_ms: Option<i64>,
    challenge: Option<String>,
}

/// Issues and verifies challenges.
pub(super) struct Challenges {
    secret: [u8; blake3::KEY_LEN],
    /// When this daemon started, in milliseconds since 1970.
    started_ms: i64,
}

impl Challenges {
    pub(super) fn new() -> Self {
        Self { secret: rand::random(), started_ms: now_ms() }
    }

    fn mark(&self, given_ms: u128, job: JobId, key: &PublicKey) -> String {
        let text = format!("{given_ms} {job} {key}");
        blake3::keyed_hash(&self.secret, text.as_bytes()).to_hex().to_string()
    }
}

/// Authenticates the sender of a message.
///
/// # Errors
/// A sentence, if members sign and no member has proved this message, or it asks for answers to another member's
/// inbox.
pub(super) fn of(context: &Context, message: &Incoming) -> Result<(Principal, Option<Signed>), String> {
    let Some(member) = context.bus.member() else { return Ok((Principal::Anyone, None)) };
    let signer = member.speaker(message).map_err(|unproven| unproven.to_string())?;
    let own = message.reply.as_deref().is_some_and(|reply| subjects::is_inbox_of(reply, &signer.name));
    if !own {
        return Err(format!("its reply subject is not an inbox of {}, who signed it", signer.name));
    }
    let header = |name| message.headers.get(name);
    let signed = Signed {
        made_ms: header(TIME).and_then(|text| text.parse().ok()),
        challenge: header(CHALLENGE).map(str::to_owned),
        key: signer.key.clone(),
    };
    Ok((signer.principal(), Some(signed)))
}

/// Authenticates the sender of a queued message. It has no reply subject, and other rules limit its age.
///
/// # Errors
/// A sentence, if members sign and no member has proved this message.
pub(super) fn of_queued(context: &Context, message: &Incoming) -> Result<Principal, String> {
    let Some(member) = context.bus.member() else { return Ok(Principal::Anyone) };
    member.speaker(message).map(|signer| signer.principal()).map_err(|unproven| unproven.to_string())
}

impl Signed {
    /// The challenge of this daemon that the signature covers.
    pub(super) fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// Whether the request is proved to be no replay.
    ///
    /// # Errors
    /// The challenge for the caller, if that is unknown.
    pub(super) fn is_fresh(&self, context: &Context, job: JobId) -> Result<(), String> {
        let Self { key, made_ms, challenge } = self;
        let challenges = &context.challenges;
        let uptime_ms = context.started.elapsed().as_millis();
        if let Some(challenge) = challenge
            && let Some((given, mark)) = challenge.split_once('.')
            && let Ok(given_ms) = given.parse::<u128>()
            && uptime_ms.saturating_sub(given_ms) <= CHALLENGE_HOLDS.as_millis()
            && challenges.mark(given_ms, job, key) == mark
        {
            return Ok(());
        }
        let near = |one: i64, other: i64| u128::from(one.abs_diff(other)) <= CLOCKS_DIFFER.as_millis();
        // If the clock was set since the start, an old request may look new.
        let by_uptime = challenges.started_ms.saturating_add(i64::try_from(uptime_ms).unwrap_or(i64::MAX));
        let recent = made_ms.is_some_and(|made| {
            made >= challenges.started_ms && near(now_ms(), made) && near(now_ms(), by_uptime)
        });
        match recent {
            true => Ok(()),
            false => Err(format!("{uptime_ms}.{}", challenges.mark(uptime_ms, job, key))),
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether this fleet's members sign their messages. If so, unsigned messages get no answer: credit is unsigned and
/// may name any inbox.
pub(super) fn members_sign(context: &Context) -> bool {
    context.bus.member().is_some()
}

/// Whether two inboxes belong to different members. Without identities, they do not.
pub(super) fn is_anothers(context: &Context, inbox: &str, other: &str) -> bool {
    let owner = |inbox: &str| inbox.split('.').next().map(str::to_owned);
    context.bus.member().is_some() && owner(inbox) != owner(other)
}
