//! Writing the history, as the pipeline does, and counting its summaries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::analytics::Minutes;
use chatflow_core::broker::Broker;
use chatflow_core::broker::memory::InMemoryBroker;
use chatflow_core::store::{DatabaseConfig, Lease, MySqlStore, PostgresStore, SUMMARIES, SqliteConfig, SqliteStore};
use chatflow_core::{LogId, MessageStore, NodeId, Position, Stored};
use futures::future::join_all;

use crate::history::History;

/// Messages that are committed together, over all logs.
const TOGETHER: u64 = 32_000;

/// The store at a URL, as the server opens it.
pub(crate) async fn open(url: &str) -> Arc<dyn MessageStore> {
    match url.split(':').next() {
        Some("postgres") => Arc::new(PostgresStore::open(DatabaseConfig::new(url)).await.unwrap()),
        Some("mysql") => Arc::new(MySqlStore::open(DatabaseConfig::new(url)).await.unwrap()),
        _ => Arc::new(SqliteStore::open(SqliteConfig::new(url.trim_start_matches("sqlite:"))).await.unwrap()),
    }
}

/// Fills the store at `url` until it has so many messages, counts them, and lets go of it.
pub(crate) async fn fill(url: &str, history: &mut History, rows: u64) {
    let store = open(url).await;
    let node = NodeId::from_static("filler");
    count(&*store, &node).await;
    let rooms = store.analytics().unwrap().top_rooms(Minutes::default(), 1_000).await.unwrap();
    history.rows = rooms.value.iter().map(|(_, n)| n).sum();
    write(&*store, &node, history, rows).await;
    count(&*store, &node).await;
    store.close().await.unwrap();
}

async fn write(store: &dyn MessageStore, node: &NodeId, history: &mut History, rows: u64) {
    let profile = InMemoryBroker::default().profile().clone();
    let mut leases = Vec::new();
    for log in (0..profile.logs).map(LogId) {
        leases.push(store.claim(log, node).await.unwrap());
    }
    let mut progress = Progress::new("rows written", history.rows);
    while history.rows < rows {
        let until = rows.min(history.rows + TOGETHER);
        let mut batches: BTreeMap<LogId, Vec<Stored>> = BTreeMap::new();
        for row in history.rows..until {
            let message = history.message(row);
            let log = profile.log_of(&message.room);
            let batch = batches.entry(log).or_default();
            let last = batch.last().map_or(leases[usize::from(log.0)].through, |stored| stored.position);
            batch.push(Stored { position: Position::new(last.epoch.max(1), last.offset + 1), message });
        }
        let commits = batches.iter().map(async |(log, batch)| {
            let (lease, through) = (&leases[usize::from(log.0)], batch.last().unwrap().position);
            assert_eq!(store.commit(lease, batch, through).await.unwrap(), []);
            lease.at(through)
        });
        let committed: Vec<Lease> = join_all(commits).await;
        for lease in committed {
            let log = usize::from(lease.log.0);
            leases[log] = lease;
        }
        history.rows = until;
        progress.tell(until);
    }
    progress.end(history.rows);
    for lease in &leases {
        store.release(lease).await.unwrap();
    }
}

/// Counts the summaries to the end.
async fn count(store: &dyn MessageStore, node: &NodeId) {
    let projections = store.projections().unwrap();
    let lease = store.claim(SUMMARIES, node).await.unwrap();
    let (mut progress, mut turns) = (Progress::new("turns of counting", 0), 0);
    let mut renewed = Instant::now();
    while projections.project(&lease, usize::MAX).await.unwrap() {
        if renewed.elapsed() > Duration::from_secs(3) {
            store.renew(&lease).await.unwrap();
            renewed = Instant::now();
        }
        turns += 1;
        progress.tell(turns);
    }
    progress.end(turns);
    store.release(&lease).await.unwrap();
}

/// How far something is, on the error output, every few seconds.
struct Progress {
    what: &'static str,
    begun: Instant,
    from: u64,
    told: Instant,
}

impl Progress {
    fn new(what: &'static str, from: u64) -> Self {
        let now = Instant::now();
        Self { what, begun: now, from, told: now }
    }

    fn tell(&mut self, now: u64) {
        if self.told.elapsed() > Duration::from_secs(5) {
            self.told = Instant::now();
            eprintln!("{now} {}", self.what);
        }
    }

    fn end(&self, now: u64) {
        if now > self.from {
            let took = self.begun.elapsed().as_secs_f64();
            eprintln!("{now} {}: {took:.1} s, {:.0} a second", self.what, (now - self.from) as f64 / took);
        }
    }
}
