//! The policy of a peer: who may run what, as which user, and where.
//!
//! | file | what it holds |
//! |---|---|
//! | `principals`, `patterns` | the principals of a rule; patterns for argv and variable names |
//! | `rule` | one rule, and whether it allows a request: no file access, no waiting |
//! | `file` | the policy file: its keys, errors and permissions |
//! | `loaded` | the policy in force, read at startup and on reload |
//! | `check` | checks one request, after resolving its directory |
//! | `answer` | the answer on `exec.<peer>.policy` |
//!
//! Guarantees:
//! - With a policy file, only requests that a rule allows run.
//! - A file with an error never takes effect, nor does one that others than its owner can change.
//! - A rule with directories is checked against the resolved directory. The command runs exactly there or not at
//!   all.
//! - Without a file, operators may do everything and other identities nothing. If members have no identities,
//!   everybody may do everything.
//!
//! The output and input of a job belong to its owner; others need a rule with `attach`. The policy does not govern
//! stopping: every operator may stop jobs.
//!
//! Limits: a rule knows the arguments of a command, not their effect. `git` with free choice of options runs any
//! program (`-c core.pager=…`), and a command in a directory that its user can write reads files that this user put
//! there.

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

/// The tasks of a peer by name, or the error of a task that cannot run.
pub type Tasks = BTreeMap<String, Result<Vec<Step>, String>>;

/// The rules of one policy, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Policy {
    rules: Vec<(Rule, Text)>,
}

/// The source text of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Text {
    /// Its first line. `None` for built-in rules.
    line: Option<usize>,
    text: String,
}

/// Why one rule, by its number, does not allow a request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Against {
    rule: usize,
    key: &'static str,
    why: String,
}

/// The decision about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// The rule with this number allows it.
    Allowed(usize),
    /// No rule allows it. Lists the mismatches of the rules about this principal.
    Refused(Vec<Against>),
}

impl Policy {
    /// The policy in force without a file.
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

    /// Decides about a request. Reports the first rule that allows it.
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

    /// Whether a principal may read or write a job. One's own jobs are allowed if any rule is about the principal.
    fn attaches(&self, principal: &Principal, owner: &Principal, access: Access) -> bool {
        let mut rules = self.about(principal).map(|(_, rule)| rule).peekable();
        if is_own(principal, owner) {
            return rules.peek().is_some();
        }
        rules.any(|rule| matches!(rule.what, RuleKind::Attach(most) if most >= access))
    }

    /// The rules about a principal, with their numbers.
    fn about(&self, principal: &Principal) -> impl Iterator<Item = (usize, &Rule)> {
        let numbered = (1..).zip(self.rules.iter().map(|(rule, _)| rule));
        numbered.filter(|(_, rule)| rule.is_about(principal))
    }

    /// Whether a decision about this principal needs resolved directories.
    fn looks_at_directories(&self, principal: &Principal) -> bool {
        self.about(principal).any(|(_, rule)| rule.looks_at_directories())
    }

    /// Whether this rule depends on the working directory.
    fn is_bound_to_a_place(&self, number: usize) -> bool {
        self.rule(number).is_some_and(|(rule, _)| rule.looks_at_directories())
    }

    fn rule(&self, number: usize) -> Option<&(Rule, Text)> {
        self.rules.get(number.checked_sub(1)?)
    }
}
