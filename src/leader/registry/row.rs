//! One row: from text to a peer, and back.

use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use crate::protocol::heartbeat::Role;
use crate::protocol::ids::BadId;
use crate::protocol::peers::{PeerRow, Presence};

/// Makes a peer of the columns in their order. Lenient: a table may have been filled by others, and
/// only a key that is no peer id makes a row useless.
pub(super) fn read(cells: Vec<Option<String>>) -> Result<PeerRow, BadId> {
    let mut cells = cells.into_iter();
    let mut optional = || cells.next().flatten().filter(|cell| !cell.is_empty());
    Ok(PeerRow {
        peer_id: optional().unwrap_or_default().parse()?,
        ip_address: optional(),
        mac_address: optional(),
        hostname: optional().unwrap_or_default(),
        last_seen: optional().map(with_zone).unwrap_or_default(),
        is_online: optional().is_some_and(|cell| is_true(&cell)),
        daemon_version: optional().unwrap_or_default(),
        instance: optional().and_then(|cell| cell.parse().ok()),
        role: if optional().as_deref() == Some(Role::Leader.as_str()) { Role::Leader } else { Role::Worker },
        os: optional().unwrap_or_default(),
        arch: optional().unwrap_or_default(),
        tags: optional().and_then(|cell| serde_json::from_str(&cell).ok()).unwrap_or_default(),
        state: Presence::Unknown,
        jobs: 0,
        load: None,
        uptime_s: 0,
    })
}

/// Binds every column but the key, then the key.
pub(super) fn bind<'q>(query: Query<'q, Any, AnyArguments>, row: &PeerRow) -> Query<'q, Any, AnyArguments> {
    query
        .bind(row.ip_address.clone())
        .bind(row.mac_address.clone())
        .bind(row.hostname.clone())
        .bind(without_zone(&row.last_seen))
        .bind(row.is_online)
        .bind(row.daemon_version.clone())
        .bind(row.instance.map(|instance| instance.to_string()))
        .bind(row.role.as_str().to_owned())
        .bind(row.os.clone())
        .bind(row.arch.clone())
        .bind(serde_json::to_string(&row.tags).unwrap_or_default())
        .bind(row.peer_id.as_str().to_owned())
}

fn is_true(cell: &str) -> bool {
    matches!(cell.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "1.0")
}

/// `2026-01-02 03:04:05`, as the table has it, to `2026-01-02T03:04:05Z`. Another text stays as it
/// is.
fn with_zone(text: String) -> String {
    match text.split_once(' ') {
        Some((day, time)) if day.len() == 10 && time.len() >= 8 && time.is_char_boundary(8) => {
            format!("{day}T{}Z", &time[..8])
        }
        _ => text,
    }
}

/// The way back.
fn without_zone(text: &str) -> String {
    match text.strip_suffix('Z').and_then(|text| text.split_once('T')) {
        Some((day, time)) => format!("{day} {time}"),
        None => text.to_owned(),
    }
}
