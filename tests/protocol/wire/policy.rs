//! What is said of a policy.

use peerbus::protocol::ending::Refusal;
use peerbus::protocol::exec::ExecRequest;
use peerbus::protocol::identity::Standing;
use peerbus::protocol::policy::{
    ANSWER_TYPE, OnBehalfOf, PolicyAnswer, PolicyDecision, PolicyQuery, PolicyRule, RuleMismatch, TYPE,
};

use crate::wire::{golden_by, instance, peer, text};

fn answer(decision: Option<PolicyDecision>) -> PolicyAnswer {
    let rule = PolicyRule {
        number: 2,
        line: Some(14),
        text: "[[allow]]\nwho = [\"bob\"]\nargv = [\"git\", \"pull\"]".to_owned(),
    };
    PolicyAnswer {
        kind: ANSWER_TYPE.to_owned(),
        peer_id: peer("vps"),
        instance: instance(),
        file: text("/etc/peerbus/policy.toml"),
        whom: "bob (worker)".to_owned(),
        decision,
        rules: vec![rule],
        left_out: 0,
    }
}

#[test]
fn a_question() {
    let request = ExecRequest::decode(br#"{"directory":"/srv/app","argv":["git","push"]}"#).unwrap();
    let whom = OnBehalfOf { name: "bob".parse().unwrap(), standing: Standing::Worker };
    let question = PolicyQuery { kind: Some(TYPE.to_owned()), whom: Some(whom), request: Some(request) };
    golden_by("policy_question", &question, PolicyQuery::decode);
    assert_eq!(TYPE, "peerbus.policy.v1");
    // What a person types.
    assert_eq!(PolicyQuery::decode(b""), Ok(PolicyQuery::default()));
    assert_eq!(PolicyQuery::decode(b"{}"), Ok(PolicyQuery::default()));
    for (wrong, named) in [
        (&br#"{"request":{"argv":[]}}"#[..], "`request`: field `argv`"),
        (br#"{"request":{"argv":["a"],"directory":"x"}}"#, "`request`: field `directory`"),
        (br#"{"as":{"name":"Bob","standing":"worker"}}"#, "`as.name`"),
        (br#"{"as":{"name":"bob"}}"#, "`as`"),
        (br#"{"type":"peerbus.policy.v9"}"#, "`type`"),
    ] {
        let why = PolicyQuery::decode(wrong).unwrap_err().to_string();
        assert!(why.contains(named), "{why}");
    }
}

#[test]
fn an_answer() {
    golden_by(
        "policy_answer_allowed",
        &answer(Some(PolicyDecision::Allowed { rule: 2 })),
        PolicyAnswer::decode,
    );
    let objection = RuleMismatch {
        rule: 2,
        key: "argv".to_owned(),
        message: "these words are not among those it allows".to_owned(),
    };
    let refused = PolicyDecision::Refused {
        why: Refusal::Policy,
        message: "the policy of vps does not allow this".to_owned(),
        objections: vec![objection],
    };
    golden_by("policy_answer_refused", &answer(Some(refused)), PolicyAnswer::decode);
    let built_in = PolicyRule { number: 1, line: None, text: "[[allow]]".to_owned() };
    golden_by(
        "policy_answer_rules",
        &PolicyAnswer { file: None, rules: vec![built_in], left_out: 1, ..answer(None) },
        PolicyAnswer::decode,
    );
    assert_eq!(ANSWER_TYPE, "peerbus.policy_answer.v1");
}
