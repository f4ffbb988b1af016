//! Checks one request against the policy, after resolving its directory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Access, AccessRequest, Against, Policy, Verdict};
use crate::context::Context;
use peerbus_process::{Links, find_real_directory, user_name};
use peerbus_protocol::Ending;
use peerbus_protocol::ending::{Refusal, sentence as cut};
use peerbus_protocol::exec::ExecRequest;
use peerbus_protocol::identity::Principal;

/// Timeout for resolving a directory. Callers retry for a few seconds longer.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);

/// A request that the policy allows, and the directory it must run in.
pub(crate) struct Allowed {
    /// The number of the rule that allows it.
    pub(crate) rule: usize,
    pub(crate) directory: String,
    pub(crate) links: Links,
}

/// A denied request, and the ending that its caller gets.
pub(crate) struct Denied {
    pub(crate) ending: Ending,
    /// For clients that may see the rules.
    pub(super) against: Vec<Against>,
}

impl Denied {
    fn of(why: Refusal, message: String) -> Self {
        Self { ending: Ending::Refused { why, message }, against: Vec::new() }
    }
}

/// Decides by the current rules.
pub(crate) async fn check(
    context: &Arc<Context>,
    principal: &Principal,
    exec: &ExecRequest,
) -> Result<Allowed, Denied> {
    by(context, &context.settings.policy.policy(), principal, exec).await
}

/// Decides by the current rules whether a principal may read the output of a job, or write to it. The job may run
/// or have ended.
///
/// # Errors
/// A sentence for the client.
pub(crate) fn may_attach(
    context: &Context,
    principal: &Principal,
    owner: &Principal,
    access: Access,
) -> Result<(), String> {
    if context.settings.policy.policy().attaches(principal, owner, access) {
        return Ok(());
    }
    let (peer, what) = match access {
        Access::Read => (context.peer(), "read"),
        Access::Write => (context.peer(), "write to"),
    };
    Err(format!("the policy of {peer} does not let {principal} {what} this job of {owner}"))
}

/// Decides by these rules. A task is allowed if all its steps are; the answer is that of the last step.
pub(super) async fn by_all(
    context: &Arc<Context>,
    policy: &Policy,
    principal: &Principal,
    exec: &ExecRequest,
) -> Result<Allowed, Denied> {
    let mut decided = Err(Denied::of(Refusal::BadRequest, "it has nothing to run".to_owned()));
    for part in exec.parts() {
        decided = by(context, policy, principal, &part).await;
        if decided.is_err() {
            break;
        }
    }
    decided
}

/// Decides by these rules about one command.
pub(super) async fn by(
    context: &Arc<Context>,
    policy: &Policy,
    principal: &Principal,
    exec: &ExecRequest,
) -> Result<Allowed, Denied> {
    let refused = Denied::of;
    let Some(directory) = exec.directory.as_ref().or(context.settings.directory.as_ref()) else {
        let message =
            "no directory is named: give one with -C DIR, or set `directory` in the peer's configuration";
        return Err(refused(Refusal::NoDirectory, message.to_owned()));
    };
    let command = exec.command().map_err(|bad| refused(Refusal::BadRequest, bad.0))?;
    let real = match policy.looks_at_directories(principal) {
        true => look_up(directory, exec).await?,
        false => None,
    };
    let user = match &exec.user {
        Some(user) => name_of(user).await,
        None => context.own_user.clone(),
    };
    let wish = AccessRequest {
        principal,
        command: &command,
        directory,
        real: real.as_deref(),
        env: &exec.env,
        user: &user,
        input: exec.stdin || exec.tty.is_some(),
        own_user: &context.own_user,
    };
    match policy.decide(&wish) {
        Verdict::Allowed(rule) => {
            let place =
                real.as_ref().and_then(|real| real.to_str()).filter(|_| policy.is_bound_to_a_place(rule));
            let (directory, links) = match place {
                Some(real) => (real, Links::Refused),
                None => (directory.as_str(), Links::Followed),
            };
            Ok(Allowed { rule, directory: directory.to_owned(), links })
        }
        Verdict::Refused(against) => {
            let message = cut(sentence(context, principal, &against));
            Err(Denied { ending: Ending::Refused { why: Refusal::Policy, message }, against })
        }
    }
}

/// Rules name users, so this maps a numeric id to its user name.
async fn name_of(user: &str) -> String {
    if user.bytes().any(|byte| !byte.is_ascii_digit()) {
        return user.to_owned();
    }
    let number = user.to_owned();
    tokio::task::spawn_blocking(move || user_name(&number)).await.unwrap_or_else(|_| user.to_owned())
}

/// Resolves a directory. `None` if that is not possible.
async fn look_up(directory: &str, exec: &ExecRequest) -> Result<Option<PathBuf>, Denied> {
    let timeout = exec.timeout_ms.map_or(LOOK_UP_WITHIN, Duration::from_millis);
    let within = timeout.min(LOOK_UP_WITHIN);
    match find_real_directory(directory, exec.user.as_deref(), within).await {
        Ok(real) => Ok(Some(real)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let message =
                format!("the file system of directory {directory} did not answer within {within:?}");
            Err(Denied::of(Refusal::Policy, cut(message)))
        }
        Err(error) => {
            tracing::debug!(%error, "finding out where a directory leads");
            Ok(None)
        }
    }
}

/// The sentence for the caller. It does not reveal rules about others.
fn sentence(context: &Context, principal: &Principal, against: &[Against]) -> String {
    let peer = context.peer();
    match against {
        [] if context.settings.policy.is_missing() => format!(
            "the policy file of {peer} is gone, so nothing is allowed; its log says what to do about it"
        ),
        [] => format!("the policy of {peer} has no rule for {principal}"),
        [only] => format!(
            "the policy of {peer} does not allow this: rule {}, `{}`: {}; `d policy check {peer}` says more",
            only.rule, only.key, only.why
        ),
        several => format!(
            "none of the {} rules that the policy of {peer} has for {principal} allows this; `d policy check {peer}` says why",
            several.len()
        ),
    }
}
