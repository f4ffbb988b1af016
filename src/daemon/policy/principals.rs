//! The principals of a rule, and who may control which job.

use std::str::FromStr;

use peerbus_protocol::identity::{Name, Principal, Standing};

/// The value that means everybody who reaches a peer without identities.
const NETWORK: &str = "network";

/// A set of principals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principals {
    /// The identity with this name.
    Named(Name),
    /// Every identity with this standing.
    Standing(Standing),
    /// Everybody who reaches the peer, if the network is the trust boundary. This includes no identity: a rule for
    /// a trusted network allows nothing once the fleet has identities.
    Network,
}

impl Principals {
    /// Whether the set contains this principal.
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

/// Whether a principal may stop a job of `starter` or ask for its result: the starter and every operator may.
/// Everybody may if the network is the trust boundary.
pub(crate) fn may_steer(principal: &Principal, starter: Option<&Principal>) -> bool {
    match principal {
        Principal::Anyone => true,
        Principal::Known { standing: Standing::Operator, .. } => true,
        Principal::Known { name, .. } => {
            matches!(starter, Some(Principal::Known { name: starter, .. }) if starter == name)
        }
    }
}

/// Whether a job belongs to a principal. If the network is the trust boundary, every job belongs to everybody.
pub(crate) fn is_own(principal: &Principal, owner: &Principal) -> bool {
    match (principal, owner) {
        (Principal::Anyone, _) => true,
        (Principal::Known { name, .. }, Principal::Known { name: owner, .. }) => name == owner,
        (Principal::Known { .. }, Principal::Anyone) => false,
    }
}

/// Whether a principal may see every rule and query on behalf of others: operators may. Everybody may if the
/// network is the trust boundary.
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
