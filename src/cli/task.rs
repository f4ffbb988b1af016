//! `d task`: commands with a name, defined in the configuration of whoever runs them.
//!
//! A task is steps, shell lines that run on a peer one after the other, or other tasks. It stops at
//! the first step that fails, and ends with that step's code. stdout is what the steps say.
//!
//! A task that has built the daemon's own next version says so with the key `program`: the daemon then becomes
//! that version by itself, see `d daemon upgrade`, and the task ends when it serves, or the old one is back.
//!
//! Each step is a durable job of its own: it goes on whatever becomes of the link, of `d`, or of the daemon, and a
//! policy can name it exactly. Peers that know no durable jobs run it as any other.
//!
//! Limit: `d` runs the steps. Where it vanishes, the step that runs goes on, and the next one does not begin. A step that restarts the daemon which runs it must not wait for that
//! (`systemctl --no-block restart …`) and has to be the last one.

mod book;
mod deploy;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Common, peer_name};
use super::exec::{self, Enough, Exec};
use super::exit::{CANCELLED, Failure, NOT_STARTED, OTHER};
use super::settings::Settings;
use super::{exit, output, render};
use book::{Book, Step};
pub(super) use book::{Task, of_policy};

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
    /// JSON lines
    #[arg(long)]
    json: bool,
}

/// `d task`
pub(super) async fn run(common: &Common, verb: Tasks) -> Result<u8, Failure> {
    match verb {
        Tasks::Run(args) => on_all(common, args).await,
        Tasks::List(args) => list(common, &args),
    }
}

/// What is done on each peer.
enum Work {
    Steps(Steps),
    /// A program of this machine, to become the daemon's.
    Program(deploy::Program),
}

/// A task, as it is run.
struct Steps {
    steps: Vec<Step>,
    /// What they have built, if that is the daemon's next version.
    program: Option<String>,
}

impl Work {
    async fn on(&self, common: &Common, name: &str, peer: &str, enough: &mut Enough) -> Result<u8, Failure> {
        match self {
            Self::Steps(steps) => on_one(common, name, steps, peer, enough).await,
            Self::Program(program) => deploy::send(common, name, program, peer).await,
        }
    }
}

/// Runs a task on one peer after the other.
async fn on_all(common: &Common, args: TaskRun) -> Result<u8, Failure> {
    let TaskRun { name, binary, peers } = args;
    let (name, peers) = (name.as_str(), peers.as_slice());
    let work = match binary {
        None => Work::Steps(steps(common, name)?),
        Some(path) if name == deploy::TASK => Work::Program(deploy::Program::read(path)?),
        Some(_) => return Err(Failure::usage(format!("--binary: it goes with `{}`", deploy::TASK))),
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
                // What is not d's own failure is the command's.
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

/// Runs a task of this name on one peer.
pub(super) async fn named(common: &Common, name: &str, peer: &str) -> Result<u8, Failure> {
    on_one(common, name, &steps(common, name)?, peer, &mut Enough::listen()).await
}

fn steps(common: &Common, name: &str) -> Result<Steps, Failure> {
    let book = Book::of(Settings::read(common)?.file.tasks);
    let steps = book.steps(name).map_err(Failure::usage)?;
    Ok(Steps { steps, program: book.program(name) })
}

async fn on_one(
    common: &Common,
    name: &str,
    steps: &Steps,
    peer: &str,
    enough: &mut Enough,
) -> Result<u8, Failure> {
    let Steps { steps, program } = steps;
    let of = steps.len() + usize::from(program.is_some());
    for (at, step) in (1..).zip(steps) {
        let line = &step.line;
        output::say(&format!("{peer}: {name} {at}/{of} in {}: {line}", step.directory));
        let stopped = |why: &str| output::say(&format!("{peer}: {name} stopped at step {at} of {of}: {why}"));
        match exec::run(common, as_exec(step, peer)).await {
            // A command may take an interrupt and end well; the person wanted all to end.
            Ok(0) if at < of && enough.was_said() => {
                stopped("it was interrupted");
                return Ok(CANCELLED);
            }
            Ok(0) => {}
            Ok(code) => {
                stopped(&format!("it exited {code}"));
                return Ok(code);
            }
            Err(failure) => {
                if failure.code == NOT_STARTED || at > 1 {
                    stopped(line);
                }
                return Err(failure);
            }
        }
    }
    match program {
        Some(program) => deploy::built(common, &format!("{peer}: {name} {of}/{of}"), program, peer).await,
        None => Ok(0),
    }
}

fn as_exec(step: &Step, peer: &str) -> Exec {
    Exec {
        queue: None,
        detach: false,
        tty: false,
        detach_keys: None,
        name: None,
        durable: true,
        or_as_any_other: true,
        peer: peer.to_owned(),
        directory: Some(step.directory.clone()),
        sh: Some(step.line.clone()),
        stdin: false,
        env: step.env.clone().into_iter().collect(),
        user: step.user.clone(),
        timeout: step.timeout,
        wait: Duration::ZERO,
        report: None,
        argv: Vec::new(),
    }
}

fn list(common: &Common, args: &TaskList) -> Result<u8, Failure> {
    let book = Book::of(Settings::read(common)?.file.tasks);
    let mut lines = vec![["TASK", "DIRECTORY", "STEP"].map(str::to_owned).to_vec()];
    for name in book.names() {
        let steps = book.steps(name).map_err(Failure::usage)?;
        if args.json {
            let steps: Vec<_> = steps.iter().map(Step::shown).collect();
            output::line(&serde_json::json!({ "task": name, "steps": steps }).to_string())?;
            continue;
        }
        let first = std::iter::once(name).chain(std::iter::repeat(""));
        lines.extend(
            first
                .zip(&steps)
                .map(|(name, step)| vec![name.to_owned(), step.directory.clone(), step.line.clone()]),
        );
    }
    if !args.json {
        output::line(&render::table(&lines))?;
    }
    Ok(0)
}
