//! What is said of a policy.

use peerbus::protocol::ending::Refusal;
use peerbus::protocol::exec::ExecRequest;
use peerbus::protocol::identity::Standing;
use peerbus::protocol::policy::{ANSWER_TYPE, Answer, Decision, Objection, Question, Rule, TYPE, Whom};

use crate::wire::{golden_by, instance, peer, text};

fn answer(decision: Option<Decision>) -> Answer {
    let rule = Rule {
        number: 2,
        line: Some(14),
        text: "[[allow]]\nwho = [\"bob\"]\nargv = [\"git\", \"pull\"]".to_owned(),
    };
    Answer {
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
    let whom = Whom { name: "bob".parse().unwrap(), standing: Standing::Worker };
    let question = Question { kind: Some(TYPE.to_owned()), whom: Some(whom), request: Some(request) };
    golden_by("policy_question", &question, Question::decode);
    assert_eq!(TYPE, "peerbus.policy.v1");
    // What a person types.
    assert_eq!(Question::decode(b""), Ok(Question::default()));
    assert_eq!(Question::decode(b"{}"), Ok(Question::default()));
    for (wrong, named) in [
        (&br#"{"request":{"argv":[]}}"#[..], "`request`: field `argv`"),
        (br#"{"request":{"argv":["a"],"directory":"x"}}"#, "`request`: field `directory`"),
        (br#"{"as":{"name":"Bob","standing":"worker"}}"#, "`as.name`"),
        (br#"{"as":{"name":"bob"}}"#, "`as`"),
        (br#"{"type":"peerbus.policy.v9"}"#, "`type`"),
    ] {
        let why = Question::decode(wrong).unwrap_err().to_string();
        assert!(why.contains(named), "{why}");
    }
}

#[test]
fn an_answer() {
    golden_by("policy_answer_allowed", &answer(Some(Decision::Allowed { rule: 2 })), Answer::decode);
    let objection = Objection {
        rule: 2,
        key: "argv".to_owned(),
        message: "these words are not among those it allows".to_owned(),
    };
    let refused = Decision::Refused {
        why: Refusal::Policy,
        message: "the policy of vps does not allow this".to_owned(),
        objections: vec![objection],
    };
    golden_by("policy_answer_refused", &answer(Some(refused)), Answer::decode);
    let built_in = Rule { number: 1, line: None, text: "[[allow]]".to_owned() };
    golden_by(
        "policy_answer_rules",
        &Answer { file: None, rules: vec![built_in], left_out: 1, ..answer(None) },
        Answer::decode,
    );
    assert_eq!(ANSWER_TYPE, "peerbus.policy_answer.v1");
}
