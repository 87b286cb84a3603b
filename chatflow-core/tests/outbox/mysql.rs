//! An application with MariaDB or MySQL, and what only databases with many writers do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use chatflow_core::outbox::{MySqlOutbox, OutboxTable};
use chatflow_core::{Draft, Engine, MessageId, PublishError, RoomId};
use chatflow_testkit::{MariaDb, MySql, Program, Service, can_use};
use sqlx::{Connection, MySqlConnection, MySqlPool};
use tokio::sync::OnceCell;

use crate::application::{Application, Node, draft, order, room};

pub(crate) struct Shop {
    pool: MySqlPool,
    url: String,
}

impl Shop {
    pub(crate) async fn on_mariadb() -> Self {
        static SERVER: OnceCell<Service> = OnceCell::const_new();
        Self::open(&SERVER, MariaDb::new).await
    }

    pub(crate) async fn on_mysql() -> Self {
        static SERVER: OnceCell<Service> = OnceCell::const_new();
        Self::open(&SERVER, MySql::new).await
    }

    /// With a database of its own in a server that all tests of this program share.
    async fn open<P: Program>(server: &OnceCell<Service>, program: fn() -> P) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let server = server.get_or_init(|| Service::start_new(program())).await;
        let name = format!("shop{}", COUNT.fetch_add(1, Relaxed));
        let mut db = MySqlConnection::connect(&server.url()).await.unwrap();
        sqlx::raw_sql(&format!("CREATE DATABASE {name}")).execute(&mut db).await.unwrap();
        let url = format!("{}/{name}", server.url().rsplit_once('/').unwrap().0);
        let shop = Self { pool: MySqlPool::connect(&url).await.unwrap(), url };
        for _ in 0..2 {
            MySqlOutbox::migrate(&mut shop.pool.acquire().await.unwrap()).await.unwrap();
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
            written.push(MySqlOutbox::publish(&mut tx, engine, room, draft.clone()).await);
        }
        if commit {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        written
    }

    async fn table(&self) -> Arc<dyn OutboxTable> {
        Arc::new(MySqlOutbox::new(MySqlPool::connect(&self.url).await.unwrap()))
    }

    async fn waiting(&self) -> usize {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM chatflow_outbox").fetch_one(&self.pool).await.unwrap();
        count as usize
    }

    async fn run(&self, sql: &str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_lower_number_that_is_committed_later_is_not_passed_over() {
    if can_use::<MariaDb>() {
        passes_over_no_row(&Shop::on_mariadb().await).await;
    }
    if can_use::<MySql>() {
        passes_over_no_row(&Shop::on_mysql().await).await;
    }
}

async fn passes_over_no_row(shop: &Shop) {
    let node = Node::new().await;
    let _forwarder = node.forward(shop.table().await);
    let mut early = shop.pool.begin().await.unwrap();
    MySqlOutbox::publish(&mut early, &node.engine, &room("7"), draft("early")).await.unwrap();
    node.commit(shop, &order("7", ["late"])).await;
    node.until("7", &["late".into()]).await;
    early.commit().await.unwrap();
    node.until("7", &["late".into(), "early".into()]).await;
}
