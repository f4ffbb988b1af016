//! The bus of a fleet without identities, where one is to be with identities: whose it is, who is on it, and how it makes
//! room.
//!
//! Only two kinds are known well enough to be stopped: the broker that the leader's daemon on this machine manages, which
//! ends when that daemon is started anew; and the unit that `deploy/install --with-nats-server` puts there.

use std::net::SocketAddr;

use crate::args::Common;
use crate::connect::connect;
use crate::daemon::{disable_unit, is_unit_active};
use crate::exit::CliError;
use crate::settings::Settings;
use crate::{output, status};
use peerbus_client::peers;
use peerbus_protocol::heartbeat::Role;

/// The unit of a bus that was installed with the package.
const UNIT: &str = "peerbus-nats.service";

/// A bus that asks nobody who they are.
pub(super) struct OldBus {
    address: SocketAddr,
    kind: Kind,
    /// The peers on it, but for this machine's.
    pub(super) others: Vec<String>,
}

#[derive(Clone, Copy)]
enum Kind {
    /// This machine's daemon manages it.
    Managed,
    Unit,
}

impl OldBus {
    /// The one that listens on an address.
    pub(super) async fn at(
        common: &Common,
        settings: &Settings<'_>,
        address: SocketAddr,
    ) -> Result<Option<Self>, CliError> {
        let url = format!("nats://{address}");
        let daemon = status::running(&settings.state_dir());
        let leads_there = daemon.as_ref().is_some_and(|it| it.role == Role::Leader && it.nats == url);
        let kind = if leads_there && settings.file.broker.is_some() {
            Kind::Managed
        } else if std::net::TcpListener::bind(address).is_err() && is_unit_active(UNIT)? {
            Kind::Unit
        } else {
            return Ok(None);
        };
        let own = daemon.map(|daemon| daemon.peer_id);
        // Whom nobody can name now is found by `d peers` later: the registry stays.
        let others = match connect(&Common { nats: Some(url), ..common.clone() }).await {
            Ok(bus) => peers::list(&bus).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let others = others.into_iter().map(|row| row.peer_id).filter(|peer| Some(peer) != own.as_ref());
        Ok(Some(Self { address, kind, others: others.map(String::from).collect() }))
    }

    /// What becomes of it is for its owner to say.
    pub(super) fn wants_to_be_asked(&self) -> CliError {
        let who = match self.kind {
            Kind::Managed => "this machine's daemon manages it".to_owned(),
            Kind::Unit => format!("the unit {UNIT} runs it"),
        };
        let others = match self.others.as_slice() {
            [] => "no other machine is in it".to_owned(),
            others => format!("in it are also {}", others.join(", ")),
        };
        CliError::other(format!(
            "a fleet without identities has its bus on {} ({who}; {others}). `d init --convert` makes it one with \
             identities: that bus stops, one that knows its members takes its place, and the other machines are away \
             until each has joined (`d invite NAME` here, `d join TOKEN` there)",
            self.address
        ))
    }

    /// Makes room. A managed one ends with its daemon, which is started anew afterwards.
    pub(super) fn stop(&self) -> Result<(), CliError> {
        match self.kind {
            Kind::Managed => Ok(()),
            Kind::Unit => disable_unit(UNIT),
        }
    }

    /// Who was there and has to join.
    pub(super) fn say_who_joins(&self) {
        output::say("the fleet has identities now; these machines are away until they have joined:");
        for peer in &self.others {
            output::say(&format!("  `d invite {peer}` here, then `d join TOKEN` on {peer}"));
        }
    }
}
