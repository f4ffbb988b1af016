//! A database server's URL, split once into a part that may be shown and its secrets.

use std::str::FromStr;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::BadDatabaseUrl;
use crate::registry::dialect::{Dialect, MYSQL, POSTGRES};

/// Parameters with the server's location; they are shown.
const WHERE: [&str; 4] = ["host", "hostaddr", "port", "socket"];

/// Further parameters that a MariaDB or MySQL URL may have.
const MYSQL_SETTINGS: [&str; 5] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket"];

/// Further parameters that a PostgreSQL URL may have.
const POSTGRES_SETTINGS: [&str; 9] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "application_name",
    "statement-cache-capacity",
];

/// A database on a server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Server {
    kind: Kind,
    url: String,
    shown: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mysql,
    Postgres,
}

impl Server {
    /// Whether this is the scheme of a server's URL.
    pub(super) fn is_scheme(scheme: &str) -> bool {
        kind(scheme).is_some()
    }

    /// Parses a URL.
    pub(super) fn parse(text: &str) -> Result<Self, BadDatabaseUrl> {
        let mut url = Url::parse(text).map_err(|_| BadDatabaseUrl::NoServer)?;
        let kind = kind(url.scheme()).ok_or(BadDatabaseUrl::NoServer)?;
        // Such a character may be part of an unencoded password, so the error quotes nothing.
        let behind_the_host = [Some(url.path()), url.query(), url.fragment()];
        let database = url.path().trim_start_matches('/').to_owned();
        if behind_the_host.into_iter().flatten().any(|part| part.contains('@'))
            || url.fragment().is_some()
            || database.contains('/')
        {
            return Err(BadDatabaseUrl::NotEncoded);
        }
        if database.is_empty() {
            return Err(BadDatabaseUrl::NoDatabase);
        }
        if url.username().is_empty() && kind == Kind::Mysql {
            return Err(BadDatabaseUrl::NoUser);
        }
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !kind.knows(name)) {
            return Err(BadDatabaseUrl::Parameter(name.clone()));
        }
        kind.check(text)?;
        // The call fails only on a URL that cannot have a password.
        let _ = url.set_password(None);
        url.set_query(None);
        let places = pairs.iter().filter(|(name, _)| WHERE.contains(&name.as_str()));
        let places: Vec<String> = places.map(|(name, value)| format!("{name}={value}")).collect();
        if !places.is_empty() {
            url.set_query(Some(&places.join("&")));
        }
        Ok(Self { kind, url: text.to_owned(), shown: url.to_string() })
    }

    /// The whole URL, with its password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The URL without its password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn dialect(&self) -> &'static Dialect {
        match self.kind {
            Kind::Mysql => &MYSQL,
            Kind::Postgres => &POSTGRES,
        }
    }
}

fn kind(scheme: &str) -> Option<Kind> {
    match scheme {
        "mysql" | "mariadb" => Some(Kind::Mysql),
        "postgres" | "postgresql" => Some(Kind::Postgres),
        _ => None,
    }
}

impl Kind {
    fn knows(self, parameter: &str) -> bool {
        match self {
            Self::Mysql => MYSQL_SETTINGS.contains(&parameter),
            Self::Postgres => {
                POSTGRES_SETTINGS.contains(&parameter)
                    || (parameter.starts_with("options[") && parameter.ends_with(']'))
            }
        }
    }

    /// Lets the driver check the values, so that a mistake shows at once.
    fn check(self, text: &str) -> Result<(), BadDatabaseUrl> {
        let checked = match self {
            Self::Mysql => MySqlConnectOptions::from_str(text).map(drop),
            Self::Postgres => PgConnectOptions::from_str(text).map(drop),
        };
        checked.map_err(|error| BadDatabaseUrl::Setting(error.to_string()))
    }
}
