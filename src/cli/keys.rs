//! Access to the fleet's keys, which are on the fleet's first machine.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::args::Common;
use super::exit::CliError;
use super::settings::{Settings, own_config};
use peerbus_identity::authority::{Authority, AuthorityError};
use peerbus_protocol::identity::{BadName, Name};

/// The paths of a fleet's files, beside the configuration.
pub(super) struct FleetPaths {
    /// The configuration file.
    pub(super) config: PathBuf,
    /// The folder with the fleet's keys and records.
    pub(super) fleet: PathBuf,
    /// The folder with the identities of this machine and its users.
    pub(super) identity: PathBuf,
}

impl FleetPaths {
    pub(super) fn of(common: &Common) -> Result<Self, CliError> {
        let config = own_config(common);
        let config = std::path::absolute(&config)
            .map_err(|error| CliError::other(format!("finding {}: {error}", config.display())))?;
        let folder = config.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { fleet: folder.join("fleet"), identity: folder.join("identity"), config })
    }

    /// The path of an identity file.
    pub(super) fn creds(&self, name: &Name) -> PathBuf {
        self.identity.join(format!("{name}.creds"))
    }

    /// Creates the identity folder for its owner only. The parent is the configuration's folder,
    /// which all users may read.
    pub(super) fn make_identity_folder(&self) -> Result<(), CliError> {
        let above = self.identity.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(above)
            .map_err(|error| CliError::other(format!("making {}: {error}", above.display())))?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.identity).map_err(|error| {
            CliError::other(format!("making the folder of identities {}: {error}", self.identity.display()))
        })
    }
}

/// Opens the fleet's keys.
pub(super) fn open(common: &Common) -> Result<Authority, CliError> {
    let settings = Settings::read(common)?;
    let folder = match settings.fleet_keys() {
        Some(keys) => keys.to_owned(),
        None => FleetPaths::of(common)?.fleet,
    };
    if !folder.exists() {
        return Err(CliError::other(format!(
            "there are no keys of a fleet in {}: this is for the fleet's first machine, as whoever ran `d init` there",
            folder.display()
        )));
    }
    Authority::open(&folder).map_err(|error| failed(&error))
}

pub(super) fn failed(error: &AuthorityError) -> CliError {
    match error {
        AuthorityError::Taken(..) | AuthorityError::Unknown(_) => CliError::usage(error.to_string()),
        _ => CliError::other(error.to_string()),
    }
}

/// Parses a name.
pub(super) fn name(text: &str) -> Result<Name, String> {
    text.parse().map_err(|bad: BadName| bad.to_string())
}

/// The current time in seconds since 1970.
pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// A recorded time in the registry's format.
pub(super) fn utc(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => seconds.to_string(),
    }
}
