//! Reading at a replica.

use std::time::Duration;

use chatflow_core::conformance::store::{LOG, at, batch, room};
use chatflow_core::store::{DatabaseConfig, MySqlStore};
use chatflow_core::{MessageStore, PageQuery, Position};
use chatflow_testkit::{Service, eventually_async, needs};
use sqlx::{Connection, MySqlConnection};

use super::database::run;
use crate::{Server, follow};

/// What a replica may take to follow.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server and its replica.
struct Pair {
    primary: Service,
    replica: Service,
}

impl Pair {
    async fn new() -> Self {
        let server = |id| Service::start_new(Server::new().set("log_bin", "binlog").set("server_id", id));
        let (primary, replica) = tokio::join!(server("1"), server("2"));
        let steps = MySqlStore::migrate(&DatabaseConfig::new(primary.url())).await.unwrap();
        // From its beginning: nothing was written before the log of what it writes.
        run(&replica.url(), &format!("{}; START REPLICA", follow(primary.address(), "binlog.000001"))).await;
        let pair = Self { primary, replica };
        let version = "SELECT CAST(value AS SIGNED) FROM chatflow_meta WHERE name = 'version'";
        pair.has_copied(version, steps as i64).await;
        pair
    }

    async fn open(&self) -> MySqlStore {
        MySqlStore::open(DatabaseConfig::new(self.primary.url()).with_reader_url(self.replica.url())).await.unwrap()
    }

    /// What the replica answers; nothing while it has no such table.
    async fn copied(&self, sql: &str) -> Option<i64> {
        let mut db = MySqlConnection::connect(&self.replica.url()).await.unwrap();
        sqlx::query_scalar(sql).fetch_optional(&mut db).await.ok().flatten()
    }

    async fn has_copied(&self, sql: &str, least: i64) {
        let enough = async || self.copied(sql).await.filter(|copied| *copied >= least);
        eventually_async("the replica follows", PATIENCE, enough).await;
    }
}

const ROWS: &str = "SELECT count(*) FROM chatflow_messages";

/// The offsets on a page.
async fn offsets(store: &MySqlStore, query: PageQuery) -> Vec<u128> {
    let page = store.page(LOG, &room("7"), &query).await.unwrap();
    page.messages.iter().map(|stored| stored.position.offset).collect()
}

fn before(offset: u64, limit: usize) -> PageQuery {
    let mut query = PageQuery::latest(limit);
    query.before = Some(at(offset));
    query
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_what_was_committed_however_far_behind_the_replica_is() {
    needs!(Server);
    let pair = Pair::new().await;
    let store = pair.open().await;
    assert!(store.status().await.detail.ends_with("read at a replica"));
    let lease = store.claim(LOG, &"a".into()).await.unwrap();
    store.commit(&lease, &batch("7", 1..=4), at(4)).await.unwrap();
    pair.has_copied(ROWS, 4).await;
    run(&pair.replica.url(), "STOP REPLICA SQL_THREAD").await;
    store.commit(&lease.at(at(4)), &batch("7", 5..=8), at(8)).await.unwrap();
    assert_eq!(offsets(&store, PageQuery::latest(3)).await, [6, 7, 8]);
    assert_eq!(offsets(&store, PageQuery::after(at(2), 100)).await, [3, 4, 5, 6, 7, 8]);
    assert_eq!(offsets(&store, before(7, 2)).await, [5, 6]);
    assert_eq!(pair.copied(ROWS).await, Some(4), "it stood still");
    assert_eq!(offsets(&store, PageQuery::after(Position::ZERO, 2)).await, [1, 2]);
    assert_eq!(offsets(&store, before(4, 2)).await, [2, 3]);
    run(&pair.replica.url(), "START REPLICA SQL_THREAD").await;
    pair.has_copied(ROWS, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_replica_has_is_read_while_the_database_is_away() {
    needs!(Server);
    let pair = Pair::new().await;
    let store = pair.open().await;
    let lease = store.claim(LOG, &"a".into()).await.unwrap();
    store.commit(&lease, &batch("7", 1..=4), at(4)).await.unwrap();
    pair.has_copied(ROWS, 4).await;
    pair.primary.kill9();
    assert_eq!(offsets(&store, PageQuery::latest(3)).await, [2, 3, 4]);
    assert!(store.commit(&lease.at(at(4)), &batch("7", 5..=8), at(8)).await.is_err());
    pair.primary.start().await;
    let lease = eventually_async("it can be written again", PATIENCE, async || store.claim(LOG, &"a".into()).await.ok()).await;
    store.commit(&lease, &batch("7", 5..=8), at(8)).await.unwrap();
    assert_eq!(offsets(&store, PageQuery::latest(3)).await, [6, 7, 8]);
    pair.has_copied(ROWS, 8).await;
}

#[tokio::test]
async fn a_replica_can_only_be_the_readers() {
    needs!(Server);
    let pair = Pair::new().await;
    run(&pair.replica.url(), "SET GLOBAL read_only = ON").await;
    let error = MySqlStore::open(DatabaseConfig::new(pair.replica.url())).await.unwrap_err();
    assert!(error.to_string().contains("a replica can only be the readers'"), "{error}");
}
