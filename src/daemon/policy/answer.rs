//! Answers which requests the policy allows, and why: `exec.<peer>.policy`.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::check::{Denied, by_all};
use super::principals::may_see_all;
use super::{Allowed, Policy};
use crate::answer;
use crate::auth;
use crate::context::Context;
use peerbus_bus::{Incoming, Outgoing};
use peerbus_protocol::identity::Principal;
use peerbus_protocol::policy::{
    ANSWER_TYPE, OnBehalfOf, PolicyAnswer, PolicyDecision, PolicyQuery, PolicyRule, RuleMismatch,
};
use peerbus_protocol::{Ending, decode, subjects};

/// Queries that may wait.
pub(crate) const WAITING: usize = 64;

/// Queries checked at once: one that hangs in a file system does not delay others.
const AT_ONCE: usize = 16;

/// Maximum bytes of rule text in an answer. The rest of an answer is short.
const RULES_SHOWN: usize = 256 * 1024;

/// Maximum number of mismatches in an answer. Each is one sentence.
const OBJECTIONS_SHOWN: usize = 100;

/// Answers while it is polled.
pub(crate) async fn answer(context: Arc<Context>, mut questions: mpsc::Receiver<Incoming>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(question) = questions.recv().await {
        let Some(reply) = question.reply.clone().filter(|reply| subjects::is_inbox(reply)) else { continue };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let context = Arc::clone(&context);
        tokio::spawn(async move {
            answer_one(&context, &reply, &question).await;
            drop(place);
        });
    }
}

async fn answer_one(context: &Arc<Context>, reply: &str, message: &Incoming) {
    let principal = match auth::of(context, message) {
        Ok((principal, _)) => principal,
        Err(why) => {
            let (word, code) = answer::UNPROVEN;
            return answer::cannot(context, reply, word, code, &why).await;
        }
    };
    let question = match PolicyQuery::decode(&message.payload) {
        Ok(question) => question,
        Err(bad) => return answer::cannot(context, reply, "bad_request", 400, &bad.0).await,
    };
    let whom = match &question.whom {
        Some(OnBehalfOf { name, standing }) => Principal::Known { name: name.clone(), standing: *standing },
        None => principal.clone(),
    };
    if whom != principal && !may_see_all(&principal) {
        let sentence = format!("only operators may ask what others may do, and {principal} is none");
        return answer::cannot(context, reply, "not_yours", 403, &sentence).await;
    }
    let policy = context.settings.policy.policy();
    let answer = match &question.request {
        Some(request) => decided(context, &policy, &whom, by_all(context, &policy, &whom, request).await),
        None => {
            let all = (1..=policy.rules.len()).filter(|number| {
                may_see_all(&principal) || policy.rule(*number).is_some_and(|(rule, _)| rule.is_about(&whom))
            });
            with_rules(context, &policy, &whom, None, all)
        }
    };
    // If the answer is lost, the client retries.
    let _ = context.bus.publish(Outgoing::to(reply).payload(decode::to_json(&answer)).sealed()).await;
}

fn decided(
    context: &Context,
    policy: &Policy,
    whom: &Principal,
    decided: Result<Allowed, Denied>,
) -> PolicyAnswer {
    match decided {
        Ok(Allowed { rule, .. }) => {
            with_rules(context, policy, whom, Some(PolicyDecision::Allowed { rule }), [rule].into_iter())
        }
        Err(Denied { ending, against }) => {
            let numbers: Vec<usize> = against.iter().map(|against| against.rule).collect();
            let objections = against
                .into_iter()
                .take(OBJECTIONS_SHOWN)
                .map(|it| RuleMismatch { rule: it.rule, key: it.key.to_owned(), message: it.why })
                .collect();
            let decision = match ending {
                Ending::Refused { why, message } => {
                    Some(PolicyDecision::Refused { why, message, objections })
                }
                _ => None,
            };
            with_rules(context, policy, whom, decision, numbers.into_iter())
        }
    }
}

fn with_rules(
    context: &Context,
    policy: &Policy,
    whom: &Principal,
    decision: Option<PolicyDecision>,
    numbers: impl Iterator<Item = usize>,
) -> PolicyAnswer {
    let most = RULES_SHOWN.min(context.bus.max_payload() / 4);
    let (mut rules, mut left_out, mut bytes) = (Vec::new(), 0, 0);
    for number in numbers {
        let Some((_, text)) = policy.rule(number) else { continue };
        bytes += text.text.len();
        if bytes > most {
            left_out += 1;
            continue;
        }
        rules.push(PolicyRule { number, line: text.line, text: text.text.clone() });
    }
    let state = context.settings.policy.state();
    PolicyAnswer {
        kind: ANSWER_TYPE.to_owned(),
        peer_id: context.peer().clone(),
        instance: context.instance,
        file: state.rules.map(|_| state.path.display().to_string()),
        whom: whom.to_string(),
        decision,
        rules,
        left_out,
    }
}
