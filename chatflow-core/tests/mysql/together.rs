//! Small batches of several logs that are committed together.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use chatflow_core::conformance::store::{at, batch};
use chatflow_core::store::{DatabaseConfig, MySqlStore};
use chatflow_core::{ErrorKind, Lease, LogId, MessageStore, NodeId};
use chatflow_testkit::{MariaDb, Service, eventually_async, needs};
use futures::future::join_all;
use sqlx::{Connection, MySqlConnection};

use super::database::Database;

/// A history with so many logs, of which this node has the leases, and a connection of somebody else.
async fn open(url: &str, logs: u16) -> (MySqlStore, Vec<Lease>, MySqlConnection) {
    let store = MySqlStore::open(DatabaseConfig::new(url)).await.unwrap();
    let node = NodeId::from_static("n");
    let leases = join_all((0..logs).map(|log| store.claim(LogId(log), &node))).await;
    let foreign = MySqlConnection::connect(url).await.unwrap();
    (store, leases.into_iter().map(Result::unwrap).collect(), foreign)
}

async fn run(db: &mut MySqlConnection, sql: &str) {
    sqlx::raw_sql(sql).execute(db).await.unwrap();
}

/// Of the whole server.
async fn commits_so_far(db: &mut MySqlConnection) -> i64 {
    let sql = "SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status WHERE variable_name = 'COM_COMMIT'";
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap()
}

/// Lets the table go once two transactions wait for it: whatever was called before waits for a turn then.
async fn release(url: &str, foreign: &mut MySqlConnection) {
    let mut watch = MySqlConnection::connect(url).await.unwrap();
    let sql = "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND state = 'Waiting for table metadata lock'";
    loop {
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&mut watch).await.unwrap();
        if waiting == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    run(foreign, "UNLOCK TABLES").await;
}

#[tokio::test]
async fn what_comes_while_two_are_under_way_shares_a_transaction_and_only_who_is_at_fault_fails() {
    needs!(MariaDb);
    let server = Service::start_new(MariaDb::new()).await;
    let url = server.url();
    let (store, leases, mut foreign) = open(&url, 16).await;
    let mut batches: Vec<_> = leases.iter().map(|lease| batch(&format!("room{}", lease.log), 1..=3)).collect();
    let before = commits_so_far(&mut foreign).await;
    run(&mut foreign, "LOCK TABLES chatflow_messages READ").await;
    let commits = leases.iter().zip(&batches).map(|(lease, batch)| store.commit(lease, batch, at(3)));
    let (found, ()) = tokio::join!(join_all(commits), release(&url, &mut foreign));
    assert!(found.iter().all(|found| matches!(found, Ok(exceptions) if exceptions.is_empty())), "{found:?}");
    assert_eq!(commits_so_far(&mut foreign).await - before, 3, "two that went first and one of the rest");

    // A text that is too long for its column.
    batches = leases.iter().map(|lease| batch(&format!("room{}", lease.log), 4..=6)).collect();
    batches[4][1].message.sender = ByteString::from("x".repeat(70_000));
    run(&mut foreign, "LOCK TABLES chatflow_messages READ").await;
    let commits = leases.iter().zip(&batches).map(|(lease, batch)| store.commit(lease, batch, at(6)));
    let (mut found, ()) = tokio::join!(join_all(commits), release(&url, &mut foreign));
    assert_eq!(found.remove(4).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(found.iter().all(|found| matches!(found, Ok(exceptions) if exceptions.is_empty())), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_somebody_holds_holds_up_no_other() {
    needs!(MariaDb);
    let database = Database::new().await;
    let (store, mut leases, mut foreign) = open(&database.url(), 8).await;
    let store = Arc::new(store);
    run(&mut foreign, "BEGIN; SELECT 1 FROM chatflow_logs WHERE log = 3 FOR UPDATE").await;
    let held = leases.remove(3);
    let waits = tokio::spawn({
        let (store, held) = (Arc::clone(&store), held.clone());
        async move { store.commit(&held, &batch("held", 1..=3), at(3)).await }
    });
    for round in 0..3u64 {
        let first = 3 * round + 1;
        let commits = leases.iter().map(async |lease| store.commit(lease, &batch("a", first..=first + 2), at(first + 2)).await.unwrap());
        assert!(join_all(commits).await.iter().all(Vec::is_empty));
    }
    assert!(!waits.is_finished(), "its own waits");
    run(&mut foreign, "ROLLBACK").await;
    let there = || async { (store.watermark(held.log).await.unwrap() == at(3)).then_some(()) };
    eventually_async("it is committed", Duration::from_secs(5), there).await;
    assert_eq!(waits.await.unwrap().unwrap(), []);
}
