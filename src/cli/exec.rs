//! `d exec`: runs a command on another machine as if it were local.

mod ending;
mod keyboard;
mod queued;
mod report;
mod writer;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs};

use super::args::{Assignment, Common, assignment, duration, peer_name, variables};
use super::connect::{connect, must_be_an_operator, own_job};
use super::exit::{
    BUS_UNREACHABLE, CliError, INPUT_LOST, NOT_FOUND, OFFLINE, OUTPUT_CLOSED, OUTPUT_FAILED, REFUSED, UNKNOWN,
};
use super::output;
use super::terminal;
pub(super) use ending::{Next, conclude, tell_who_holds_it, unknown, waiting_for, was_cut, what_hangs};
pub(super) use keyboard::{Enough, InputLost, Keys};
use peerbus_bus::Bus;
use peerbus_client::exec::{self as client, Completion, Event, Integrity, Timeouts};
use peerbus_client::{NotFound, Resolution, resolve};
use peerbus_process::host;
use peerbus_protocol::ending::Refusal;
use peerbus_protocol::exec::{ExecRequest, StreamOptions, TYPE, WINDOW, check_directory};
use peerbus_protocol::frame::JobState;
use peerbus_protocol::task::Task;
use peerbus_protocol::{Ending, JobId, PeerId};
pub(super) use queued::code_of as queue_code_of;
use report::Report;
pub(super) use report::shown;
pub(super) use writer::{Writer, Written};

/// What `d exec` is given.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true).args(["sh", "argv"]))]
#[command(
    override_usage = "d exec [OPTIONS] <PEER> -- <COMMAND>...\n       d exec [OPTIONS] <PEER> --sh <LINE>"
)]
#[command(
    after_help = "Examples:\n  d exec vps -C /opt/app -- git log --oneline -5     argv: exact, no shell\n  d exec vps -C /opt/app --sh 'git pull && make'     a line for the peer's shell\n  tar c . | d exec vps -C /tmp -i -- tar x           standard input\n  d exec -d vps -C /opt/app -- make                  in the background; prints its job id\n  d exec laptop --queue=3d -C ~ -- git pull          runs when laptop is back; prints the job's id\n\nCtrl-C interrupts everything the command has started; a second one kills it.\nExit codes: d help exit-codes"
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
    /// Leave it running: print its job id, and end
    #[arg(short = 'd', long, conflicts_with = "stdin")]
    pub(super) detach: bool,
    /// Have it go on whatever becomes of d, of the link, and of the peer's daemon
    #[arg(long)]
    pub(super) durable: bool,
    /// Give it a terminal, and type into it
    #[arg(short = 't', long)]
    pub(super) tty: bool,
    /// The keys that leave the terminal while the command goes on, or none [default: ctrl-],d]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys, requires = "tty")]
    pub(super) detach_keys: Option<DetachKeys>,
    /// The name of the session
    #[arg(skip)]
    pub(super) name: Option<String>,
    /// The task, which has what is to be run
    #[arg(skip)]
    pub(super) task: Option<Task>,
    /// Send standard input
    #[arg(short = 'i', long)]
    pub(super) stdin: bool,
    /// Set a variable; a name alone passes on the value it has here
    #[arg(long, value_name = "K=V", value_parser = assignment)]
    pub(super) env: Vec<Assignment>,
    /// Run as this user of the peer: a name, or its number
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// Stop the command after this time
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// End with the command, also where what it has started in the background still holds its output
    #[arg(long)]
    pub(super) no_wait: bool,
    /// Wait this long for a peer that is not on the bus
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(super) wait: Duration,
    /// Leave it in the queue: it runs once, when the peer is there, and never after this time
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "24h",
        value_parser = queued::expiry,
        conflicts_with_all = ["stdin", "wait", "report"]
    )]
    pub(super) queue: Option<Duration>,
    /// Write how it ended to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// A program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) argv: Vec<String>,
}

/// The result of an execution.
pub(super) enum Done {
    Code(u8),
    /// The peer's daemon is too old for this kind of request. Nothing has run.
    NotSupported(String),
}

/// `d exec`
pub(super) async fn run(common: &Common, args: Exec) -> Result<u8, CliError> {
    match run_if_known(common, args).await? {
        Done::Code(code) => Ok(code),
        Done::NotSupported(said) => Err(CliError::new(REFUSED, said)),
    }
}

/// Like [`run`], for callers that have a fallback for older daemons.
pub(super) async fn run_if_known(common: &Common, args: Exec) -> Result<Done, CliError> {
    let request = request(&args)?;
    if let Some(expiry) = args.queue {
        return Enough::unless_said(queued::run(common, &args, expiry, request)).await.map(Done::Code);
    }
    let mut report = Report::begin(args.report.clone(), &args.peer, request.id.unwrap_or_default())?;
    let done = run_there(common, &args, request, &mut report).await;
    let code = match &done {
        Ok(Done::Code(code)) => *code,
        Ok(Done::NotSupported(_)) => REFUSED,
        Err(failure) => failure.code,
    };
    report.write(code)?;
    done
}

fn request(args: &Exec) -> Result<ExecRequest, CliError> {
    if let Some(directory) = &args.directory {
        check_directory(directory).map_err(|why| CliError::usage(format!("the directory {why}")))?;
    }
    let request = ExecRequest {
        kind: Some(TYPE.to_owned()),
        id: Some(JobId::new()),
        directory: args.directory.clone(),
        shell_cmd: args.sh.clone(),
        argv: (args.sh.is_none() && args.task.is_none()).then(|| args.argv.clone()),
        env: variables(args.env.clone()),
        user: args.user.clone(),
        stdin: args.stdin || (args.tty && !args.detach),
        tty: args.tty.then(terminal::own_tty),
        name: args.name.clone(),
        task: args.task.clone(),
        timeout_ms: args.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
        no_wait: args.no_wait,
        durable: args.durable || args.detach,
        expires_ms: None,
        stream: Some(StreamOptions { window: if args.tty { terminal::WINDOW } else { WINDOW } }),
        from: Some(caller()),
        within: own_job().into_iter().collect(),
    };
    // Check the request here, so that an error shows before anything is sent.
    ExecRequest::decode(&peerbus_protocol::decode::to_json(&request))
        .map_err(|bad| CliError::usage(bad.to_string()))
}

/// The caller's description for the peer's log.
pub(super) fn caller() -> String {
    let host = host::hostname().unwrap_or_else(|_| "an unnamed host".to_owned());
    format!("{}@{host}", host::current_user())
}

async fn run_there(
    common: &Common,
    args: &Exec,
    request: ExecRequest,
    report: &mut Report,
) -> Result<Done, CliError> {
    let bus = Enough::unless_said(connect(common)).await.inspect_err(|failure| report.failed(failure))?;
    must_be_an_operator(&bus).inspect_err(|failure| report.failed(failure))?;
    let job = request.id.unwrap_or_default();
    let mut peer =
        Enough::unless_said(target(&bus, &args.peer)).await.inspect_err(|failure| report.failed(failure))?;
    loop {
        report.peer(&peer);
        let (followed, streams) = follow(&bus, &peer, request.clone(), args).await;
        report.streams(&streams);
        let outcome = match followed {
            Followed::Ended(outcome) => *outcome,
            Followed::Left { at, by } => {
                report.detached(at);
                return left(&peer, job, at, by, args.detach).map(Done::Code);
            }
            Followed::LeftTerminal { at, why } => {
                report.detached(at);
                let word = args.name.clone().unwrap_or_else(|| job.short());
                if let Some(failure) = streams.failure(&format!("left {word} on {peer}, which goes on")) {
                    return Err(failure);
                }
                return terminal::farewell(&why, &peer, &word).map(Done::Code);
            }
        };
        if outcome.ending == (Ending::Offline {}) && outcome.result.is_none() {
            // The word looks like an id, but may be the hostname or address of another peer.
            match whereabouts(&bus, &args.peer, &peer).await {
                PeerPresence::Elsewhere(other) => {
                    peer = other;
                    continue;
                }
                PeerPresence::Nowhere(failure) => {
                    report.failed(&failure);
                    return Err(failure);
                }
            }
        }
        report.outcome(&outcome);
        if let Ending::Refused { why: Refusal::NotSupported, message } = &outcome.ending {
            return Ok(Done::NotSupported(format!("refused: {peer}: {message}")));
        }
        if args.detach && outcome.result.is_some() && has_run(&outcome.ending) {
            // The job ended before `d` could detach.
            tell(&peer, job)?;
            return Ok(Done::Code(0));
        }
        tell_who_holds_it(&peer, &outcome);
        return conclude(&peer, job, &outcome, &streams, request.is_durable()).map(Done::Code);
    }
}

/// The result of following an execution.
enum Followed {
    Ended(Box<Completion>),
    Left {
        at: u64,
        by: Option<String>,
    },
    /// The user detached from a terminal, or another client detached them.
    LeftTerminal {
        at: u64,
        why: terminal::Parting,
    },
}

/// Errors of `d`'s own standard streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub(super) output: Written,
    /// Why standard input could not be read to its end.
    pub(super) input_lost: Option<String>,
}

impl Streams {
    /// An error that takes precedence over the command's exit code. `what` says how the command
    /// ended.
    pub(super) fn failure(&self, what: &str) -> Option<CliError> {
        match &self.output {
            Written::Closed => return Some(CliError::new(OUTPUT_CLOSED, "")),
            Written::Failed(why) => {
                return Some(CliError::new(OUTPUT_FAILED, format!("output failed: {why}; {what}")));
            }
            Written::Whole => {}
        }
        let why = self.input_lost.as_ref()?;
        Some(CliError::new(INPUT_LOST, format!("input lost: {why}; {what}")))
    }
}

impl From<terminal::Left> for Followed {
    fn from(left: terminal::Left) -> Self {
        match left {
            terminal::Left::Ended(outcome) => Self::Ended(outcome),
            terminal::Left::Detached { at, why } => Self::LeftTerminal { at, why },
        }
    }
}

/// The keys that detach from a terminal.
#[derive(Debug, Clone)]
pub(super) struct DetachKeys(pub(super) Vec<u8>);

pub(super) fn detach_keys(text: &str) -> Result<DetachKeys, String> {
    terminal::detach_keys(text).map(DetachKeys)
}

/// Whether a command ran and its end is known.
fn has_run(ending: &Ending) -> bool {
    !matches!(
        ending,
        Ending::Refused { .. } | Ending::NotStarted { .. } | Ending::Offline {} | Ending::Unknown { .. }
    )
}

/// Prints the id of the job that keeps running. Fails if the id cannot be printed: no job may run
/// unknown to everyone.
pub(super) fn tell(peer: &PeerId, job: JobId) -> Result<(), CliError> {
    output::line(&job.to_string()).map_err(|failure| {
        let why = if failure.code == OUTPUT_CLOSED { "nobody reads stdout" } else { &failure.message };
        CliError::new(failure.code, format!("{why}; the job goes on, as {peer}/{job}"))
    })
}

/// Reports that the job keeps running, as requested or because `d` was ended.
fn left(peer: &PeerId, job: JobId, at: u64, by: Option<String>, on_purpose: bool) -> Result<u8, CliError> {
    if on_purpose && by.is_none() {
        tell(peer, job)?;
        return Ok(0);
    }
    let next = format!("`d attach {peer}/{job} --since-byte {at}` goes on where this ended");
    let why = by.map_or_else(|| "d was ended".to_owned(), |who| format!("detached by {who}"));
    Err(CliError::new(UNKNOWN, format!("unknown: {why}, and the command goes on; {next}")))
}

/// Follows one execution until it ends or `d` detaches. Also returns errors of `d`'s own streams.
async fn follow(bus: &Bus, peer: &PeerId, request: ExecRequest, args: &Exec) -> (Followed, Streams) {
    let (stdin, chunks) = tokio::sync::mpsc::channel(1);
    // Read nothing until a peer has accepted the job: input read for a missing peer would be lost
    // for the peer that takes the job.
    let mut stdin = request.stdin.then_some(stdin);
    let durable = request.is_durable();
    let in_terminal = request.tty.is_some() && !args.detach;
    let mut execution = client::start(bus, peer.clone(), request, chunks, Timeouts { absent: args.wait });
    if in_terminal && let Some(stdin) = stdin.take() {
        let detach_keys = args.detach_keys.clone().map(|keys| keys.0);
        let manner = terminal::Manner { writes: true, detach_keys, types_end: true };
        let (left, streams) = terminal::sit(execution, peer, stdin, manner).await;
        return (Followed::from(left), streams);
    }
    let steering = execution.steering();
    let writer = Writer::start(execution.steering());
    let mut keys = keyboard::Keys::new(execution.steering(), durable);
    let talkative = std::io::stderr().is_terminal();
    let lost = InputLost::default();
    let streams = |output| Streams { output, input_lost: lost.why() };
    loop {
        let event = tokio::select! {
            event = execution.next() => event,
            () = keys.pressed() => continue,
        };
        if let Some(Event::Accepted(_) | Event::Resumed) = &event
            && let Some(stdin) = stdin.take()
        {
            keyboard::read_stdin(stdin, execution.steering(), lost.clone());
        }
        match event {
            Some(Event::Output { stream, bytes, .. }) if args.detach => steering.wrote(stream, bytes.len()),
            Some(Event::Output { stream, bytes, .. }) => writer.write(stream, bytes),
            Some(Event::Accepted(accepted)) if args.detach && accepted.state != JobState::Ended => {
                terminal::say_replaced_term(peer, &accepted);
                steering.detach();
            }
            Some(Event::Interrupted(why)) if talkative => {
                output::say(&format!("lost contact with {peer} ({why}); trying to go on"));
            }
            Some(Event::Resumed) if talkative => output::say(&format!("{peer} is back")),
            Some(Event::Waiting(holders)) if !args.detach => {
                let next =
                    if args.task.is_some() { "Ctrl-C leaves it" } else { "Ctrl-C or --no-wait leaves it" };
                writer.say(waiting_for(&holders, next));
            }
            Some(Event::Ended(outcome)) => {
                let output = writer.finish(outcome.result.is_some());
                return (Followed::Ended(outcome), streams(output));
            }
            Some(Event::Detached { at, by }) => {
                let (output, at) = writer.leave(at);
                return (Followed::Left { at, by }, streams(output));
            }
            Some(
                Event::Accepted(_)
                | Event::Screen(_)
                | Event::Asked(_)
                | Event::Sized(_)
                | Event::NotKept { .. }
                | Event::Waiting(_)
                | Event::Interrupted(_)
                | Event::Resumed,
            ) => {}
            None => {
                let why = "the conversation broke off inside d".to_owned();
                let ending = Ending::Unknown { why };
                let outcome = Completion { ending, result: None, integrity: Integrity::Whole };
                return (Followed::Ended(Box::new(outcome)), streams(writer.finish(false)));
            }
        }
    }
}

/// The peer that a word means. An id is not looked up, since the peer itself will answer.
pub(super) async fn target(bus: &Bus, name: &str) -> Result<PeerId, CliError> {
    if let Ok(peer) = name.parse() {
        return Ok(peer);
    }
    match resolve::resolve(bus, name).await {
        Ok(Resolution::Peer(peer) | Resolution::Offline(peer)) => Ok(peer),
        Err(not_found) => Err(nowhere(name, &not_found)),
    }
}

/// Where a peer may be that did not answer under the given name.
enum PeerPresence {
    Elsewhere(PeerId),
    Nowhere(CliError),
}

async fn whereabouts(bus: &Bus, name: &str, peer: &PeerId) -> PeerPresence {
    match resolve::resolve(bus, name).await {
        Ok(Resolution::Peer(other)) if other != *peer => PeerPresence::Elsewhere(other),
        Ok(Resolution::Peer(found) | Resolution::Offline(found)) => {
            PeerPresence::Nowhere(offline(&found, ""))
        }
        Err(NotFound::RegistryAway { .. }) => {
            PeerPresence::Nowhere(offline(peer, ", or unknown: the registry is away"))
        }
        Err(not_found) => PeerPresence::Nowhere(nowhere(name, &not_found)),
    }
}

/// The peer with this hostname or address, if no peer has it as an id.
pub(super) async fn elsewhere(bus: &Bus, name: &str, peer: &PeerId) -> Result<PeerId, CliError> {
    match whereabouts(bus, name, peer).await {
        PeerPresence::Elsewhere(other) => Ok(other),
        PeerPresence::Nowhere(failure) => Err(failure),
    }
}

fn offline(peer: &PeerId, or: &str) -> CliError {
    let next = format!("`d peer show {peer}` tells when it was last seen; --wait 30s waits for it");
    CliError::new(OFFLINE, format!("offline: Peer is offline: {peer}{or}; {next}"))
        .in_known_words_for_seeds(format!("Peer is offline: {peer}"))
}

fn nowhere(name: &str, not_found: &NotFound) -> CliError {
    match not_found {
        NotFound::Unknown(_) => super::peers::not_found(name),
        NotFound::Ambiguous { .. } | NotFound::Claimed { .. } => {
            CliError::new(NOT_FOUND, format!("not found: {not_found}"))
                .in_known_words_for_seeds(format!("Peer not found: {name}"))
        }
        NotFound::RegistryAway { .. } => {
            CliError::new(BUS_UNREACHABLE, format!("registry unreachable: {not_found}"))
                .in_known_words_for_seeds(super::connect::NO_LEADER)
        }
    }
}
