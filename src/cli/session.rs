//! `d session`: terminals with a name, which go on when everybody has left them.

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Common, assignment, peer_name};
use super::attach::{self, durable};
use super::connect::{connect, must_see_jobs};
use super::exec::{self, DetachKeys, Exec, detach_keys};
use super::exit::{Failure, OTHER};
use super::jobs::{self, Found, Wanted, wanted};
use super::stop::{self, Stop};
use super::terminal::Manner;
use crate::protocol::attach::is_name;
use crate::protocol::jobs::State;

/// What `d session` is asked for.
#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// Start a terminal on a peer, and sit down at it
    New(New),
    /// Show which terminals go on
    List(jobs::Sessions),
    /// Sit down at a terminal that goes on
    Attach(Attach),
    /// Stop a terminal with everything it has started
    Stop(Stop),
}

/// What `d session new` is given.
#[derive(Debug, ClapArgs)]
#[command(override_usage = "d session new [OPTIONS] <PEER> [-- <COMMAND>...]")]
#[command(
    after_help = "Examples:\n  d session new vps                      a login shell\n  d session new --name build vps -- bash   with a name, and another command\n  d session new -d --name top vps -- htop  without sitting down\n\nTo leave it while it goes on: ~. at the beginning of a line, or Ctrl-] d.\n`d session attach NAME` shows it again, exactly as it stands."
)]
pub(super) struct New {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    peer: String,
    /// A name, to find it by
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Leave it running: print its job id, and end
    #[arg(short = 'd', long)]
    detach: bool,
    /// Directory to run in: absolute, or ~ for the user's home [default: ~]
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<String>,
    /// Set a variable
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// Run as this user of the peer
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// The keys that leave it, or none [default: ctrl-],d]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    detach_keys: Option<DetachKeys>,
    /// A program and its arguments [default: the user's login shell]
    #[arg(last = true, value_name = "COMMAND")]
    argv: Vec<String>,
}

/// What `d session attach` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d session attach work             sit down at it: the screen as it stands, and on\n  d session attach vps/work --watch  only look on; Ctrl-C or q leaves"
)]
pub(super) struct Attach {
    /// Its name or job id; PEER/NAME asks one peer
    #[arg(value_name = "SESSION", value_parser = wanted)]
    session: Wanted,
    /// Only look on
    #[arg(long)]
    watch: bool,
    /// The keys that leave it, or none [default: ctrl-],d]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    detach_keys: Option<DetachKeys>,
}

/// Replaces itself by the shell of the job's user, as a login does.
const LOGIN_SHELL: &str = "exec \"$SHELL\" -l";

fn name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => {
            Err("a name has letters, digits and -_. only, begins with a letter or digit, and is no job id"
                .to_owned())
        }
    }
}

/// `d session`
pub(super) async fn run(common: &Common, verb: Session) -> Result<u8, Failure> {
    match verb {
        Session::New(new) => exec::run(common, as_exec(new)).await,
        Session::List(list) => jobs::sessions(common, &list).await,
        Session::Attach(args) => sit_down(common, args).await,
        Session::Stop(args) => stop::run(common, &args).await,
    }
}

fn as_exec(new: New) -> Exec {
    let New { peer, name, detach, directory, env, user, detach_keys, argv } = new;
    Exec {
        peer,
        directory: Some(directory.unwrap_or_else(|| "~".to_owned())),
        sh: argv.is_empty().then(|| LOGIN_SHELL.to_owned()),
        detach,
        durable: true,
        task: None,
        queue: None,
        tty: true,
        detach_keys,
        name,
        stdin: false,
        env,
        user,
        timeout: None,
        wait: std::time::Duration::ZERO,
        report: None,
        argv,
    }
}

async fn sit_down(common: &Common, args: Attach) -> Result<u8, Failure> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = durable(&bus, &args.session).await?;
    let Found { peer, job } = &found;
    let short = job.id.short();
    if job.state != State::Running {
        let what = format!("{short} on {peer} goes on no more; `d logs {peer}/{short}` shows what it wrote");
        return Err(Failure::new(OTHER, what));
    }
    if !job.tty {
        let what =
            format!("{short} on {peer} has no terminal; `d attach {peer}/{short}` shows what it writes");
        return Err(Failure::new(OTHER, what));
    }
    let detach_keys = args.detach_keys.map(|keys| keys.0);
    attach::terminal(&bus, &found, Manner { writes: !args.watch, detach_keys }).await
}
