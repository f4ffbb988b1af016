//! What a peer's policy allows: a question, and its answer with the rules that matter.

use serde::{Deserialize, Serialize};

use super::decode::{self, BadMessage};
use super::ending::Refusal;
use super::exec::ExecRequest;
use super::identity::{Name, Standing};
use super::{Instance, PeerId};

/// The `type` of a question on `exec.<peer>.policy`.
pub const TYPE: &str = "peerbus.policy.v1";

/// The `type` of its answer.
pub const ANSWER_TYPE: &str = "peerbus.policy_answer.v1";

/// A question. Nothing runs for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyQuery {
    /// [`TYPE`]; may be left out by people who type it by hand.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// For whom it is asked; none means whoever asks.
    #[serde(rename = "as", default)]
    pub whom: Option<OnBehalfOf>,
    /// The request that would be made; none asks for the rules alone.
    #[serde(default)]
    pub request: Option<ExecRequest>,
}

/// An identity, as somebody else names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalfOf {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub standing: Standing,
}

impl PolicyQuery {
    /// Decodes a question and checks its shape. Nothing at all asks for the rules.
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
    /// Who speaks.
    pub peer_id: PeerId,
    /// Which start of its daemon.
    pub instance: Instance,
    /// The policy file in force; none means that there is none, and the rule that is built in.
    pub file: Option<String>,
    /// Whom the answer is about, for people.
    pub whom: String,
    /// What would become of the request; none where none was given.
    pub decision: Option<PolicyDecision>,
    /// The rules the answer speaks of; all that may be shown, where no request was given.
    pub rules: Vec<PolicyRule>,
    /// Rules that were left out, because an answer has to fit into a message.
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

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyDecision {
    /// It would run, as far as the policy goes.
    Allowed {
        /// The number of the rule that allows it.
        rule: usize,
    },
    /// It would be refused.
    Refused {
        /// The word its refusal would have.
        why: Refusal,
        /// The sentence its refusal would have.
        message: String,
        /// What each rule has against it that is about whoever asks.
        objections: Vec<RuleMismatch>,
    },
}

/// What one rule has against a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMismatch {
    /// The rule's number.
    pub rule: usize,
    /// The key of it that does not fit.
    pub key: String,
    /// Why not, for people.
    pub message: String,
}

/// A rule, as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Its number: the first is 1.
    pub number: usize,
    /// Its first line in the file; none for the one that is built in.
    pub line: Option<usize>,
    /// Its text.
    pub text: String,
}
