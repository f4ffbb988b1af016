//! `d session`: named terminals, which keep running when all clients have left.

use std::io::IsTerminal;

use clap::{Args as ClapArgs, Subcommand};

use super::args::{Assignment, Common, assignment, peer_name};
use super::attach::{self, durable};
use super::connect::{connect, must_see_jobs};
use super::exec::{self, DetachKeys, Exec, detach_keys};
use super::exit::{CliError, OTHER};
use super::jobs::{self, Found, Wanted, wanted};
use super::output;
use super::stop::{self, SIGNAL_WITHIN, Stop};
use super::terminal::Manner;
use peerbus_bus::Bus;
use peerbus_client::control;
use peerbus_protocol::attach::is_name;
use peerbus_protocol::jobs::{Job, JobStatus};

/// What `d session` is asked for.
#[derive(Debug, Subcommand)]
pub(super) enum Session {
    /// Start a terminal on a peer, and sit down at it
    New(New),
    /// Show which terminals go on
    List(jobs::Sessions),
    /// Sit down at a terminal that goes on
    Attach(Attach),
    /// Give a terminal another name
    Rename(Rename),
    /// Have everybody leave a terminal, which goes on
    Detach(Detach),
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
    /// A name to find it by, which no other of yours that runs on the peer has
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Leave it running: print its job id, and end
    #[arg(short = 'd', long)]
    detach: bool,
    /// Type what comes on standard input, where that is no terminal
    #[arg(short = 'i', long, conflicts_with = "detach")]
    stdin: bool,
    /// Directory to run in: absolute, or ~ for the user's home [default: ~]
    #[arg(short = 'C', long, value_name = "DIR")]
    directory: Option<String>,
    /// Set a variable; a name alone passes on the value it has here
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    env: Vec<Assignment>,
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
    after_help = "Examples:\n  d session attach work             sit down at it: the screen as it stands, and on\n  d session attach vps/work --watch  only look on; Ctrl-C or q leaves\n  d session attach --detach-others work\n                                    have everybody else leave it first"
)]
pub(super) struct Attach {
    /// Its name or job id; OWNER/NAME is somebody else's, and PEER/ before it asks one peer
    #[arg(value_name = "SESSION", value_parser = wanted)]
    session: Wanted,
    /// Only look on
    #[arg(long, conflicts_with = "stdin")]
    watch: bool,
    /// Type what comes on standard input, where that is no terminal; at its end, look on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Have everybody else leave it first
    #[arg(long, short_alias = 'd')]
    detach_others: bool,
    /// The keys that leave it, or none [default: ctrl-],d]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    detach_keys: Option<DetachKeys>,
}

/// What `d session rename` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d session rename work build       from now on it is `build`, everywhere\n  d session rename vps/0000cafe web  one that had no name\n\nA name that another session of its owner on that peer has is refused. Whoever sits at it goes on undisturbed."
)]
pub(super) struct Rename {
    /// Its name or job id; PEER/NAME asks one peer
    #[arg(value_name = "SESSION", value_parser = wanted)]
    session: Wanted,
    /// Its new name
    #[arg(value_name = "NEWNAME", value_parser = name)]
    name: String,
}

/// What `d session detach` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d session detach work             everybody who sits at it, or watches, leaves; it goes on\n  d session attach --detach-others work\n                                    the same, and you sit down at it yourself"
)]
pub(super) struct Detach {
    /// Its name or job id; PEER/NAME asks one peer
    #[arg(value_name = "SESSION", value_parser = wanted)]
    session: Wanted,
}

/// Replaces the shell by the login shell of the job's user.
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
pub(super) async fn run(common: &Common, verb: Session) -> Result<u8, CliError> {
    match verb {
        Session::New(new) => {
            if !new.detach {
                must_be_typed_at(new.stdin, "-d starts it without sitting down")?;
            }
            exec::run(common, as_exec(new)).await
        }
        Session::List(list) => jobs::sessions(common, &list).await,
        Session::Attach(args) => sit_down(common, args).await,
        Session::Rename(args) => rename(common, args).await,
        Session::Detach(args) => detach(common, args).await,
        Session::Stop(args) => stop::run(common, &args).await,
    }
}

/// Refuses input that is not a terminal: it would be typed into the session, and its end would end
/// the shell.
fn must_be_typed_at(asked_for: bool, instead: &str) -> Result<(), CliError> {
    if asked_for || std::io::stdin().is_terminal() {
        return Ok(());
    }
    let what = "standard input is no terminal to sit down at";
    Err(CliError::usage(format!("{what}; {instead}, and -i types what comes from there")))
}

fn as_exec(new: New) -> Exec {
    let New { peer, name, detach, stdin, directory, env, user, detach_keys, argv } = new;
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
        stdin,
        env,
        user,
        timeout: None,
        wait: std::time::Duration::ZERO,
        no_wait: false,
        report: None,
        argv,
    }
}

/// Finds a running terminal session.
async fn session(bus: &Bus, wanted: &Wanted) -> Result<Found, CliError> {
    let found = durable(bus, wanted).await?;
    let Found { peer, job } = &found;
    let short = job.id.short();
    if job.state != JobStatus::Running {
        let what = format!("{short} on {peer} goes on no more; `d logs {peer}/{short}` shows what it wrote");
        return Err(CliError::new(OTHER, what));
    }
    if !job.tty {
        let what =
            format!("{short} on {peer} has no terminal; `d attach {peer}/{short}` shows what it writes");
        return Err(CliError::new(OTHER, what));
    }
    Ok(found)
}

/// The name or id of a session for messages.
fn called(job: &Job) -> String {
    job.name.clone().unwrap_or_else(|| job.id.short())
}

async fn sit_down(common: &Common, args: Attach) -> Result<u8, CliError> {
    if !args.watch {
        must_be_typed_at(args.stdin, "--watch only looks on")?;
    }
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = session(&bus, &args.session).await?;
    if args.detach_others {
        have_them_leave(&bus, &found).await?;
    }
    let detach_keys = args.detach_keys.map(|keys| keys.0);
    attach::terminal(&bus, &found, Manner { writes: !args.watch, detach_keys, types_end: false }).await
}

async fn rename(common: &Common, args: Rename) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = session(&bus, &args.session).await?;
    let Found { peer, job } = &found;
    let renamed = control::rename(&bus, peer, job.id, job.name.as_deref(), &args.name, SIGNAL_WITHIN).await;
    let renamed = renamed.map_err(|error| stop::not_done(&found, &error, "may or may not be renamed"))?;
    output::line(&format!("{} on {peer} is {} now", called(job), renamed.name))?;
    Ok(0)
}

async fn detach(common: &Common, args: Detach) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = session(&bus, &args.session).await?;
    let viewers = have_them_leave(&bus, &found).await?;
    let what = format!("{} on {}", called(&found.job), found.peer);
    output::line(&match viewers {
        0 => format!("nobody was at {what}"),
        1 => format!("one has left {what}, which goes on"),
        more => format!("{more} have left {what}, which goes on"),
    })?;
    Ok(0)
}

/// Detaches all clients; returns how many there were.
async fn have_them_leave(bus: &Bus, found: &Found) -> Result<u32, CliError> {
    let left = control::detach(bus, &found.peer, found.job.id, &exec::caller(), SIGNAL_WITHIN).await;
    let so = "may have been left by everybody, or not";
    left.map(|left| left.viewers).map_err(|error| stop::not_done(found, &error, so))
}
