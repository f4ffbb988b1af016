//! The location of the registry: a URL that is checked once. No output of it shows its password.

mod server;

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use super::dialect::{Dialect, SQLITE};
use server::Server;

use crate::REGISTRY_FILE;

/// Only the daemon's user may read and write it: the registry lists the machines.
const MODE: u32 = 0o600;

/// Why a text is not a valid database URL. Never contains a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadDatabaseUrl {
    /// Not a database URL.
    #[error("the database {0:?} is not a URL such as sqlite:///var/lib/peerbus/registry.db")]
    Url(String),
    /// An unsupported kind of database.
    #[error(
        "the database {0:?} is of a kind this program cannot use; it has sqlite, mysql, mariadb and postgres"
    )]
    Scheme(String),
    /// It names no file, or only an in-memory database.
    #[error("the database URL names no file; sqlite:///var/lib/peerbus/registry.db would")]
    NoFile,
    /// It has a parameter that SQLite does not take here.
    #[error("the database URL has the parameter {0:?}, which means nothing here")]
    Parameter(String),
    /// An invalid server URL.
    #[error(
        "the database URL is not one such as mysql://USER:PASSWORD@HOST/DATABASE or \
             postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    NoServer,
    /// An unencoded delimiter inside a part of the URL.
    #[error(
        "the database URL has a /, @ or # where none can be; in a user or password write them as \
             %2F, %40 and %23"
    )]
    NotEncoded,
    /// A server URL without a database.
    #[error("the database URL names no database; mysql://USER:PASSWORD@HOST/DATABASE would")]
    NoDatabase,
    /// A server URL without a user.
    #[error("the database URL names no user; mysql://USER:PASSWORD@HOST/DATABASE would")]
    NoUser,
    /// The driver rejects the value of a parameter.
    #[error("the database URL: {0}")]
    Setting(String),
}

/// Infix between a registry's file name and the time at which it was moved aside.
const DAMAGED: &str = ".damaged-";

/// The damaged registry of a state directory that was moved aside most recently.
#[must_use]
pub fn moved_aside(state_dir: &Path) -> Option<PathBuf> {
    let stem = format!("{REGISTRY_FILE}{DAMAGED}");
    let is_one = |name: &str| {
        name.strip_prefix(&stem).is_some_and(|time| time.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(state_dir).ok()?.flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_one)).map(|entry| entry.path()).max()
}

/// The location of the registry.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    /// A SQLite file.
    File(PathBuf),
    /// A database on a server.
    Server(Server),
}

impl DatabaseUrl {
    /// A SQLite file.
    #[must_use]
    pub fn sqlite(file: &Path) -> Self {
        Self(Kind::File(file.to_owned()))
    }

    /// The URL of this location, with any characters in the path encoded. A server's URL includes
    /// its password.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.0 {
            Kind::File(file) => encoded(file),
            Kind::Server(server) => server.url().to_owned(),
        }
    }

    /// Moves a damaged database file and SQLite's files beside it away; returns the new path. Moves
    /// only a file with our own file name: another file may have been configured by mistake.
    ///
    /// # Errors
    /// If the file cannot be moved.
    pub(crate) fn move_aside(&self) -> io::Result<Option<PathBuf>> {
        let Kind::File(file) = &self.0 else { return Ok(None) };
        if file.file_name().is_none_or(|name| name != REGISTRY_FILE) {
            return Ok(None);
        }
        let now = jiff::Timestamp::now().as_millisecond();
        let aside = file.with_file_name(format!("{REGISTRY_FILE}{DAMAGED}{now}"));
        for beside in ["-wal", "-shm", "-journal"] {
            let name = |of: &Path| {
                let mut name = of.as_os_str().to_owned();
                name.push(beside);
                PathBuf::from(name)
            };
            match std::fs::rename(name(file), name(&aside)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(file, &aside)?;
        Ok(Some(aside))
    }

    pub(super) fn dialect(&self) -> &'static Dialect {
        match &self.0 {
            Kind::File(_) => &SQLITE,
            Kind::Server(server) => server.dialect(),
        }
    }

    /// Returns the URL for the driver after checking that the file can be opened.
    pub(super) fn prepare(&self) -> io::Result<String> {
        match &self.0 {
            Kind::File(file) => prepare(file),
            Kind::Server(server) => Ok(server.url().to_owned()),
        }
    }
}

/// Creates a missing file, and checks that it can be opened, for the system's own error message.
/// Returns the URL for the driver with a canonical path, since the driver would resolve dots and
/// links its own way. A file on a read-only file system is opened for reading.
fn prepare(file: &Path) -> io::Result<String> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let file = folder.canonicalize()?.join(name);
    let mut options = std::fs::OpenOptions::new();
    match options.read(true).write(true).create(true).truncate(false).mode(MODE).open(&file) {
        Ok(_) => Ok(encoded(&file)),
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && file.exists() => {
            Ok(format!("{}?mode=ro", encoded(&file)))
        }
        Err(error) => Err(error),
    }
}

impl FromStr for DatabaseUrl {
    type Err = BadDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, BadDatabaseUrl> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(BadDatabaseUrl::Url(without_secrets(text)));
        };
        if Server::is_scheme(scheme) {
            return Server::parse(text).map(|server| Self(Kind::Server(server)));
        }
        if scheme != "sqlite" {
            return Err(BadDatabaseUrl::Scheme(without_secrets(text)));
        }
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        // `rwc` is accepted, since a missing file is always created.
        if !matches!(parameters, "" | "mode=rwc") {
            return Err(BadDatabaseUrl::Parameter(name_of_first(parameters).to_owned()));
        }
        let file = PathBuf::from(decoded(path));
        if path == ":memory:" || file.file_name().is_none() || path.ends_with('/') {
            return Err(BadDatabaseUrl::NoFile);
        }
        Ok(Self::sqlite(&file))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::File(file) => file.display().fmt(f),
            Kind::Server(server) => f.write_str(server.shown()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// The part of a URL that may be shown: parameters may hold passwords, too.
fn without_secrets(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://…@{}", without_parameters(host))
        }
        None => without_parameters(text),
    }
}

fn without_parameters(text: &str) -> String {
    text.split_once('?').map_or_else(|| text.to_owned(), |(before, _)| format!("{before}?…"))
}

fn name_of_first(parameters: &str) -> &str {
    parameters.split(['=', '&']).next().unwrap_or_default()
}

fn encoded(file: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~');
    let path: String = file
        .as_os_str()
        .as_bytes()
        .iter()
        .map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("sqlite://{path}")
}

/// Decodes percent encoding.
fn decoded(path: &str) -> String {
    let literal = path.replace('+', "%2B").replace('&', "%26");
    url::form_urlencoded::parse(format!("x={literal}").as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_survives_the_url_and_back() {
        for path in ["/a/b.db", "rel/x.db", "/with space/#?%25+&=ü.db", "./x", "../y.db"] {
            let place = DatabaseUrl::sqlite(Path::new(path));
            assert_eq!(place.url().parse::<DatabaseUrl>().expect(path), place, "{}", place.url());
        }
        assert_eq!("sqlite:x.db".parse::<DatabaseUrl>().expect("short form").to_string(), "x.db");
        assert_eq!("sqlite:///x.db?mode=rwc".parse::<DatabaseUrl>().expect("granted").to_string(), "/x.db");
    }

    #[test]
    fn what_is_no_place_is_refused_without_its_password() {
        for bad in [
            "",
            "/var/lib/x.db",
            "sqlite://",
            "sqlite::memory:",
            "sqlite:///dir/",
            "sqlite:///x.db?mode=ro",
            "oracle://root:hunter2@db/peers",
            "root:hunter2@db",
            "postgres://db/peers?user=root&password=hunter2",
            "postgres://root:hunter2@db/peers?password=hunter3",
            "sqlite:///x.db?password=hunter2",
            "mysql://root:hunter2@db",
            "mysql://db/peers",
            "mysql://root:hunter2@db/peers?pool=3",
            "mysql://root:hunter2@db/peers?ssl-mode=perhaps",
            "mysql://root:hunter2@db:port/peers",
            "postgres://root:hunter2@db/",
            "postgres://root@db/peers?password=hunter2",
            "postgres://root:12/hunter2@db/peers",
            "postgres://root:12?hunter2@db/peers",
            "postgres://root:12#hunter2@db/peers",
            "postgres://root:1/2?hunter@2@db/peers",
            "postgres://root:1/2#hunter@2@db/peers",
        ] {
            let error = bad.parse::<DatabaseUrl>().expect_err(bad).to_string();
            assert!(!error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn a_server_is_shown_without_its_password() {
        for (url, shown) in [
            ("mysql://me:hunter2@db/peers", "mysql://me@db/peers"),
            ("mariadb://me:hunter%402%2F@db:3307/peers?ssl-mode=required", "mariadb://me@db:3307/peers"),
            ("mysql://me:hunter@2@db/peers", "mysql://me@db/peers"),
            (
                "mysql://me:hunter2@localhost/peers?socket=/run/m.sock",
                "mysql://me@localhost/peers?socket=/run/m.sock",
            ),
            ("postgresql://me:hunter2@[::1]:5433/peers", "postgresql://me@[::1]:5433/peers"),
            ("postgres:///peers?host=/run/postgresql", "postgres:///peers?host=/run/postgresql"),
        ] {
            let place = url.parse::<DatabaseUrl>().expect(url);
            assert_eq!(place.to_string(), shown);
            assert_eq!((place.url(), format!("{place:?}")), (url.to_owned(), format!("Place({shown})")));
        }
    }
}
