//! `deploy`: upgrades a peer's daemon.
//!
//! The program is sent as a job's standard input, or a job has built it on the peer. The job stages
//! it beside the daemon's program, checks it, and requests the upgrade. The daemon hands over once
//! all jobs have ended. From then on, `d` queries the daemon over the bus and tolerates silence
//! while the new version starts. So no job has to outlive its daemon, and the reported result is
//! the peer's own record.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::args::Common;
use crate::connect::{connect, must_be_an_operator};
use crate::exec;
use crate::exit::{self, CliError, NOT_STARTED, OFFLINE, OTHER, UNKNOWN};
use crate::output;
use peerbus_bus::Bus;
use peerbus_client::exec::{self as client, Completion, Event, Integrity, Timeouts};
use peerbus_client::peers::health;
use peerbus_protocol::exec::{ExecRequest, StreamOptions, TYPE, WINDOW};
use peerbus_protocol::health::{Health, UpgradeStatus};
use peerbus_protocol::variables::Variables;
use peerbus_protocol::{Ending, Instance, JobId, PeerId};

/// The task that may send a program.
pub(super) const TASK: &str = "deploy";

/// Timeout of a peer's health answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Poll interval of the upgrade's progress.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How long jobs on the peer may continue before they are stopped for the upgrade.
const JOBS_WITHIN: Duration = Duration::from_secs(60);

/// How long the new version may take to be ready and prove itself.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Slack added for systemd's own restart of the old version.
const LATE: Duration = Duration::from_secs(60);

/// Bytes per message.
const PIECE: usize = 256 * 1024;

/// A local program to send.
pub(super) struct Program {
    path: PathBuf,
    bytes: Bytes,
    digest: String,
}

impl Program {
    /// Reads it once, so that all peers get the same.
    pub(super) fn read(path: PathBuf) -> Result<Self, CliError> {
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| CliError::usage(format!("--binary {}: {error}", path.display())))?;
        if bytes.is_empty() {
            return Err(CliError::usage(format!("--binary {}: it is empty", path.display())));
        }
        let digest = blake3::hash(&bytes).to_hex().to_string();
        Ok(Self { path, bytes: bytes.into(), digest })
    }
}

/// Sends a program to a peer, and upgrades its daemon to it.
pub(super) async fn send(common: &Common, name: &str, program: &Program, peer: &str) -> Result<u8, CliError> {
    let size = program.bytes.len();
    output::say(&format!("{peer}: {name} 1/2: sends {}, {size} bytes", program.path.display()));
    let words = ["--from", "-", "--digest", &program.digest];
    upgrade(common, &format!("{peer}: {name} 2/2"), peer, &words, Some(program.bytes.clone())).await
}

/// Upgrades a peer's daemon to a program built on the peer.
pub(super) async fn built(common: &Common, step: &str, program: &str, peer: &str) -> Result<u8, CliError> {
    // Announced like every step before it starts: the upgrade may be over at the first poll.
    output::say(&format!("{step}: its daemon is to become {program}"));
    upgrade(common, step, peer, &["--from", program], None).await
}

async fn upgrade(
    common: &Common,
    step: &str,
    peer: &str,
    words: &[&str],
    input: Option<Bytes>,
) -> Result<u8, CliError> {
    let bus = connect(common).await?;
    must_be_an_operator(&bus)?;
    let (peer, before) = ask(&bus, peer).await?;
    let (Some(program), Some(state_dir)) = (before.program, before.state_dir) else {
        return Err(CliError::new(
            NOT_STARTED,
            format!(
                "not started: {peer}: its daemon, {}, is an older one that cannot hand over; bring it forward with \
                 deploy/push once",
                before.daemon_version
            ),
        ));
    };
    let time = |time: Duration| format!("{}s", time.as_secs());
    let (jobs, ready) = (time(JOBS_WITHIN), time(READY_WITHIN));
    let upgrade = [program.as_str(), "--state-dir", &state_dir, "daemon", "upgrade", "--no-wait"];
    let limits = ["--jobs-timeout", &jobs, "--ready-timeout", &ready];
    let argv = [&upgrade[..], &limits, words].concat().into_iter().map(str::to_owned).collect();
    let said = match run(&bus, &peer, argv, input).await? {
        Ran::Said(said) => said,
        Ran::Failed(code) => {
            output::say(&format!("{step}: stopped: it exited {code}"));
            return Ok(code);
        }
    };
    match said.split_whitespace().find_map(|word| word.strip_prefix("upgrade=")?.parse().ok()) {
        Some(id) => follow(&bus, &peer, step, id).await,
        // The peer already runs this version.
        None => output::line(said.trim()).map(|()| 0),
    }
}

/// Finds a peer by any of its names, with its health.
async fn ask(bus: &Bus, name: &str) -> Result<(PeerId, Health), CliError> {
    let peer = exec::target(bus, name).await?;
    match health(bus, &peer, ANSWER_WITHIN).await {
        Ok((health, _)) => Ok((peer, health)),
        // The word looks like an id, but may be another peer's hostname or address.
        Err(_) => {
            let other = exec::elsewhere(bus, name, &peer).await?;
            let (health, _) = health(bus, &other, ANSWER_WITHIN)
                .await
                .map_err(|error| CliError::new(OFFLINE, format!("offline: {other}: {error}")))?;
            Ok((other, health))
        }
    }
}

/// The result of the job that requests the upgrade.
enum Ran {
    Said(String),
    Failed(u8),
}

/// Runs a command on the peer; shows its stderr and returns its stdout.
async fn run(bus: &Bus, peer: &PeerId, argv: Vec<String>, input: Option<Bytes>) -> Result<Ran, CliError> {
    let request = ExecRequest {
        kind: Some(TYPE.to_owned()),
        id: Some(JobId::new()),
        directory: Some("/".to_owned()),
        shell_cmd: None,
        argv: Some(argv),
        env: Variables::default(),
        user: None,
        stdin: input.is_some(),
        tty: None,
        name: None,
        timeout_ms: None,
        no_wait: false,
        durable: false,
        expires_ms: None,
        task: None,
        stream: Some(StreamOptions { window: WINDOW }),
        from: Some(exec::caller()),
        within: Vec::new(),
    };
    let (stdin, chunks) = mpsc::channel(1);
    if let Some(mut bytes) = input {
        tokio::spawn(async move {
            while !bytes.is_empty() {
                let piece = bytes.split_to(PIECE.min(bytes.len()));
                if stdin.send(piece).await.is_err() {
                    return;
                }
            }
        });
    }
    let mut execution =
        client::start(bus, peer.clone(), request, chunks, Timeouts { absent: Duration::ZERO });
    let (job, steering) = (execution.job(), execution.steering());
    let (mut said, mut told) = (Vec::new(), Vec::new());
    loop {
        match execution.next().await {
            Some(Event::Output { stream, bytes, .. }) => {
                match stream {
                    peerbus_protocol::frame::StreamKind::Out => said.extend_from_slice(&bytes),
                    peerbus_protocol::frame::StreamKind::Err => told.extend_from_slice(&bytes),
                }
                steering.wrote(stream, bytes.len());
            }
            Some(Event::Ended(outcome)) => {
                String::from_utf8_lossy(&told).lines().for_each(output::complain);
                let code = exec::conclude(peer, job, &outcome, &exec::Streams::default(), false)?;
                return Ok(match &*outcome {
                    Completion {
                        ending: Ending::Exited { code: 0 }, integrity: Integrity::Whole, ..
                    } => Ran::Said(String::from_utf8_lossy(&said).into_owned()),
                    _ => Ran::Failed(code.max(exit::OTHER)),
                });
            }
            Some(_) => {}
            None => return Err(CliError::new(UNKNOWN, "the conversation broke off inside d")),
        }
    }
}

/// Polls an upgrade until it is over and a daemon serves.
async fn follow(bus: &Bus, peer: &PeerId, step: &str, id: Instance) -> Result<u8, CliError> {
    let deadline = Instant::now() + JOBS_WITHIN + READY_WITHIN + LATE;
    let mut said = String::new();
    loop {
        let known = match health(bus, peer, ANSWER_WITHIN).await {
            Ok((health, _)) => {
                let Health { instance, daemon_version, upgrade, .. } = health;
                upgrade.filter(|upgrade| upgrade.id == id).map(|upgrade| (upgrade, instance, daemon_version))
            }
            // No daemon answers while the new version starts or the old one returns.
            Err(_) => None,
        };
        if let Some((UpgradeStatus { version, phase, why, .. }, instance, serves)) = known {
            match phase.as_str() {
                "done" => {
                    output::line(&format!("deployed peer={peer} version={serves} instance={instance}"))?;
                    return if serves == version {
                        Ok(0)
                    } else {
                        Err(CliError::other(format!("{peer} serves {serves}, not {version}")))
                    };
                }
                "failed" => {
                    let what = format!("{step}: stopped: {why}; {serves} serves");
                    return Err(CliError::new(OTHER, what));
                }
                _ => {}
            }
            let doing =
                format!("{step}: {version}: {}", if phase == "asked" { "asked for" } else { "comes up" });
            if doing != said {
                output::say(&doing);
                said = doing;
            }
        }
        if Instant::now() >= deadline {
            let why = "it does not say how it ended; `d ping` and `d doctor` tell whether it is there";
            return Err(CliError::new(UNKNOWN, format!("unknown: {peer}: {why}")));
        }
        sleep(ASK_EVERY).await;
    }
}
