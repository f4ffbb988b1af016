//! The managed broker: a real nats-server of the daemon's own, for those who have none.
//!
//! It listens on loopback, or on a private address that was asked for, and lets in whom the fleet has
//! given an identity. In a fleet without identities it wants a token, which is made once, lies readable
//! by its owner only in the state directory, and is shared with daemons and people of the same user on
//! this machine through the runtime directory.
//!
//! Guarantee: its configuration is written anew at each start, with the fleet's newest account in it, so
//! that a restart brings nobody back who was revoked.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use peerbus_bus::{Credentials, NatsAddress, is_private};
use peerbus_identity::authority::Authority;
use peerbus_process::{BoundChild, Signal, host};
use peerbus_protocol::ending::with_causes;

/// The port a broker listens on where none is named.
pub const DEFAULT_PORT: u16 = 4222;

/// How long a server may take until it listens.
const START_WITHIN: Duration = Duration::from_secs(20);

/// How long a server may take to end before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Pause before a server that ended is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A broker to be started.
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Where it is to listen. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The nats-server to start.
    pub program: PathBuf,
    /// The folder with the fleet's keys; none in a fleet without identities.
    pub fleet_keys: Option<PathBuf>,
}

/// Refuses addresses on which strangers could reach the broker.
///
/// # Errors
/// A sentence that names the address.
pub fn check_listen(address: SocketAddr) -> Result<SocketAddr, String> {
    let ip = address.ip();
    if ip.is_unspecified() {
        return Err(format!("{ip} would listen on every interface; name one loopback or private address"));
    }
    if is_private(ip) {
        return Ok(address);
    }
    Err(format!("{ip} is a public address; a managed broker listens on loopback or private ones"))
}

/// Where daemons and people of this machine find the token of a broker.
#[must_use]
pub fn token_path(runtime_dir: &Path, host: &str, port: u16) -> PathBuf {
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    runtime_dir.join(format!("broker-{}-{port}.token", host.replace([':', '/'], "_")))
}

/// A broker that runs, and is started again whenever it ends, until it is stopped.
#[derive(Debug)]
pub(super) struct Broker {
    address: NatsAddress,
    /// In a fleet without identities: what it wants to hear, and the file that others read that in.
    token: Option<(String, PathBuf)>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Broker {
    /// Starts a broker with its files below the state directory.
    pub(super) async fn start(
        mut settings: BrokerSettings,
        state_dir: &Path,
        runtime_dir: &Path,
    ) -> anyhow::Result<Self> {
        let directory = state_dir.join("broker");
        make_private(&directory)?;
        let version = version(&settings.program)?;
        let (bound_child, port) = launch(&settings, &directory).await?;
        settings.listen.set_port(port);
        let token = match settings.fleet_keys {
            Some(_) => None,
            None => Some(share_token(&directory, runtime_dir, settings.listen)?),
        };
        tracing::info!(listen = %settings.listen, version, program = %settings.program.display(), "started a broker");
        let address = format!("nats://{}", settings.listen).parse()?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(keep_up(bound_child, settings, directory, stopped));
        Ok(Self { address, token, stop, task })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &NatsAddress {
        &self.address
    }

    /// What it wants to hear, where that is not an identity.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        self.token.as_ref().map(|(token, _)| Credentials::Token(token.clone()))
    }

    /// Stops it.
    pub(super) async fn stop(self) {
        // Both may be gone already, which is what is wanted.
        if let Some((_, shared)) = &self.token {
            let _ = fs::remove_file(shared);
        }
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Starts the server again whenever it ends, until it is to stop.
async fn keep_up(
    mut bound_child: BoundChild,
    settings: BrokerSettings,
    directory: PathBuf,
    mut stop: oneshot::Receiver<()>,
) {
    loop {
        tokio::select! {
            _ = &mut stop => return end(bound_child).await,
            how = bound_child.exited() => {
                let log = directory.join("nats-server.log");
                tracing::error!(how, log = %log.display(), "the broker ended; starting it again");
            }
        }
        bound_child = loop {
            tokio::select! {
                _ = &mut stop => return,
                () = tokio::time::sleep(RESTART_PAUSE) => {}
            }
            match launch(&settings, &directory).await {
                Ok((bound_child, _)) => break bound_child,
                Err(error) => {
                    tracing::error!(error = with_causes(error.as_ref()), "starting the broker again")
                }
            }
        };
    }
}

async fn end(mut bound_child: BoundChild) {
    // An error means that it has ended already.
    let _ = bound_child.signal(Signal::TERM);
    if tokio::time::timeout(STOP_WITHIN, bound_child.exited()).await.is_err() {
        let _ = bound_child.signal(Signal::KILL);
        bound_child.exited().await;
    }
}

/// Starts the server and waits until it listens; says on which port.
async fn launch(settings: &BrokerSettings, directory: &Path) -> anyhow::Result<(BoundChild, u16)> {
    let configuration = configuration(settings, directory)?;
    let ports = tempfile::tempdir_in(directory).context("making a directory for the broker's port")?;
    let mut command = Command::new(&settings.program);
    command.arg("-c").arg(&configuration).arg("--ports_file_dir").arg(ports.path());
    let mut log = fs::OpenOptions::new();
    let log = log.write(true).create(true).truncate(true).mode(0o600);
    let log = log.open(directory.join("nats-server.start.log")).context("making the broker's log")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut bound_child = BoundChild::start(command)
        .await
        .with_context(|| format!("starting {}", settings.program.display()))?;
    let port = tokio::select! {
        port = tokio::time::timeout(START_WITHIN, listening(ports.path())) => {
            port.with_context(|| format!("the broker does not listen within {START_WITHIN:?}"))
        }
        how = bound_child.exited() => Err(anyhow::anyhow!("the broker ended at once: {how}: {}", last_words(directory))),
    };
    match port {
        Ok(port) => Ok((bound_child, port)),
        Err(error) => {
            let _ = bound_child.signal(Signal::KILL);
            Err(error)
        }
    }
}

/// Waits for the file in which the server names its port.
async fn listening(ports: &Path) -> u16 {
    /// The server writes the file once; there is nothing else to wait on.
    const LOOK_EVERY: Duration = Duration::from_millis(10);
    loop {
        if let Some(port) = port_in(ports) {
            return port;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn port_in(ports: &Path) -> Option<u16> {
    let file = fs::read_dir(ports).ok()?.next()?.ok()?.path();
    let named: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    url::Url::parse(named.get("nats")?.get(0)?.as_str()?).ok()?.port()
}

fn last_words(directory: &Path) -> String {
    let texts =
        ["nats-server.start.log", "nats-server.log"].map(|name| fs::read_to_string(directory.join(name)));
    let lines = texts.iter().flatten().flat_map(|text| text.lines());
    let said: Vec<&str> =
        lines.filter(|line| line.contains("[FTL]") || line.contains("nats-server:")).collect();
    said.last().map_or_else(|| "it said nothing".to_owned(), |line| (*line).to_owned())
}

/// Writes the server's configuration; the secret is in the file only, never on a command line.
fn configuration(settings: &BrokerSettings, directory: &Path) -> anyhow::Result<PathBuf> {
    let access = access(settings, directory)?;
    let path = directory.join("nats-server.conf");
    // The first keeps readers that are slow but moving, which servers before 2.12.15 do not know; the
    // second removes old logs, and has what waits in the queue on the disk before it is confirmed, which
    // those before 2.10 do not.
    let always = ", sync_interval: always";
    for (newer, sync) in
        [("write_timeout: retry\nlogfile_max_num: 3\n", always), ("logfile_max_num: 3\n", always), ("", "")]
    {
        let text = format!(
            "# Written by peerbus at each start; changes are lost.\n\
             host: \"{ip}\"\nport: {port}\nping_interval: \"10s\"\nping_max: 2\n{newer}\
             {access}\
             jetstream {{ store_dir: {store:?}, max_memory_store: 64MB, max_file_store: 1GB{sync} }}\n\
             log_file: {log:?}\nlogfile_size_limit: 10MB\n",
            ip = settings.listen.ip(),
            port = if settings.listen.port() == 0 { -1 } else { i32::from(settings.listen.port()) },
            store = directory.join("jetstream").display().to_string(),
            log = directory.join("nats-server.log").display().to_string(),
        );
        write_private(&path, &text)?;
        let check = Command::new(&settings.program).arg("-t").arg("-c").arg(&path).output();
        let check = check.with_context(|| format!("running {}", settings.program.display()))?;
        if check.status.success() {
            return Ok(path);
        }
        if newer.is_empty() {
            bail!("the broker refuses {}: {}", path.display(), String::from_utf8_lossy(&check.stderr).trim());
        }
    }
    Ok(path)
}

/// Whom it lets in.
fn access(settings: &BrokerSettings, directory: &Path) -> anyhow::Result<String> {
    let Some(keys) = &settings.fleet_keys else {
        return Ok(format!("authorization {{ token: \"{}\" }}\n", token(directory)?));
    };
    let documents = Authority::open(keys)?.for_server()?;
    let resolver = directory.join("accounts");
    make_private(&resolver)?;
    Ok(documents.configuration(&resolver))
}

/// Lets daemons and people of this machine read the token.
fn share_token(
    directory: &Path,
    runtime_dir: &Path,
    listen: SocketAddr,
) -> anyhow::Result<(String, PathBuf)> {
    let token = token(directory)?;
    make_private(runtime_dir)?;
    let shared = token_path(runtime_dir, &listen.ip().to_string(), listen.port());
    write_private(&shared, &token)?;
    Ok((token, shared))
}

/// What a nats-server says it is.
///
/// # Errors
/// When there is none.
pub fn version(program: &Path) -> anyhow::Result<String> {
    let said = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("running {} --version; is a nats-server installed?", program.display()))?;
    let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    if !said.status.success() || !version.starts_with("nats-server") {
        bail!("{} --version says {version:?}; a nats-server is wanted", program.display());
    }
    Ok(version)
}

/// The token of this broker: made once, and kept.
fn token(directory: &Path) -> anyhow::Result<String> {
    let path = directory.join("token");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= 32 => Ok(text.trim().to_owned()),
        Ok(_) => bail!("{} holds no token; remove it to have a new one made", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            write_private(&path, &token)?;
            Ok(token)
        }
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn make_private(directory: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("making {}", directory.display()))
}

/// Replaces a file by one that only its owner can read. One that says the same already is left as it is: that needs
/// no room on a full disk.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let is_private =
        |file: fs::Metadata| file.is_file() && file.uid() == host::user_number() && file.mode() & 0o077 == 0;
    if fs::symlink_metadata(path).is_ok_and(is_private)
        && fs::read_to_string(path).is_ok_and(|written| written == text)
    {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_addresses_are_listened_on() {
        for good in [
            "127.0.0.1:4222",
            "10.0.0.1:1",
            "192.168.1.1:1",
            "172.16.0.1:1",
            "100.64.0.1:1",
            "[::1]:1",
            "[fd00::1]:1",
        ] {
            assert!(check_listen(good.parse().expect(good)).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:4222", "[::]:1", "8.8.8.8:1", "100.128.0.1:1", "172.32.0.1:1", "[2001:db8::1]:1"]
        {
            let address: SocketAddr = bad.parse().expect(bad);
            let error = check_listen(address).expect_err(bad);
            assert!(error.contains(&address.ip().to_string()), "{error}");
        }
    }
}
