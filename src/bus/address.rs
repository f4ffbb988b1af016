//! Server addresses: a list of URLs, validated once, without secrets after parsing.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::Url;

use super::Credentials;

/// Default port of a NATS server.
pub(super) const DEFAULT_PORT: u16 = 4222;

/// Why a text is not the address of a NATS server. Never quotes a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadAddress {
    /// Not a URL.
    #[error("the bus address {0:?} is not a URL such as nats://10.0.0.1:4222: {1}")]
    Url(String, String),
    /// Not a scheme of NATS.
    #[error("the bus address has the scheme {0:?}; nats:// or tls:// is wanted")]
    Scheme(String),
    /// No host.
    #[error("the bus address {0:?} names no host")]
    Host(String),
}

/// One or more servers of one NATS cluster; the text form separates them by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsAddress {
    servers: Vec<Url>,
    userinfo: Option<Credentials>,
}

impl NatsAddress {
    /// The servers, as `nats://host:port`, without user or password.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.servers.iter().map(Url::as_str)
    }

    /// Host and port of the first server.
    #[must_use]
    pub fn first(&self) -> (String, u16) {
        place(&self.servers[0])
    }

    /// Host and port of each server.
    pub fn hosts(&self) -> impl Iterator<Item = (String, u16)> {
        self.servers.iter().map(place)
    }

    /// Credentials in the URL: `nats://user:password@…` or `nats://token@…`.
    #[must_use]
    pub fn userinfo(&self) -> Option<&Credentials> {
        self.userinfo.as_ref()
    }
}

fn place(url: &Url) -> (String, u16) {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    (host, url.port().unwrap_or(DEFAULT_PORT))
}

impl FromStr for NatsAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let parsed = text.split(',').map(|part| server(part.trim())).collect::<Result<Vec<_>, _>>()?;
        let userinfo = parsed.iter().find_map(|(_, userinfo)| userinfo.clone());
        Ok(Self { servers: parsed.into_iter().map(|(url, _)| url).collect(), userinfo })
    }
}

fn server(text: &str) -> Result<(Url, Option<Credentials>), BadAddress> {
    let shown = without_userinfo(text);
    let full = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let mut url = Url::parse(&full).map_err(|error| BadAddress::Url(shown.clone(), error.to_string()))?;
    if !matches!(url.scheme(), "nats" | "tls") {
        return Err(BadAddress::Scheme(url.scheme().to_owned()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(BadAddress::Host(shown));
    }
    let userinfo = match (decoded(url.username()), url.password().map(decoded)) {
        (user, None) if user.is_empty() => None,
        (token, None) => Some(Credentials::Token(token)),
        (user, Some(password)) => Some(Credentials::UserPassword { user, password }),
    };
    // Cannot fail: the URL has a host, as checked above.
    let _ = (url.set_username(""), url.set_password(None));
    if url.port().is_none() {
        let _ = url.set_port(Some(DEFAULT_PORT));
    }
    Ok((url, userinfo))
}

fn without_userinfo(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) => format!("…@{host}"),
        None => text.to_owned(),
    }
}

/// Decodes percent encoding, which passwords in a URL need.
fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

impl fmt::Display for NatsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.servers().collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> NatsAddress {
        text.parse().expect(text)
    }

    #[test]
    fn a_bare_host_gets_scheme_and_port() {
        assert_eq!(parsed("10.0.0.1").to_string(), "nats://10.0.0.1:4222");
        assert_eq!(parsed("nats://[::1]:4333").first(), ("::1".to_owned(), 4333));
        assert_eq!(parsed("a:1, b:2").to_string(), "nats://a:1,nats://b:2");
    }

    #[test]
    fn a_secret_is_taken_out_and_never_shown() {
        let address = parsed("nats://me:p%40ss+1@h:1");
        let wanted = Credentials::UserPassword { user: "me".into(), password: "p@ss+1".into() };
        assert_eq!(address.userinfo(), Some(&wanted));
        assert_eq!(address.to_string(), "nats://h:1");
        assert_eq!(parsed("nats://tok@h").userinfo(), Some(&Credentials::Token("tok".into())));
        for bad in ["nats://me:secret@h:port", "http://me:secret@h", "nats://me:secret@"] {
            let error = bad.parse::<NatsAddress>().expect_err(bad).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
