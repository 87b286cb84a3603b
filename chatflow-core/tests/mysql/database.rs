//! A database of a test's own, in a server that all tests of this program share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use chatflow_testkit::Service;
use sqlx::{Connection, MySqlConnection};
use tokio::sync::OnceCell;

use crate::Server;

/// A new, empty database.
pub(crate) struct Database {
    pub(crate) name: String,
    server: &'static Service,
}

impl Database {
    pub(crate) async fn new() -> Self {
        static SERVER: OnceCell<Service> = OnceCell::const_new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let server = SERVER.get_or_init(|| Service::start_new(Server::new())).await;
        let name = format!("test{}", COUNT.fetch_add(1, Relaxed));
        run(&server.url(), &format!("CREATE DATABASE {name}")).await;
        Self { name, server }
    }

    pub(crate) fn url(&self) -> String {
        in_database(&self.server.url(), &self.name)
    }

    /// The same as somebody else sees it.
    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        self.url().replace("chatflow:secret@", &format!("{user}:{password}@"))
    }

    /// Does something behind the store's back.
    pub(crate) async fn run(&self, sql: &str) {
        run(&self.url(), sql).await;
    }
}

pub(crate) fn in_database(url: &str, name: &str) -> String {
    format!("{}/{name}", url.rsplit_once('/').unwrap().0)
}

pub(crate) async fn run(url: &str, sql: &str) {
    let mut db = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut db).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    db.close().await.unwrap();
}
