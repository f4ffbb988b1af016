//! `d revoke`: whoever it was is let in no more, and refused by every member.
//!
//! The books come first: what is in them is never forgotten. Then the server is told, which drops the
//! connections, then the members. Where either cannot be reached the leader's daemon does it as soon as it
//! can; that is said, and the exit code is not 0.

use clap::Args as ClapArgs;

use super::args::Common;
use super::exit::{BUS_UNREACHABLE, Failure, OTHER};
use super::settings::Settings;
use super::{keys, output};
use crate::bus::Credentials;
use crate::leader::fleet::{NotPushed, push, tell};
use crate::protocol::identity::Name;

/// What `d revoke` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  d revoke vps          a machine that was lost\n  d revoke alice        a person; an invitation that is still open, too"
)]
pub(super) struct Revoke {
    /// Whose identity, or open invitation, it is
    #[arg(value_parser = keys::name)]
    name: Name,
}

/// `d revoke`
pub(super) async fn run(common: &Common, args: Revoke) -> Result<u8, Failure> {
    let name = args.name;
    let authority = keys::open(common)?;
    let settings = Settings::read(common)?;
    if let Ok(Credentials::Identity(own)) = settings.daemons_credentials()
        && own.own().standing.is_machine()
        && own.own().name == name
    {
        return Err(Failure::usage(format!(
            "{name} is this machine, which has the fleet's keys: without it nobody could be invited or revoked"
        )));
    }
    let address = settings.address()?;
    let account = authority.revoke(&name).map_err(|error| keys::failed(&error))?;
    let told = async {
        push(&address, &authority, &account).await?;
        tell(&address, &authority, &account).await
    };
    told.await.map_err(|error| {
        let code = if matches!(error, NotPushed::Bus(_)) { BUS_UNREACHABLE } else { OTHER };
        Failure::new(
            code,
            format!(
                "{name} is revoked in the fleet's books, and the fleet was not told: {error}; the leader's daemon tells \
                 it as soon as it can, and `d revoke {name}` tries again"
            ),
        )
    })?;
    output::line(&format!("revoked {name}: the server has dropped its connections, and the fleet was told"))?;
    Ok(0)
}
