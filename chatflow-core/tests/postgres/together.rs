//! Small batches of several logs that are committed together.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use chatflow_core::conformance::store::{at, batch, room};
use chatflow_core::store::{DatabaseConfig, PageQuery, PostgresStore};
use chatflow_core::{ErrorKind, Lease, LogId, MessageId, MessageStore, NodeId};
use chatflow_testkit::{Postgres, needs};
use futures::future::join_all;
use sqlx::{Connection, PgConnection};

use super::database::Database;
use super::held_logs::hold_up_no_others;

/// A history with so many logs, of which this node has the leases, and a connection of somebody else.
async fn open(database: &Database, logs: u16) -> (PostgresStore, Vec<Lease>, PgConnection) {
    let store = PostgresStore::open(DatabaseConfig::new(database.url())).await.unwrap();
    let node = NodeId::from_static("n");
    let leases = join_all((0..logs).map(|log| store.claim(LogId(log), &node))).await;
    let foreign = PgConnection::connect(&database.url()).await.unwrap();
    (store, leases.into_iter().map(Result::unwrap).collect(), foreign)
}

async fn run(db: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sql).execute(db).await.unwrap();
}

/// Until two transactions wait for what `foreign` has locked: whatever was called before waits for a turn then.
async fn turns_are_taken(foreign: &mut PgConnection) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    loop {
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&mut *foreign).await.unwrap();
        if waiting >= 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_comes_while_two_are_under_way_shares_a_transaction() {
    needs!(Postgres);
    let database = Database::new().await;
    let (store, leases, mut foreign) = open(&database, 16).await;
    run(&mut foreign, "BEGIN; LOCK TABLE chatflow_messages IN SHARE MODE").await;
    let commits = leases.iter().map(async |lease| store.commit(lease, &batch(&format!("room{}", lease.log), 1..=3), at(3)).await.unwrap());
    let release = async {
        turns_are_taken(&mut foreign).await;
        run(&mut foreign, "ROLLBACK").await;
    };
    let (exceptions, ()) = tokio::join!(join_all(commits), release);
    assert!(exceptions.iter().all(Vec::is_empty));
    let sql = "SELECT count(*), count(DISTINCT xmin::text), (SELECT count(*) FROM chatflow_logs WHERE through IS NOT NULL) FROM chatflow_messages";
    let counted: (i64, i64, i64) = sqlx::query_as(sql).fetch_one(&mut foreign).await.unwrap();
    assert_eq!(counted, (48, 3, 16), "rows, transactions: two that went first and one of the rest, logs");
    for lease in &leases {
        assert_eq!(store.watermark(lease.log).await.unwrap(), at(3));
        let page = store.page(lease.log, &room(&format!("room{}", lease.log)), &PageQuery::latest(10)).await.unwrap();
        assert_eq!(page.messages.len(), 3);
    }
}

#[tokio::test]
async fn of_those_that_share_it_only_who_is_at_fault_fails() {
    needs!(Postgres);
    let database = Database::new().await;
    let (store, leases, mut foreign) = open(&database, 8).await;
    let mut batches: Vec<_> = leases.iter().map(|lease| batch(&format!("room{}", lease.log), 1..=3)).collect();
    // Fenced by a later claim; with a row that no index takes; with the id of a message of another log; behind its own cursor.
    store.claim(LogId(3), &"n".into()).await.unwrap();
    batches[4][1].message.sender = ByteString::from((0..600).map(|_| MessageId::new_v4().to_string()).collect::<String>());
    batches[5][2].message.id = batches[2][0].message.id;
    let through = |log: LogId| at(if log == LogId(6) { 2 } else { 3 });
    run(&mut foreign, "BEGIN; LOCK TABLE chatflow_messages IN SHARE MODE").await;
    let commits = leases.iter().zip(&batches).map(|(lease, batch)| store.commit(lease, batch, through(lease.log)));
    let release = async {
        turns_are_taken(&mut foreign).await;
        run(&mut foreign, "ROLLBACK").await;
    };
    let (outcomes, ()) = tokio::join!(join_all(commits), release);
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map(Vec::len).map_err(|error| error.kind())).collect();
    let both = [kinds[2], kinds[5]];
    assert!(both == [Ok(0), Ok(1)] || both == [Ok(1), Ok(0)], "one of the two has the id: {both:?}");
    assert_eq!([kinds[3], kinds[4], kinds[6]], [Err(ErrorKind::Fenced), Err(ErrorKind::Invalid), Err(ErrorKind::Invalid)]);
    assert_eq!([kinds[0], kinds[1], kinds[7]], [Ok(0); 3]);
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM chatflow_messages").fetch_one(&mut foreign).await.unwrap();
    assert_eq!(rows, 3 * 5 - 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_somebody_holds_hold_up_no_others() {
    needs!(Postgres);
    let database = Database::new().await;
    let (store, mut leases, mut foreign) = open(&database, 8).await;
    let mut watch = PgConnection::connect(&database.url()).await.unwrap();
    run(&mut foreign, "BEGIN; SELECT 1 FROM chatflow_logs WHERE log < 3 FOR UPDATE").await;
    let others = leases.split_off(3);
    hold_up_no_others(Arc::new(store), leases, &others, turns_are_taken(&mut watch), run(&mut foreign, "ROLLBACK")).await;
}
