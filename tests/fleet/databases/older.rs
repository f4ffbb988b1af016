//! Tables that are there already, as the older scripts made them or as anybody might have.

use crate::databases::bench::{load, open, row, run, wait_until_stored};
use crate::databases::rows::grant;
use crate::harness::database::{Database, Kind};

on_each_database! { a_table_of_the_older_scripts_keeps_its_rows, a_table_of_other_types_is_used_as_it_is }

/// What is never understood, and never lost.
const ODD: [&str; 3] = ["Not An Id", "UPPER", "ümlaut"];

fn ids(database: &Database) -> Vec<String> {
    let mut ids: Vec<String> =
        database.sql("SELECT peer_id FROM peer_registry").into_iter().map(|mut row| row.remove(0)).collect();
    ids.sort();
    ids
}

fn sorted(ids: &[&str]) -> Vec<String> {
    let mut ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    ids.sort();
    ids
}

fn a_table_of_the_older_scripts_keeps_its_rows(kind: Kind) {
    let database = Database::start(kind);
    let (seen, charset) = match kind {
        Kind::Mariadb => {
            ("TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP", "CHARACTER SET latin1")
        }
        _ => ("TIMESTAMP DEFAULT CURRENT_TIMESTAMP", ""),
    };
    database.sql(&format!(
        "CREATE TABLE peer_registry (peer_id VARCHAR(64) PRIMARY KEY, ip_address VARCHAR(45), mac_address \
         VARCHAR(17), hostname VARCHAR(255), last_seen {seen}, is_online BOOLEAN, daemon_version \
         VARCHAR(5), note VARCHAR(20)) {charset}"
    ));
    if kind == Kind::Mariadb {
        database.administer("SET GLOBAL time_zone = '+00:00'");
    }
    database.sql(
        "INSERT INTO peer_registry (peer_id, ip_address, hostname, last_seen, is_online, daemon_version, note) \
         VALUES ('vps', '10.0.0.1', 'vps', '2025-12-31 23:59:58', TRUE, '2.0', 'kept'), \
         ('desk', NULL, NULL, NULL, FALSE, NULL, NULL), ('Not An Id', NULL, NULL, NULL, NULL, NULL, NULL), \
         ('UPPER', NULL, NULL, NULL, FALSE, NULL, NULL), ('ümlaut', NULL, NULL, NULL, FALSE, NULL, NULL)",
    );
    if kind == Kind::Mariadb {
        database.sql(
            "SET SESSION sql_mode = ''; \
             INSERT INTO peer_registry (peer_id, last_seen) VALUES ('zero', '0000-00-00 00:00:00')",
        );
    } else {
        database.sql("INSERT INTO peer_registry (peer_id, last_seen) VALUES ('zero', NULL)");
    }
    grant(&database);
    let all = sorted(&["vps", "desk", "zero", ODD[0], ODD[1], ODD[2]]);
    run(async {
        for _ in 0..2 {
            let mut registry = open(&database.url()).await;
            let mut rows = load(&mut registry).await;
            let found: Vec<(&str, &str, bool)> = rows
                .iter()
                .map(|row| (row.peer_id.as_str(), row.last_seen.as_str(), row.is_online))
                .collect();
            let wanted = [("desk", "", false), ("vps", "2025-12-31T23:59:58Z", true), ("zero", "", false)];
            assert_eq!(found, wanted);
            // Writing them all changes no time that is not known better.
            registry.save(&rows).await.expect("saved");
            for row in &mut rows {
                row.daemon_version = "0.12.345".to_owned();
                row.last_seen.clear();
            }
            registry.save(&rows).await.expect("saved, cut to what there is room for");
        }
        let mut registry = open(&database.url()).await;
        registry.save(&[row("new")]).await.expect("a name beyond latin1 is no reason to forget a peer");
        let rows = load(&mut registry).await;
        assert_eq!(rows[1].hostname.chars().next(), Some('O'), "{rows:?}");
        registry.remove(&"new".parse().unwrap()).await.expect("removed");
    });
    assert_eq!(ids(&database), all, "no row is lost, none is doubled");
    let look = "SELECT daemon_version, note FROM peer_registry WHERE peer_id = 'vps'";
    // SQLite has no widths.
    let version = if kind == Kind::Sqlite { "0.12.345" } else { "0.12." };
    assert_eq!(database.sql(look), [[version, "kept"]]);
    let untouched = "SELECT last_seen FROM peer_registry WHERE peer_id = 'desk'";
    assert_eq!(database.sql(untouched), [["NULL"]]);
}

fn a_table_of_other_types_is_used_as_it_is(kind: Kind) {
    let database = Database::start(kind);
    let columns = match kind {
        Kind::Sqlite => {
            "peer_id, ip_address, mac_address, hostname, last_seen, is_online TINYINT(1), daemon_version, OS TEXT"
        }
        Kind::Mariadb => {
            "peer_id VARCHAR(40) NOT NULL, ip_address TINYTEXT NOT NULL, mac_address CHAR(17) NOT NULL, \
             hostname TEXT, last_seen VARCHAR(30), is_online BIT(1), daemon_version CHAR(4), OS TEXT"
        }
        Kind::Postgres => {
            "peer_id CHAR(40) NOT NULL, ip_address INET, mac_address MACADDR, hostname VARCHAR(255), \
             last_seen TIMESTAMPTZ, is_online SMALLINT, daemon_version VARCHAR(4), os TEXT"
        }
    };
    database.sql(&format!("CREATE TABLE peer_registry ({columns})"));
    grant(&database);
    let mut second = row("b");
    (second.ip_address, second.is_online) = (None, false);
    run(async {
        let mut registry = open(&database.url()).await;
        registry.save(&[row("a"), second.clone()]).await.expect("saved");
        registry.save(&[row("a"), second.clone()]).await.expect("saved again");
        let rows = load(&mut open(&database.url()).await).await;
        let short: Vec<_> = rows
            .iter()
            .map(|row| {
                (row.peer_id.as_str(), row.ip_address.as_deref(), row.last_seen.as_str(), row.is_online)
            })
            .collect();
        let seen = "2026-01-02T03:04:05Z";
        assert_eq!(short, [("a", Some("10.0.0.1"), seen, true), ("b", None, seen, false)]);
        registry.remove(&"a".parse().unwrap()).await.expect("removed");
    });
    wait_until_stored_as(&database, kind);
}

fn wait_until_stored_as(database: &Database, kind: Kind) {
    match kind {
        Kind::Postgres => assert_eq!(database.sql("SELECT is_online FROM peer_registry"), [["0"]]),
        _ => wait_until_stored(database, &[("b", false)]),
    }
}

#[test]
fn a_table_that_ignores_case_has_one_row_for_both_spellings() {
    let database = Database::start(Kind::Mariadb);
    database
        .sql("CREATE TABLE peer_registry (peer_id VARCHAR(64) PRIMARY KEY, hostname VARCHAR(20), note TEXT)");
    database.sql("INSERT INTO peer_registry VALUES ('Desktop', 'x', 'kept'), ('VPS', 'y', 'left alone')");
    run(async {
        let mut registry = open(&database.url()).await;
        assert_eq!(load(&mut registry).await, []);
        registry.save(&[row("desktop")]).await.expect("saved");
        registry.remove(&"vps".parse().unwrap()).await.expect("no mistake");
        assert_eq!(load(&mut registry).await.len(), 1);
    });
    let look = "SELECT peer_id, note FROM peer_registry ORDER BY peer_id";
    assert_eq!(database.sql(look), [["desktop", "kept"], ["VPS", "left alone"]]);
}

#[test]
fn the_table_is_the_one_its_bare_name_finds() {
    let database = Database::start(Kind::Postgres);
    database.sql("CREATE SCHEMA fleet AUTHORIZATION bus");
    database.sql("CREATE TABLE public.peer_registry (other INTEGER)");
    database.administer("ALTER ROLE bus SET search_path = fleet, public");
    // The first schema has none, so the bare name finds the other one, which is not ours to change.
    run(async {
        let refused = peerbus::leader::registry::Registry::open(&database.url().parse().unwrap()).await;
        assert!(refused.is_err_and(|error| error.to_string().contains("must be owner")));
    });
    database.sql("DROP TABLE public.peer_registry");
    run(async { open(&database.url()).await.save(&[row("a")]).await.unwrap() });
    assert_eq!(database.sql("SELECT peer_id FROM fleet.peer_registry"), [["a"]]);
}
