//! Who said a message, and whether it was said just now.
//!
//! In a fleet with identities a request, and every word about a job but the credit of one that ends with its
//! caller, is signed by whoever says it. What makes a word fresh is in [`super::nonces`]; this is about requests.
//! A signature does not grow old by itself, so a request that could have been recorded before this daemon
//! could remember it is run only after its caller has signed it once more, over a challenge: when it was
//! made before this daemon started, or by a clock that is far from ours. A wrong clock costs one round trip;
//! a replay never runs.
//!
//! The challenge is not kept: it holds when it was given, and a mark that only this daemon can make of that,
//! the job and the caller's key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::context::Context;
use peerbus_bus::Incoming;
use peerbus_identity::PublicKey;
use peerbus_protocol::identity::Principal;
use peerbus_protocol::signature::{CHALLENGE, TIME};
use peerbus_protocol::{JobId, subjects};

/// How far a caller's clock may be from ours, and how old a request may be, without a challenge.
const CLOCKS_DIFFER: Duration = Duration::from_secs(30);

/// How long a challenge may be answered.
const CHALLENGE_HOLDS: Duration = Duration::from_secs(60);

/// What a caller signed, besides what it asks for.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    key: PublicKey,
    /// By the caller's clock, in milliseconds since 1970.
    made_ms: Option<i64>,
    challenge: Option<String>,
}

/// What this daemon makes and knows challenges by.
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

/// Finds out who said a message.
///
/// # Errors
/// A sentence, where this fleet's members sign and this is not proved to be of one, or wants its answers in
/// somebody else's inbox.
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

/// Finds out who left a message in the queue. It has no reply subject, and does not grow old in the same way.
///
/// # Errors
/// A sentence, where this fleet's members sign and this is not proved to be of one.
pub(super) fn of_queued(context: &Context, message: &Incoming) -> Result<Principal, String> {
    let Some(member) = context.bus.member() else { return Ok(Principal::Anyone) };
    member.speaker(message).map(|signer| signer.principal()).map_err(|unproven| unproven.to_string())
}

impl Signed {
    /// What it was signed over, of what this daemon gave out.
    pub(super) fn challenge(&self) -> Option<&str> {
        self.challenge.as_deref()
    }

    /// Whether it was said just now.
    ///
    /// # Errors
    /// The challenge to be answered, where that is not known.
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
        // By a clock that was set since the start, something old may look new.
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

/// Whether this fleet's members sign what they say. Then nobody is answered who has not: credit, which
/// nobody signs, may name anybody's inbox.
pub(super) fn members_sign(context: &Context) -> bool {
    context.bus.member().is_some()
}

/// Whether an inbox is of somebody else than another one. Where nobody is known, nobody is else.
pub(super) fn is_anothers(context: &Context, inbox: &str, other: &str) -> bool {
    let owner = |inbox: &str| inbox.split('.').next().map(str::to_owned);
    context.bus.member().is_some() && owner(inbox) != owner(other)
}
