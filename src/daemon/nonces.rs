//! Replay protection for control messages, if members sign.
//!
//! A signature does not expire, so a recorded control message could be replayed. It therefore counts only if its
//! signature covers an unpredictable text of this daemon: the *nonce* of an attachment, sent in `accepted`, or the
//! answer to a *challenge*.
//!
//! A nonce ends with its [`Attachment`]: when the client detaches, is dropped, or attaches again. A challenge is
//! valid for one message. Both are bound to one job and one inbox, and an inbox belongs to its signer. Nothing is
//! stored on disk: another daemon knows neither and issues its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use peerbus_protocol::JobId;
use peerbus_protocol::subjects::Verb;

/// Lifetime of a challenge.
const CHALLENGE_HOLDS: Duration = Duration::from_secs(60);

/// Maximum number of open challenges. A client whose challenge was dropped gets another one.
const CHALLENGES_MOST: usize = 16_384;

/// The job and the inbox.
type Key = (JobId, String);

/// All nonces and challenges issued by this daemon. Clones share state.
#[derive(Debug, Clone, Default)]
pub(super) struct Nonces(Arc<Mutex<IssuedNonce>>);

#[derive(Debug, Default)]
struct IssuedNonce {
    nonces: HashMap<Key, String>,
    challenges: HashMap<Key, (String, Instant)>,
}

/// An inbox that follows a job. Dropping this ends its nonce.
#[derive(Debug)]
pub(super) struct Attachment {
    of: Nonces,
    key: Key,
    nonce: String,
}

impl Attachment {
    /// The nonce that each of its messages must carry.
    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut given = self.of.given();
        // The same inbox may have attached again by now.
        if given.nonces.get(&self.key) == Some(&self.nonce) {
            given.nonces.remove(&self.key);
        }
    }
}

impl Nonces {
    /// Starts an attachment. Ends an earlier one of the same inbox to this job.
    pub(super) fn attach(&self, job: JobId, inbox: &str) -> Attachment {
        let (key, nonce) = ((job, inbox.to_owned()), random());
        self.given().nonces.insert(key.clone(), nonce.clone());
        Attachment { of: self.clone(), key, nonce }
    }

    /// The challenge for the next message of an inbox. It stays the same until answered, so repeats match.
    pub(super) fn challenge(&self, job: JobId, inbox: &str) -> String {
        let (key, now) = ((job, inbox.to_owned()), Instant::now());
        let mut given = self.given();
        let holds = |at: &Instant| now.duration_since(*at) < CHALLENGE_HOLDS / 2;
        if let Some((challenge, _)) = given.challenges.get(&key).filter(|(_, at)| holds(at)) {
            return challenge.clone();
        }
        if given.challenges.len() >= CHALLENGES_MOST {
            given.challenges.retain(|_, (_, at)| now.duration_since(*at) < CHALLENGE_HOLDS);
        }
        if given.challenges.len() >= CHALLENGES_MOST
            && let Some(any) = given.challenges.keys().next().cloned()
        {
            given.challenges.remove(&any);
        }
        let challenge = random();
        given.challenges.insert(key, (challenge.clone(), now));
        challenge
    }

    /// Whether a text proves a message to be no replay. A challenge counts once. Messages that continue from an
    /// offset (input, sizes, credit) need the nonce of their attachment.
    pub(super) fn holds(&self, job: JobId, inbox: &str, verb: Verb, text: Option<&str>) -> bool {
        let Some(text) = text else { return false };
        let key = (job, inbox.to_owned());
        let mut given = self.given();
        if given.nonces.get(&key).is_some_and(|nonce| nonce == text) {
            return true;
        }
        let needs_attachment = matches!(verb, Verb::Stdin | Verb::Resize | Verb::Credit);
        !needs_attachment && given.answers(&key, text)
    }

    /// Whether a repeated request answers a challenge.
    pub(super) fn answers(&self, job: JobId, inbox: &str, text: Option<&str>) -> bool {
        text.is_some_and(|text| self.given().answers(&(job, inbox.to_owned()), text))
    }

    fn given(&self) -> MutexGuard<'_, IssuedNonce> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IssuedNonce {
    fn answers(&mut self, key: &Key, text: &str) -> bool {
        match self.challenges.get(key) {
            Some((challenge, at)) if challenge == text => {
                let in_time = at.elapsed() < CHALLENGE_HOLDS;
                self.challenges.remove(key);
                in_time
            }
            _ => false,
        }
    }
}

fn random() -> String {
    rand::random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_ends_with_its_attachment() {
        let (fresh, job) = (Nonces::default(), JobId::new());
        let first = fresh.attach(job, "a");
        let nonce = first.nonce().to_owned();
        let holds = |inbox, verb, nonce: &str| fresh.holds(job, inbox, verb, Some(nonce));
        assert!(holds("a", Verb::Stdin, &nonce) && holds("a", Verb::Stdin, &nonce));
        assert!(!holds("b", Verb::Stdin, &nonce) && !fresh.holds(job, "a", Verb::Stdin, None));
        let second = fresh.attach(job, "a");
        drop(first);
        assert!(!holds("a", Verb::Stdin, &nonce) && holds("a", Verb::Stdin, second.nonce()));
        let nonce = second.nonce().to_owned();
        drop(second);
        assert!(!holds("a", Verb::Stdin, &nonce));
    }

    #[test]
    fn a_challenge_is_answered_once_and_never_by_input() {
        let (fresh, job) = (Nonces::default(), JobId::new());
        let challenge = fresh.challenge(job, "a");
        assert_eq!(fresh.challenge(job, "a"), challenge, "for a repeat");
        let holds = |verb, inbox| fresh.holds(job, inbox, verb, Some(&challenge));
        assert!(!holds(Verb::Stdin, "a") && !holds(Verb::Attach, "b"));
        assert!(holds(Verb::Attach, "a") && !holds(Verb::Attach, "a"));
        assert_ne!(fresh.challenge(job, "a"), challenge);
    }

    #[test]
    fn challenges_that_nobody_answers_take_no_more_room() {
        let (fresh, job) = (Nonces::default(), JobId::new());
        for n in 0..CHALLENGES_MOST + 10 {
            fresh.challenge(job, &n.to_string());
        }
        assert_eq!(fresh.given().challenges.len(), CHALLENGES_MOST);
    }
}
