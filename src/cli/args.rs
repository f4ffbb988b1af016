//! What people type.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::exit;
use crate::daemon::broker;
use crate::protocol::heartbeat::Role;
use crate::protocol::peers::NAME_MAX;

/// Run commands on all your machines over a message bus.
#[derive(Debug, Parser)]
#[command(
    name = "d",
    version,
    about,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Examples:\n  d peers\n  d exec vps -C /opt/app -- git log --oneline -5\n  d exec vps -C /opt/app --sh 'git pull && make'\n  d help exit-codes"
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
    /// Configuration file [default: /etc/peerbus/config.toml for root, else
    /// ~/.config/peerbus/config.toml]
    #[arg(long, global = true, env = "PEERBUS_CONFIG", value_name = "FILE", help_heading = "Settings")]
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
    /// List all peers
    Peers(Peers),
    /// Look at one peer
    #[command(subcommand)]
    Peer(Peer),
    /// What this machine's daemon does
    Status(Status),
    /// Measure the round trip to a peer
    Ping(Ping),
    /// The daemon of this machine
    #[command(subcommand)]
    Daemon(Daemon),
    /// Run a shell command on a peer
    #[command(name = "execOnPeer")]
    ExecOnPeer(ExecOnPeer),
    /// All peers as JSON, sorted by address
    #[command(name = "listPeers")]
    ListPeers,
    /// One peer as JSON
    #[command(name = "getPeerInfo")]
    GetPeerInfo(GetPeerInfo),
    /// This machine's daemon as JSON
    #[command(name = "getPeerStatus")]
    GetPeerStatus,
    /// What the exit codes mean
    #[command(name = "exit-codes", about = exit::TABLE, hide = true)]
    ExitCodes,
}

impl Verb {
    /// A daemon serves many; a command line waits for one.
    pub(super) fn runtime(&self) -> std::io::Result<tokio::runtime::Runtime> {
        let mut builder = match self {
            Self::Daemon(_) => tokio::runtime::Builder::new_multi_thread(),
            _ => tokio::runtime::Builder::new_current_thread(),
        };
        builder.enable_all().build()
    }
}

/// `d exec`
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true).args(["sh", "argv"]))]
#[command(
    override_usage = "d exec [OPTIONS] <PEER> -- <COMMAND>...\n       d exec [OPTIONS] <PEER> --sh <LINE>"
)]
#[command(
    after_help = "Examples:\n  d exec vps -C /opt/app -- git log --oneline -5     argv: exact, no shell\n  d exec vps -C /opt/app --sh 'git pull && make'     a line for the peer's shell\n  tar c . | d exec vps -C /tmp -i -- tar x           standard input\n\nCtrl-C interrupts everything the command has started; a second one kills it.\nExit codes: d help exit-codes"
)]
pub(super) struct Exec {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    pub(super) peer: String,
    /// Directory to run in: absolute, or ~ for the user's home
    #[arg(short = 'C', long, value_name = "DIR")]
    pub(super) directory: Option<String>,
    /// A line for the peer's shell
    #[arg(long, value_name = "LINE")]
    pub(super) sh: Option<String>,
    /// Send standard input
    #[arg(short = 'i', long)]
    pub(super) stdin: bool,
    /// Set a variable
    #[arg(long, value_name = "K=V", value_parser = variable)]
    pub(super) env: Vec<(String, String)>,
    /// Run as this user of the peer
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// Stop the command after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// Wait this long for a peer that is not on the bus
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(super) wait: Duration,
    /// Write how it ended to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// A program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) argv: Vec<String>,
}

/// `d peers`
#[derive(Debug, ClapArgs)]
pub(super) struct Peers {
    /// JSON lines instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// Show everything
    #[arg(short, long, value_name = "FORMAT")]
    pub(super) output: Option<Format>,
}

/// How to show a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// With every column.
    Wide,
}

/// `d peer`
#[derive(Debug, Subcommand)]
pub(super) enum Peer {
    /// Everything the registry knows of a peer
    Show(PeerShow),
}

/// `d peer show`
#[derive(Debug, ClapArgs)]
pub(super) struct PeerShow {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    pub(super) peer: String,
    /// JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `d status`
#[derive(Debug, ClapArgs)]
pub(super) struct Status {
    /// JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `d ping`
#[derive(Debug, ClapArgs)]
pub(super) struct Ping {
    /// The peer: its id, hostname or address
    #[arg(value_parser = peer_name)]
    pub(super) peer: String,
    /// How many times
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) count: u32,
    /// How long to wait for each answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// JSON lines
    #[arg(long)]
    pub(super) json: bool,
}

/// `d daemon`
#[derive(Debug, Subcommand)]
pub(super) enum Daemon {
    /// Run the daemon in the foreground
    Run(Box<DaemonRun>),
}

/// `d daemon run`
#[derive(Debug, ClapArgs)]
pub(super) struct DaemonRun {
    /// This machine's peer id [default: from the hostname]
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// worker, or leader, which is a worker too
    #[arg(long, value_name = "ROLE")]
    pub(super) role: Option<RoleArg>,
    /// The leader's database: sqlite://…, mysql://… or postgres://… [default: SQLite in the state directory]
    #[arg(long, value_name = "URL")]
    pub(super) database_url: Option<String>,
    /// Directory for commands that name none
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<String>,
    /// Start and supervise a nats-server
    #[arg(long, value_name = "KIND")]
    pub(super) broker: Option<BrokerArg>,
    /// Where that nats-server listens: a loopback or private address [default: where the bus is said
    /// to be, else 127.0.0.1:4222]
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    pub(super) broker_listen: Option<SocketAddr>,
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

/// `d execOnPeer`. What is missing is said in the words scripts know.
#[derive(Debug, ClapArgs)]
pub(super) struct ExecOnPeer {
    #[arg(long)]
    pub(super) peer: Option<String>,
    #[arg(long)]
    pub(super) directory: Option<String>,
    #[arg(long = "shellCmd", alias = "command", allow_hyphen_values = true)]
    pub(super) shell_cmd: Option<String>,
}

/// `d getPeerInfo`
#[derive(Debug, ClapArgs)]
pub(super) struct GetPeerInfo {
    #[arg(long)]
    pub(super) peer: Option<String>,
}

/// Longest time that can be given: clocks overflow somewhere beyond it.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A time such as `30s`, `5m` or `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 500ms, 30s or 1h30m");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let time = Duration::try_from(signed).map_err(|_| wrong())?;
    if time > LONGEST {
        return Err(format!("{text:?} is longer than ten years"));
    }
    Ok(time)
}

/// A name a peer may have. Which one it has, the registry knows.
pub(super) fn peer_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("it is empty; an id, hostname or address is wanted".to_owned()),
        1..=NAME_MAX => Ok(text.to_owned()),
        _ => Err(format!("it is longer than {NAME_MAX} bytes, as no id, hostname or address is")),
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not NAME=VALUE")),
    }
}

/// An address with or without a port.
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
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "5", "-3s", "soon", "5 parsecs", "2562047788015215h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
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
