//! `d task`: commands with a name, defined in the configuration of whoever runs them.
//!
//! A task is steps, shell lines that run on a peer one after the other, or other tasks. It stops at
//! the first step that fails, and ends with that step's code. stdout is what the steps say.
//!
//! Limit: `d` runs the steps. A step that restarts the daemon which runs it must not wait for that
//! (`systemctl --no-block restart …`) and has to be the last one.

mod book;

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
    #[command(after_help = "Examples:\n  d task run pull vps\n  d task run deploy vps desktop")]
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
        Tasks::Run(args) => on_all(common, &args.name, &args.peers).await,
        Tasks::List(args) => list(common, &args),
    }
}

/// Runs a task on one peer after the other.
async fn on_all(common: &Common, name: &str, peers: &[String]) -> Result<u8, Failure> {
    let steps = steps(common, name)?;
    let mut enough = Enough::listen();
    if let [peer] = peers {
        return on_one(common, name, &steps, peer, &mut enough).await;
    }
    let mut codes = Vec::new();
    for (at, peer) in (1..).zip(peers) {
        codes.push(match on_one(common, name, &steps, peer, &mut enough).await {
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

fn steps(common: &Common, name: &str) -> Result<Vec<Step>, Failure> {
    let book = Book::of(Settings::read(common)?.file.tasks);
    book.steps(name).map_err(Failure::usage)
}

async fn on_one(
    common: &Common,
    name: &str,
    steps: &[Step],
    peer: &str,
    enough: &mut Enough,
) -> Result<u8, Failure> {
    let of = steps.len();
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
    Ok(0)
}

fn as_exec(step: &Step, peer: &str) -> Exec {
    Exec {
        queue: None,
        detach: false,
        durable: false,
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
