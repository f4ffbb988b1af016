//! Databases that fail while the leader runs: nobody waits for them, and they catch up.

use crate::databases::bench::{LATE, expect_one_complaint, leader, wait_until_stored};
use crate::harness::child::Live;
use crate::harness::database::{Database, Kind, USER};
use crate::harness::fleet::{DaemonOptions, Fleet};

on_each_database! { a_database_that_goes_away, a_lock_that_somebody_holds, a_disk_that_is_full }

mod servers {
    use super::*;

    on_each_server! {
        a_server_that_is_killed,
        a_server_that_is_stopped_and_started_at_once,
        a_connection_that_is_cut,
        a_server_that_stops_answering,
        a_database_that_becomes_read_only,
    }

    fn a_server_that_is_killed(kind: Kind) {
        ride_out(kind, "", |database| database.kill(), |database, ()| database.start_again());
    }

    fn a_server_that_is_stopped_and_started_at_once(kind: Kind) {
        let restart = |database: &Database| {
            database.stop();
            database.start_again();
        };
        ride_out(kind, "", restart, |_, ()| {});
    }

    fn a_connection_that_is_cut(kind: Kind) {
        let cut = match kind {
            Kind::Postgres => {
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")
            }
            _ => format!("KILL USER {USER}"),
        };
        ride_out(kind, "", |database| database.administer(&cut), |_, ()| {});
    }

    fn a_server_that_stops_answering(kind: Kind) {
        ride_out(kind, "no answer within 10 s", |database| database.freeze(), |database, ()| database.thaw());
    }

    fn a_database_that_becomes_read_only(kind: Kind) {
        let set = |database: &Database, on: &str| match kind {
            Kind::Postgres => {
                database.administer(&format!("ALTER ROLE {USER} SET default_transaction_read_only = {on}"));
            }
            _ => database.administer(&format!("SET GLOBAL read_only = {on}")),
        };
        let begin = |database: &Database| {
            set(database, "on");
            if kind == Kind::Postgres {
                // The setting is for new sessions.
                database.administer(&format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'"
                ));
            }
        };
        let words = if kind == Kind::Postgres { "" } else { "read-only" };
        ride_out(kind, words, begin, |database, ()| set(database, "off"));
    }
}

fn a_database_that_goes_away(kind: Kind) {
    ride_out(kind, "", |database| database.stop(), |database, ()| database.start_again());
}

fn a_lock_that_somebody_holds(kind: Kind) {
    let (lock, words) = match kind {
        Kind::Sqlite => ("BEGIN EXCLUSIVE", "database is locked"),
        Kind::Mariadb => ("LOCK TABLES peer_registry WRITE", "Lock wait timeout"),
        Kind::Postgres => ("BEGIN; LOCK TABLE peer_registry IN ACCESS EXCLUSIVE MODE", "lock timeout"),
    };
    ride_out(kind, words, |database| database.hold(lock), |_, mut held: Live| drop(held.kill()));
}

/// What a server says then, said by a trigger.
fn a_disk_that_is_full(kind: Kind) {
    let (fill, free): (&[&str], &str) = match kind {
        Kind::Sqlite => (
            &[
                "CREATE TRIGGER full BEFORE UPDATE ON peer_registry BEGIN SELECT RAISE(ABORT, 'no space left'); END",
            ],
            "DROP TRIGGER full",
        ),
        Kind::Mariadb => (
            &["CREATE TRIGGER full BEFORE UPDATE ON peer_registry FOR EACH ROW \
               SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021, MESSAGE_TEXT = 'no space left'"],
            "DROP TRIGGER full",
        ),
        Kind::Postgres => (
            &[
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
               'BEGIN RAISE EXCEPTION ''no space left'' USING ERRCODE = ''53100''; END'",
                "CREATE TRIGGER full_disk BEFORE UPDATE OR INSERT ON peer_registry \
               FOR EACH ROW EXECUTE FUNCTION full_disk()",
            ],
            "DROP TRIGGER full_disk ON peer_registry",
        ),
    };
    let fill_it = |database: &Database| {
        for statement in fill {
            database.sql(statement);
        }
        if kind != Kind::Postgres {
            let insert = fill[0].replace("TRIGGER full BEFORE UPDATE", "TRIGGER full_too BEFORE INSERT");
            database.sql(&insert);
        }
    };
    let free_it = |database: &Database, ()| {
        database.sql(free);
        if kind != Kind::Postgres {
            database.sql("DROP TRIGGER full_too");
        }
    };
    ride_out(kind, "no space left", fill_it, free_it);
}

/// Breaks the database while a fleet lives, has the fleet change, and mends it: the leader goes on
/// meanwhile, complains once in these words, and in the end everything is written.
#[track_caller]
fn ride_out<T>(
    kind: Kind,
    words: &str,
    break_it: impl FnOnce(&Database) -> T,
    mend: impl FnOnce(&Database, T),
) {
    let database = Database::start(kind);
    let fleet = Fleet::builder().start();
    let leader = fleet.add(leader(&database.url()));
    let worker = fleet.add(DaemonOptions::worker("w1"));
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], LATE);
    wait_until_stored(&database, &[("lead", true), ("w1", true)]);

    let broken = break_it(&database);
    fleet.add(DaemonOptions::worker("w2"));
    leader.wait_for_line(LATE, |line| line.contains("trying again until it works"));
    worker.terminate();
    fleet.wait_for_states(&[("lead", "online"), ("w1", "offline"), ("w2", "online")], LATE);
    fleet.d(["exec", "w2", "-C", "/", "--", "true"]).expect_success();
    mend(&database, broken);

    leader.wait_for_line(LATE, |line| line.contains("the registry is back"));
    wait_until_stored(&database, &[("lead", true), ("w1", false), ("w2", true)]);
    let place = if kind == Kind::Sqlite { "registry.db" } else { "://bus@127.0.0.1:" };
    expect_one_complaint(&fleet, &leader, words, place);
    leader.terminate().expect_success();
}
