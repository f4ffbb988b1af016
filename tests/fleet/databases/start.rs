//! Databases that cannot be used when the leader starts: everything else is served meanwhile.

use crate::databases::bench::{LATE, expect_one_complaint, leader, wait_until_stored};
use crate::harness::database::{DATABASE, Database, ENCODED, Kind, PASSWORD, USER};
use crate::harness::fleet::{DaemonOptions, Fleet};

on_each_server! {
    a_server_that_is_away,
    a_server_that_takes_connections_and_says_nothing,
    a_password_that_is_wrong,
    a_database_that_is_not_there,
    a_user_who_may_make_no_table,
}

fn a_server_that_is_away(kind: Kind) {
    let database = Database::start(kind);
    database.stop();
    begin_without(&database, &database.url(), "Connection refused", || database.start_again());
}

fn a_server_that_takes_connections_and_says_nothing(kind: Kind) {
    let database = Database::start(kind);
    database.freeze();
    begin_without(&database, &database.url(), "no answer within 5 s", || database.thaw());
}

fn a_password_that_is_wrong(kind: Kind) {
    let database = Database::start(kind);
    let url = database.url_with(USER, &format!("{ENCODED}%27wrong"), DATABASE);
    let quoted = format!("{PASSWORD}'wrong").replace('\'', "''");
    let (change, words) = match kind {
        Kind::Postgres => {
            (format!("ALTER ROLE {USER} PASSWORD '{quoted}'"), "password authentication failed")
        }
        _ => (format!("SET PASSWORD FOR {USER}@'%' = PASSWORD('{quoted}')"), "Access denied"),
    };
    begin_without(&database, &url, words, || database.administer(&change));
}

fn a_database_that_is_not_there(kind: Kind) {
    let database = Database::start(kind);
    let words = match kind {
        Kind::Postgres => "does not exist",
        _ => "Unknown database",
    };
    if kind == Kind::Mariadb {
        database.administer(&format!("GRANT ALL ON *.* TO {USER}@'%'"));
    }
    database.administer(&format!("DROP DATABASE {DATABASE}"));
    let owner = if kind == Kind::Postgres { format!(" OWNER {USER}") } else { String::new() };
    let make = format!("CREATE DATABASE {DATABASE}{owner}");
    begin_without(&database, &database.url(), words, || database.administer(&make));
}

fn a_user_who_may_make_no_table(kind: Kind) {
    let database = Database::start(kind);
    if kind == Kind::Postgres {
        database.administer(&format!("ALTER DATABASE {DATABASE} OWNER TO postgres"));
        begin_without(&database, &database.url(), "permission denied", || {
            database.sql(&format!("GRANT CREATE ON SCHEMA public TO {USER}"));
        });
    } else {
        database.administer(&format!(
            "REVOKE ALL ON {DATABASE}.* FROM {USER}@'%'; GRANT SELECT ON {DATABASE}.* TO {USER}@'%'"
        ));
        begin_without(&database, &database.url(), "CREATE command denied", || {
            database.administer(&format!("GRANT ALL ON {DATABASE}.* TO {USER}@'%'"));
        });
    }
}

/// Starts a leader whose database cannot be used yet: it is ready, says why once, runs commands,
/// lists nobody rather than too few, and writes whom it has heard once the database is there.
#[track_caller]
fn begin_without(database: &Database, url: &str, words: &str, mend: impl FnOnce()) {
    let fleet = Fleet::builder().start();
    let leader = fleet.add(leader(url));
    fleet.add(DaemonOptions::worker("w1"));
    leader.wait_for_line(LATE, |line| line.contains("trying again until it works"));
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_success();
    let listed = fleet.d(["listPeers"]).expect_code(255);
    assert!(listed.out().is_empty() && listed.err().contains(words), "{listed:?}");
    mend();
    leader.wait_for_line(LATE, |line| line.contains("the registry is back"));
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], LATE);
    wait_until_stored(database, &[("lead", true), ("w1", true)]);
    expect_one_complaint(&fleet, &leader, words, "://bus@127.0.0.1:");
    leader.terminate().expect_success();
}
