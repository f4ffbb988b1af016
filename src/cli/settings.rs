//! Resolution of values: a flag, else the environment, else the file, else the selected context of
//! the `nats` command line, else the default.
//!
//! For a user who is not root, the machine's file also gives the bus, the peer id, the tasks, and
//! whether the fleet has identities. The user's own file takes precedence, key by key. The rest of
//! the machine's file is for its daemon.

pub(super) mod file;
mod jobs;
mod who;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::args::{Common, RoleArg};
use super::exit::CliError;
use super::nats_context::NatsContext;
use super::task;
use file::File;
use peerbus_bus::{self as bus, AddressPolicy, Credentials, NatsAddress};
use peerbus_daemon::broker;
use peerbus_daemon::policy::{LoadedPolicy, PolicyFileRule};
use peerbus_process::{host, ownership};
use peerbus_protocol::PeerId;
use peerbus_protocol::heartbeat::Role;
use peerbus_protocol::ids::BadId;

/// The default bus.
const DEFAULT_NATS: &str = "nats://127.0.0.1:4222";

/// The default policy file, beside the configuration.
const DEFAULT_POLICY: &str = "policy.toml";

/// A value that explicitly disables the policy.
const NO_POLICY: &str = "none";

/// The machine's configuration file.
pub(super) const MACHINES_CONFIG: &str = "/etc/peerbus/config.toml";

/// The sources of all settings of one command line.
pub(super) struct Settings<'a> {
    common: &'a Common,
    pub(super) file: File,
    /// The part of `file` that came from the machine's configuration.
    pub(super) machines: toml::Table,
}

impl<'a> Settings<'a> {
    /// Reads the file, if there is one. A file that was named must exist.
    pub(super) fn read(common: &'a Common) -> Result<Self, CliError> {
        let own = own_config(common);
        if named(common).is_some() && !own.exists() {
            return Err(CliError::usage(format!("configuration {}: there is no such file", own.display())));
        }
        Self::read_or_default(common)
    }

    /// Reads the file for a caller that will write it: a named file may be missing.
    pub(super) fn read_or_default(common: &'a Common) -> Result<Self, CliError> {
        let mut file = File::read(&own_config(common))?.unwrap_or_default();
        let mut machines = toml::Table::new();
        if named(common).is_none() && !host::is_root() {
            machines = file.add(machines_file());
        }
        Ok(Self { common, file, machines })
    }

    /// A user's settings for a connection with this name.
    pub(super) fn bus(&self, name: &str) -> Result<bus::Settings, CliError> {
        let address = self.address()?;
        let credentials = self.credentials(&address, self.persons_file())?;
        self.check_person(&credentials)?;
        Ok(bus::Settings { address, credentials, reach: AddressPolicy::Anywhere, name: name.to_owned() })
    }

    /// The credentials of this machine's daemon.
    pub(super) fn daemons_credentials(&self) -> Result<Credentials, CliError> {
        self.credentials(&self.address()?, self.daemons_file())
    }

    /// Refuses files of root's daemon that others can change, since that would make them root.
    pub(super) fn check_daemons_files(&self) -> Result<(), CliError> {
        check_for_root("configuration", &own_config(self.common))?;
        if let Some(file) = self.daemons_file() {
            check_for_root("credentials", &file)?;
        }
        self.file.fleet_keys.as_ref().map_or(Ok(()), |keys| check_for_root("fleet keys", keys))
    }

    /// The address of the bus.
    pub(super) fn address(&self) -> Result<NatsAddress, CliError> {
        let context = self.nats_context()?.map(|context| context.url).filter(|url| !url.is_empty());
        let nats = self.nats().or(context);
        let nats = nats.as_deref().unwrap_or(DEFAULT_NATS);
        nats.parse().map_err(|bad: bus::BadAddress| CliError::usage(bad.to_string()))
    }

    /// The bus, if a flag, the environment or the file names it.
    pub(super) fn nats(&self) -> Option<String> {
        self.common.nats.clone().or_else(|| variable("NATS_URL")).or_else(|| self.file.nats.clone())
    }

    /// Whether any source names a bus, so that the default is not used.
    pub(super) fn names_a_bus(&self) -> Result<bool, CliError> {
        Ok(self.nats().is_some() || self.nats_context()?.is_some())
    }

    /// The selected `nats` context, which counts only if no other source names a bus.
    pub(super) fn nats_context(&self) -> Result<Option<NatsContext>, CliError> {
        if self.nats().is_some() {
            return Ok(None);
        }
        NatsContext::selected(&config_home()).map_err(CliError::usage)
    }

    fn credentials(&self, address: &NatsAddress, file: Option<PathBuf>) -> Result<Credentials, CliError> {
        let context = self.nats_context()?;
        let context = context.as_ref();
        let own = context.and_then(NatsContext::credentials);
        let context_file =
            context.map(|context| &context.creds).filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = file.or(context_file) {
            return Credentials::from_file(&path).map_err(|bad| CliError::usage(bad.to_string()));
        }
        if let Some(credentials) = own.or_else(|| address.userinfo().cloned()) {
            return Ok(credentials);
        }
        Ok(self.managed_token(address).map_or(Credentials::None, Credentials::Token))
    }

    /// The token of a broker managed by a daemon of this machine.
    fn managed_token(&self, address: &NatsAddress) -> Option<String> {
        let (host, port) = address.first();
        let path = broker::token_path(&self.runtime_dir(), &host, port);
        fs::read_to_string(path).ok().map(|token| token.trim().to_owned())
    }

    /// Whether a bus without authentication may have a public address.
    pub(super) fn trusts_the_network(&self) -> bool {
        self.file.trusted_network == Some(true)
    }

    /// Settings given as flags: key, flag and value.
    pub(super) fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        let path = |path: &PathBuf| path.display().to_string();
        let flags = [
            ("nats", "--nats", self.common.nats.clone()),
            ("creds", "--creds", self.common.creds.as_ref().map(path)),
            ("state_dir", "--state-dir", self.common.state_dir.as_ref().map(path)),
        ];
        flags.into_iter().filter_map(|(key, flag, value)| Some((key, flag, value?))).collect()
    }

    /// This machine's peer id: a flag, else the environment, else the file, else derived from the
    /// hostname.
    pub(super) fn peer_id(&self, flag: Option<String>) -> Result<PeerId, CliError> {
        if let Some(id) = self.named_peer(flag) {
            return id.parse().map_err(|bad: BadId| CliError::usage(bad.to_string()));
        }
        let hostname =
            host::hostname().map_err(|error| CliError::other(format!("reading the hostname: {error}")))?;
        PeerId::from_hostname(&hostname).map_err(|_| {
            CliError::usage(format!("the hostname {hostname:?} makes no peer id; give one with --id"))
        })
    }

    /// The peer id, if any source names it.
    fn named_peer(&self, flag: Option<String>) -> Option<String> {
        flag.or_else(|| variable("PEERBUS_PEER_ID")).or_else(|| self.file.peer_id.clone())
    }

    /// This machine's role: a flag, else the environment, else the file, else worker.
    pub(super) fn role(&self, flag: Option<RoleArg>) -> Result<Role, CliError> {
        let named = match (flag, variable("PEERBUS_ROLE").as_deref()) {
            (Some(role), _) => Some(role),
            (None, Some("leader")) => Some(RoleArg::Leader),
            (None, Some("worker")) => Some(RoleArg::Worker),
            (None, Some(other)) => {
                return Err(CliError::usage(format!("PEERBUS_ROLE: {other:?} is neither leader nor worker")));
            }
            (None, None) => self.file.role,
        };
        Ok(named.map_or(Role::Worker, Role::from))
    }

    /// The directory of this machine's daemon.
    pub(super) fn state_dir(&self) -> PathBuf {
        let named =
            self.common.state_dir.clone().or_else(|| variable("PEERBUS_STATE_DIR").map(PathBuf::from));
        named.or_else(|| self.file.state_dir.clone()).unwrap_or_else(|| match host::is_root() {
            true => PathBuf::from("/var/lib/peerbus"),
            false => home_or("XDG_STATE_HOME", ".local/state").join("peerbus"),
        })
    }

    /// The policy of this machine's daemon: the named file, else `policy.toml` beside the
    /// configuration if it exists.
    pub(super) fn policy(&self) -> Result<LoadedPolicy, CliError> {
        let named = self.file.policy.as_deref().unwrap_or(Path::new(DEFAULT_POLICY));
        let beside = own_config(self.common).with_file_name(named);
        let path = std::path::absolute(&beside).unwrap_or(beside);
        let presence = match &self.file.policy {
            Some(word) if word.as_os_str() == NO_POLICY => PolicyFileRule::None,
            Some(_) => PolicyFileRule::Required,
            None => PolicyFileRule::Optional,
        };
        let tasks = task::of_policy(self.file.tasks.clone());
        LoadedPolicy::read(path, presence, tasks).map_err(|mistake| CliError::usage(mistake.to_string()))
    }

    /// The directory with the tokens of managed brokers on this machine.
    pub(super) fn runtime_dir(&self) -> PathBuf {
        if let Some(named) = variable("PEERBUS_RUNTIME_DIR") {
            return PathBuf::from(named);
        }
        match variable("XDG_RUNTIME_DIR") {
            _ if host::is_root() => PathBuf::from("/run/peerbus"),
            Some(runtime) => PathBuf::from(runtime).join("peerbus"),
            None => self.state_dir(),
        }
    }
}

/// Refuses a file or folder of root's daemon that others can change.
pub(super) fn check_for_root(what: &str, path: &Path) -> Result<(), CliError> {
    // `/dev/null` and similar files keep no content. A missing path is reported elsewhere.
    match path.is_file() || path.is_dir() {
        true => ownership::check_for_root(path),
        false => Ok(()),
    }
    .map_err(|why| CliError::usage(format!("{what} {}: {why}", path.display())))
}

/// An environment variable; an empty one counts as unset.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A directory named by a variable, or one below the home. Without a home, the returned path does
/// not exist, and its name explains a failed write.
fn home_or(name: &str, below_home: &str) -> PathBuf {
    const NO_HOME: &str = "/nonexistent";
    let home = || host::home().unwrap_or_else(|| NO_HOME.into()).join(below_home);
    variable(name).map_or_else(home, PathBuf::from)
}

fn config_home() -> PathBuf {
    home_or("XDG_CONFIG_HOME", ".config")
}

/// The file named by a flag or the environment.
fn named(common: &Common) -> Option<PathBuf> {
    common.config.clone().or_else(|| variable("PEERBUS_CONFIG").map(PathBuf::from))
}

/// The current user's file: read first, and the one that is written.
pub(super) fn own_config(common: &Common) -> PathBuf {
    match named(common) {
        Some(named) => named,
        None if host::is_root() => PathBuf::from(MACHINES_CONFIG),
        None => config_home().join("peerbus/config.toml"),
    }
}

/// Whether that is the machine's own file.
pub(super) fn is_machines_config(common: &Common) -> bool {
    own_config(common).as_os_str() == MACHINES_CONFIG
}

/// The machine's configuration for a user; empty if the user may not read it.
fn machines_file() -> File {
    File::read(Path::new(MACHINES_CONFIG)).ok().flatten().unwrap_or_default()
}

/// Whether the machine has a configuration that the current user may not read.
pub(super) fn machines_config_is_hidden() -> bool {
    fs::File::open(MACHINES_CONFIG).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
