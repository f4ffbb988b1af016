//! `d task`: named commands, defined in the configuration of the user who runs them.
//!
//! A task consists of steps: shell lines that run on a peer one after the other, or other tasks. It
//! stops at the first step that fails, and ends with that step's code. stdout is the steps' output.
//!
//! A task that builds the daemon's next version names it with the key `program`. The daemon then
//! upgrades itself to that version, see `d daemon upgrade`. The task ends when the new version
//! serves or the old one is back.
//!
//! The whole task is one durable job: it keeps running if the link drops, `d` exits or the daemon
//! restarts, and a client that attaches sees the rest. The peer announces each step on stderr, and
//! reports the step the task stopped at. A policy allows the task if it allows each of its steps;
//! otherwise no step starts.
//!
//! Limits: `d` requests the daemon's upgrade after the last step, so if `d` is gone by then, the
//! old version keeps serving. On peers without durable jobs, `d` runs the steps one by one, and the
//! next one does not start without `d`. A step that restarts the daemon must not wait for the
//! restart (`systemctl --no-block restart …`) if that would wait for the step itself.

mod catalog;
mod deploy;
mod legacy_steps;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Common, peer_name};
use super::exec::{self, Done, Enough, Exec};
use super::exit::{CANCELLED, CliError, NOT_STARTED, OTHER};
use super::output::Table;
use super::peers::Format;
use super::settings::Settings;
use super::{exit, output};
use catalog::{Step, TaskCatalog};
pub(super) use catalog::{Task, of_policy};
use peerbus_protocol::attach::is_name;
use peerbus_protocol::task::{self as protocol, Step as Part};

/// What can be done with tasks.
#[derive(Debug, Subcommand)]
pub(super) enum Tasks {
    /// Run a task on peers, one after the other
    #[command(
        after_help = "Examples:\n  d task run pull vps\n  d task run deploy vps desktop\n  d task run deploy --binary ./d vps"
    )]
    Run(TaskRun),
    /// List the tasks there are
    #[command(after_help = "Example:\n  d task list")]
    List(TaskList),
}

/// What `d task run` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct TaskRun {
    /// The task's name
    #[arg(value_name = "TASK")]
    name: String,
    /// With `deploy`: send this program and have the daemon become it, instead of running steps there
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Peers: each an id, hostname or address
    #[arg(required = true, value_name = "PEER", value_parser = peer_name)]
    peers: Vec<String>,
}

/// What `d task list` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct TaskList {
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Show everything, however wide the terminal is
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

/// The names of all tasks, for completion; empty if the configuration is invalid.
pub(super) fn names(common: &Common) -> Vec<String> {
    let Ok(settings) = Settings::read(common) else { return Vec::new() };
    TaskCatalog::of(settings.file.tasks).names().map(str::to_owned).collect()
}

/// `d task`
pub(super) async fn run(common: &Common, verb: Tasks) -> Result<u8, CliError> {
    match verb {
        Tasks::Run(args) => on_all(common, args).await,
        Tasks::List(args) => list(common, &args),
    }
}

/// The work on each peer.
enum Work {
    Steps(Steps),
    /// A local program that becomes the daemon's next version.
    Program(deploy::Program),
}

/// A task to run.
struct Steps {
    steps: Vec<Step>,
    /// The path of the built program, if it is the daemon's next version.
    program: Option<String>,
}

impl Work {
    async fn on(&self, common: &Common, name: &str, peer: &str, enough: &mut Enough) -> Result<u8, CliError> {
        match self {
            Self::Steps(steps) => on_one(common, name, steps, peer, enough).await,
            Self::Program(program) => deploy::send(common, name, program, peer).await,
        }
    }
}

/// Runs a task on one peer after the other.
async fn on_all(common: &Common, args: TaskRun) -> Result<u8, CliError> {
    let TaskRun { name, binary, peers } = args;
    let (name, peers) = (name.as_str(), peers.as_slice());
    let work = match binary {
        None => Work::Steps(steps(common, name)?),
        Some(path) if name == deploy::TASK => Work::Program(deploy::Program::read(path)?),
        Some(_) => return Err(CliError::usage(format!("--binary: it goes with `{}`", deploy::TASK))),
    };
    let mut enough = Enough::listen();
    if let [peer] = peers {
        return work.on(common, name, peer, &mut enough).await;
    }
    let mut codes = Vec::new();
    for (at, peer) in (1..).zip(peers) {
        codes.push(match work.on(common, name, peer, &mut enough).await {
            Ok(0) => None,
            Ok(_) => Some(OTHER),
            Err(failure) => {
                exit::say(&failure);
                // Any code that is not a failure of `d` is the command's.
                Some(if failure.code >= NOT_STARTED { failure.code } else { OTHER })
            }
        });
        if enough.was_said() {
            if at < peers.len() {
                output::say(&format!("{name} is not begun on {}", peers[at..].join(", ")));
            }
            return Ok(CANCELLED);
        }
    }
    Ok(codes.into_iter().flatten().max().unwrap_or(0))
}

/// Runs a task by its name on one peer.
pub(super) async fn named(common: &Common, name: &str, peer: &str) -> Result<u8, CliError> {
    on_one(common, name, &steps(common, name)?, peer, &mut Enough::listen()).await
}

fn steps(common: &Common, name: &str) -> Result<Steps, CliError> {
    let book = TaskCatalog::of(Settings::read(common)?.file.tasks);
    let steps = book.steps(name).map_err(CliError::usage)?;
    Ok(Steps { steps, program: book.program(name) })
}

async fn on_one(
    common: &Common,
    name: &str,
    steps: &Steps,
    peer: &str,
    enough: &mut Enough,
) -> Result<u8, CliError> {
    let of = steps.steps.len() + usize::from(steps.program.is_some());
    let code = match exec::run_if_known(common, as_job(name, steps, of, peer)).await? {
        Done::Code(code) => code,
        Done::NotSupported(_) => {
            let this = legacy_steps::Task { name, steps: &steps.steps, of, peer };
            this.run(common, enough).await?
        }
    };
    let Some(program) = steps.program.as_ref().filter(|_| code == 0) else { return Ok(code) };
    // A command may handle an interrupt and exit with 0; the user wanted to end everything.
    if enough.was_said() {
        output::say(&format!("{peer}: {name} stopped before step {of} of {of}: it was interrupted"));
        return Ok(CANCELLED);
    }
    deploy::built(common, &format!("{peer}: {name} {of}/{of}"), program, peer).await
}

/// All steps as one job.
fn as_job(name: &str, steps: &Steps, of: usize, peer: &str) -> Exec {
    let part = |step: &Step| Part {
        directory: Some(step.directory.clone()),
        shell_cmd: step.line.clone(),
        env: step.env.clone().into_iter().collect(),
        user: step.user.clone(),
        timeout_ms: step.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    let task = protocol::Task {
        name: name.to_owned(),
        of: u32::try_from(of).ok(),
        steps: steps.steps.iter().map(part).collect(),
    };
    // The task's name also names the job, if it is a valid job name.
    let name = Some(name.to_owned()).filter(|name| is_name(name));
    Exec { name, task: Some(task), durable: true, ..on(peer) }
}

/// An empty execution on this peer.
fn on(peer: &str) -> Exec {
    Exec {
        queue: None,
        detach: false,
        tty: false,
        detach_keys: None,
        name: None,
        durable: false,
        task: None,
        peer: peer.to_owned(),
        directory: None,
        sh: None,
        stdin: false,
        env: Vec::new(),
        user: None,
        timeout: None,
        wait: Duration::ZERO,
        no_wait: false,
        report: None,
        argv: Vec::new(),
    }
}

fn list(common: &Common, args: &TaskList) -> Result<u8, CliError> {
    let book = TaskCatalog::of(Settings::read(common)?.file.tasks);
    let mut table = Table::of(&["TASK", "DIRECTORY", "STEP"]).wide(args.output == Some(Format::Wide));
    for name in book.names() {
        let steps = book.steps(name).map_err(CliError::usage)?;
        if args.json {
            let steps: Vec<_> = steps.iter().map(Step::shown).collect();
            output::json(&serde_json::json!({ "task": name, "steps": steps }))?;
            continue;
        }
        let first = std::iter::once(name).chain(std::iter::repeat(""));
        first.zip(&steps).for_each(|(name, step)| table.row([name, &step.directory, &step.line]));
    }
    if !args.json {
        output::list(&table, "no tasks")?;
    }
    Ok(0)
}
