//! One row: conversion from text to a peer, and back.

use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::ids::BadId;
use peerbus_protocol::peers::{PeerRow, Presence};

use super::dialect::COLUMNS;
use super::table::Table;

/// Converts the columns, in their order, to a peer. Lenient, since other programs may have filled
/// the table: only an invalid peer id makes a row useless.
pub(super) fn read(cells: Vec<Option<String>>) -> Result<PeerRow, BadId> {
    let mut cells = cells.into_iter();
    let mut optional = || cells.next().flatten().filter(|cell| !cell.is_empty());
    Ok(PeerRow {
        peer_id: optional().unwrap_or_default().parse()?,
        ip_address: optional(),
        mac_address: optional(),
        hostname: optional().unwrap_or_default(),
        last_seen: optional().and_then(|cell| with_zone(&cell)).unwrap_or_default(),
        is_online: optional().is_some_and(|cell| is_true(&cell)),
        daemon_version: optional().unwrap_or_default(),
        instance: optional().and_then(|cell| cell.parse().ok()),
        role: if optional().as_deref() == Some(Role::Leader.as_str()) { Role::Leader } else { Role::Worker },
        os: optional().unwrap_or_default(),
        arch: optional().unwrap_or_default(),
        tags: optional().and_then(|cell| serde_json::from_str(&cell).ok()).unwrap_or_default(),
        // Lives only in the leader's memory: the peer's machine may be able to write to the
        // database.
        audit: None,
        // Comes from the certificate, which is not in the table.
        names: None,
        state: Presence::Unknown,
        jobs: 0,
        load: None,
        uptime_s: 0,
    })
}

/// A value to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// Text or null.
    Text(Option<String>),
    /// A boolean.
    Truth(bool),
}

/// The columns in their order.
pub(super) type Cells = [Cell; COLUMNS.len()];

/// A row's values, each truncated to its column's width. An id is never truncated: it could be
/// another peer's.
pub(super) fn cells(row: &PeerRow, table: &Table) -> Cells {
    let text = |text: &str| Cell::Text(Some(text.to_owned()));
    let mut cells = [
        text(row.peer_id.as_str()),
        Cell::Text(row.ip_address.clone()),
        Cell::Text(row.mac_address.clone()),
        text(&row.hostname),
        Cell::Text((!row.last_seen.is_empty()).then(|| without_zone(&row.last_seen))),
        Cell::Truth(row.is_online),
        text(&row.daemon_version),
        Cell::Text(row.instance.map(|instance| instance.to_string())),
        text(row.role.as_str()),
        text(&row.os),
        text(&row.arch),
        Cell::Text(Some(serde_json::to_string(&row.tags).unwrap_or_default())),
    ];
    for (cell, column) in cells.iter_mut().zip(&table.columns).skip(1) {
        if let (Cell::Text(Some(text)), Some(width)) = (cell, column.as_ref().and_then(|column| column.width))
            && let Some((at, _)) = text.char_indices().nth(width)
        {
            text.truncate(at);
        }
    }
    cells
}

/// The same values in ASCII and without nulls, for a table that takes nothing else.
pub(super) fn plain(cells: Cells) -> Cells {
    let ascii = |text: String| text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    cells.map(|cell| match cell {
        Cell::Text(text) => Cell::Text(text.map(ascii).or_else(|| Some(String::new()))),
        truth @ Cell::Truth(_) => truth,
    })
}

/// Binds every present column except the key, then the key `keys` times.
pub(super) fn bind<'q>(
    mut query: Query<'q, Any, AnyArguments>,
    cells: &Cells,
    table: &Table,
    keys: usize,
) -> Query<'q, Any, AnyArguments> {
    let present = cells.iter().zip(&table.columns).skip(1).filter(|(_, column)| column.is_some());
    for cell in present.map(|(cell, _)| cell).chain(std::iter::repeat_n(&cells[0], keys)) {
        query = match cell {
            Cell::Text(text) => query.bind(text.clone()),
            Cell::Truth(truth) => query.bind(*truth),
        };
    }
    query
}

/// Accepts the text forms of a boolean, a number and a bit field.
fn is_true(cell: &str) -> bool {
    matches!(cell.to_ascii_lowercase().as_str(), "1" | "t" | "true" | "1.0" | "\u{1}")
}

/// Converts `2026-01-02 03:04:05`, as the table has it, perhaps with a suffix, to
/// `2026-01-02T03:04:05Z`. `None` for an invalid time, such as the zero date of MySQL.
fn with_zone(text: &str) -> Option<String> {
    let (day, time) = (text.get(..10)?, text.get(11..19)?);
    let written = format!("{day}T{time}Z");
    written.parse::<jiff::Timestamp>().ok().map(|_| written)
}

/// The reverse of [`with_zone`].
fn without_zone(text: &str) -> String {
    match text.strip_suffix('Z').and_then(|text| text.split_once('T')) {
        Some((day, time)) => format!("{day} {time}"),
        None => text.to_owned(),
    }
}
