//! Users who may do little.

use crate::bench::{load, open, row, run};
use crate::harness::database::{DATABASE, Database, Kind, USER};

on_each_server! { a_user_who_may_only_write_rows_uses_the_table_there_is }

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
    });
}
