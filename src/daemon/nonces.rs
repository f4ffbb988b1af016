//! Whether a word about a job was said just now, where members sign.
//!
//! A signature does not grow old, so a recorded word would count again whenever somebody repeats it. A word
//! therefore counts only with a text of this daemon's, which its signature covers, and which nobody could have
//! known before: the *nonce* of an attachment, told in its `accepted`, or the answer to a *challenge*.
//!
//! A nonce ends with its [`Attachment`]: whoever leaves a job, is given up, or begins anew has said nothing that
//! counts later. A challenge counts for one word. Both are bound to one job and one inbox, and an inbox is its
//! signer's. Nothing is written down: another daemon knows neither, and asks anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use peerbus_protocol::JobId;
use peerbus_protocol::subjects::Verb;

/// How long a challenge may be answered.
const CHALLENGE_HOLDS: Duration = Duration::from_secs(60);

/// Challenges that may wait for their answers. Whoever finds its own gone gets another one.
const CHALLENGES_MOST: usize = 16_384;

/// Whose word, and about what: the job and the inbox.
type Key = (JobId, String);

/// What this daemon has given out. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Nonces(Arc<Mutex<IssuedNonce>>);

#[derive(Debug, Default)]
struct IssuedNonce {
    nonces: HashMap<Key, String>,
    challenges: HashMap<Key, (String, Instant)>,
}

/// An inbox that follows a job. Its nonce ends when this is dropped.
#[derive(Debug)]
pub(super) struct Attachment {
    of: Nonces,
    key: Key,
    nonce: String,
}

impl Attachment {
    /// What each of its words has to carry.
    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut given = self.of.given();
        // The same inbox may have begun anew by now.
        if given.nonces.get(&self.key) == Some(&self.nonce) {
            given.nonces.remove(&self.key);
        }
    }
}

impl Nonces {
    /// Begins an attachment; one that the inbox had to this job before ends.
    pub(super) fn attach(&self, job: JobId, inbox: &str) -> Attachment {
        let (key, nonce) = ((job, inbox.to_owned()), random());
        self.given().nonces.insert(key.clone(), nonce.clone());
        Attachment { of: self.clone(), key, nonce }
    }

    /// The challenge for the next word of an inbox. The same one until it was answered, for repeats.
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

    /// Whether a word carries a text that makes it fresh. A challenge counts once. What goes on from a place
    /// (input, sizes, credit) belongs to its attachment, and to nothing else.
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

    /// Whether a request that comes again answers a challenge.
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
