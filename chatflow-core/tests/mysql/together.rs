//! Small batches of several logs that are committed together.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use chatflow_core::conformance::store::{at, batch};
use chatflow_core::store::{DatabaseConfig, MySqlStore};
use chatflow_core::{ErrorKind, Lease, LogId, MessageStore, NodeId};
use chatflow_testkit::{Service, needs};
use futures::future::join_all;
use sqlx::{Connection, MySqlConnection};

use super::held_logs::hold_up_no_others;
use crate::{PROCESSES, Server};

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
    let (_, count): (String, String) = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Com_commit'").fetch_one(db).await.unwrap();
    count.parse().unwrap()
}

const LOCKED: &str = "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";

/// Until two transactions wait, by that count: whatever was called before waits for a turn then. What InnoDB tells of its transactions is
/// made anew when it was not asked for within a tenth of a second.
async fn turns_are_taken(url: &str, count: &str) {
    let mut watch = MySqlConnection::connect(url).await.unwrap();
    while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut watch).await.unwrap() < 2 {
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
}

#[tokio::test]
async fn what_comes_while_two_are_under_way_shares_a_transaction_and_only_who_is_at_fault_fails() {
    needs!(Server);
    let server = Service::start_new(Server::new()).await;
    let url = server.url();
    let (store, leases, mut foreign) = open(&url, 16).await;
    let waiting = format!("SELECT count(*) FROM {PROCESSES} WHERE state = 'Waiting for table metadata lock'");
    let mut batches: Vec<_> = leases.iter().map(|lease| batch(&format!("room{}", lease.log), 1..=3)).collect();
    let before = commits_so_far(&mut foreign).await;
    run(&mut foreign, "LOCK TABLES chatflow_messages READ").await;
    let commits = leases.iter().zip(&batches).map(|(lease, batch)| store.commit(lease, batch, at(3)));
    let release = async {
        turns_are_taken(&url, &waiting).await;
        run(&mut foreign, "UNLOCK TABLES").await;
    };
    let (found, ()) = tokio::join!(join_all(commits), release);
    assert!(found.iter().all(|found| matches!(found, Ok(exceptions) if exceptions.is_empty())), "{found:?}");
    assert_eq!(commits_so_far(&mut foreign).await - before, 3, "two that went first and one of the rest");

    // A text that is too long for its column.
    batches = leases.iter().map(|lease| batch(&format!("room{}", lease.log), 4..=6)).collect();
    batches[4][1].message.sender = ByteString::from("x".repeat(70_000));
    run(&mut foreign, "LOCK TABLES chatflow_messages READ").await;
    let commits = leases.iter().zip(&batches).map(|(lease, batch)| store.commit(lease, batch, at(6)));
    let release = async {
        turns_are_taken(&url, &waiting).await;
        run(&mut foreign, "UNLOCK TABLES").await;
    };
    let (mut found, ()) = tokio::join!(join_all(commits), release);
    assert_eq!(found.remove(4).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(found.iter().all(|found| matches!(found, Ok(exceptions) if exceptions.is_empty())), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_somebody_holds_hold_up_no_others() {
    needs!(Server);
    let server = Service::start_new(Server::new()).await;
    let url = server.url();
    let (store, mut leases, mut foreign) = open(&url, 8).await;
    run(
        &mut foreign,
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; BEGIN; SELECT 1 FROM chatflow_logs WHERE log < 3 FOR UPDATE",
    )
    .await;
    let others = leases.split_off(3);
    hold_up_no_others(Arc::new(store), leases, &others, turns_are_taken(&url, LOCKED), run(&mut foreign, "ROLLBACK")).await;
}
