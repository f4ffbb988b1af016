//! Which identity a command uses: a user's commands use the user's identity, the daemon its
//! machine's.
//!
//! The two are never mixed. Every peer would refuse a user's command signed by a machine, and a
//! daemon with a user's identity would have rights that no machine needs. So both are refused here,
//! with a hint.

use std::path::{Path, PathBuf};

use super::{Settings, variable};
use crate::exit::CliError;
use peerbus_bus::Credentials;
use peerbus_identity::Signer;
use peerbus_protocol::PeerId;
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::identity::Standing;

/// The hint for a user without an identity.
const GET_ONE: &str = "on the fleet's first machine `d invite --operator NAME` invites a person, and `d join TOKEN`, \
                       here, takes that up";

impl Settings<'_> {
    /// The user's identity file: a flag, else the environment, else the configuration.
    pub(super) fn persons_file(&self) -> Option<PathBuf> {
        let named = self.common.creds.clone().or_else(|| variable("PEERBUS_CREDS").map(PathBuf::from));
        named.or_else(|| self.file.creds.clone())
    }

    /// The daemon's identity file: its own setting, else the user's.
    pub(super) fn daemons_file(&self) -> Option<PathBuf> {
        let own = || variable("PEERBUS_DAEMON_CREDS").map(PathBuf::from);
        let own = self.common.creds.clone().or_else(own).or_else(|| self.file.daemon_creds.clone());
        own.or_else(|| self.persons_file())
    }

    /// The folder with the fleet's keys.
    pub(crate) fn fleet_keys(&self) -> Option<&Path> {
        self.file.fleet_keys.as_deref()
    }

    /// Refuses a user's command with a machine's identity, or without any in a fleet with
    /// identities.
    pub(super) fn check_person(&self, credentials: &Credentials) -> Result<(), CliError> {
        match credentials {
            Credentials::Identity(member) if is_persons(member.own().standing) => Ok(()),
            Credentials::Identity(member) => {
                let Signer { name, standing, .. } = member.own();
                let file = self.persons_file().unwrap_or_default();
                Err(CliError::usage(format!(
                    "{} is the identity of {name} ({standing}), and d acts for a person: {GET_ONE}",
                    file.display()
                )))
            }
            Credentials::None | Credentials::Token(_) if self.file.daemon_creds.is_some() => {
                Err(CliError::usage(format!(
                    "this machine's fleet has identities, and nothing says who you are (creds, PEERBUS_CREDS, --creds): \
                     {GET_ONE}"
                )))
            }
            _ => Ok(()),
        }
    }

    /// The peer id of a daemon with these credentials: the name of its identity, if it has one.
    ///
    /// # Errors
    /// If the identity belongs to another machine, or does not allow the role.
    pub(crate) fn daemons_peer(
        &self,
        flag: Option<String>,
        role: Role,
        credentials: &Credentials,
    ) -> Result<PeerId, CliError> {
        let Credentials::Identity(member) = credentials else { return self.peer_id(flag) };
        let Signer { name, standing, .. } = member.own();
        let file = self.daemons_file().unwrap_or_default();
        let wrong = |why: String| Err(CliError::usage(format!("the identity {} {why}", file.display())));
        if !standing.is_machine() {
            return wrong(format!(
                "is that of {name} ({standing}), and a daemon is a machine: `d invite {}` on the fleet's first machine, \
                 and `d join TOKEN` here, give it its own",
                self.peer_id(flag).map_or_else(|_| "NAME".to_owned(), String::from)
            ));
        }
        if role == Role::Leader && *standing != Standing::Leader {
            return wrong(format!("is that of {name} ({standing}), and a leader's daemon needs a leader's"));
        }
        let wanted = match self.named_peer(flag.clone()) {
            Some(_) => self.peer_id(flag)?.to_string(),
            None => name.to_string(),
        };
        if wanted != name.as_str() {
            return wrong(format!(
                "is that of {name}, and this daemon is to be {wanted}: a machine has one name"
            ));
        }
        wanted.parse().map_err(|bad: peerbus_protocol::ids::BadId| CliError::usage(bad.to_string()))
    }
}

fn is_persons(standing: Standing) -> bool {
    matches!(standing, Standing::Operator | Standing::Inspector)
}
