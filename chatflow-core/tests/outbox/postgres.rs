//! An application with PostgreSQL, and what only PostgreSQL does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use chatflow_core::outbox::{Forwarder, OutboxTable, PostgresOutbox};
use chatflow_core::{Draft, Engine, MessageId, PublishError, RoomId};
use chatflow_testkit::{Postgres, Service, needs};
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::application::{Application, Node, config, draft, numbers, order, room, until_empty};
use crate::support::eventually;

pub(crate) struct Shop {
    pool: PgPool,
    url: String,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        static SERVER: OnceCell<Service> = OnceCell::const_new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let server = SERVER.get_or_init(|| Service::start_new(Postgres::new())).await;
        let name = format!("shop{}", COUNT.fetch_add(1, Relaxed));
        let mut db = PgConnection::connect(&server.url()).await.unwrap();
        sqlx::raw_sql(&format!("CREATE DATABASE {name}")).execute(&mut db).await.unwrap();
        let url = format!("{}/{name}", server.url().rsplit_once('/').unwrap().0);
        let shop = Self { pool: PgPool::connect(&url).await.unwrap(), url };
        for _ in 0..2 {
            PostgresOutbox::migrate(&mut shop.pool.acquire().await.unwrap()).await.unwrap();
        }
        shop
    }
}

#[async_trait]
impl Application for Shop {
    async fn write(&self, engine: &Engine, drafts: &[(RoomId, Draft)], commit: bool) -> Vec<Result<MessageId, PublishError>> {
        let mut tx = self.pool.begin().await.unwrap();
        let mut written = Vec::new();
        for (room, draft) in drafts {
            written.push(PostgresOutbox::publish(&mut tx, engine, room, draft.clone()).await);
        }
        if commit {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        written
    }

    async fn table(&self) -> Arc<dyn OutboxTable> {
        Arc::new(PostgresOutbox::new(PgPool::connect(&self.url).await.unwrap()))
    }

    async fn waiting(&self) -> usize {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM chatflow_outbox").fetch_one(&self.pool).await.unwrap();
        count as usize
    }

    async fn run(&self, sql: &str) {
        // An id is not what is in `entry`.
        let sql = sql.replace("entry = id", "entry = uuid_send(id)");
        sqlx::raw_sql(&sql).execute(&self.pool).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_lower_number_that_is_committed_later_is_not_passed_over() {
    needs!(Postgres);
    let (shop, node) = (Shop::open().await, Node::new().await);
    let _forwarder = node.forward(shop.table().await);
    let mut early = shop.pool.begin().await.unwrap();
    PostgresOutbox::publish(&mut early, &node.engine, &room("7"), draft("early")).await.unwrap();
    node.commit(&shop, &order("7", ["late"])).await;
    node.until("7", &["late".into()]).await;
    early.commit().await.unwrap();
    node.until("7", &["late".into(), "early".into()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_wakes_the_forwarder_also_after_its_connection_was_lost() {
    needs!(Postgres);
    let (shop, node) = (Shop::open().await, Node::new().await);
    let sleepy = config().with_pauses(Duration::from_secs(60), Duration::from_secs(60)).with_lease(Duration::from_secs(600));
    let _forwarder = Forwarder::start(&node.engine, shop.table().await, sleepy).unwrap();
    let listener = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    let mut before = None;
    for round in 0..3 {
        let mut now = None;
        eventually("it listens", async || {
            now = sqlx::query_scalar::<_, i32>(listener).fetch_optional(&shop.pool).await.unwrap();
            now.is_some() && now != before
        })
        .await;
        before = now;
        let begun = Instant::now();
        node.commit(&shop, &order("7", [round.to_string()])).await;
        node.until("7", &numbers(0..round + 1)).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        until_empty(&shop).await;
        shop.run(&format!("SELECT pg_terminate_backend({})", now.unwrap())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_killed_is_forwarded_from_again_by_itself() {
    needs!(Postgres);
    let server = Service::start_new(Postgres::new()).await;
    let shop = Shop { pool: PgPool::connect(&server.url()).await.unwrap(), url: server.url() };
    PostgresOutbox::migrate(&mut shop.pool.acquire().await.unwrap()).await.unwrap();
    let node = Node::new().await;
    let forwarder = node.forward(shop.table().await);
    node.commit(&shop, &order("7", numbers(0..10))).await;
    node.until("7", &numbers(0..10)).await;
    server.kill9();
    eventually("it is told", async || forwarder.trouble().is_some()).await;
    server.start().await;
    eventually("the shop is back", async || sqlx::query("SELECT 1").execute(&shop.pool).await.is_ok()).await;
    node.commit(&shop, &order("7", numbers(10..20))).await;
    node.until("7", &numbers(0..20)).await;
    until_empty(&shop).await;
}
