//! Whom a rule is about, and who may steer what.

use std::str::FromStr;

use peerbus_protocol::identity::{Name, Principal, Standing};

/// The word for everybody who reaches a peer that asks nobody who they are.
const NETWORK: &str = "network";

/// Some of those who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principals {
    /// The identity of this name.
    Named(Name),
    /// Every identity of this standing.
    Standing(Standing),
    /// Whoever reaches the peer, where the network is the boundary. No identity is among them: a rule
    /// that was written for a trusted network opens nothing once the fleet has identities.
    Network,
}

impl Principals {
    /// Whether this one is among them.
    pub(super) fn has(&self, principal: &Principal) -> bool {
        match (self, principal) {
            (Self::Named(wanted), Principal::Known { name, .. }) => wanted == name,
            (Self::Standing(wanted), Principal::Known { standing, .. }) => wanted == standing,
            (Self::Network, Principal::Anyone) => true,
            (Self::Network, Principal::Known { .. }) | (_, Principal::Anyone) => false,
        }
    }
}

impl FromStr for Principals {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(NETWORK) => Ok(Self::Network),
            Some(word) => word.parse().map(Self::Standing).map_err(|()| {
                let known: Vec<String> =
                    Standing::ALL.iter().map(|standing| format!("@{standing}")).collect();
                format!("{text:?} is no standing; there are {} and @{NETWORK}", known.join(", "))
            }),
            None => text.parse().map(Self::Named).map_err(|bad| format!("{bad}; a standing begins with @")),
        }
    }
}

/// Whether somebody may stop a job, or ask how it ended, that `starter` has started: whoever started it,
/// and every operator. Where the network is the boundary, that is everybody.
pub(crate) fn may_steer(principal: &Principal, starter: Option<&Principal>) -> bool {
    match principal {
        Principal::Anyone => true,
        Principal::Known { standing: Standing::Operator, .. } => true,
        Principal::Known { name, .. } => {
            matches!(starter, Some(Principal::Known { name: starter, .. }) if starter == name)
        }
    }
}

/// Whether a job is somebody's own. Where the network is the boundary, nobody is somebody else.
pub(crate) fn is_own(principal: &Principal, owner: &Principal) -> bool {
    match (principal, owner) {
        (Principal::Anyone, _) => true,
        (Principal::Known { name, .. }, Principal::Known { name: owner, .. }) => name == owner,
        (Principal::Known { .. }, Principal::Anyone) => false,
    }
}

/// Whether somebody may see every rule, and ask on behalf of others: an operator, and everybody where
/// the network is the boundary.
pub(crate) fn may_see_all(principal: &Principal) -> bool {
    matches!(principal, Principal::Anyone | Principal::Known { standing: Standing::Operator, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, standing: Standing) -> Principal {
        Principal::Known { name: name.parse().expect("a name"), standing }
    }

    #[test]
    fn names_standings_and_the_network_are_told_apart() {
        let who = |text: &str| text.parse::<Principals>();
        let (alice, bob) = (known("alice", Standing::Operator), known("bob", Standing::Guest));
        for (text, has) in [
            ("alice", [true, false, false]),
            ("operator", [false, false, false]),
            ("@operator", [true, false, false]),
            ("@guest", [false, true, false]),
            ("@network", [false, false, true]),
        ] {
            let who = who(text).expect(text);
            assert_eq!([&alice, &bob, &Principal::Anyone].map(|principal| who.has(principal)), has, "{text}");
        }
        for (text, said) in
            [("@boss", "@operator"), ("Alice", "not a name"), ("*", "not a name"), ("", "name")]
        {
            let why = who(text).expect_err(text);
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn a_job_is_steered_by_who_started_it_and_by_operators() {
        let (alice, bob) = (known("alice", Standing::Operator), known("bob", Standing::Worker));
        let carol = known("carol", Standing::Inspector);
        assert!(may_steer(&alice, Some(&bob)) && may_steer(&alice, None));
        assert!(may_steer(&bob, Some(&bob)) && may_steer(&Principal::Anyone, Some(&Principal::Anyone)));
        assert!(!may_steer(&carol, Some(&bob)) && !may_steer(&carol, Some(&Principal::Anyone)));
        assert!(!may_steer(&bob, None), "nobody knows who started it");
        assert!(
            may_see_all(&alice)
                && may_see_all(&Principal::Anyone)
                && !may_see_all(&bob)
                && !may_see_all(&carol)
        );
    }
}
