//! How the database reads the tables.

use std::time::Duration;

use chatflow_core::store::{DatabaseConfig, PostgresStore};
use chatflow_core::{MessageId, MessageStore};
use chatflow_testkit::{Postgres, needs};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};

use crate::database::Database;

const ROWS: i64 = 20_000;

/// Lookups in the index by id so far, and rows that were read without an index.
async fn reads(db: &mut PgConnection) -> (i64, i64) {
    let sql = "SELECT (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'chatflow_messages_pkey'),
                      (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'chatflow_messages')";
    sqlx::query_as(sql).fetch_one(db).await.unwrap()
}

/// A connection keeps its statements: what is planned while the table is empty must not read all of it once it is not.
#[tokio::test]
async fn ids_are_looked_up_by_the_index_however_the_table_has_grown_since() {
    needs!(Postgres);
    let database = Database::new().await;
    let store = PostgresStore::open(DatabaseConfig::new(database.url()).with_connections(1, 1)).await.unwrap();
    let ids: Vec<_> = (0..100).map(|_| MessageId::new_v4()).collect();
    for _ in 0..10 {
        store.locate(&ids).await.unwrap();
    }
    let rows = format!(
        "INSERT INTO chatflow_messages SELECT gen_random_uuid(), n, n, 0, 'a', decode(lpad(to_hex(n), 48, '0'), 'hex'), 'ada', 'TEXT', 'n', '', ''
         FROM generate_series(1, {ROWS}) n"
    );
    database.run(&rows).await;
    let mut db = PgConnection::connect(&database.url()).await.unwrap();
    let before = reads(&mut db).await;
    store.locate(&ids[..10]).await.unwrap();
    // The database tells ten seconds later.
    let begun = Instant::now();
    let after = loop {
        let now = reads(&mut db).await;
        if now.0 > before.0 || now.1 >= before.1 + ROWS {
            break now;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not say what was read");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(after.1 < before.1 + ROWS, "all rows were read: {before:?}, then {after:?}");
    store.close().await.unwrap();
}
