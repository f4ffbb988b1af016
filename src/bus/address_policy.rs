//! Classifies server addresses: this machine, a private network, or the public internet.
//!
//! Clients without credentials have no protection but the network. So a daemon without an identity
//! connects to a public address only if its configuration allows that.
//!
//! Limit: the policy resolves a name before each attempt to connect, and the connection resolves it
//! again. If the name service answers differently the second time, the policy does not notice.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Credentials, NatsAddress};

/// Timeout of a name lookup.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(5);

/// Which servers the bus may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AddressPolicy {
    /// Any.
    #[default]
    Anywhere,
    /// Only servers on this machine or a private network.
    Private,
}

/// A server with a public address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentence(host, *ip))]
pub struct PublicAddress {
    /// The host as configured.
    pub host: String,
    /// Its address.
    pub ip: IpAddr,
}

fn sentence(host: &str, ip: IpAddr) -> String {
    if host == ip.to_string() {
        format!("{ip} is a public address")
    } else {
        format!("{host} has the public address {ip}")
    }
}

/// Whether an address is local or private: loopback, RFC 1918, unique local, link-local, or
/// 100.64.0.0/10, which carriers and overlay networks use.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && (64..128).contains(&second)
}

impl Credentials {
    /// Whether these credentials belong to a fleet with identities, where both sides authenticate. With
    /// any others, a daemon trusts every client that the server accepts.
    #[must_use]
    pub fn are_an_identity(&self) -> bool {
        matches!(self, Self::Identity(_) | Self::Guest(_))
    }
}

/// The first public server of an address, over all IP addresses of its names. Ignores names that do not
/// resolve now, because the connection resolves them again.
pub async fn public_server(address: &NatsAddress) -> Option<PublicAddress> {
    for (host, port) in address.hosts() {
        if let Ok(Some(public)) = look_up(&host, port).await {
            return Some(public);
        }
    }
    None
}

/// Returns an error if the policy forbids a server.
pub(super) async fn check(reach: AddressPolicy, host: &str, port: u16) -> Result<(), String> {
    if reach == AddressPolicy::Anywhere {
        return Ok(());
    }
    match look_up(host, port).await? {
        None => Ok(()),
        Some(public) => Err(format!("{public}, and this daemon joins only private networks")),
    }
}

async fn look_up(host: &str, port: u16) -> Result<Option<PublicAddress>, String> {
    let found = tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((host, port))).await;
    let addresses = match found {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(format!("looking {host} up: {error}")),
        Err(_) => return Err(format!("looking {host} up: no answer within {LOOK_UP_WITHIN:?}")),
    };
    let public = addresses.map(|address| address.ip()).find(|ip| !is_private(*ip));
    Ok(public.map(|ip| PublicAddress { host: host.to_owned(), ip }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_no_stranger_reaches() {
        for private in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "::1",
            "fd00::1",
            "fc00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(private.parse().expect(private)), "{private}");
        }
        for public in [
            "8.8.8.8",
            "192.0.2.1",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "11.0.0.1",
            "0.0.0.0",
            "169.253.0.1",
            "::",
            "2001:db8::1",
            "fec0::1",
            "::ffff:8.8.8.8",
            "64:ff9b::a00:1",
        ] {
            assert!(!is_private(public.parse().expect(public)), "{public}");
        }
    }

    #[tokio::test]
    async fn every_server_and_every_address_counts() {
        let first = |address: &str| {
            let address: NatsAddress = address.parse().expect("an address");
            async move { public_server(&address).await.map(|public| public.to_string()) }
        };
        assert_eq!(first("127.0.0.1,nats://[fd00::1]:4222,localhost").await, None);
        let said = first("10.0.0.1,192.0.2.1").await;
        assert_eq!(said.as_deref(), Some("192.0.2.1 is a public address"));
        assert!(first("nats://[2001:db8::1]:1").await.is_some());
        assert!(check(AddressPolicy::Private, "192.0.2.1", 1).await.is_err());
        assert!(check(AddressPolicy::Anywhere, "192.0.2.1", 1).await.is_ok());
        // An unresolvable name is not private.
        assert!(check(AddressPolicy::Private, "no-such-name.invalid", 1).await.is_err());
    }
}
