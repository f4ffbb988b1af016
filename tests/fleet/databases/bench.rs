//! What the cases have in common: a database, a leader that uses it, and looks at both.

use std::sync::Arc;
use std::time::Duration;

use peerbus::leader::registry::{DatabaseUrl, Registry};
use peerbus::protocol::Instance;
use peerbus::protocol::heartbeat::Role;
use peerbus::protocol::peers::{PeerRow, Presence};

use crate::harness::database::{Database, SECRETS};
use crate::harness::fleet::{Daemon, DaemonOptions, Fleet};
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, a statement that is given up included.
pub(crate) const LATE: Duration = Duration::from_secs(40);

/// Makes a test of each function for each database.
macro_rules! on_each_database {
    ($($case:ident),+ $(,)?) => {
        mod sqlite { $(#[test] fn $case() { super::$case(crate::harness::database::Kind::Sqlite) })+ }
        on_each_server!($($case),+);
    };
}

/// Makes a test of each function for each database that is a server.
macro_rules! on_each_server {
    ($($case:ident),+ $(,)?) => {
        mod mariadb { $(#[test] fn $case() { super::$case(crate::harness::database::Kind::Mariadb) })+ }
        mod postgres { $(#[test] fn $case() { super::$case(crate::harness::database::Kind::Postgres) })+ }
    };
}

/// Runs what waits.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) async fn open(url: &str) -> Registry {
    Registry::open(&url.parse::<DatabaseUrl>().unwrap()).await.expect("the registry opens")
}

pub(crate) async fn load(registry: &mut Registry) -> Vec<PeerRow> {
    let mut rows = registry.load().await.expect("loaded");
    rows.sort_by(|a, b| a.peer_id.cmp(&b.peer_id));
    rows
}

pub(crate) fn row(id: &str) -> PeerRow {
    PeerRow {
        peer_id: id.parse().unwrap(),
        ip_address: Some("10.0.0.1".to_owned()),
        mac_address: Some("aa:bb:cc:dd:ee:ff".to_owned()),
        hostname: "O'Hära \\ \"x\"; DROP TABLE peer_registry 日本 😀".to_owned(),
        last_seen: "2026-01-02T03:04:05Z".to_owned(),
        is_online: true,
        daemon_version: "0.1.0".to_owned(),
        state: Presence::Unknown,
        role: Role::Leader,
        instance: Some(Instance::new()),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        jobs: 0,
        load: None,
        uptime_s: 0,
        tags: vec!["home".to_owned(), "a,b".to_owned()],
        audit: None,
        names: None,
    }
}

/// A leader `lead` with its registry there.
pub(crate) fn leader(url: &str) -> DaemonOptions {
    DaemonOptions::leader("lead").env("PEERBUS_DATABASE_URL", url)
}

/// Waits until the database holds exactly these, online or not.
#[track_caller]
pub(crate) fn wait_until_stored(database: &Database, wanted: &[(&str, bool)]) {
    let wanted: Vec<Vec<String>> =
        wanted.iter().map(|(id, online)| vec![(*id).to_owned(), u8::from(*online).to_string()]).collect();
    let look = "SELECT peer_id, CASE WHEN is_online THEN 1 ELSE 0 END FROM peer_registry ORDER BY peer_id";
    let mut seen = Vec::new();
    eventually(LATE, &format!("the database to hold {wanted:?}"), || {
        seen = database.sql(look);
        (seen == wanted).then_some(())
    });
}

/// That the leader complained once, in these words, and said once that it was over; and that
/// nothing anywhere shows a password.
#[track_caller]
pub(crate) fn expect_one_complaint(fleet: &Fleet, leader: &Arc<Daemon>, wanted: &str, place: &str) {
    let said = leader.stderr();
    let complaints: Vec<&str> =
        said.lines().filter(|line| line.contains("trying again until it works")).collect();
    assert_eq!(complaints.len(), 1, "{said}");
    assert!(complaints[0].contains(wanted) && complaints[0].contains(place), "{wanted} {place}: {said}");
    assert_eq!(said.matches("the registry is back").count(), 1, "{said}");
    expect_no_secret(fleet, leader);
}

/// That no part of the password stands in anything that is said or kept.
#[track_caller]
pub(crate) fn expect_no_secret(fleet: &Fleet, leader: &Arc<Daemon>) {
    let mut all = leader.stderr();
    for verb in [vec!["status", "--json"], vec!["status"], vec!["listPeers"], vec!["getPeerStatus"]] {
        let said = fleet.command_on("lead", verb).run();
        all.push_str(&format!("{}{}", said.out(), said.err()));
    }
    for entry in std::fs::read_dir(leader.state_directory()).unwrap().flatten() {
        all.push_str(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default()));
    }
    for secret in SECRETS {
        assert!(!all.contains(secret), "{secret} is shown: {all}");
    }
}
