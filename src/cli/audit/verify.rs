//! `d audit verify`: checks the chain of a log, here, line by line.

use clap::Args as ClapArgs;

use super::{first_page, no_answer};
use crate::args::{Common, peer_name};
use crate::connect::connect;
use crate::exit::{CliError, OTHER};
use crate::output;
use crate::settings::Settings;
use peerbus_client::{audit as client, peers};
use peerbus_daemon::audit;
use peerbus_protocol::audit::chain::Verdict;
use peerbus_protocol::audit::{AuditQuery, Checkpoint};
use peerbus_protocol::peers::Found;

/// What `d audit verify` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d audit verify vps      fetch the whole log and check its chain here, also against what the leader\n                          last heard of it\n  d audit verify          check the log of this machine's state directory\n\nExit codes: 0 sound, 1 not sound"
)]
pub(super) struct Verify {
    /// The peer: its id, hostname or address [default: this machine, without the bus]
    #[arg(value_parser = peer_name)]
    peer: Option<String>,
    /// As JSON: one object in one line
    #[arg(long)]
    json: bool,
}

/// `d audit verify`
pub(super) async fn run(common: &Common, args: &Verify) -> Result<u8, CliError> {
    let (of, verdict) = match &args.peer {
        Some(name) => remote(common, name).await?,
        None => local(common)?,
    };
    if args.json {
        let last = verdict.last.as_ref();
        let shown = serde_json::json!({
            "of": of, "sound": verdict.is_sound(), "lines": verdict.lines, "first": verdict.first,
            "last": last.map(|last| last.seq), "hash": last.map(|last| last.hash.to_string()),
            "faults": verdict.faults, "more_faults": verdict.more_faults, "notes": verdict.notes,
        });
        output::json(&shown)?;
    } else {
        tell(&of, &verdict)?;
    }
    Ok(if verdict.is_sound() { 0 } else { OTHER })
}

fn tell(of: &str, verdict: &Verdict) -> Result<(), CliError> {
    for fault in &verdict.faults {
        output::line(&format!("BROKEN  {fault}"))?;
    }
    if verdict.more_faults > 0 {
        output::line(&format!("BROKEN  and {} faults more", verdict.more_faults))?;
    }
    for note in &verdict.notes {
        output::line(&format!("note    {note}"))?;
    }
    let range = match (verdict.first, &verdict.last) {
        (Some(first), Some(last)) => format!("{} lines, {first} to {}", verdict.lines, last.seq),
        _ => "no lines".to_owned(),
    };
    let word = if verdict.is_sound() { "sound" } else { "not sound" };
    output::line(&format!("the audit log of {of} is {word}: {range}"))
}

fn local(common: &Common) -> Result<(String, Verdict), CliError> {
    let state_dir = Settings::read(common)?.state_dir();
    let folder = audit::folder(&state_dir);
    let failed = |why: String| CliError::other(format!("reading the audit log {}: {why}", folder.display()));
    match audit::verify(&state_dir) {
        Ok(Some(verdict)) => Ok((state_dir.display().to_string(), verdict)),
        Ok(None) => Err(failed(
            "there is none; has a daemon ever run on this state directory (--state-dir)?".to_owned(),
        )),
        Err(error) => Err(failed(error.to_string())),
    }
}

async fn remote(common: &Common, name: &str) -> Result<(String, Verdict), CliError> {
    let bus = connect(common).await?;
    // Nothing but who it is, and whether it has a log at all.
    let (peer, _) = first_page(&bus, name, &AuditQuery { limit: Some(0), ..AuditQuery::default() }).await?;
    let heard = match peers::get(&bus, peer.as_str()).await {
        Ok(answer) => match answer.found {
            Found::One { peer } => peer.audit,
            _ => None,
        },
        Err(error) => {
            output::say(&format!("not compared with what the leader has heard: {error}"));
            None
        }
    };
    let known: Vec<(String, Checkpoint)> =
        heard.map(|head| ("the leader".to_owned(), head)).into_iter().collect();
    let verdict = client::verify(&bus, &peer, &known).await.map_err(|error| no_answer(&peer, &error))?;
    Ok((peer.to_string(), verdict))
}
