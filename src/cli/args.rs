//! The command line's definition.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::attach::{Attach, Logs};
use super::audit::Audit;
use super::completions::Completions;
use super::config::Config;
use super::daemon::Daemon;
use super::doctor::Doctor;
use super::exec::Exec;
use super::exit;
use super::identities::Identities;
use super::init::Init;
use super::invite::Invite;
use super::jobs::Jobs;
use super::join::Join;
use super::legacy::Seeds;
use super::manual::ManPages;
use super::output;
use super::peers::{Peer, Peers};
use super::ping::Ping;
use super::policy::Policy;
use super::queue::Queue;
use super::revoke::Revoke;
use super::session::Session;
use super::status::Status;
use super::stop::Stop;
use super::task::Tasks;
pub(super) use super::time::duration;
use super::wait::Wait;
use peerbus_daemon::broker;
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::peers::NAME_MAX;
use peerbus_protocol::variables::Variables;

/// Run commands on all your machines over a message bus.
#[derive(Debug, Parser)]
#[command(
    name = "d",
    version = peerbus_protocol::VERSION,
    about,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Examples:\n  d peers\n  d exec vps -C /opt/app -- git log --oneline -5\n  d exec vps -C /opt/app --sh 'git pull && make'\n  d help exit-codes\n\nThe guide: d help lists its topics, d help TOPIC shows one."
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Settings every verb knows.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(super) struct Common {
    /// Configuration file, also PEERBUS_CONFIG [default: /etc/peerbus/config.toml for root, else
    /// ~/.config/peerbus/config.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub(super) config: Option<PathBuf>,
    /// The bus, such as nats://10.0.0.1:4222; several servers of one cluster with commas
    #[arg(long, global = true, value_name = "URL", help_heading = "Settings")]
    pub(super) nats: Option<String>,
    /// NATS credentials file
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    pub(super) creds: Option<PathBuf>,
    /// State directory of this machine's daemon
    #[arg(long, global = true, value_name = "DIR", help_heading = "Settings")]
    pub(super) state_dir: Option<PathBuf>,
    /// How long to try to reach the bus
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = "Settings")]
    pub(super) connect_timeout: Duration,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Settings")]
    pub(super) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Run a command on a peer, with live output and its own exit code
    Exec(Exec),
    /// What runs in the fleet, and what has run
    Jobs(Jobs),
    /// Follow a durable job, and interrupt it, as if it had been started here
    Attach(Attach),
    /// What a durable job has printed
    Logs(Logs),
    /// Terminals that go on when you leave them
    #[command(subcommand)]
    Session(Session),
    /// Stop a job with everything it has started
    Stop(Stop),
    /// Wait until a job has ended; its code is the job's
    Wait(Wait),
    /// List all peers
    #[command(
        after_help = "Examples:\n  d peers\n  d peers -o wide\n  d peers --json | jq -r 'select(.is_online) | .peer_id'"
    )]
    Peers(Peers),
    /// Look at one peer
    #[command(subcommand)]
    Peer(Peer),
    /// What this machine's daemon does
    #[command(after_help = "Examples:\n  d status\n  d status --json")]
    Status(Status),
    /// Measure the round trip to a peer
    #[command(after_help = "Examples:\n  d ping vps\n  d ping 10.0.0.7 --count 10")]
    Ping(Ping),
    /// Who asked a peer for what, and what became of it
    Audit(Audit),
    /// Find out what works, what does not, and what to do about it
    Doctor(Doctor),
    /// What waits for peers that are away (`d exec --queue`)
    #[command(subcommand)]
    Queue(Queue),
    /// Ask a peer what its policy allows
    #[command(subcommand)]
    Policy(Policy),
    /// Make a fleet with identities, here on its first machine
    Init(Init),
    /// Invite a machine or a person: prints one line for `d join`
    Invite(Invite),
    /// Make this machine a peer of a fleet, or yourself one of its people
    Join(Join),
    /// Take an identity back, at once
    Revoke(Revoke),
    /// Who belongs to the fleet, who did, and who is invited
    #[command(
        after_help = "Examples:\n  d identities\n  d identities --json | jq -r 'select(.state == \"valid\") | .name'"
    )]
    Identities(Identities),
    /// The configuration of this machine
    #[command(subcommand)]
    Config(Config),
    /// Run commands that have a name
    #[command(subcommand)]
    Task(Tasks),
    /// The daemon of this machine
    #[command(subcommand)]
    Daemon(Daemon),
    /// Print the script that makes TAB complete this command
    Completions(Completions),
    /// Fetch the list of peers for completion
    #[command(name = "refresh-peers", hide = true)]
    RefreshPeers,
    /// Fetch the list of jobs for completion
    #[command(name = "refresh-jobs", hide = true)]
    RefreshJobs,
    /// The names older scripts know
    #[command(flatten)]
    Seeds(Seeds),
    /// Write the manual pages
    #[command(hide = true)]
    ManPages(ManPages),
    /// What the exit codes mean
    #[command(name = "exit-codes", about = exit::TABLE, hide = true)]
    ExitCodes,
}

impl Verb {
    /// Multi-threaded for a daemon, single-threaded for other verbs.
    pub(super) fn runtime(&self) -> std::io::Result<tokio::runtime::Runtime> {
        let mut builder = match self {
            Self::Daemon(Daemon::Run(_)) => {
                // Blocked until the runtime handles them, and for good in all other threads.
                peerbus_process::hold_signals_back()?;
                tokio::runtime::Builder::new_multi_thread()
            }
            _ => {
                // The parent process may have blocked them, and then only SIGKILL would end `d`.
                peerbus_process::let_signals_in()?;
                tokio::runtime::Builder::new_current_thread()
            }
        };
        builder.enable_all().build()
    }
}

/// A role, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RoleArg {
    /// Keeps the registry, and runs commands too.
    Leader,
    /// Runs commands.
    Worker,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Leader => Self::Leader,
            RoleArg::Worker => Self::Worker,
        }
    }
}

/// A kind of broker, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BrokerArg {
    /// A nats-server of this daemon's own.
    Managed,
}

/// What a daemon does if it cannot write its audit log, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuditArg {
    /// Continues, logs that, and records the gap later.
    BestEffort,
    /// Refuses new jobs.
    Required,
}

/// When a daemon upgrades itself, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UpgradeArg {
    /// Also when its program file was replaced.
    Noticed,
    /// Only on request.
    Asked,
}

/// Parses a number of bytes such as `64MiB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size such as 512KiB, 64MiB or 1GiB");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Checks that a text can be a peer's name. The registry knows which peer it means.
pub(super) fn peer_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty; an id, hostname or address is wanted".to_owned()),
        1..=NAME_MAX => Ok(text.to_owned()),
        _ => Err(format!("it is longer than {NAME_MAX} bytes, as no id, hostname or address is")),
    }
}

/// An environment variable for a command.
#[derive(Clone)]
pub(super) struct Assignment {
    name: String,
    /// `None` if the local value should be passed on and there is none.
    value: Option<String>,
}

impl From<(String, String)> for Assignment {
    fn from((name, value): (String, String)) -> Self {
        Self { name, value: Some(value) }
    }
}

/// Hides the value, which may be a secret.
impl std::fmt::Debug for Assignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Assignment").field(&self.name).finish()
    }
}

/// Parses a variable and its value, such as `LANG=C`, or a name alone for its local value, like
/// docker.
pub(super) fn assignment(text: &str) -> Result<Assignment, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, env_value(text)?),
    };
    match name.is_empty() {
        true => Err(format!("{text:?} is neither NAME=VALUE nor NAME")),
        false => Ok(Assignment { name: name.to_owned(), value }),
    }
}

fn env_value(name: &str) -> Result<Option<String>, String> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    value.into_string().map(Some).map_err(|_| format!("the value of {name} here is not UTF-8"))
}

/// The variables for a command. Reports those without a local value.
pub(super) fn variables(assigned: Vec<Assignment>) -> Variables {
    let set = assigned.into_iter().filter_map(|Assignment { name, value }| {
        if value.is_none() {
            output::say(&format!("--env {name}: there is no variable {name} here, so none is passed on"));
        }
        Some((name, value?))
    });
    set.collect()
}

/// Parses an address with or without a port.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("{text:?} is not an address such as 127.0.0.1:4222");
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => SocketAddr::new(text.parse().map_err(|_| wrong())?, broker::DEFAULT_PORT),
    };
    broker::check_listen(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_verb_shows_how_it_is_used() {
        fn without_example(verb: &clap::Command, path: &str, found: &mut Vec<String>) {
            let path = format!("{path} {}", verb.get_name());
            for below in verb.get_subcommands().filter(|below| !below.is_hide_set()) {
                without_example(below, &path, found);
            }
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !verb.has_subcommands() && !help.contains("Example") {
                found.push(path);
            }
        }
        let mut found = Vec::new();
        without_example(&Args::command(), "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn who_asks_for_json_is_told_its_shape() {
        fn without_shape(verb: &clap::Command, path: &str, found: &mut Vec<String>) {
            let path = format!("{path} {}", verb.get_name());
            verb.get_subcommands().for_each(|below| without_shape(below, &path, found));
            let json = verb.get_arguments().find(|arg| arg.get_id() == "json");
            let help = json.and_then(clap::Arg::get_help).map(ToString::to_string);
            found.extend(help.filter(|help| !help.contains("one object")).map(|_| path));
        }
        let mut found = Vec::new();
        without_shape(&Args::command(), "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        assert_eq!(size("512KiB"), Ok(512 << 10));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        for wrong in ["", "64", "MiB", "64MB", "-1MiB", "1.5GiB", "99999999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_that_no_peer_can_have_is_a_mistake() {
        let longest = "a".repeat(NAME_MAX);
        assert_eq!(peer_name(&longest), Ok(longest.clone()));
        assert!(peer_name("").is_err() && peer_name(&format!("{longest}a")).is_err());
    }

    #[test]
    fn a_broker_listens_where_it_may() {
        assert_eq!(listen("127.0.0.1").expect("loopback").port(), 4222);
        assert!(listen("0.0.0.0:4222").is_err() && listen("8.8.8.8").is_err() && listen("here").is_err());
    }
}
