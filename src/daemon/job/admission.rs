//! Decides whether a job may start here and now: the last check before its id is taken for good.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::{blocking, replay, reply, runner, terminal_env};
use crate::context::{Context, JobSlot, ShutdownPhase};
use crate::dispatcher::Message;
use crate::durable;
use crate::journal::{Entry, NotNamed, StartRecord, now};
use crate::policy::{self, Allowed};
use crate::queue::{Taken, taken};
use crate::request::Request;
use crate::request_summary::{RequestSummary, name};
use crate::running_jobs::JobGuard;
use peerbus_process::{self as process, JobScope, Spec};
use peerbus_protocol::ending::{Refusal, sentence};
use peerbus_protocol::exec::{Command, ExecRequest, JOB_VARIABLE, JobResult, PEER_VARIABLE};
use peerbus_protocol::{Ending, JobId};
use peerbus_shim::messages::StepSpec;

/// How long a refusal is remembered that could not be journalled. No caller repeats its request for longer.
const REFUSAL_REMEMBERED: std::time::Duration = std::time::Duration::from_secs(60);

/// A job that may start. Its id is taken.
pub(crate) struct Admitted {
    pub(crate) request: Request,
    pub(crate) commands: Commands,
    pub(crate) job_scope: JobScope,
    pub(crate) entry: Entry,
    /// Its first journal record.
    pub(crate) begun: StartRecord,
    pub(crate) place: JobSlot,
    pub(crate) asked: RequestSummary,
    pub(crate) enrolled: JobGuard,
    /// Messages that arrived while the job was claimed from the queue.
    pub(crate) held: Vec<Message>,
}

/// The commands to run.
pub(crate) struct Commands {
    pub(crate) spec: Spec,
    pub(crate) timeout_ms: Option<u64>,
    /// The further steps of a task.
    pub(crate) then: Vec<StepSpec>,
}

/// A request that passed all checks that need no journal.
struct Prepared {
    commands: Commands,
    place: JobSlot,
    /// The policy rules that allow it.
    rules: BTreeSet<usize>,
}

/// Admits a job and runs it to its end, or refuses it. Returns the messages about it that nobody has handled yet.
pub(super) async fn admit(
    context: Arc<Context>,
    request: Request,
    messages: &mut mpsc::Receiver<Message>,
) -> Vec<Message> {
    let mut held = Vec::new();
    let prepared = match prepare(&context, &request).await {
        Ok(prepared) => prepared,
        Err(ending) => {
            match &request.queued {
                Some(ticket) if passes(&ending) => {
                    ticket.later(&context, request.id, &ending.to_string()).await;
                }
                _ => refuse(&context, &request, ending, messages).await,
            }
            return held;
        }
    };
    let Prepared { commands, place, rules } = prepared;
    let job_scope = context.containment_manager.job_scope(request.id);
    let asked = RequestSummary::by(&context, &request).allowed_by(&rules);
    let begun = begun(&context, &request, &asked, Some(job_scope.clone()));
    let enrolled = context.running_jobs.enter(request.id, u32::from(request.is_waited_for()));
    enrolled.set_watched_from(request.exec.within.first().cloned().into_iter().collect());
    let (journal, known) = (context.journal.clone(), begun.clone());
    let delivered = request.queued.as_ref().map(|ticket| ticket.delivered().clone());
    let begin = move || {
        Ok(journal.begin_as(&known, || match delivered {
            Some(delivered) => journal.begin_queued(&known, &delivered),
            None => journal.begin(&known),
        }))
    };
    let begin = blocking(begin).await.map_err(NotNamed::from).flatten();
    let entry = match (&request.queued, begin) {
        (Some(ticket), Ok(entry)) => {
            match taken(&context, (ticket, &request), &asked, entry, (messages, &mut held)).await {
                Taken::Start(entry) => Ok(entry),
                Taken::Later | Taken::Never => return held,
            }
        }
        (Some(ticket), Err(error)) => {
            ticket.later(&context, request.id, &not_begun(&error).to_string()).await;
            return held;
        }
        (None, begin) => begin,
    };
    match entry {
        Ok(entry) => match asked.begun(&context.audit).await {
            Ok(()) => {
                let durable = request.exec.is_durable();
                let held = std::mem::take(&mut held);
                let admitted =
                    Admitted { request, commands, job_scope, entry, begun, place, asked, enrolled, held };
                match durable {
                    true => durable::run(context, admitted, messages).await,
                    false => runner::run(context, admitted, messages).await,
                }
            }
            Err(why) => {
                give_back(place, enrolled);
                take_back(&context, &request, entry, &asked, &why).await;
            }
        },
        Err(error) => {
            give_back(place, enrolled);
            refuse(&context, &request, not_begun(&error), messages).await;
        }
    }
    held
}

/// Frees the slot while a refusal is remembered for up to a minute: a refused job runs nothing and is not listed.
fn give_back(place: JobSlot, enrolled: JobGuard) {
    drop((place, enrolled));
}

fn not_begun(error: &NotNamed) -> Ending {
    let (why, message) = match error {
        NotNamed::Taken { .. } => (Refusal::Taken, error.to_string()),
        NotNamed::Io(error) => (Refusal::Journal, unwritable(error)),
    };
    Ending::Refused { why, message }
}

/// Explains why the journal cannot be written, and what to do about it.
fn unwritable(error: &io::Error) -> String {
    let cause = match error.kind() {
        ErrorKind::StorageFull => "its disk is full: ",
        ErrorKind::QuotaExceeded => "its user's quota is used up: ",
        ErrorKind::ReadOnlyFilesystem => "it is on a read-only file system: ",
        _ => "",
    };
    format!(
        "the journal cannot be written: {cause}{error}; a command that is not noted there might run twice"
    )
}

/// Whether the reason for a refusal is temporary. A queued request stays in the queue then.
fn passes(ending: &Ending) -> bool {
    let Ending::Refused { why, .. } = ending else { return false };
    matches!(why, Refusal::Stopping | Refusal::Conflict | Refusal::Limit | Refusal::Journal)
}

async fn prepare(context: &Arc<Context>, request: &Request) -> Result<Prepared, Ending> {
    let refused = |why, message: &str| Ending::Refused { why, message: message.to_owned() };
    if *context.leaving.borrow() != ShutdownPhase::No {
        return Err(refused(Refusal::Stopping, "the daemon is stopping"));
    }
    if *context.conflict.borrow() {
        let message = format!("another daemon answers for the peer {}; stop one of them", context.peer());
        return Err(refused(Refusal::Conflict, &message));
    }
    if let Err(wait) = context.audit.has_room(&request.principal) {
        let (peer, principal, wait) = (context.peer(), &request.principal, wait.as_secs());
        let message =
            format!("{principal} has filled its share of the audit log of {peer}; there is room in {wait} s");
        return Err(refused(Refusal::Limit, &message));
    }
    // No step of a task starts unless all of its steps may run.
    let (mut rules, mut steps) = (BTreeSet::new(), Vec::new());
    for (n, part) in (1..).zip(request.exec.parts()) {
        let step = one(context, request, &part).await.map_err(|ending| in_step(request, n, ending))?;
        tracing::debug!(job = %request.id, principal = %request.principal, rule = step.0, "the policy allows it");
        rules.insert(step.0);
        steps.push(StepSpec { spec: step.1, timeout_ms: part.timeout_ms });
    }
    let mut steps = steps.into_iter();
    let Some(StepSpec { spec, timeout_ms }) = steps.next() else {
        // Decoding has checked this already; this guards the invariant.
        return Err(refused(Refusal::BadRequest, "it has nothing to run"));
    };
    let commands = Commands { spec, timeout_ms, then: steps.collect() };
    let settings = &context.settings;
    let (place, most, kind) = match request.exec.is_durable() {
        true => (context.durable_place(), settings.jobs.most, "durable jobs"),
        false => (context.place(), settings.max_jobs, "jobs"),
    };
    let limit =
        || refused(Refusal::Limit, &format!("{} runs {most} {kind} at once and no more", context.peer()));
    place.map(|place| Prepared { commands, place, rules }).ok_or_else(limit)
}

/// Checks one command. Returns the number of the rule that allows it, and what to start.
async fn one(context: &Arc<Context>, request: &Request, exec: &ExecRequest) -> Result<(usize, Spec), Ending> {
    let allowed = policy::check(context, &request.principal, exec).await.map_err(|denied| denied.ending)?;
    check_user(exec)?;
    let of_terminal = terminal_env::variables(exec, &context.settings.env).await;
    Ok((allowed.rule, spec(context, request.id, exec, allowed, of_terminal)?))
}

/// Names the refused step in the ending of a task.
fn in_step(request: &Request, n: u32, ending: Ending) -> Ending {
    match (&request.exec.task, ending) {
        (Some(task), Ending::Refused { why, message }) => {
            let message = format!("{} {n}/{}: {message}", task.name, task.count());
            Ending::Refused { why, message: sentence(message) }
        }
        (_, ending) => ending,
    }
}

/// Only root can switch to another user.
fn check_user(exec: &ExecRequest) -> Result<(), Ending> {
    let Some(user) = exec.user.as_ref().filter(|_| !process::host::is_root()) else { return Ok(()) };
    let own = process::host::current_user();
    if *user == own {
        return Ok(());
    }
    let message = format!("the daemon runs as {own} and cannot run commands as {user}");
    Err(Ending::Refused { why: Refusal::User, message: sentence(message) })
}

fn spec(
    context: &Context,
    job: JobId,
    exec: &ExecRequest,
    allowed: Allowed,
    of_terminal: Vec<(String, String)>,
) -> Result<Spec, Ending> {
    let command = match exec.command() {
        Ok(Command::Shell(line)) => process::Command::Shell { shell: context.settings.shell.clone(), line },
        Ok(Command::Argv(argv)) => process::Command::Argv(argv),
        // Decoding has checked this already; this guards the invariant.
        Err(bad) => return Err(Ending::Refused { why: Refusal::BadRequest, message: bad.0 }),
    };
    let own =
        [(JOB_VARIABLE.to_owned(), job.to_string()), (PEER_VARIABLE.to_owned(), context.peer().to_string())];
    let configured = context.settings.env.clone();
    let env = configured.into_iter().chain(of_terminal).chain(exec.env.clone()).chain(own).collect();
    let stdin = if exec.stdin { process::Stdin::Pipe } else { process::Stdin::Null };
    let Allowed { directory, links, .. } = allowed;
    let user = exec.user.clone();
    let start_within = exec.timeout_ms.map(std::time::Duration::from_millis);
    Ok(Spec { job, directory, links, command, env, user, stdin, tty: None, start_within })
}

fn begun(
    context: &Context,
    request: &Request,
    asked: &RequestSummary,
    job_scope: Option<JobScope>,
) -> StartRecord {
    let (principal, standing) = asked.principal();
    let first = request.exec.parts().into_iter().next().unwrap_or_else(|| request.exec.clone());
    StartRecord {
        id: request.id,
        instance: context.instance,
        caller: request.caller.clone(),
        request: request.digest.clone(),
        from: request.exec.from.as_ref().map(name),
        principal,
        standing,
        at: now(),
        command: asked.command().to_owned(),
        directory: first.directory.unwrap_or_default().chars().take(1024).collect(),
        user: first.user.as_ref().map(|user| user.chars().take(64).collect()),
        job_scope,
        queued: request.queued.is_some(),
        durable: request.exec.is_durable(),
        tty: request.exec.tty.is_some(),
        name: request.exec.name.clone(),
    }
}

/// Refuses a job whose id is taken, because nobody could later prove that it ran.
async fn take_back(
    context: &Arc<Context>,
    request: &Request,
    entry: Entry,
    asked: &RequestSummary,
    why: &str,
) {
    let message = format!(
        "the audit log cannot be written, and this peer's configuration says audit = \"required\": {why}"
    );
    let ending = Ending::Refused { why: Refusal::Journal, message };
    asked.refused(&context.audit, &ending).await;
    count(context, &ending);
    let result = JobResult::bare(Some(request.id), context.peer().clone(), context.instance, ending);
    let ended = result.clone();
    if let Err(error) = blocking(move || entry.ended(&ended)).await {
        tracing::error!(job = %request.id, %error, "writing the journal");
    }
    reply(context, request, &result).await;
}

fn count(context: &Context, ending: &Ending) {
    context.count(|counts| {
        counts.errors += 1;
        counts.last_error = ending.to_string();
    });
}

/// Refuses a job for good. Its caller has been told that it did not run, so a repeat of the same request gets the
/// same answer, even if the policy has changed since.
pub(super) async fn refuse(
    context: &Arc<Context>,
    request: &Request,
    ending: Ending,
    messages: &mut mpsc::Receiver<Message>,
) {
    let asked = RequestSummary::by(context, request);
    asked.refused(&context.audit, &ending).await;
    count(context, &ending);
    let result = JobResult::bare(Some(request.id), context.peer().clone(), context.instance, ending);
    let begun = begun(context, request, &asked, None);
    let (journal, buried) = (context.journal.clone(), result.clone());
    let record = super::Record { result: Some(result.clone()), ..super::Record::of(begun.clone()) };
    let written = blocking(move || journal.bury(&begun, &buried)).await;
    if let (Some(ticket), Err(error)) = (&request.queued, &written) {
        // Nobody waits for this answer: the caller reads it from the journal later.
        let why = format!("it is refused, and the journal cannot be written: {error}");
        return ticket.later(context, request.id, &why).await;
    }
    reply(context, request, &result).await;
    if let Err(error) = written {
        tracing::error!(job = %request.id, %error, "writing the journal");
        let remember = async {
            while let Some(message) = messages.recv().await {
                replay::answer(context, &record, message).await;
            }
        };
        let _ = tokio::time::timeout(REFUSAL_REMEMBERED, remember).await;
    }
}
