//! The command line `d`: one file per verb.
//!
//! `args` defines the command line, `settings` resolves the values of options, and `exit` has the
//! public table of exit codes. stdout carries only the requested data. Messages of `d` itself go to
//! stderr and begin with `d: `.

mod args;
mod attach;
mod audit;
mod cache;
mod completions;
mod config;
mod connect;
mod daemon;
mod doctor;
mod exec;
mod exit;
mod groups;
mod guide;
mod identities;
mod init;
mod invite;
mod jobs;
mod join;
mod keys;
mod legacy;
mod log;
mod manual;
mod misuse;
mod named_file;
mod nats_context;
mod output;
mod peers;
mod ping;
mod policy;
mod queue;
mod render;
mod revoke;
mod session;
mod settings;
mod signals;
mod status;
mod stop;
mod task;
mod terminal;
mod time;
mod version;
mod wait;

use std::process::ExitCode;

use args::{Args, Verb};
use exit::CliError;

/// Runs one command line.
#[must_use]
pub fn main() -> ExitCode {
    if completions::answered() {
        return ExitCode::SUCCESS;
    }
    if let Some(done) = guide::answer() {
        return match done {
            Ok(code) => code.into(),
            Err(failure) => exit::report(&failure),
        };
    }
    peerbus_bus::log_panics_of_the_library();
    let args = match groups::parsed(std::env::args_os()) {
        Ok(args) => args,
        Err(misuse) => {
            let code = exit::misused(&misuse);
            if misuse.kind() == clap::error::ErrorKind::DisplayVersion {
                version::say_who_differs();
            }
            return code;
        }
    };
    let runtime = match args.verb.runtime() {
        Ok(runtime) => runtime,
        Err(error) => return exit::report(&CliError::other(format!("starting: {error}"))),
    };
    let done = runtime.block_on(run(args));
    // A thread blocked on reading a terminal cannot be cancelled; do not wait for it.
    runtime.shutdown_background();
    match done {
        Ok(code) => code.into(),
        Err(failure) => exit::report(&failure),
    }
}

async fn run(args: Args) -> Result<u8, CliError> {
    let Args { common, verb } = args;
    // A daemon starts its own log after it has read its configuration.
    if !matches!(verb, Verb::Daemon(daemon::Daemon::Run(_))) {
        log::of_a_command(common.verbose)?;
    }
    match verb {
        Verb::Exec(exec) => exec::run(&common, exec).await,
        Verb::Peers(list) => peers::list(&common, &list).await,
        Verb::Peer(one) => peers::one_peer(&common, one).await,
        Verb::Status(status) => status::run(&common, &status).await,
        Verb::Attach(args) => attach::run(&common, &args).await,
        Verb::Logs(args) => attach::logs(&common, &args).await,
        Verb::Jobs(args) => jobs::run(&common, &args).await,
        Verb::Stop(args) => stop::run(&common, &args).await,
        Verb::Session(verb) => session::run(&common, verb).await,
        Verb::Wait(args) => wait::run(&common, &args).await,
        Verb::Audit(args) => audit::run(&common, args).await,
        Verb::Ping(ping) => ping::run(&common, &ping).await,
        Verb::Daemon(verb) => daemon::run(&common, verb).await,
        Verb::Completions(args) => completions::run(&args),
        Verb::RefreshJobs => completions::refresh_jobs(&common).await,
        Verb::RefreshPeers => completions::refresh(&common).await,
        Verb::Queue(verb) => queue::run(&common, verb).await,
        Verb::Policy(verb) => policy::run(&common, verb).await,
        Verb::Init(args) => init::run(&common, args).await,
        Verb::Invite(args) => invite::run(&common, args),
        Verb::Revoke(args) => revoke::run(&common, args).await,
        Verb::Identities(args) => identities::run(&common, &args).await,
        Verb::Join(args) => join::run(&common, args).await,
        Verb::Doctor(args) => doctor::run(&common, &args).await,
        Verb::Config(verb) => config::run(&common, verb),
        Verb::Task(verb) => task::run(&common, verb).await,
        Verb::Seeds(verb) => legacy::run(&common, verb).await,
        Verb::ManPages(pages) => manual::run(&pages),
        Verb::ExitCodes => {
            output::own_text(exit::TABLE)?;
            Ok(0)
        }
    }
}
