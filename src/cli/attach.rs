//! `d attach` and `d logs`: the current and past output of a durable job.
//!
//! stdout and stderr are the job's own bytes. A gap of output that is no longer kept is reported
//! where it is. A terminal's log is shown as its resulting text unless raw bytes are requested. A
//! viewer does not affect the job: it keeps running if `d` is ended or `d`'s output is closed.

mod last_lines;

use std::io::IsTerminal;

use bytes::Bytes;
use clap::Args as ClapArgs;

use super::args::Common;
use super::connect::{connect, must_see_jobs, own_job};
use super::exec::{
    DetachKeys, Keys, Streams, Writer, Written, conclude, detach_keys, tell_who_holds_it, waiting_for,
};
use super::exit::{CANCELLED, CliError, REFUSED, UNKNOWN};
use super::jobs::{Found, Wanted, find, wanted};
use super::output;
use super::terminal::{Left, Manner, WINDOW, farewell, own_size, sit};
use peerbus_bus::Bus;
use peerbus_client::exec::{
    self as client, AttachOptions, Completion, Event, Execution, Integrity, Timeouts,
};
use peerbus_client::jobs;
use peerbus_protocol::attach::{AttachFrom, Sizes, Within};
use peerbus_protocol::exec;
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::jobs::{Job, JobStatus};
use peerbus_protocol::{Ending, TtySize};
use peerbus_screen::{History, QueryFilter, Screen};

/// What `d attach` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d exec -d vps -C /opt/app -- make     prints the job's id\n  d attach 0000cafe                     all it has printed, and goes on; its code is the job's\n  d attach 0000cafe --watch             Ctrl-C leaves it, and does not interrupt it\n  d attach 0000cafe --since-byte 4096   without the first 4,096 bytes of stdout and stderr together\n\nCtrl-C interrupts everything the job has started, a second one kills it. When d is ended otherwise, the job goes on.\nA terminal that runs is shown as it stands, and what is typed goes to it: only from a terminal, or with -i. One that has\nended is shown as d logs shows it.\nExit codes: d help exit-codes"
)]
pub(super) struct Attach {
    /// The job: its id, the last characters of it, or a session's name; PEER/JOB asks one peer
    #[arg(value_name = "JOB", value_parser = wanted)]
    job: Wanted,
    /// Leave out so many bytes at the beginning
    #[arg(long, value_name = "N")]
    since_byte: Option<u64>,
    /// Only look on: Ctrl-C leaves the job as it is
    #[arg(long, conflicts_with = "stdin")]
    watch: bool,
    /// Type into a terminal what comes on standard input, where that is no terminal
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The keys that leave a terminal, or none [default: ctrl-],d]
    #[arg(long, value_name = "KEYS", value_parser = detach_keys)]
    detach_keys: Option<DetachKeys>,
}

/// What `d logs` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d logs 0000cafe            what it has printed so far\n  d logs 0000cafe -f         and what it goes on to print; the code is the job's then\n  d logs 0000cafe -n 20      its last 20 lines\n  d logs vps/build | less\n  d logs --raw work > typescript   every byte that went to a terminal\n\nThe log of a terminal is shown as text: what somebody at it could read by scrolling back, one line for each that went on\nin the next, in color on a terminal; of a program that fills the screen what it shows last. With -f a line is shown when\nthe cursor has left it, and once more if it changes after that; d attach --watch shows the screen itself.\nOf a job that runs for its caller alone (`d exec` without -d or --durable) nothing is kept."
)]
pub(super) struct Logs {
    /// The job: its id, the last characters of it, or a session's name; PEER/JOB asks one peer
    #[arg(value_name = "JOB", value_parser = wanted)]
    kept_job: Wanted,
    /// Go on with what it prints, until it has ended
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines that it has printed so far
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "since_byte")]
    lines: Option<usize>,
    /// Leave out so many bytes at the beginning; of a terminal, show bytes
    #[arg(long, value_name = "N")]
    since_byte: Option<u64>,
    /// Show what was written to a terminal byte for byte, not what it comes to as text
    #[arg(long)]
    raw: bool,
}

/// `d attach`
pub(super) async fn run(common: &Common, args: &Attach) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = durable(&bus, &args.job).await?;
    if found.job.tty && found.job.state == JobStatus::Running && args.since_byte.is_none() {
        let detach_keys = args.detach_keys.clone().map(|keys| keys.0);
        let writes = !args.watch && (args.stdin || std::io::stdin().is_terminal());
        return terminal(&bus, &found, Manner { writes, detach_keys, types_end: false }).await;
    }
    let from = args.since_byte.map_or(AttachFrom::Start, AttachFrom::Byte);
    let as_text = args.since_byte.is_none();
    let view = View { from, writes: !args.watch, until: None, as_text };
    follow(&bus, &found, &view).await
}

/// `d logs`
pub(super) async fn logs(common: &Common, args: &Logs) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_see_jobs(&bus)?;
    let found = durable(&bus, &args.kept_job).await?;
    let from = match args.lines {
        Some(lines) => AttachFrom::Byte(last_lines::begin(&bus, &found, lines, printed(&found.job)).await?),
        None => args.since_byte.map_or(AttachFrom::Start, AttachFrom::Byte),
    };
    let until = (!args.follow).then(|| printed(&found.job));
    let as_text = args.since_byte.is_none() && !args.raw;
    follow(&bus, &found, &View { from, writes: false, until, as_text }).await
}

/// Joins a running terminal session, starting with its current screen.
pub(super) async fn terminal(bus: &Bus, found: &Found, manner: Manner) -> Result<u8, CliError> {
    let Found { peer, job } = found;
    let (keys, typed) = tokio::sync::mpsc::channel(1);
    let size = std::io::stdout().is_terminal().then(own_size);
    let tty = size.filter(|_| manner.writes);
    // The redrawn screen is not part of any digest, so each piece must be verified.
    let (window, write, within) = (WINDOW, manner.writes, within(bus).await);
    let how = AttachOptions { from: AttachFrom::Screen, window, write, tty, sealed: true, within };
    let patience = Timeouts { absent: std::time::Duration::ZERO };
    let execution = client::attach(bus, peer.clone(), job.id, how, typed, patience);
    let (left, streams) = sit(execution, peer, keys, manner).await;
    let word = job.name.clone().unwrap_or_else(|| job.id.short());
    match left {
        Left::Ended(outcome) => conclude(peer, job.id, &outcome, &streams, true),
        Left::Detached { why, .. } => match streams.failure(&format!("left {word} on {peer}, which goes on"))
        {
            Some(failure) => Err(failure),
            None => farewell(&why, peer, &word),
        },
    }
}

/// The jobs inside which this `d` runs.
async fn within(bus: &Bus) -> Vec<Within> {
    match own_job() {
        Some(own) => jobs::chain(bus, own).await,
        None => Vec::new(),
    }
}

/// How to view the job.
struct View {
    from: AttachFrom,
    /// Whether Ctrl-C interrupts the job.
    writes: bool,
    /// Combined offset at which to leave, if not at the end.
    until: Option<u64>,
    /// Whether to show a terminal's output as its resulting text.
    as_text: bool,
}

/// How to show the output.
enum Shown {
    Bytes,
    /// On a terminal, which is reset at the end.
    Terminal {
        filter: QueryFilter,
        screen: Screen,
    },
    /// As the resulting text.
    Text {
        history: History,
        sizes: Sizes,
        follows: bool,
    },
}

impl Shown {
    fn of(found: &Found, view: &View, size: Option<TtySize>) -> Self {
        let size = size.unwrap_or(TtySize::USUAL);
        match found.job.tty {
            true if view.as_text => Self::Text {
                history: History::new(size, output::is_colored()),
                sizes: Sizes { sizes: Vec::new() },
                follows: view.until.is_none() && found.job.state == JobStatus::Running,
            },
            // Queries to the job's terminal must not reach this one: its answers would be typed
            // into the wrong program.
            true if std::io::stdout().is_terminal() => {
                Self::Terminal { filter: QueryFilter::default(), screen: Screen::new(size) }
            }
            _ => Self::Bytes,
        }
    }

    /// Shows output at this offset.
    fn show(&mut self, writer: &Writer, stream: StreamKind, at: u64, mut bytes: Bytes) {
        match self {
            Self::Bytes => writer.write(stream, bytes),
            Self::Terminal { filter, screen } => {
                screen.feed(&bytes);
                let shown = filter.feed(&bytes, 0, |_| false);
                writer.show(shown.into(), bytes.len());
            }
            Self::Text { history, sizes, follows } => {
                let (count, mut at, mut text) = (bytes.len(), at, String::new());
                while !bytes.is_empty() {
                    if let Some(size) = sizes.at(at) {
                        history.resize(size);
                    }
                    let until = sizes.next_after(at).map_or(u64::MAX, |next| next - at);
                    let part = bytes.split_to(usize::try_from(until).unwrap_or(usize::MAX).min(bytes.len()));
                    text.push_str(&history.feed(&part));
                    at += part.len() as u64;
                }
                if *follows {
                    text.push_str(&history.lines_so_far());
                }
                writer.show(text.into(), count);
            }
        }
    }

    /// Shows the rest, and resets the local terminal.
    fn finish(self, writer: &Writer) {
        match self {
            Self::Bytes => {}
            Self::Terminal { mut filter, screen } => {
                writer.draw([filter.finish(), screen.leave()].concat().into());
            }
            Self::Text { history, .. } => writer.draw(history.finish().into()),
        }
    }
}

/// Finds a job that is durable, so that its output is kept.
pub(super) async fn durable(bus: &Bus, job: &Wanted) -> Result<Found, CliError> {
    let found = find(bus, job).await?;
    if found.job.durable {
        return Ok(found);
    }
    let (short, peer) = (found.job.id.short(), &found.peer);
    let what = format!("refused: {peer}: {short} is not durable: what it prints goes to its caller alone");
    Err(CliError::new(REFUSED, format!("{what}; `d exec -d` and `d exec --durable` start one that is")))
}

/// Bytes of both outputs printed by the time it was found.
fn printed(job: &Job) -> u64 {
    job.out.unwrap_or_default().saturating_add(job.err.unwrap_or_default())
}

async fn follow(bus: &Bus, found: &Found, view: &View) -> Result<u8, CliError> {
    if let AttachFrom::Byte(since) = view.from
        && since > printed(&found.job)
    {
        let printed = printed(&found.job);
        return Err(CliError::usage(format!("--since-byte {since}: it has printed {printed} bytes so far")));
    }
    // This view sends no input.
    let (_, nothing) = tokio::sync::mpsc::channel(1);
    // A view that starts in the middle or may leave before the end has no total digest, so each
    // piece must be verified.
    let (window, write) = (exec::WINDOW, view.writes);
    // A view that leaves at once may read the output it is itself part of.
    let within = if view.until.is_none() { within(bus).await } else { Vec::new() };
    let how = AttachOptions { from: view.from, window, write, tty: None, sealed: true, within };
    let patience = Timeouts { absent: std::time::Duration::ZERO };
    let execution = client::attach(bus, found.peer.clone(), found.job.id, how, nothing, patience);
    let mut keys = match view.writes {
        true => Keys::new(execution.steering(), true),
        false => Keys::watching(execution.steering()),
    };
    let mut missing = 0;
    let (seen, output) = look(execution, found, view, &mut keys, &mut missing).await;
    let streams = Streams { output, input_lost: None };
    if let Some(failure) =
        streams.failure(&format!("{} on {} is as it was", found.job.id.short(), found.peer))
    {
        return Err(failure);
    }
    let code = match seen {
        ViewOutcome::Ended(outcome) => ended(found, view, &outcome)?,
        ViewOutcome::Left { by: None, .. } if view.until.is_some() && !keys.were_pressed() => 0,
        ViewOutcome::Left { at, by } => return Err(left(found, at, by, keys.were_pressed())),
    };
    match missing {
        0 => Ok(code),
        bytes => Err(CliError::new(
            UNKNOWN,
            format!(
                "output was lost: {bytes} bytes that were asked for are no longer kept: {} keeps the newest ([jobs] \
                 log_limit, logs_total)",
                found.peer
            ),
        )),
    }
}

/// The result of a view.
enum ViewOutcome {
    Ended(Box<Completion>),
    Left { at: u64, by: Option<String> },
}

/// Views the job. Also returns errors of `d`'s own output and the number of bytes no longer kept.
async fn look(
    mut execution: Execution,
    found: &Found,
    view: &View,
    keys: &mut Keys,
    missing: &mut u64,
) -> (ViewOutcome, Written) {
    let steering = execution.steering();
    let writer = Writer::start(execution.steering());
    let talkative = std::io::stderr().is_terminal();
    let peer = &found.peer;
    let mut shown = Shown::of(found, view, None);
    // Current position: bytes printed before the next piece.
    let mut at = 0;
    loop {
        let event = tokio::select! {
            event = execution.next() => event,
            () = keys.pressed() => continue,
        };
        match event {
            Some(Event::Accepted(accepted)) => {
                shown = Shown::of(found, view, accepted.tty);
                at = accepted.from.unwrap_or_default().sum();
                if let AttachFrom::Byte(since) = view.from
                    && at > since
                {
                    *missing += at - since;
                    writer.say(format!("{} bytes of output are no longer kept", at - since));
                }
            }
            Some(Event::Output { stream, at: from, bytes }) => {
                at += bytes.len() as u64;
                shown.show(&writer, stream, from, bytes);
            }
            Some(Event::Sized(told)) => {
                if let Shown::Text { sizes, .. } = &mut shown {
                    *sizes = told;
                }
            }
            Some(Event::NotKept { stream, bytes }) => {
                at += bytes;
                *missing += bytes;
                writer.say(format!("{bytes} bytes of {} are no longer kept", name(stream)));
            }
            Some(Event::Screen(bytes)) => writer.draw(bytes),
            Some(Event::Interrupted(why)) if talkative => {
                output::say(&format!("lost contact with {peer} ({why}); trying to go on"));
            }
            Some(Event::Resumed) if talkative => output::say(&format!("{peer} is back")),
            Some(Event::Waiting(holders)) if view.until.is_none() => {
                let next = if view.writes { "Ctrl-C leaves it" } else { "it goes on" };
                writer.say(waiting_for(&holders, next));
            }
            Some(Event::Interrupted(_) | Event::Resumed | Event::Asked(_) | Event::Waiting(_)) => {}
            Some(Event::Ended(outcome)) => {
                shown.finish(&writer);
                let output = writer.finish(outcome.result.is_some());
                return (ViewOutcome::Ended(outcome), output);
            }
            Some(Event::Detached { at, by }) => {
                shown.finish(&writer);
                // A view that is not complete does not wait long for a stalled output.
                let (output, at) = match is_enough(view, found, at) {
                    true => (writer.finish(true), at),
                    false => writer.leave(at),
                };
                return (ViewOutcome::Left { at, by }, output);
            }
            None => {
                let ending = Ending::Unknown { why: "the conversation broke off inside d".to_owned() };
                let outcome = Completion { ending, result: None, integrity: Integrity::Whole };
                shown.finish(&writer);
                return (ViewOutcome::Ended(Box::new(outcome)), writer.finish(false));
            }
        }
        if is_enough(view, found, at) {
            steering.detach();
        }
    }
}

/// Whether everything requested was shown. An ended job sends its own end after all its output.
fn is_enough(view: &View, found: &Found, at: u64) -> bool {
    found.job.state != JobStatus::Ended && view.until.is_some_and(|until| at >= until)
}

fn name(stream: StreamKind) -> &'static str {
    match stream {
        StreamKind::Out => "stdout",
        StreamKind::Err => "stderr",
    }
}

fn ended(found: &Found, view: &View, outcome: &Completion) -> Result<u8, CliError> {
    let Found { peer, job } = found;
    let shown = outcome.result.is_some() && outcome.integrity == Integrity::Whole;
    if shown && job.state == JobStatus::Ended {
        output::say(&format!("{} on {peer} has ended: {}", job.id.short(), outcome.ending));
    }
    if job.state != JobStatus::Ended {
        tell_who_holds_it(peer, outcome);
    }
    match shown && view.until.is_some() {
        true => Ok(0),
        false => conclude(peer, job.id, outcome, &Streams::default(), true),
    }
}

/// Reports that the job keeps running; a user who pressed a key needs no reason.
fn left(found: &Found, at: u64, by: Option<String>, pressed: bool) -> CliError {
    let Found { peer, job } = found;
    let short = job.id.short();
    let next = format!("`d attach {peer}/{short} --since-byte {at}` goes on where this ended");
    if let Some(who) = by {
        let what = format!("unknown: detached by {who} from {short} on {peer}, which goes on");
        return CliError::new(UNKNOWN, format!("{what}; {next}"));
    }
    match pressed {
        true => CliError::new(CANCELLED, format!("left {short} on {peer}, which goes on; {next}")),
        false => CliError::new(UNKNOWN, format!("unknown: d was ended, and the job goes on; {next}")),
    }
}
