//! Two servers that share a broker and a database.

use std::time::Duration;

use chatflow_testkit::{History, Options, Program, Server, Service, eventually_async};
use sqlx::{Connection, MySqlConnection, PgConnection};

use super::{LEASE, PATIENCE};

/// From the last sign of a writer to the first row of the next: its lease, the time in which a database cuts off who stands still in a
/// commit, and that in which all of this is noticed and read. MySQL knows no transactions that stand still, only connections.
fn taken_over(database: &Service) -> Duration {
    LEASE + Duration::from_secs(if database.name() == "mysql" { 10 } else { 3 }) + Duration::from_secs(2)
}

/// Two servers, their database and their broker.
pub(crate) struct Nodes {
    pub(crate) servers: Vec<Server>,
    pub(crate) database: Service,
    pub(crate) _broker: Service,
}

impl Nodes {
    /// `node1` starts first, so that it writes all logs.
    pub(crate) async fn start(database: impl Program, broker: impl Program) -> Self {
        Self::start_with(database, broker, |options| options).await
    }

    pub(crate) async fn start_with(database: impl Program, broker: impl Program, with: impl Fn(Options) -> Options) -> Self {
        let (database, broker) = (Service::start_new(database).await, Service::start_new(broker).await);
        let options = |n: usize| {
            let options = Options::new().node(format!("node{n}")).broker(broker.url()).store(database.url());
            with(options.set("store.lease", "2s").set("limits.publish_rate_anonymous", 0))
        };
        let servers = vec![Server::start(options(1)), Server::start(options(2))];
        let nodes = Self { servers, database, _broker: broker };
        assert_eq!((nodes.writes(0).await, nodes.writes(1).await), (Some(16), Some(0)));
        nodes
    }

    /// How many logs a server takes into the history; `None` while something is wrong.
    pub(crate) async fn writes(&self, which: usize) -> Option<usize> {
        let ready = self.servers[which].get("/ready").await.json();
        let parts = ready["components"].as_array().unwrap();
        let detail = parts.iter().find(|part| part["name"] == "pipeline").unwrap()["detail"].as_str().unwrap();
        detail.strip_prefix("writing ")?.strip_suffix(" of 16 logs")?.parse().ok()
    }

    pub(crate) async fn has_taken_over(&self, which: usize) {
        let taken = || async { (self.writes(which).await == Some(16)).then_some(()) };
        eventually_async("the other node writes", taken_over(&self.database), taken).await;
    }

    /// The server that writes all logs, once one does and the other stands by.
    pub(crate) async fn who_writes(&self, after: &str) -> usize {
        let settled = || async {
            let written = [self.writes(0).await, self.writes(1).await];
            // After both were killed each may have got some of the logs: that is as good.
            let all = matches!(written, [Some(a), Some(b)] if a + b == 16);
            all.then(|| usize::from(written[0] < written[1]))
        };
        eventually_async(&format!("every log has its writer after {after}"), PATIENCE, settled).await
    }

    pub(crate) async fn histories(&self, rooms: &[String]) -> Vec<History> {
        let mut histories = Vec::new();
        for server in &self.servers {
            histories.push(History::over_http(server.address, rooms, 1_000).await);
        }
        histories
    }

    /// How many rows there are, by what the database itself says.
    pub(crate) async fn rows(&self, which: &str) -> usize {
        let (url, sql) = (self.database.url(), format!("SELECT count(*) FROM chatflow_messages {which}"));
        let count: i64 = if is_postgres(&self.database) {
            sqlx::query_scalar(&sql).fetch_one(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap()
        } else {
            sqlx::query_scalar(&sql).fetch_one(&mut MySqlConnection::connect(&url).await.unwrap()).await.unwrap()
        };
        count.try_into().unwrap()
    }
}

pub(crate) fn is_postgres(database: &Service) -> bool {
    database.url().starts_with("postgres:")
}
