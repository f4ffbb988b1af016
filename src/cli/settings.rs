//! Where values come from: a flag, else the environment, else the file, else the selected context
//! of the `nats` command line, else the default.
//!
//! A mistake is refused with its key and its line; an unknown key is a mistake too.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::args::{BrokerArg, Common, RoleArg, duration, listen};
use super::exit::Failure;
use super::nats_context::NatsContext;
use crate::bus::{self, Credentials, NatsAddress};
use crate::daemon::broker;
use crate::process::host;
use crate::protocol::exec::check_directory;

/// Where the bus is, where nobody says otherwise.
const DEFAULT_NATS: &str = "nats://127.0.0.1:4222";

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) nats: Option<String>,
    pub(super) creds: Option<PathBuf>,
    pub(super) peer_id: Option<String>,
    pub(super) role: Option<RoleArg>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) database_url: Option<String>,
    /// Where commands run that name no directory.
    #[serde(default, deserialize_with = "directory")]
    pub(super) directory: Option<String>,
    /// The shell for shell lines.
    pub(super) shell: Option<PathBuf>,
    /// Variables every job gets.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    pub(super) max_jobs: Option<std::num::NonZeroU16>,
    #[serde(default, deserialize_with = "time")]
    pub(super) caller_grace: Option<std::time::Duration>,
    pub(super) max_peers: Option<u32>,
    pub(super) broker: Option<BrokerArg>,
    #[serde(default, deserialize_with = "address")]
    pub(super) broker_listen: Option<SocketAddr>,
    /// The nats-server to start.
    pub(super) nats_server: Option<PathBuf>,
}

fn directory<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    check_directory(&text).map_err(serde::de::Error::custom)?;
    Ok(Some(text))
}

fn time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<std::time::Duration>, D::Error> {
    duration(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

fn address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    listen(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

/// All settings of one command line, before they are looked up.
pub(super) struct Settings<'a> {
    common: &'a Common,
    pub(super) file: File,
}

impl<'a> Settings<'a> {
    /// Reads the file, where there is one. One that was named must be there.
    pub(super) fn read(common: &'a Common) -> Result<Self, Failure> {
        let (path, named) = match &common.config {
            Some(path) => (path.clone(), true),
            None => (default_config(), false),
        };
        let file = match fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => File::default(),
            Err(error) => return Err(Failure::usage(format!("configuration {}: {error}", path.display()))),
        };
        Ok(Self { common, file })
    }

    /// The link to the bus, for a connection of this name.
    pub(super) fn bus(&self, name: &str) -> Result<bus::Settings, Failure> {
        let context = self.nats_context()?;
        let nats = self
            .nats()
            .or_else(|| context.as_ref().map(|context| context.url.clone()).filter(|url| !url.is_empty()));
        let address: NatsAddress = nats
            .as_deref()
            .unwrap_or(DEFAULT_NATS)
            .parse()
            .map_err(|bad: bus::BadAddress| Failure::usage(bad.to_string()))?;
        let credentials = self.credentials(&address, context.as_ref())?;
        Ok(bus::Settings { address, credentials, name: name.to_owned() })
    }

    /// The bus, where a flag, the environment or the file names it.
    pub(super) fn nats(&self) -> Option<String> {
        self.common.nats.clone().or_else(|| variable("NATS_URL")).or_else(|| self.file.nats.clone())
    }

    /// The selected context, which counts only where nothing else names a bus.
    fn nats_context(&self) -> Result<Option<NatsContext>, Failure> {
        if self.nats().is_some() {
            return Ok(None);
        }
        NatsContext::selected(&config_home()).map_err(Failure::usage)
    }

    fn credentials(
        &self,
        address: &NatsAddress,
        context: Option<&NatsContext>,
    ) -> Result<Credentials, Failure> {
        let own = context.and_then(NatsContext::credentials);
        let context_file =
            context.map(|context| &context.creds).filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = self.common.creds.clone().or_else(|| variable("PEERBUS_CREDS").map(PathBuf::from));
        if let Some(path) = file.or_else(|| self.file.creds.clone()).or(context_file) {
            return Credentials::from_file(&path).map_err(|bad| Failure::usage(bad.to_string()));
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

    /// Where this machine's daemon keeps its files.
    pub(super) fn state_dir(&self) -> PathBuf {
        let named =
            self.common.state_dir.clone().or_else(|| variable("PEERBUS_STATE_DIR").map(PathBuf::from));
        named.or_else(|| self.file.state_dir.clone()).unwrap_or_else(|| match host::is_root() {
            true => PathBuf::from("/var/lib/peerbus"),
            false => home_or("XDG_STATE_HOME", ".local/state").join("peerbus"),
        })
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

/// A variable of the environment; an empty one counts as none.
pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn home_or(name: &str, below_home: &str) -> PathBuf {
    let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned())).join(below_home);
    variable(name).map_or_else(home, PathBuf::from)
}

fn config_home() -> PathBuf {
    home_or("XDG_CONFIG_HOME", ".config")
}

fn default_config() -> PathBuf {
    if host::is_root() {
        PathBuf::from("/etc/peerbus/config.toml")
    } else {
        config_home().join("peerbus/config.toml")
    }
}

fn parse(path: &Path, text: &str) -> Result<File, Failure> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let what = error.message().trim();
        Failure::usage(format!("configuration {}: line {line}: {what}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        parse(Path::new("c.toml"), text).expect_err(text).message
    }

    #[test]
    fn a_mistake_names_its_key_and_line() {
        for (text, key, line) in [
            ("nats = 'a'\nnast = 'b'\n", "nast", "line 2"),
            ("\n\nrole = 'boss'\n", "boss", "line 3"),
            ("max_jobs = 0\n", "zero", "line 1"),
            ("directory = 'x'\n", "relative", "line 1"),
            ("caller_grace = 'soon'\n", "soon", "line 1"),
            ("broker_listen = '0.0.0.0'\n", "0.0.0.0", "line 1"),
            ("a = \n", "", "line 1"),
        ] {
            let said = mistake(text);
            assert!(said.contains(key) && said.contains(line), "{text:?}: {said}");
        }
    }
}
