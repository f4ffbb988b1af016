//! Policy queries: whether a peer would allow a request, and by which rules.

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::ending::Refusal;
use super::exec::ExecRequest;
use super::identity::{Name, Standing};
use super::{Instance, PeerId};

/// The `type` of a query on `exec.<peer>.policy`.
pub const TYPE: &str = "peerbus.policy.v1";

/// The `type` of the answer.
pub const ANSWER_TYPE: &str = "peerbus.policy_answer.v1";

/// A query. It runs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyQuery {
    /// [`TYPE`]; optional for queries typed by hand.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The identity to answer for; `None` means the sender.
    #[serde(rename = "as", default)]
    pub whom: Option<OnBehalfOf>,
    /// The request to check; `None` asks only for the rules.
    #[serde(default)]
    pub request: Option<ExecRequest>,
}

/// An identity, named by someone else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalfOf {
    /// Its name.
    pub name: Name,
    /// Its standing.
    pub standing: Standing,
}

impl PolicyQuery {
    /// Decodes a query and checks its shape. An empty payload asks for the rules.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        if payload.is_empty() {
            return Ok(Self::default());
        }
        let question: Self = decode::json(payload)?;
        decode::check_type(question.kind.as_deref(), TYPE)?;
        if let Some(request) = &question.request {
            request
                .check()
                .map_err(|bad| BadMessage(decode::readable(&format!("field `request`: {bad}"))))?;
        }
        Ok(question)
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    /// Always [`ANSWER_TYPE`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The peer that answers.
    pub peer_id: PeerId,
    /// The instance of its daemon.
    pub instance: Instance,
    /// The active policy file; `None` if there is none and the built-in rule applies.
    pub file: Option<String>,
    /// The identity that the answer is about, for people.
    pub whom: String,
    /// The decision on the request; `None` if the query has none.
    pub decision: Option<PolicyDecision>,
    /// The rules that matter; without a request, all rules that the sender may see.
    pub rules: Vec<PolicyRule>,
    /// How many rules were left out to fit the answer into a message.
    pub left_out: usize,
}

impl PolicyAnswer {
    /// Decodes an answer.
    ///
    /// # Errors
    /// Names the field that is missing or wrong.
    pub fn decode(payload: &[u8]) -> Result<Self, BadMessage> {
        let answer: Self = decode::json(payload)?;
        decode::check_type(Some(&answer.kind), ANSWER_TYPE)?;
        Ok(answer)
    }
}

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyDecision {
    /// The policy would allow it.
    Allowed {
        /// The number of the rule that would allow it.
        rule: usize,
    },
    /// The policy would refuse it.
    Refused {
        /// The refusal's reason, for programs.
        why: Refusal,
        /// The refusal's reason, for people.
        message: String,
        /// Why each rule for this principal does not match.
        objections: Vec<RuleMismatch>,
    },
}

/// Why one rule does not match a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMismatch {
    /// The rule's number.
    pub rule: usize,
    /// The key that does not match.
    pub key: String,
    /// The reason, for people.
    pub message: String,
}

/// A rule, as written in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Its number, counted from 1.
    pub number: usize,
    /// Its first line in the file; `None` for the built-in rule.
    pub line: Option<usize>,
    /// Its text.
    pub text: String,
}
