//! ChatFlow's commits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::store::{DatabaseConfig, MySqlStore, PostgresStore, SqliteConfig, SqliteStore};
use chatflow_core::{LogId, MessageStore, NodeId};
use futures::future::join_all;

use crate::Share;
use crate::database::Store;

async fn open(store: Store, url: &str) -> Arc<dyn MessageStore> {
    match store {
        Store::Sqlite => Arc::new(SqliteStore::open(SqliteConfig::new(url)).await.unwrap()),
        Store::Postgres => Arc::new(PostgresStore::open(DatabaseConfig::new(url)).await.unwrap()),
        Store::MariaDb | Store::MySql => Arc::new(MySqlStore::open(DatabaseConfig::new(url)).await.unwrap()),
    }
}

/// Makes the tables.
pub(crate) async fn migrate(store: Store, url: &str) {
    open(store, url).await.close().await.unwrap();
}

/// Commits every share into a log of its own, batch after batch; how long that took.
pub(crate) async fn write(store: Store, url: &str, shares: Vec<Share>) -> Duration {
    let store = open(store, url).await;
    let mut leases = Vec::new();
    for log in 0..shares.len() as u16 {
        leases.push(store.claim(LogId(log), &NodeId::from_static("bench")).await.unwrap());
    }
    let begun = Instant::now();
    let commits = shares.iter().zip(&mut leases).map(async |(share, lease)| {
        for batch in share {
            let through = batch.last().unwrap().position;
            assert_eq!(store.commit(lease, batch, through).await.unwrap(), []);
            *lease = lease.at(through);
        }
    });
    join_all(commits).await;
    let took = begun.elapsed();
    for lease in &leases {
        store.release(lease).await.unwrap();
    }
    store.close().await.unwrap();
    took
}
