//! Reading at a replica.

use std::time::Duration;

use chatflow_core::conformance::store::{batch, room};
use chatflow_core::store::{DatabaseConfig, PostgresStore};
use chatflow_core::{LogId, MessageStore, PageQuery, Position};
use chatflow_testkit::{Postgres, Service, eventually_async, needs};
use sqlx::{Connection, PgConnection};

use super::database::run;

const LOG: LogId = LogId(0);

/// A server and its replica.
struct Pair {
    primary: Service,
    replica: Service,
}

impl Pair {
    async fn new() -> Self {
        let primary = Service::start_new(Postgres::new()).await;
        PostgresStore::migrate(&DatabaseConfig::new(primary.url())).await.unwrap();
        let replica = Service::start_new(Postgres::following(primary.url())).await;
        Self { primary, replica }
    }

    async fn open(&self) -> PostgresStore {
        PostgresStore::open(DatabaseConfig::new(self.primary.url()).with_reader_url(self.replica.url())).await.unwrap()
    }

    /// How many messages the replica has.
    async fn copied(&self) -> i64 {
        let mut db = PgConnection::connect(&self.replica.url()).await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM chatflow_messages").fetch_one(&mut db).await.unwrap()
    }

    async fn has_copied(&self, rows: i64) {
        let enough = async || (self.copied().await >= rows).then_some(());
        eventually_async("the replica follows", Duration::from_secs(20), enough).await;
    }
}

/// The offsets on a page.
async fn offsets(store: &PostgresStore, query: PageQuery) -> Vec<u128> {
    let page = store.page(LOG, &room("7"), &query).await.unwrap();
    page.messages.iter().map(|stored| stored.position.offset).collect()
}

fn before(offset: u64, limit: usize) -> PageQuery {
    let mut query = PageQuery::latest(limit);
    query.before = Some(at(offset));
    query
}

fn at(offset: u64) -> Position {
    Position::new(1, offset.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_what_was_committed_however_far_behind_the_replica_is() {
    needs!(Postgres);
    let pair = Pair::new().await;
    let store = pair.open().await;
    assert!(store.status().await.detail.ends_with("read at a replica"));
    let lease = store.claim(LOG, &"a".into()).await.unwrap();
    store.commit(&lease, &batch("7", 1..=4), at(4)).await.unwrap();
    pair.has_copied(4).await;
    run(&pair.replica.url(), "SELECT pg_wal_replay_pause()").await;
    store.commit(&lease.at(at(4)), &batch("7", 5..=8), at(8)).await.unwrap();
    assert_eq!(offsets(&store, PageQuery::latest(3)).await, [6, 7, 8]);
    assert_eq!(offsets(&store, PageQuery::after(at(2), 100)).await, [3, 4, 5, 6, 7, 8]);
    assert_eq!(offsets(&store, before(7, 2)).await, [5, 6]);
    assert_eq!(pair.copied().await, 4, "it stood still");
    assert_eq!(offsets(&store, PageQuery::after(Position::ZERO, 2)).await, [1, 2]);
    assert_eq!(offsets(&store, before(4, 2)).await, [2, 3]);
    run(&pair.replica.url(), "SELECT pg_wal_replay_resume()").await;
    pair.has_copied(8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_replica_has_is_read_while_the_database_is_away() {
    needs!(Postgres);
    let pair = Pair::new().await;
    let store = pair.open().await;
    let lease = store.claim(LOG, &"a".into()).await.unwrap();
    store.commit(&lease, &batch("7", 1..=4), at(4)).await.unwrap();
    pair.has_copied(4).await;
    pair.primary.kill9();
    assert_eq!(offsets(&store, PageQuery::latest(3)).await, [2, 3, 4]);
    assert!(store.commit(&lease.at(at(4)), &batch("7", 5..=8), at(8)).await.is_err());
    pair.primary.start().await;
    let lease =
        eventually_async("it can be written again", Duration::from_secs(20), async || store.claim(LOG, &"a".into()).await.ok()).await;
    store.commit(&lease, &batch("7", 5..=8), at(8)).await.unwrap();
    assert_eq!(offsets(&store, PageQuery::latest(3)).await, [6, 7, 8]);
}
