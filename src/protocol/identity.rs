//! Identities of a fleet: a name, and what it may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PeerId;
use super::ids::shortened;

/// The name of an identity, of a machine or a person; same syntax as a peer id. A machine's name is its
/// peer id. Names are unique in a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(PeerId);

/// Why a text is not a name.
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

/// The standing of an identity, which determines its permissions on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A machine: it runs commands for operators.
    Worker,
    /// The machine with the registry; also a worker.
    Leader,
    /// A person, or a program of theirs, that runs commands.
    Operator,
    /// A person that may only look.
    Inspector,
    /// A program that runs commands for users outside the fleet, and names them.
    Gateway,
    /// The holder of an unused invitation.
    Guest,
}

impl Standing {
    /// All standings.
    pub const ALL: [Self; 6] =
        [Self::Worker, Self::Leader, Self::Operator, Self::Inspector, Self::Gateway, Self::Guest];

    /// Its text form.
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

    /// Whether it belongs to a machine, whose name is its peer id.
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

/// The sender of a request, as far as proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Any client, in a fleet without identities: only the network protects it.
    Anyone,
    /// A sender with a verified signature.
    Known {
        /// Its name.
        name: Name,
        /// Its standing.
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
