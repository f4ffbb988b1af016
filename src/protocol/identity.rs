//! Who somebody is in a fleet that has identities: a name, and what that name may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PeerId;
use super::ids::shortened;

/// The name of one identity, of a machine or of a person: as a peer id. A machine's is its peer id, and
/// no two identities of a fleet have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(PeerId);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a name: 1 to 63 of a-z, 0-9, '_' and '-', the first a letter or a digit")]
pub struct BadName(String);

impl Name {
    /// The name as text, safe as one token of a subject.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<PeerId> for Name {
    fn from(peer: PeerId) -> Self {
        Self(peer)
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        text.parse().map(Self).map_err(|_| BadName(shortened(text)))
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an identity is for, and with that what it may do on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A machine: it runs commands for operators.
    Worker,
    /// The machine with the registry; a worker too.
    Leader,
    /// A person, or a program of theirs, who runs commands.
    Operator,
    /// Somebody who may look and not touch.
    Inspector,
    /// A program that runs commands for people who are not members themselves, and says for whom.
    Gateway,
    /// Whoever holds an invitation that was not yet taken up.
    Guest,
}

impl Standing {
    /// Every one there is.
    pub const ALL: [Self; 6] =
        [Self::Worker, Self::Leader, Self::Operator, Self::Inspector, Self::Gateway, Self::Guest];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Leader => "leader",
            Self::Operator => "operator",
            Self::Inspector => "inspector",
            Self::Gateway => "gateway",
            Self::Guest => "guest",
        }
    }

    /// Whether it is a machine's, whose name is its peer id.
    #[must_use]
    pub fn is_machine(self) -> bool {
        matches!(self, Self::Worker | Self::Leader)
    }
}

impl FromStr for Standing {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|standing| standing.as_str() == text).ok_or(())
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who asks for something, as far as it is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody is asked who they are: the network is the boundary.
    Anyone,
    /// Whose signature was verified.
    Known {
        /// Its name.
        name: Name,
        /// What it is for.
        standing: Standing,
    },
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Known { name, standing } => write!(f, "{name} ({standing})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_of_subjects() {
        for good in ["alice", "w1", "0", "a_b-c"] {
            assert_eq!(good.parse::<Name>().expect(good).as_str(), good);
        }
        for bad in ["", "Alice", "a.b", "a b", "-a", "*", ">", &"a".repeat(64)] {
            let error = bad.parse::<Name>().expect_err(bad);
            assert!(error.to_string().contains("is not a name"), "{error}");
        }
    }

    #[test]
    fn standings_are_read_as_they_are_written() {
        for standing in Standing::ALL {
            assert_eq!(standing.to_string().parse(), Ok(standing));
            assert_eq!(serde_json::to_string(&standing).expect("json"), format!("\"{standing}\""));
        }
    }
}
