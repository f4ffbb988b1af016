//! Where values come from: a flag, else the environment, else the file, else the selected context
//! of the `nats` command line, else the default.
//!
//! A person who is not root reads the bus, the peer's id and the tasks from the machine's file too, and whether its
//! fleet has identities; their own file goes before it, key by key. The rest of the machine's file is for its daemon.

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

/// Where the bus is, where nobody says otherwise.
const DEFAULT_NATS: &str = "nats://127.0.0.1:4222";

/// The policy, beside the configuration.
const DEFAULT_POLICY: &str = "policy.toml";

/// In place of a file: there is no policy, and that is meant.
const NO_POLICY: &str = "none";

/// The machine's configuration.
pub(super) const MACHINES_CONFIG: &str = "/etc/peerbus/config.toml";

/// All settings of one command line, before they are looked up.
pub(super) struct Settings<'a> {
    common: &'a Common,
    pub(super) file: File,
    /// What of `file` the machine's configuration gave, as it stands there.
    pub(super) machines: toml::Table,
}

impl<'a> Settings<'a> {
    /// Reads the file, where there is one. One that was named must be there.
    pub(super) fn read(common: &'a Common) -> Result<Self, CliError> {
        let own = own_config(common);
        if named(common).is_some() && !own.exists() {
            return Err(CliError::usage(format!("configuration {}: there is no such file", own.display())));
        }
        Self::read_or_default(common)
    }

    /// Reads the file for somebody who is about to write it: one that was named need not be there.
    pub(super) fn read_or_default(common: &'a Common) -> Result<Self, CliError> {
        let mut file = File::read(&own_config(common))?.unwrap_or_default();
        let mut machines = toml::Table::new();
        if named(common).is_none() && !host::is_root() {
            machines = file.add(machines_file());
        }
        Ok(Self { common, file, machines })
    }

    /// A person's link to the bus, for a connection of this name.
    pub(super) fn bus(&self, name: &str) -> Result<bus::Settings, CliError> {
        let address = self.address()?;
        let credentials = self.credentials(&address, self.persons_file())?;
        self.check_person(&credentials)?;
        Ok(bus::Settings { address, credentials, reach: AddressPolicy::Anywhere, name: name.to_owned() })
    }

    /// What this machine's daemon shows to the bus.
    pub(super) fn daemons_credentials(&self) -> Result<Credentials, CliError> {
        self.credentials(&self.address()?, self.daemons_file())
    }

    /// Refuses to run root's daemon by files that others can change: they would be root as well.
    pub(super) fn check_daemons_files(&self) -> Result<(), CliError> {
        check_for_root("configuration", &own_config(self.common))?;
        if let Some(file) = self.daemons_file() {
            check_for_root("credentials", &file)?;
        }
        self.file.fleet_keys.as_ref().map_or(Ok(()), |keys| check_for_root("fleet keys", keys))
    }

    /// Where the bus is.
    pub(super) fn address(&self) -> Result<NatsAddress, CliError> {
        let context = self.nats_context()?.map(|context| context.url).filter(|url| !url.is_empty());
        let nats = self.nats().or(context);
        let nats = nats.as_deref().unwrap_or(DEFAULT_NATS);
        nats.parse().map_err(|bad: bus::BadAddress| CliError::usage(bad.to_string()))
    }

    /// The bus, where a flag, the environment or the file names it.
    pub(super) fn nats(&self) -> Option<String> {
        self.common.nats.clone().or_else(|| variable("NATS_URL")).or_else(|| self.file.nats.clone())
    }

    /// Whether anything names a bus, so that it is not merely the default.
    pub(super) fn names_a_bus(&self) -> Result<bool, CliError> {
        Ok(self.nats().is_some() || self.nats_context()?.is_some())
    }

    /// The selected context, which counts only where nothing else names a bus.
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

    /// The token of a broker that a daemon of this machine manages.
    fn managed_token(&self, address: &NatsAddress) -> Option<String> {
        let (host, port) = address.first();
        let path = broker::token_path(&self.runtime_dir(), &host, port);
        fs::read_to_string(path).ok().map(|token| token.trim().to_owned())
    }

    /// Whether a bus that asks nobody who they are may be on a public address.
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

    /// This machine's peer id: a flag, else the environment, else the file, else made of the hostname.
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

    /// The same, where anything names it.
    fn named_peer(&self, flag: Option<String>) -> Option<String> {
        flag.or_else(|| variable("PEERBUS_PEER_ID")).or_else(|| self.file.peer_id.clone())
    }

    /// This machine's role: a flag, else the environment, else the file, else a worker's.
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

    /// Where this machine's daemon keeps its files.
    pub(super) fn state_dir(&self) -> PathBuf {
        let named =
            self.common.state_dir.clone().or_else(|| variable("PEERBUS_STATE_DIR").map(PathBuf::from));
        named.or_else(|| self.file.state_dir.clone()).unwrap_or_else(|| match host::is_root() {
            true => PathBuf::from("/var/lib/peerbus"),
            false => home_or("XDG_STATE_HOME", ".local/state").join("peerbus"),
        })
    }

    /// The policy of this machine's daemon: the file that is named, else `policy.toml` beside the
    /// configuration, if it is there.
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

    /// Where the tokens of managed brokers on this machine are.
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
    // Of `/dev/null` and its like nothing stays; what is not there is told elsewhere.
    match path.is_file() || path.is_dir() {
        true => ownership::check_for_root(path),
        false => Ok(()),
    }
    .map_err(|why| CliError::usage(format!("{what} {}: {why}", path.display())))
}

/// A variable of the environment; an empty one counts as none.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A directory that a variable names, or one below the home. Where there is no home nothing is found, and to write fails:
/// the name says why.
fn home_or(name: &str, below_home: &str) -> PathBuf {
    const NO_HOME: &str = "/nonexistent";
    let home = || host::home().unwrap_or_else(|| NO_HOME.into()).join(below_home);
    variable(name).map_or_else(home, PathBuf::from)
}

fn config_home() -> PathBuf {
    home_or("XDG_CONFIG_HOME", ".config")
}

/// The file that was named, by a flag or in the environment.
fn named(common: &Common) -> Option<PathBuf> {
    common.config.clone().or_else(|| variable("PEERBUS_CONFIG").map(PathBuf::from))
}

/// The file of whoever runs this: read first, and the one that is written.
pub(super) fn own_config(common: &Common) -> PathBuf {
    match named(common) {
        Some(named) => named,
        None if host::is_root() => PathBuf::from(MACHINES_CONFIG),
        None => config_home().join("peerbus/config.toml"),
    }
}

/// Whether that is the machine's own.
pub(super) fn is_machines_config(common: &Common) -> bool {
    own_config(common).as_os_str() == MACHINES_CONFIG
}

/// The machine's own configuration, for a person. One that cannot be read is not theirs.
fn machines_file() -> File {
    File::read(Path::new(MACHINES_CONFIG)).ok().flatten().unwrap_or_default()
}

/// Whether there is a configuration of the machine that whoever runs this may not read.
pub(super) fn machines_config_is_hidden() -> bool {
    fs::File::open(MACHINES_CONFIG).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
