//! The registry on real files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::leader::roster::tests::row;
use crate::protocol::Instance;
use crate::protocol::heartbeat::Role;
use crate::protocol::peers::Presence;

async fn open(file: &Path) -> Registry {
    Registry::open(&Place::sqlite(file)).await.expect("the registry opens")
}

async fn refused(file: &Path) -> String {
    let error = Registry::open(&Place::sqlite(file)).await.map(drop).expect_err("it must not open");
    let (text, name) = (error.to_string(), file.display().to_string());
    assert!(text.starts_with("opening the registry ") && text.contains(&name), "{text}");
    text
}

async fn run(registry: &mut Registry, sql: &'static str) {
    sqlx::query(sql).execute(&mut registry.connection).await.expect(sql);
}

fn full_row(id: &str) -> PeerRow {
    PeerRow {
        ip_address: Some("10.0.0.1".to_owned()),
        mac_address: Some("aa:bb:cc:dd:ee:ff".to_owned()),
        hostname: "O'Hära \"x\"; DROP TABLE peer_registry".to_owned(),
        last_seen: "2026-01-02T03:04:05Z".to_owned(),
        is_online: true,
        daemon_version: "0.1.0".to_owned(),
        role: Role::Leader,
        instance: Some(Instance::new()),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        tags: vec!["home".to_owned(), "a,b".to_owned()],
        ..row(id)
    }
}

#[tokio::test]
async fn what_is_saved_is_loaded_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("with space #?%.db");
    let (full, mut bare) = (full_row("full"), row("bare"));
    bare.is_online = false;
    {
        let mut registry = open(&file).await;
        registry.save(&[full.clone(), bare.clone()]).await.expect("saved");
        registry.save(std::slice::from_ref(&full)).await.expect("saved again");
        registry.save(&[row("gone")]).await.expect("saved");
        registry.remove(&"gone".parse().expect("valid")).await.expect("removed");
        registry.remove(&"never".parse().expect("valid")).await.expect("no mistake");
    }
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let mut rows = open(&file).await.load().await.expect("loaded");
    rows.sort_by(|a, b| a.peer_id.cmp(&b.peer_id));
    assert_eq!(rows, [bare, full]);
}

#[tokio::test]
async fn the_seven_columns_come_first_and_in_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut registry = open(&folder.path().join("r.db")).await;
    registry.save(&[full_row("a")]).await.expect("saved");
    let sql = "SELECT name FROM pragma_table_info('peer_registry')";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut registry.connection).await.expect(sql);
    let wanted =
        ["peer_id", "ip_address", "mac_address", "hostname", "last_seen", "is_online", "daemon_version"];
    assert_eq!(names[..7], wanted);
    let sql = "SELECT last_seen FROM peer_registry WHERE is_online = 1";
    let seen: String = sqlx::query_scalar(sql).fetch_one(&mut registry.connection).await.expect(sql);
    assert_eq!(seen, "2026-01-02 03:04:05");
}

/// What scripts of the seeds made: other types, a table with a key or without, odd rows.
#[tokio::test]
async fn an_older_table_is_brought_forward_with_its_rows() {
    let shapes = [
        "CREATE TABLE peer_registry (peer_id VARCHAR(64) PRIMARY KEY, ip_address VARCHAR(45), mac_address \
         VARCHAR(17), hostname VARCHAR(255), last_seen TIMESTAMP, is_online BOOLEAN, daemon_version VARCHAR(32))",
        "CREATE TABLE peer_registry (peer_id, ip_address, mac_address, hostname, last_seen DATETIME, is_online \
         TINYINT(1), daemon_version, OS TEXT, notes TEXT)",
    ];
    for shape in shapes {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("r.db");
        let mut registry = open(&file).await;
        run(&mut registry, "DROP TABLE peer_registry").await;
        run(&mut registry, shape).await;
        run(
            &mut registry,
            "INSERT INTO peer_registry (peer_id, ip_address, mac_address, hostname, last_seen, is_online, \
             daemon_version) VALUES ('vps', '10.0.0.1', NULL, 'vps', '2025-12-31 23:59:58', 1, '2.0'), \
             ('desk', NULL, NULL, NULL, NULL, 0, NULL), ('Not An Id', NULL, NULL, NULL, NULL, 0, NULL)",
        )
        .await;
        drop(registry);
        for _ in 0..2 {
            let mut registry = open(&file).await;
            let mut rows = registry.load().await.expect("loaded");
            rows.sort_by(|a, b| a.peer_id.cmp(&b.peer_id));
            assert_eq!(rows.iter().map(|row| row.peer_id.as_str()).collect::<Vec<_>>(), ["desk", "vps"]);
            let vps = &rows[1];
            assert_eq!((vps.last_seen.as_str(), vps.is_online), ("2025-12-31T23:59:58Z", true));
            assert_eq!((vps.role, vps.state), (Role::Worker, Presence::Unknown));
            registry.save(&rows).await.expect("saved");
        }
        let mut registry = open(&file).await;
        registry.save(&[full_row("desk")]).await.expect("saved");
        let sql = "SELECT COUNT(*) FROM peer_registry";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut registry.connection).await.expect(sql);
        assert_eq!(count, 3, "no row is lost, none is doubled");
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("folder")).expect("a folder");
    assert!(refused(&at("folder")).await.contains("directory"));
    assert!(refused(&at("missing/r.db")).await.contains("No such file"));
    std::fs::write(at("notes.txt"), "peers: none\n".repeat(200)).expect("a file");
    assert!(refused(&at("notes.txt")).await.contains("not a database"));
    assert_eq!(std::fs::read_to_string(at("notes.txt")).expect("a file"), "peers: none\n".repeat(200));
    for (name, mode) in [("secret.db", 0o000), ("fixed.db", 0o400)] {
        std::fs::write(at(name), "").expect("a file");
        std::fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).expect("a mode");
        // The superuser may read and write these all the same.
        if std::fs::OpenOptions::new().write(true).open(at(name)).is_err() {
            assert!(refused(&at(name)).await.contains("denied"));
        }
    }
}

/// Pages of a good database that were overwritten: an error, and the file is not touched further.
#[tokio::test]
async fn a_damaged_database_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("r.db");
    let rows: Vec<PeerRow> = (0..500).map(|at| full_row(&format!("p{at}"))).collect();
    open(&file).await.save(&rows).await.expect("saved");
    let mut bytes = std::fs::read(&file).expect("a file");
    bytes[4096..].fill(0xa5);
    std::fs::write(&file, bytes).expect("a file");
    let text = match Registry::open(&Place::sqlite(&file)).await {
        Err(error) => error.to_string(),
        Ok(mut registry) => registry.load().await.expect_err("damaged").to_string(),
    };
    assert!(text.contains("malformed") && text.contains("r.db"), "{text}");
}

#[tokio::test]
async fn a_failed_batch_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut registry = open(&folder.path().join("r.db")).await;
    run(
        &mut registry,
        "CREATE TRIGGER no_b BEFORE INSERT ON peer_registry WHEN NEW.peer_id = 'b' \
         BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    .await;
    let error = registry.save(&[row("a"), row("b")]).await.expect_err("refused");
    assert!(
        error.to_string().contains("writing to the registry") && error.to_string().contains("disk is full")
    );
    assert_eq!(registry.load().await.expect("loaded"), []);
}

#[tokio::test]
async fn ten_thousand_rows_are_saved_and_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut registry = open(&folder.path().join("r.db")).await;
    let rows: Vec<PeerRow> = (0..10_000).map(|at| full_row(&format!("p{at:05}"))).collect();
    let begun = std::time::Instant::now();
    registry.save(&rows).await.expect("saved");
    registry.save(&rows).await.expect("saved again");
    let mut loaded = registry.load().await.expect("loaded");
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    loaded.sort_by(|a, b| a.peer_id.cmp(&b.peer_id));
    assert!(loaded == rows);
}
