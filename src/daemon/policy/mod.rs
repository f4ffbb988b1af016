//! The policy of a peer: who may run what, as whom, where.
//!
//! | file | what it is |
//! |---|---|
//! | `who`, `words` | whom a rule is about; patterns for the words of a command |
//! | `rule` | one rule, and whether it allows a request: no file is looked at, nothing waits |
//! | `file` | the file: its keys, its mistakes, its rights |
//! | `kept` | the policy in force, read at the start and when asked to |
//! | `check` | one request against it, with the directory looked up |
//! | `answer` | what `exec.<peer>.policy` is answered |
//!
//! Guarantees: with a file only what a rule allows runs; a file with a mistake never comes into force,
//! nor does one that others than its owner can change; a rule with directories is decided by where the
//! command would really be, and the command is then there or does not run at all. Without a file
//! operators may do everything and other identities nothing; where nobody has to prove who they are,
//! everybody may do everything.
//!
//! What a job prints, and what is typed into it, is its owner's: others need a rule with `attach`. Stopping is
//! not in here; every operator may.
//!
//! Limits: a rule knows which words a command is given, not what the command makes of them. `git` with
//! a free choice of options runs any program (`-c core.pager=…`), and a command in a directory that its
//! user may write reads what that user has put there.

mod answer;
mod check;
mod file;
mod loaded;
mod patterns;
mod principals;
mod rule;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use principals::Principals;
pub(super) use rule::Access;
use rule::{AccessRequest, Choice, CommandRule, Rule, RuleKind};

use peerbus_protocol::decode;
use peerbus_protocol::identity::{Principal, Standing};

pub(super) use answer::{WAITING, answer};
pub(super) use check::{Allowed, check, may_attach};
pub use file::digest;
pub use loaded::{LoadedPolicy, PolicyFileRule, PolicyState};
pub(super) use principals::{is_own, may_see_all, may_steer};
pub use rule::Step;

/// The tasks of a peer by their names; what is wrong with one that cannot be run.
pub type Tasks = BTreeMap<String, Result<Vec<Step>, String>>;

/// Rules that belong together, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    rules: Vec<(Rule, Text)>,
}

/// A rule as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    /// Its first line; none of what is built in.
    line: Option<usize>,
    text: String,
}

/// What one rule, by its number, has against a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Against {
    rule: usize,
    key: &'static str,
    why: String,
}

/// What a policy says to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The rule of this number allows it.
    Allowed(usize),
    /// None does. What those have against it that are about whoever asks.
    Refused(Vec<Against>),
}

impl Policy {
    /// What holds without a file.
    fn built_in() -> Self {
        let rule = Rule {
            who: vec![Principals::Standing(Standing::Operator), Principals::Network],
            what: RuleKind::Commands(CommandRule {
                argv: Choice::Any,
                sh: Choice::Any,
                directory: Choice::Any,
                user: Choice::Any,
                env: None,
                stdin: None,
            }),
        };
        let attach = Rule { who: rule.who.clone(), what: RuleKind::Attach(Access::Write) };
        let whom = "[[allow]]\nwho = [\"@operator\", \"@network\"]\n";
        let of = |what: &str| Text { line: None, text: format!("{whom}{what}") };
        let all = of("user = \"any\"\nargv = \"any\"\nsh = \"any\"");
        Self { rules: vec![(rule, all), (attach, of("attach = \"write\""))] }
    }

    /// Decides. The first rule that allows a request is the one that is named.
    fn decide(&self, wish: &AccessRequest<'_>) -> Verdict {
        let mut against = Vec::new();
        for (number, rule) in self.about(wish.principal) {
            match rule.allows(wish) {
                Ok(()) => return Verdict::Allowed(number),
                Err((key, why)) => against.push(Against { rule: number, key, why: decode::readable(&why) }),
            }
        }
        Verdict::Refused(against)
    }

    /// Whether somebody may read or write a job. One's own is everybody's of whom there is any rule.
    fn attaches(&self, principal: &Principal, owner: &Principal, access: Access) -> bool {
        let mut rules = self.about(principal).map(|(_, rule)| rule).peekable();
        if is_own(principal, owner) {
            return rules.peek().is_some();
        }
        rules.any(|rule| matches!(rule.what, RuleKind::Attach(most) if most >= access))
    }

    /// The rules that are about somebody, with their numbers.
    fn about(&self, principal: &Principal) -> impl Iterator<Item = (usize, &Rule)> {
        let numbered = (1..).zip(self.rules.iter().map(|(rule, _)| rule));
        numbered.filter(|(_, rule)| rule.is_about(principal))
    }

    /// Whether directories have to be looked up to decide what somebody may.
    fn looks_at_directories(&self, principal: &Principal) -> bool {
        self.about(principal).any(|(_, rule)| rule.looks_at_directories())
    }

    /// Whether what this rule allows depends on where it runs.
    fn is_bound_to_a_place(&self, number: usize) -> bool {
        self.rule(number).is_some_and(|(rule, _)| rule.looks_at_directories())
    }

    fn rule(&self, number: usize) -> Option<&(Rule, Text)> {
        self.rules.get(number.checked_sub(1)?)
    }
}
