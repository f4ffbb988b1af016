//! The newest account of the fleet, kept across restarts: `account.jwt` in the state directory.
//!
//! Guarantee: a daemon that starts while no leader answers believes nobody whose revocation it has heard
//! before. Limit: what it has not heard before it cannot know.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::context::Context;
use peerbus_bus::Signing;

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("account.jwt")
}

/// Takes up what was heard before the last end. One that cannot be used is said, and done without: the
/// identity's own file has an account too.
pub(super) fn recall(state_dir: &Path, member: &Signing) {
    let path = path(state_dir);
    let read = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        read => read.map_err(|error| error.to_string()),
    };
    let learnt = read.and_then(|text| member.trust().learn(text.trim()).map_err(|bad| bad.to_string()));
    if let Err(why) = learnt {
        tracing::warn!(file = %path.display(), why, "the fleet's account that was heard last cannot be used");
    }
}

/// Writes down each newer account, for as long as it is polled.
pub(super) async fn keep(context: Arc<Context>) {
    let Some(member) = context.bus.member() else { return std::future::pending().await };
    let mut learnt = context.bus.accounts_learnt();
    loop {
        let (account, state_dir) = (member.trust().account_token(), context.settings.state_dir.clone());
        let written = tokio::task::spawn_blocking(move || write(&state_dir, &account)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "keeping the fleet's account; it is asked for again at the next start");
        }
        if learnt.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Writes it whole or not at all, readable by its owner alone; not where it is there already.
fn write(state_dir: &Path, account: &str) -> std::io::Result<()> {
    let path = path(state_dir);
    if fs::read_to_string(&path).is_ok_and(|text| text.trim() == account) {
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(state_dir)?;
    file.write_all(account.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
