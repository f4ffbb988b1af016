//! Which nats-server a managed broker is.

use std::env;
use std::path::{Path, PathBuf};

use crate::settings::{Settings, variable};

/// Its name, where it is found like any other program.
const NAME: &str = "nats-server";

/// The one that was named; else the one in PATH, or that came with this program.
pub(crate) fn nats_server(settings: &Settings<'_>) -> PathBuf {
    let named = variable("PEERBUS_NATS_SERVER").map(PathBuf::from);
    let named = named.or_else(|| settings.file.nats_server.clone());
    named.or_else(found).unwrap_or_else(|| PathBuf::from(NAME))
}

fn found() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own = env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(Path::to_owned);
    let folders = env::split_paths(&path).filter(|folder| folder.is_absolute());
    // In an unpacked package it is beside `d`; where that was installed, below `lib`.
    let own = beside.iter().flat_map(|folder| [folder.clone(), folder.join("../lib/peerbus")]);
    folders.chain(own).map(|folder| folder.join(NAME)).find(|program| program.is_file())
}
