//! Fetches the list of peers for the next TAB in a background process.
//!
//! The process is the hidden verb `d refresh-peers`. It prints no messages, ends within [`LIMIT`],
//! and holds a lock on the cache directory, so only one runs at a time. It writes the list to the
//! cache and to stdout, so that the first TAB can use it, even without a writable cache.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::ASKED;
use crate::args::Common;
use crate::cache::{self, Cache};
use crate::connect::connect;
use crate::exit::{CliError, OTHER};
use crate::{output, peers};
use peerbus_bus::NatsAddress;

/// The verb that fetches the list of peers.
const PEERS: &str = "refresh-peers";

/// Timeout for fetching a list.
const LIMIT: Duration = Duration::from_secs(5);

/// `d refresh-peers`
pub(crate) async fn run(common: &Common) -> Result<u8, CliError> {
    let Some(_alone) = alone() else { return Ok(0) };
    let list = async {
        let bus = connect(common).await?;
        peers::all(&bus).await.map(|rows| cache::learn(bus.address(), &rows))
    };
    let too_long = CliError::new(OTHER, "the list of peers took too long");
    let cache = tokio::time::timeout(LIMIT, list).await.map_err(|_| too_long)??;
    output::json_line(&String::from_utf8_lossy(&cache.encode()))?;
    Ok(0)
}

/// The lock for fetching; `None` if another process holds it. Without a cache directory there is no
/// lock.
fn alone() -> Option<Option<File>> {
    let Some(directory) = cache::made_directory() else { return Some(None) };
    let Ok(lock) = File::open(directory) else { return Some(None) };
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => None,
        _ => Some(Some(lock)),
    }
}

/// Starts to fetch a list in the background.
pub(super) fn begin(common: &Common) {
    // A failed start is not reported to the user who pressed TAB.
    let _ = process(common, PEERS).stdout(Stdio::null()).spawn();
}

/// Starts to fetch a list, and waits briefly for it.
pub(super) fn begin_and_wait(common: &Common, bus: &NatsAddress, patience: Duration) -> Option<Cache> {
    Cache::decode(bus, &answer_of(common, PEERS, patience)?)
}

/// Starts a hidden verb, and waits briefly for its output.
pub(super) fn answer_of(common: &Common, verb: &str, patience: Duration) -> Option<Vec<u8>> {
    let mut child = process(common, verb).stdout(Stdio::piped()).spawn().ok()?;
    let mut answer = child.stdout.take()?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let whole = answer.read_to_end(&mut text).is_ok();
        // After the timeout, no receiver is left.
        let _ = send.send(whole.then_some(text));
    });
    receive.recv_timeout(patience).ok()?
}

/// The same program and settings, passed by the environment: other users can see arguments.
fn process(common: &Common, verb: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "d".into()));
    command.arg(verb).stdin(Stdio::null()).stderr(Stdio::null()).process_group(0).env_remove(ASKED);
    let settings = [
        ("NATS_URL", common.nats.as_ref().map(Into::into)),
        ("PEERBUS_CONFIG", common.config.as_ref().map(|path| path.clone().into_os_string())),
        ("PEERBUS_CREDS", common.creds.as_ref().map(|path| path.clone().into_os_string())),
        ("PEERBUS_STATE_DIR", common.state_dir.as_ref().map(|path| path.clone().into_os_string())),
    ];
    for (name, value) in settings {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}
