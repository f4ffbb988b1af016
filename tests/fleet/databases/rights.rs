//! Users who may do little.

use peerbus::leader::registry::Removal;

use crate::databases::bench::{leader, load, open, row, run, wait_until_stored};
use crate::harness::database::{DATABASE, Database, Kind, USER};
use crate::harness::fleet::{DaemonOptions, Fleet};

on_each_server! {
    a_user_who_may_only_write_rows_uses_the_table_there_is,
    a_row_that_must_stay_holds_nothing_else_up,
}

fn a_user_who_may_only_write_rows_uses_the_table_there_is(kind: Kind) {
    let database = Database::start(kind);
    database.sql(
        "CREATE TABLE peer_registry (peer_id VARCHAR(64) PRIMARY KEY, ip_address VARCHAR(45), mac_address \
         VARCHAR(17), hostname VARCHAR(255), last_seen TIMESTAMP NULL, is_online BOOLEAN, daemon_version \
         VARCHAR(32))",
    );
    let rights = "SELECT, INSERT, UPDATE, DELETE";
    if kind == Kind::Mariadb {
        database.administer(&format!(
            "REVOKE ALL ON {DATABASE}.* FROM {USER}@'%'; \
             GRANT {rights} ON {DATABASE}.peer_registry TO {USER}@'%'"
        ));
    } else {
        database.administer(&format!("ALTER DATABASE {DATABASE} OWNER TO postgres"));
        database.sql(&format!("GRANT {rights} ON peer_registry TO {USER}"));
    }
    run(async {
        let mut registry = open(&database.url()).await;
        registry.save(&[row("a"), row("b")]).await.expect("saved");
        registry.remove(&"b".parse().unwrap()).await.expect("removed");
        let rows = load(&mut open(&database.url()).await).await;
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].hostname, rows[0].is_online), (&row("a").hostname, true));
        assert_eq!(rows[0].os, "", "there is no such column");

        match kind {
            Kind::Mariadb => {
                database.administer(&format!("REVOKE DELETE ON {DATABASE}.peer_registry FROM {USER}@'%'"))
            }
            _ => _ = database.sql(&format!("REVOKE DELETE ON peer_registry FROM {USER}")),
        }
        let removal = registry.remove(&"a".parse().unwrap()).await.expect("an answer");
        assert!(matches!(&removal, Removal::Kept(why) if why.contains("denied")), "{removal:?}");
        registry.save(&[row("a"), row("c")]).await.expect("saved all the same");
    });
}

/// Taking a peer out is refused for good, and said to be; the registry is not away because of it.
fn a_row_that_must_stay_holds_nothing_else_up(kind: Kind) {
    let database = Database::start(kind);
    let fleet = Fleet::builder().start();
    let leader = fleet.add(leader(&database.url()));
    let worker = fleet.add(DaemonOptions::worker("w1"));
    wait_until_stored(&database, &[("lead", true), ("w1", true)]);
    worker.terminate();
    wait_until_stored(&database, &[("lead", true), ("w1", false)]);
    let own = "CREATE TABLE notes (peer VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin, \
               FOREIGN KEY (peer) REFERENCES peer_registry (peer_id))";
    let foreign = "CREATE TABLE notes (peer TEXT REFERENCES peer_registry (peer_id))";
    database.sql(if kind == Kind::Mariadb { own } else { foreign });
    database.sql("INSERT INTO notes VALUES ('w1')");

    let said = fleet.d(["peer", "rm", "w1"]).expect_code(255);
    assert!(said.err().contains("the registry keeps it: ") && said.err().contains("foreign key"), "{said:?}");
    fleet.add(DaemonOptions::worker("w2"));
    wait_until_stored(&database, &[("lead", true), ("w1", false), ("w2", true)]);
    assert!(!leader.stderr().contains("trying again"), "{}", leader.stderr());
    database.sql("DELETE FROM notes");
    fleet.d(["peer", "rm", "w2", "--force"]).expect_success();
    leader.terminate().expect_success();
}
