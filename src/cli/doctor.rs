//! `d doctor`: checks what works, and gives hints for what does not.
//!
//! The idea: each check tests one fact, and is skipped if an earlier check it depends on failed. So
//! the first FAIL is where to start. Nothing is changed, except that `--clean` may stop what it
//! shows.
//!
//! Limit: `d` trusts a peer's own report about its disk and permissions.

mod check;
mod clean;
mod fleet;
mod here;
mod peer;

use clap::Args as ClapArgs;
use futures::StreamExt;

use super::args::{Common, peer_name};
use super::exit::{CliError, OTHER};
use super::output::{self, Table};
use check::{Check, Report};
use peerbus_bus::Bus;

/// Most peers checked at the same time.
const SIDE_BY_SIDE: usize = 16;

/// What `d doctor` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d doctor           this machine, the bus, the registry and every peer\n  d doctor vps       the same, with one peer\n  d doctor --clean   what was left running by daemons that died\n\nExit codes: 0 nothing failed, 1 something did, 254 no such peer"
)]
pub(super) struct Doctor {
    /// The peer: its id, hostname or address [default: all of them]
    #[arg(value_parser = peer_name)]
    peer: Option<String>,
    /// As JSON: one object in one line
    #[arg(long)]
    json: bool,
    /// Show what daemons of this machine have left running that nobody will ever end, and stop it
    #[arg(long, conflicts_with = "peer")]
    clean: bool,
    /// With --clean: without asking
    #[arg(long, requires = "clean")]
    yes: bool,
}

/// `d doctor`
pub(super) async fn run(common: &Common, args: &Doctor) -> Result<u8, CliError> {
    if args.clean {
        return clean::run(common, clean::CleanOptions { yes: args.yes, json: args.json }).await;
    }
    let mut report = Report::default();
    here::look(common, &mut report).await;
    if let Some(bus) = fleet::bus(common, &mut report).await {
        let peers = fleet::registry(&bus, args.peer.as_deref(), &mut report).await?;
        look_at_all(&bus, peers, &mut report).await;
    }
    show(&report, args.json)?;
    Ok(if report.failed().next().is_some() { OTHER } else { 0 })
}

async fn look_at_all(bus: &Bus, peers: Vec<peer::Known>, report: &mut Report) {
    let looks = peers.into_iter().map(|known| async move { peer::look(bus, known).await });
    let looked: Vec<Vec<Check>> = futures::stream::iter(looks).buffered(SIDE_BY_SIDE).collect().await;
    looked.into_iter().flatten().for_each(|check| report.add(check));
}

fn show(report: &Report, json: bool) -> Result<(), CliError> {
    if json {
        return output::json(&report.as_json());
    }
    let mut table = Table::of_facts();
    let mut about = "";
    for check in &report.checks {
        if check.about != about {
            about = &check.about;
            table.title(about);
        }
        table.row([check.result.shown(), check.name.into(), check.detail.as_str().into()]);
    }
    output::table(&table)?;
    output::line(&report.verdict())?;
    for check in report.failed() {
        output::line(&format!("  {}: {}: {}", check.about, check.name, check.next))?;
    }
    Ok(())
}
