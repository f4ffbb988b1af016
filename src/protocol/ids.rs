//! The three names everything else hangs on: peer, job and instance.
//!
//! Each is built only by a constructor that checks it, so a value can be placed into a subject, a
//! file name or a cgroup name without another thought.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// Longest peer id, in bytes: that of a DNS label, which hostnames are made of.
pub const PEER_ID_MAX: usize = 63;

/// How many of a job id's last characters people see and type.
pub const SHORT_JOB_ID: usize = 8;

/// Why a text is not an id. The message names the text and the rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadId {
    /// Not `^[a-z0-9][a-z0-9_-]{0,62}$`.
    #[error("{text:?} is not a peer id: {rule}")]
    Peer {
        /// What was given, cut to a readable length.
        text: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Not a canonical lower-case UUIDv7.
    #[error("{0:?} is not a job id: a lower-case UUIDv7 with hyphens is wanted")]
    Job(String),
    /// Not a UUID.
    #[error("{0:?} is not an instance: a UUID is wanted")]
    Instance(String),
}

/// The name of one machine in the fleet: `^[a-z0-9][a-z0-9_-]{0,62}$`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerId(String);

impl PeerId {
    /// Makes an id of a hostname: lower case, every other character becomes `-`, except at its beginning and end.
    ///
    /// # Errors
    /// When nothing usable is left, as with an empty hostname.
    pub fn from_hostname(hostname: &str) -> Result<Self, BadId> {
        let mapped: String = hostname
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if is_peer_char(c) { c } else { '-' })
            .skip_while(|c| !c.is_ascii_alphanumeric())
            .take(PEER_ID_MAX)
            .collect();
        mapped.trim_end_matches('-').parse()
    }

    /// The id as text, safe as one token of a subject.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_peer_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-'
}

impl FromStr for PeerId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let broken = |rule| BadId::Peer { text: shortened(text), rule };
        if text.is_empty() {
            return Err(broken("it is empty"));
        }
        if text.len() > PEER_ID_MAX {
            return Err(broken("it is longer than 63 characters"));
        }
        if !text.chars().all(is_peer_char) {
            return Err(broken("only a-z, 0-9, '_' and '-' may be in it"));
        }
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(broken("it must begin with a letter or a digit"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Cuts a foreign text so that an error about it stays readable.
pub(crate) fn shortened(text: &str) -> String {
    const READABLE: usize = 80;
    match text.char_indices().nth(READABLE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

impl TryFrom<String> for PeerId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<PeerId> for String {
    fn from(id: PeerId) -> Self {
        id.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The idempotency key of one job: a UUIDv7 made by its caller, canonical and lower case, because
/// it becomes a file name and a cgroup name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(Uuid);

impl JobId {
    /// A new id, unlike any other.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// When it was made, by the clock of who made it, in milliseconds since 1970.
    #[must_use]
    pub fn made_ms(&self) -> i64 {
        // The first 48 bits of a UUIDv7.
        i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX)
    }

    /// The last characters, which people see and type.
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.to_string();
        text[text.len() - SHORT_JOB_ID..].to_owned()
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for JobId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = || BadId::Job(shortened(text));
        let id = Uuid::parse_str(text).map_err(|_| bad())?;
        let canonical = id.get_version_num() == 7
            && id.get_variant() == uuid::Variant::RFC4122
            && id.hyphenated().to_string() == text;
        if canonical { Ok(Self(id)) } else { Err(bad()) }
    }
}

impl TryFrom<String> for JobId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// One start of one daemon. A daemon that is started again is another instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instance(Uuid);

impl Instance {
    /// A new instance, unlike any other.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self::new()
    }
}

impl FromStr for Instance {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::parse_str(text).map(Self).map_err(|_| BadId::Instance(shortened(text)))
    }
}

impl TryFrom<String> for Instance {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<Instance> for String {
    fn from(id: Instance) -> Self {
        id.to_string()
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn peer_ids_that_could_change_a_subject_are_refused() {
        for text in ["", "*", ">", "a.b", "a b", "A", "-a", "_a", "a>", "é", "a\r", &"a".repeat(64)] {
            let error = text.parse::<PeerId>().expect_err(text);
            assert!(error.to_string().contains("is not a peer id"), "{error}");
        }
        for text in ["a", "0", "w1", "vps-2_x", &"a".repeat(63)] {
            assert_eq!(text.parse::<PeerId>().expect(text).as_str(), text);
        }
    }

    #[test]
    fn a_hostname_becomes_an_id() {
        assert_eq!(PeerId::from_hostname("My.Host_1").expect("usable").as_str(), "my-host_1");
        for (hostname, id) in [("--x", "x"), ("host.", "host"), ("ünï", "n"), ("a.b-", "a-b")] {
            assert_eq!(PeerId::from_hostname(hostname).expect(hostname).as_str(), id);
        }
        assert!(PeerId::from_hostname("..").is_err());
    }

    #[test]
    fn only_canonical_uuid_v7_is_a_job_id() {
        let id = JobId::new().to_string();
        assert_eq!(id.parse::<JobId>().expect("canonical").to_string(), id);
        let v4 = Instance::new().to_string();
        for text in [id.to_uppercase().as_str(), &id.replace('-', ""), &format!("{{{id}}}"), &v4, "../x", ""]
        {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_hostname_gives_a_valid_id_or_an_error(hostname in ".*") {
            if let Ok(id) = PeerId::from_hostname(&hostname) {
                prop_assert_eq!(id.as_str().parse::<PeerId>().expect("valid"), id);
            }
        }
    }
}
