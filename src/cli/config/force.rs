//! Which settings are in force, and where each comes from.
//!
//! Guarantee: no secret is shown. Passwords and tokens in URLs and the values of variables are
//! starred out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::exit::CliError;
use crate::render::without_secrets;
use crate::settings::{MACHINES_CONFIG, Settings, variable};

/// One setting.
#[derive(Debug, Serialize)]
pub(super) struct InForce {
    pub(super) key: String,
    pub(super) value: String,
    /// Where it comes from: a flag, a variable, the file, the `nats` context, or the default.
    pub(super) from: String,
}

/// The environment's names of settings.
const VARIABLES: [(&str, &str); 8] = [
    ("nats", "NATS_URL"),
    ("peer_id", "PEERBUS_PEER_ID"),
    ("role", "PEERBUS_ROLE"),
    ("database_url", "PEERBUS_DATABASE_URL"),
    ("state_dir", "PEERBUS_STATE_DIR"),
    ("creds", "PEERBUS_CREDS"),
    ("daemon_creds", "PEERBUS_DAEMON_CREDS"),
    ("nats_server", "PEERBUS_NATS_SERVER"),
];

/// All of them, sorted by key.
pub(super) fn all(settings: &Settings<'_>, file: &Path) -> Result<Vec<InForce>, CliError> {
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut put = |key: &str, value: String, from: String| {
        found.insert(key.to_owned(), (value, from));
    };
    let bus = settings.address()?.to_string();
    let from = if settings.nats_context()?.is_some() { "nats context" } else { "default" };
    put("nats", bus, from.to_owned());
    put("role", "worker".to_owned(), "default".to_owned());
    put("state_dir", settings.state_dir().display().to_string(), "default".to_owned());
    if let Ok(peer) = settings.peer_id(None) {
        put("peer_id", peer.to_string(), "default".to_owned());
    }
    for (key, value) in settings.machines.iter().flat_map(|(key, value)| flattened(key, value)) {
        put(&key, value, format!("file {MACHINES_CONFIG}"));
    }
    for (key, value) in settings.file.text.iter().flat_map(|(key, value)| flattened(key, value)) {
        put(&key, value, format!("file {}", file.display()));
    }
    for (key, name) in VARIABLES {
        if let Some(value) = variable(name) {
            put(key, value, format!("variable {name}"));
        }
    }
    for (key, flag, value) in settings.flags() {
        put(key, value, format!("flag {flag}"));
    }
    let shown = |(key, (value, from)): (String, (String, String))| InForce {
        value: if is_variable(&key) { "***".to_owned() } else { without_secrets(&value) },
        key,
        from,
    };
    Ok(found.into_iter().map(shown).collect())
}

/// Tables as keys with dots.
fn flattened(key: &str, value: &toml::Value) -> Vec<(String, String)> {
    match value {
        toml::Value::Table(table) => {
            table.iter().flat_map(|(below, value)| flattened(&format!("{key}.{below}"), value)).collect()
        }
        toml::Value::String(text) => vec![(key.to_owned(), text.clone())],
        other => vec![(key.to_owned(), other.to_string())],
    }
}

/// Whether the value is that of a variable a command gets.
fn is_variable(key: &str) -> bool {
    key.split('.').rev().nth(1) == Some("env")
}
