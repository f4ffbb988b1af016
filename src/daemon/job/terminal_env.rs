//! Environment variables of a job with a terminal: its type, its colors and its owner's locale.
//!
//! All values come from another machine. If this one lacks the terminal type or the locale, the job gets the
//! nearest match. A policy's `env` does not govern these variables: their names are fixed, and their values can
//! only name a terminal or a locale (see [`Tty::check`](peerbus_protocol::tty::Tty::check)).

use std::time::Duration;

use peerbus_process::{FALLBACK_LOCALE, TerminalSupport, find_terminal_support};
use peerbus_protocol::exec::ExecRequest;
use peerbus_protocol::tty::{LANGUAGE, USUAL_TERM};
use peerbus_protocol::variables::Variables;

/// How long it may take to find out what this machine knows.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// The variables for a job, of which `configured` are those of every job of this daemon. None without a terminal.
pub(super) async fn variables(exec: &ExecRequest, configured: &Variables) -> Vec<(String, String)> {
    let Some(tty) = &exec.tty else { return Vec::new() };
    let term = tty.term.as_deref().unwrap_or(USUAL_TERM);
    let locales = || tty.locale.iter().filter(|(name, _)| *name != LANGUAGE);
    let env: Vec<(String, String)> = configured.clone().into_iter().chain(exec.env.clone()).collect();
    let wanted = locales().map(|(_, locale)| locale.as_str());
    let within = exec.timeout_ms.map_or(LOOK_UP_WITHIN, Duration::from_millis).min(LOOK_UP_WITHIN);
    let known = find_terminal_support(term, wanted, exec.user.as_deref(), &env, within).await;
    let TerminalSupport { term: known_term, locales: known_locales } = known.unwrap_or_else(|error| {
        // As ssh does, which asks nobody.
        tracing::warn!(%error, "finding out what this machine knows of a terminal");
        TerminalSupport { term: None, locales: locales().map(|(_, locale)| locale.clone()).collect() }
    });
    let mut variables = vec![("TERM".to_owned(), known_term.unwrap_or_else(|| term.to_owned()))];
    variables.extend(tty.colorterm.iter().map(|value| ("COLORTERM".to_owned(), value.clone())));
    for (name, value) in &tty.locale {
        let is_known = name == LANGUAGE || known_locales.contains(value);
        let value = if is_known { value } else { FALLBACK_LOCALE };
        variables.push((name.clone(), value.to_owned()));
    }
    variables
}

/// The kind of terminal that a job gets in place of one that this machine does not know.
pub(crate) fn replaced_term(exec: &ExecRequest, env: &[(String, String)]) -> Option<String> {
    let asked = exec.tty.as_ref()?.term.as_ref()?;
    let (_, term) = env.iter().rev().find(|(name, _)| name == "TERM")?;
    let is_chosen = exec.env.names().any(|name| name == "TERM");
    (term != asked && !is_chosen).then(|| term.clone())
}
