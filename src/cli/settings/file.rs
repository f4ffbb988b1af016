//! The configuration file: its keys and their values.
//!
//! An error names the key and the line; an unknown key is an error.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::jobs;
use crate::args::{AuditArg, BrokerArg, RoleArg, UpgradeArg, duration, listen, size};
use crate::exit::CliError;
use crate::log::Level;
use crate::task::Task;
use peerbus_daemon::audit;
use peerbus_daemon::limits::Limits;
use peerbus_protocol::exec::check_directory;
use peerbus_protocol::variables::Variables;

/// The mode bit that lets everyone write a file.
const WRITABLE_BY_ANYONE: u32 = 0o002;

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// The whole parsed text.
    #[serde(skip)]
    pub(crate) text: toml::Table,
    pub(crate) nats: Option<String>,
    pub(crate) creds: Option<PathBuf>,
    /// The daemon's own identity.
    pub(crate) daemon_creds: Option<PathBuf>,
    /// The folder with the fleet's keys, on the machine that has them.
    pub(crate) fleet_keys: Option<PathBuf>,
    /// The policy file, relative to this file.
    pub(crate) policy: Option<PathBuf>,
    pub(crate) peer_id: Option<String>,
    pub(crate) role: Option<RoleArg>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) database_url: Option<String>,
    /// The default directory for commands.
    #[serde(default, deserialize_with = "directory")]
    pub(crate) directory: Option<String>,
    /// The shell for shell lines.
    pub(crate) shell: Option<PathBuf>,
    /// Environment variables for every job.
    #[serde(default)]
    pub(crate) env: Variables,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The daemon's log level.
    pub(crate) log: Option<Level>,
    pub(crate) max_jobs: Option<std::num::NonZeroU16>,
    #[serde(default, deserialize_with = "time")]
    pub(crate) caller_grace: Option<std::time::Duration>,
    /// Whether a bus without authentication may have a public address.
    pub(crate) trusted_network: Option<bool>,
    /// Maximum size of the audit log, in bytes.
    #[serde(default, deserialize_with = "audit_size")]
    pub(crate) audit_size: Option<u64>,
    /// What a daemon does if it cannot write its audit log.
    pub(crate) audit: Option<AuditArg>,
    /// When the daemon upgrades itself.
    pub(crate) upgrade: Option<UpgradeArg>,
    /// The limits of durable jobs.
    #[serde(default, deserialize_with = "jobs::limits")]
    pub(crate) jobs: Limits,
    pub(crate) max_peers: Option<u32>,
    pub(crate) broker: Option<BrokerArg>,
    #[serde(default, deserialize_with = "address")]
    pub(crate) broker_listen: Option<SocketAddr>,
    /// The nats-server program.
    pub(crate) nats_server: Option<PathBuf>,
    /// Tasks for `d task run`, in addition to the built-in ones.
    #[serde(default)]
    pub(crate) tasks: BTreeMap<String, Task>,
}

fn directory<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    check_directory(&text).map_err(serde::de::Error::custom)?;
    Ok(Some(text))
}

fn time<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<std::time::Duration>, D::Error> {
    duration(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

fn audit_size<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let bytes = size(&String::deserialize(from)?).map_err(serde::de::Error::custom)?;
    if bytes < audit::SIZE_MIN {
        let least = audit::SIZE_MIN >> 10;
        return Err(serde::de::Error::custom(format!("{bytes} bytes are too few; {least}KiB is the least")));
    }
    Ok(Some(bytes))
}

fn address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    listen(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

impl File {
    /// Adds those keys of the machine's configuration that a user may have and has not set; returns
    /// the added keys. Whether the fleet has identities is known only for the machine's bus, not
    /// for another bus that the user named.
    pub(crate) fn add(&mut self, machine: Self) -> toml::Table {
        let Self { text, nats, peer_id, tasks, daemon_creds, .. } = machine;
        let mut added = Vec::new();
        if self.nats.is_none() && nats.is_some() {
            self.nats = nats;
            added.push("nats");
            if self.daemon_creds.is_none() && daemon_creds.is_some() {
                self.daemon_creds = daemon_creds;
                added.push("daemon_creds");
            }
        }
        if self.peer_id.is_none() && peer_id.is_some() {
            self.peer_id = peer_id;
            added.push("peer_id");
        }
        let mut added: toml::Table =
            added.into_iter().filter_map(|key| Some((key.to_owned(), text.get(key)?.clone()))).collect();
        let mut added_tasks = toml::Table::new();
        for (name, task) in tasks {
            if let std::collections::btree_map::Entry::Vacant(free) = self.tasks.entry(name.clone()) {
                free.insert(task);
                added_tasks.extend(
                    text.get("tasks").and_then(|tasks| Some((name.clone(), tasks.get(&name)?.clone()))),
                );
            }
        }
        if !added_tasks.is_empty() {
            added.insert("tasks".to_owned(), toml::Value::Table(added_tasks));
        }
        added
    }

    /// Reads a file; `None` if it does not exist.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, CliError> {
        match fs::read_to_string(path) {
            Ok(text) => {
                check_rights(path)?;
                parse(path, &text).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::usage(format!("configuration {}: {error}", path.display()))),
        }
    }
}

/// The names of all settings, from the parser.
pub(crate) fn setting_names() -> Vec<String> {
    struct Names<'a>(&'a mut Vec<String>);
    impl<'de> serde::Deserializer<'de> for Names<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(serde::de::Error::custom("only names are wanted"))
        }

        fn deserialize_struct<V: serde::de::Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields.iter().map(|name| (*name).to_owned()));
            Self(self.0).deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut names = Vec::new();
    // This always fails, but only after it has passed the names.
    let _ = File::deserialize(Names(&mut names));
    names
}

/// Refuses a file that others can write: they could run commands as the daemon's user. `/dev/null`
/// and similar files keep no content and are allowed.
fn check_rights(path: &Path) -> Result<(), CliError> {
    let exposed = fs::metadata(path)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & WRITABLE_BY_ANYONE != 0);
    if !exposed {
        return Ok(());
    }
    let path = path.display();
    Err(CliError::usage(format!("configuration {path}: anyone may write it; `chmod o-w {path}` mends that")))
}

/// Parses the text of a configuration.
pub(crate) fn parse(path: &Path, text: &str) -> Result<File, CliError> {
    let parsed = toml::from_str(text).and_then(|file: File| Ok(File { text: toml::from_str(text)?, ..file }));
    parsed.map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let what = mistake(&error, text);
        CliError::usage(format!("configuration {}: line {line}: {what}", path.display()))
    })
}

/// The error in a text, without its line. The parser takes an unquoted word for an invalid number.
pub(crate) fn mistake(error: &toml::de::Error, text: &str) -> String {
    let what = error.message().trim();
    let line = error.span().and_then(|span| {
        let begin = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
        text.get(begin..)?.lines().next()
    });
    let unquoted = line.and_then(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.split(" #").next().unwrap_or_default().trim();
        let is_word = value.starts_with(|c: char| c.is_alphabetic() || "/~.".contains(c))
            && !value.contains(['"', '\'']);
        // The line is valid once the value is quoted, so only the quotes are missing.
        let quoted = format!("{} = {}", key.trim(), toml::Value::from(value));
        let is_cure =
            toml::from_str::<toml::Table>(line).is_err() && toml::from_str::<toml::Table>(&quoted).is_ok();
        (is_word && is_cure).then_some(quoted)
    });
    match unquoted {
        Some(quoted) => format!("a text wants quotes: {quoted}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> String {
        parse(Path::new("c.toml"), text).expect_err(text).message
    }

    #[test]
    fn the_limits_of_jobs_are_read() {
        let jobs = |text: &str| parse(Path::new("c.toml"), text).expect(text).jobs;
        assert_eq!(jobs(""), Limits::default());
        assert_eq!(jobs("[jobs]\n"), Limits::default());
        let all = "[jobs]\nlog_limit = '1MiB'\nlogs_total = '8MiB'\nkeep_days = 30\nmost = 10\n";
        let keep_for = Limits::days(30);
        assert_eq!(jobs(all), Limits { log_limit: 1 << 20, logs_total: 8 << 20, keep_for, most: 10 });
        // A larger log limit raises the default total.
        assert_eq!(jobs("[jobs]\nlog_limit = '2GiB'\n").logs_total, 2 << 30);
    }

    #[test]
    fn a_person_adds_to_the_machines_settings() {
        let read = |text: &str| parse(Path::new("c.toml"), text).expect(text);
        let machine = || {
            read(
                "nats = 'nats://m:1'\ndaemon_creds = '/m'\npeer_id = 'vps'\nlog = 'warn'\n[tasks.pull]\nsteps = ['m']\n[tasks.make]\nsteps = ['m']\n",
            )
        };
        let mut person = read("log = 'debug'\n[tasks.pull]\nsteps = ['p']\n");
        let added = person.add(machine());
        assert_eq!(person.nats.as_deref(), Some("nats://m:1"));
        assert_eq!((person.peer_id.as_deref(), person.log), (Some("vps"), read("log = 'debug'").log));
        assert_eq!(person.tasks.len(), 2);
        assert_eq!(added.keys().collect::<Vec<_>>(), ["daemon_creds", "nats", "peer_id", "tasks"]);
        assert_eq!(added["tasks"].as_table().expect("a table").keys().collect::<Vec<_>>(), ["make"]);
        // The machine's identity says nothing about another bus.
        let mut elsewhere = read("nats = 'nats://p:1'\n");
        elsewhere.add(machine());
        assert_eq!((elsewhere.nats.as_deref(), elsewhere.daemon_creds), (Some("nats://p:1"), None));
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
            ("audit_size = '1KiB'\n", "512KiB", "line 1"),
            ("audit_size = 'much'\n", "much", "line 1"),
            ("audit = 'perhaps'\n", "perhaps", "line 1"),
            ("tags = []\nlog = 'inof'\n", "inof", "line 2"),
            ("env = { PIN = 4711 }\n", "text", "line 1"),
            ("[jobs]\nlog_limit = '1KiB'\n", "log_limit", "line 1"),
            ("tags = []\n[jobs]\nlog_limit = 'much'\n", "much", "line 3"),
            ("[jobs]\nlogs_total = '1MiB'\n", "logs_total", "line 1"),
            ("[jobs]\nkeep_days = 0\n", "zero", "line 2"),
            ("[jobs]\nmost = 70000\n", "70000", "line 2"),
            ("[jobs]\nlogs_limit = '1GiB'\n", "logs_limit", "line 2"),
            ("jobs = 7\n", "jobs", "line 1"),
            ("a = \n", "", "line 1"),
            (
                "tags = []\nnats = nats://10.0.0.1:4222 # the bus\n",
                "a text wants quotes: nats = \"nats://10.0.0.1:4222\"",
                "line 2",
            ),
            ("role = worker\n", "a text wants quotes: role = \"worker\"", "line 1"),
            ("[jobs]\nlog_limit = 1KiB\n", "", "line 2"),
        ] {
            let said = mistake(text);
            assert!(said.contains(key) && said.contains(line), "{text:?}: {said}");
        }
    }
}
