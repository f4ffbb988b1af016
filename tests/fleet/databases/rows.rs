//! Rows go in and come out as they were.

use std::time::{Duration, Instant};

use crate::databases::bench::{load, open, row, run};
use crate::harness::database::{Database, Kind};

const SEVEN: [&str; 7] =
    ["peer_id", "ip_address", "mac_address", "hostname", "last_seen", "is_online", "daemon_version"];

on_each_database! {
    what_is_saved_is_loaded_and_removed,
    the_seven_columns_come_first_and_times_are_utc,
    ten_thousand_rows_are_saved_in_small_messages,
    a_row_the_table_refuses_keeps_no_other_out,
    a_socket_is_a_place_too,
}

fn what_is_saved_is_loaded_and_removed(kind: Kind) {
    let database = Database::start(kind);
    let (full, mut bare) = (row("full"), row("bare"));
    (bare.ip_address, bare.mac_address, bare.instance) = (None, None, None);
    (bare.is_online, bare.last_seen, bare.tags) = (false, String::new(), Vec::new());
    run(async {
        let mut registry = open(&database.url()).await;
        registry.save(&[full.clone(), bare.clone()]).await.unwrap();
        registry.save(std::slice::from_ref(&full)).await.expect("writing the same again");
        registry.save(&[row("gone")]).await.unwrap();
        registry.remove(&"gone".parse().unwrap()).await.unwrap();
        registry.remove(&"never".parse().unwrap()).await.expect("no mistake");
        registry.close().await;
        let mut registry = open(&database.url()).await;
        assert_eq!(load(&mut registry).await, [bare, full]);
    });
    assert_eq!(database.sql("SELECT COUNT(*) FROM peer_registry"), [["2"]]);
}

fn the_seven_columns_come_first_and_times_are_utc(kind: Kind) {
    let database = Database::start(kind);
    let (columns, seen) = match kind {
        Kind::Sqlite => ("SELECT name FROM pragma_table_info('peer_registry')", "last_seen"),
        Kind::Mariadb => {
            database.administer("SET GLOBAL time_zone = '+05:00'");
            (NAMES, "CAST(last_seen AS CHAR)")
        }
        Kind::Postgres => {
            database.administer("ALTER ROLE bus SET timezone = 'Asia/Tokyo'");
            (NAMES, "CAST(last_seen AS TEXT)")
        }
    };
    run(async { open(&database.url()).await.save(&[row("a")]).await.unwrap() });
    let names = database.sql(columns);
    assert!(names.len() > 7 && names[..7].iter().map(|row| row[0].as_str()).eq(SEVEN), "{names:?}");
    let seen = format!("SELECT {seen} FROM peer_registry WHERE is_online");
    assert_eq!(database.sql(&seen), [["2026-01-02 03:04:05"]]);
    run(async {
        let rows = load(&mut open(&database.url()).await).await;
        assert_eq!(rows[0].last_seen, "2026-01-02T03:04:05Z");
    });
}

const NAMES: &str = "SELECT column_name FROM information_schema.columns WHERE table_name = 'peer_registry' ORDER BY ordinal_position";

fn ten_thousand_rows_are_saved_in_small_messages(kind: Kind) {
    let database = Database::start(kind);
    if kind == Kind::Mariadb {
        database.administer("SET GLOBAL max_allowed_packet = 2048");
    }
    let mut rows: Vec<_> = (0..10_000).map(|at| row(&format!("p{at:05}"))).collect();
    run(async {
        let mut registry = open(&database.url()).await;
        let begun = Instant::now();
        registry.save(&rows).await.unwrap();
        rows.iter_mut().for_each(|row| row.is_online = false);
        registry.save(&rows).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
        assert!(load(&mut registry).await == rows);
    });
}

fn a_row_the_table_refuses_keeps_no_other_out(kind: Kind) {
    let database = Database::start(kind);
    let check = "CHECK (hostname <> 'bad')";
    database.sql(&format!(
        "CREATE TABLE peer_registry (peer_id VARCHAR(64) PRIMARY KEY, ip_address VARCHAR(45), mac_address \
         VARCHAR(17), hostname VARCHAR(255) {check}, last_seen TIMESTAMP NULL, is_online BOOLEAN, \
         daemon_version VARCHAR(32))"
    ));
    grant(&database);
    let mut bad = row("b");
    bad.hostname = "bad".to_owned();
    run(async {
        let mut registry = open(&database.url()).await;
        registry.save(&[row("a"), bad, row("c")]).await.expect("the others are written");
        let ids: Vec<String> = load(&mut registry).await.iter().map(|row| row.peer_id.to_string()).collect();
        assert_eq!(ids, ["a", "c"]);
    });
}

fn a_socket_is_a_place_too(kind: Kind) {
    let database = Database::start(kind);
    if kind == Kind::Mariadb {
        database.administer(&format!(
            "CREATE USER bus@localhost IDENTIFIED BY '{}'; GRANT ALL ON peers.* TO bus@localhost",
            crate::harness::database::PASSWORD.replace('\'', "''")
        ));
    }
    run(async {
        open(&database.socket_url()).await.save(&[row("a")]).await.unwrap();
        assert_eq!(load(&mut open(&database.url()).await).await.len(), 1);
    });
}

/// Gives the leader's user a table that somebody else made.
pub(crate) fn grant(database: &Database) {
    if database.kind() == Kind::Postgres {
        database.sql("ALTER TABLE peer_registry OWNER TO bus");
    }
}
