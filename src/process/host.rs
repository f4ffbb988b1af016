//! Facts about this machine for heartbeats and journals.
//!
//! All are read on demand; nothing is cached, and no packet is sent.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;
use nix::unistd::{Uid, User, geteuid};

/// The address that this machine uses to reach another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The local address of the route.
    pub ip: IpAddr,
    /// The hardware address of its interface, in lower case with colons. Tunnels and the loopback have none.
    pub mac: Option<String>,
}

/// The name of this machine.
///
/// # Errors
/// The system's error.
pub fn hostname() -> io::Result<String> {
    Ok(nix::unistd::gethostname()?.to_string_lossy().into_owned())
}

/// The load average of the last minute.
#[must_use]
pub fn load1() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// Identifies the time since the last boot of this machine.
///
/// # Errors
/// When `/proc` is missing.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Whether this process may become any user.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// The uid of this process.
#[must_use]
pub fn user_number() -> u32 {
    geteuid().as_raw()
}

/// The name of this process' user, or the uid if the user has no name.
#[must_use]
pub fn current_user() -> String {
    let uid = geteuid();
    name_of(uid).unwrap_or_else(|| uid.to_string())
}

fn name_of(uid: Uid) -> Option<String> {
    User::from_uid(uid).ok().flatten().map(|user| user.name)
}

/// The home directory of this process' user: `HOME`, or the entry in the user database. `None` without an
/// entry.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let of_user = || User::from_uid(geteuid()).ok().flatten().map(|user| user.dir);
    let absolute = |home: &PathBuf| home.is_absolute();
    std::env::var_os("HOME").map(PathBuf::from).filter(absolute).or_else(|| of_user().filter(absolute))
}

/// The space in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes available to this user.
    pub free: u64,
    /// Total size in bytes.
    pub size: u64,
}

/// The space in the file system that contains `path`.
///
/// # Errors
/// The system's error.
pub fn space(path: &Path) -> io::Result<Space> {
    let found = nix::sys::statvfs::statvfs(path)?;
    let block = found.fragment_size();
    Ok(Space { free: found.blocks_available() * block, size: found.blocks() * block })
}

/// Whether an error means a lack of space or of inodes.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The mode of a file or directory, such as `0o700`.
///
/// # Errors
/// The system's error.
pub fn mode_of(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

/// How this machine reaches `remote`. Connects a UDP socket, which queries the routing table and sends
/// nothing.
#[must_use]
pub fn link_for(remote: SocketAddr) -> Option<Link> {
    let any: SocketAddr = if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    Some(Link { ip, mac: mac_of(ip) })
}

/// The addresses of all WireGuard interfaces, as the kernel identifies them.
#[must_use]
pub fn wireguard_addresses() -> Vec<IpAddr> {
    let is_wireguard = |name: &str| {
        let about = fs::read_to_string(format!("/sys/class/net/{name}/uevent")).unwrap_or_default();
        about.lines().any(|line| line == "DEVTYPE=wireguard")
    };
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let found = interfaces.filter(|at| is_wireguard(&at.interface_name)).filter_map(|at| {
        let address = at.address?;
        let v4 = address.as_sockaddr_in().map(|at| IpAddr::V4(at.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|at| IpAddr::V6(at.ip())))
    });
    found.filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect()
}

fn mac_of(ip: IpAddr) -> Option<String> {
    let has_it = |address: &nix::sys::socket::SockaddrStorage| match ip {
        IpAddr::V4(v4) => address.as_sockaddr_in().is_some_and(|at| at.ip() == v4),
        IpAddr::V6(v6) => address.as_sockaddr_in6().is_some_and(|at| at.ip() == v6),
    };
    let interface =
        getifaddrs().ok()?.find(|at| at.address.as_ref().is_some_and(has_it)).map(|at| at.interface_name)?;
    let hardware = getifaddrs()
        .ok()?
        .filter(|at| at.interface_name == interface)
        .find_map(|at| at.address.as_ref().and_then(|address| address.as_link_addr()?.addr()))?;
    if hardware == [0; 6] {
        return None;
    }
    Some(hardware.map(|byte| format!("{byte:02x}")).join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_describes_itself() {
        assert!(!hostname().expect("a hostname").is_empty());
        assert!(load1().expect("a load") >= 0.0);
        assert_eq!(boot_id().expect("a boot id").len(), 36);
        assert!(!current_user().is_empty());
    }

    #[test]
    fn the_loopback_is_reached_over_itself_and_has_no_hardware() {
        let link = link_for(([127, 0, 0, 1], 4222).into()).expect("a loopback");
        assert_eq!(link, Link { ip: [127, 0, 0, 1].into(), mac: None });
    }
}
