//! Tests for SQLite files only. `tests/databases` has the tests for all databases.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::roster::tests::row;

async fn open(file: &Path) -> Registry {
    Registry::open(&DatabaseUrl::sqlite(file)).await.expect("the registry opens")
}

async fn refused(file: &Path) -> String {
    let error = Registry::open(&DatabaseUrl::sqlite(file)).await.map(drop).expect_err("it must not open");
    let (text, name) = (error.to_string(), file.display().to_string());
    assert!(text.starts_with("opening the registry ") && text.contains(&name), "{text}");
    text
}

async fn run(registry: &mut Registry, sql: &'static str) {
    sqlx::query(sql).execute(&mut registry.connection).await.expect(sql);
}

#[tokio::test]
async fn a_file_of_any_name_is_made_and_its_owners_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("with space #?%.db");
    open(&file).await.save(&[row("a")]).await.expect("saved");
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(open(&file).await.load().await.expect("loaded"), [row("a")]);
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
        // Root can read and write these files in spite of their mode.
        if std::fs::OpenOptions::new().write(true).open(at(name)).is_err() {
            assert!(refused(&at(name)).await.contains("denied"));
        }
    }
}

/// Overwrites pages of a valid database. Opening or reading it must fail, and must not change the
/// file.
#[tokio::test]
async fn a_damaged_database_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("r.db");
    let rows: Vec<PeerRow> = (0..500).map(|at| row(&format!("p{at}"))).collect();
    open(&file).await.save(&rows).await.expect("saved");
    let mut bytes = std::fs::read(&file).expect("a file");
    bytes[4096..].fill(0xa5);
    std::fs::write(&file, bytes).expect("a file");
    let text = match Registry::open(&DatabaseUrl::sqlite(&file)).await {
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
