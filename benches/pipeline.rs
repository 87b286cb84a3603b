//! From the broker into the history: messages persisted per second, at several batch sizes.
//!
//! `cargo bench --bench pipeline`. The reference in the same run: the same rows into the same schema by one prepared statement on one
//! connection, all in one transaction, with nothing else to do and the checkpoints not counted.

mod crowd;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::broker::memory::InMemoryBroker;
use chatflow_core::broker::{Broker, Entry, Receipt};
use chatflow_core::store::{MemoryStore, SqliteConfig, SqliteStore};
use chatflow_core::{Engine, Message, MessageId, MessageStore, Settings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::{Connection, params};
use tokio::runtime::Runtime;

/// How many are persisted at a time, over 20 rooms.
const MESSAGES: usize = 20_000;

/// Messages under ids that a client library would make, now.
fn messages() -> Vec<Message> {
    let draft = crowd::draft();
    let rooms: Vec<_> = (0..20).map(crowd::room).collect();
    let one = |i: usize| Message { id: MessageId::now_v7(), ..crowd::accept(&draft, &rooms[i % rooms.len()]) };
    (0..MESSAGES).map(one).collect()
}

/// An engine that takes into `store` what comes into its broker.
struct Pipeline {
    runtime: Runtime,
    broker: Arc<InMemoryBroker>,
    engine: Engine,
}

impl Pipeline {
    fn new(store: Arc<dyn MessageStore>, batch: usize, runtime: Runtime) -> Self {
        let broker = Arc::new(InMemoryBroker::default());
        let mut settings = Settings::default();
        settings.batch_rows = batch;
        let building = Engine::builder().broker(Arc::clone(&broker) as _).store(store).settings(settings).build();
        let engine = runtime.block_on(building).expect("an engine");
        Self { runtime, broker, engine }
    }

    /// How long it takes until the last of them is in the store.
    fn persist(&self, messages: &[Message]) -> Duration {
        let profile = self.broker.profile();
        let entries: Vec<_> = messages.iter().map(|message| Entry::new(profile.log_of(&message.room), message)).collect();
        let until = self.engine.stats().persisted + entries.len() as u64;
        let start = Instant::now();
        for entry in entries {
            self.broker.submit(entry, Receipt::ignored()).expect("there is room");
        }
        self.runtime.block_on(async {
            while self.engine.stats().persisted < until {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        start.elapsed()
    }
}

/// The reference: the schema of the store, and nothing but inserts.
struct Bare(Connection);

impl Bare {
    fn new(path: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        for (name, value) in [("journal_mode", "WAL"), ("synchronous", "FULL"), ("wal_autocheckpoint", "0"), ("cache_size", "-65536")] {
            db.pragma_update(None, name, value)?;
        }
        db.execute_batch(include_str!("../chatflow-core/src/store/sqlite/schema/1.sql"))?;
        Ok(Self(db))
    }

    fn persist(&mut self, messages: &[Message], offset: &mut i64) -> rusqlite::Result<Duration> {
        let start = Instant::now();
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO messages (room, epoch, \"offset\", id, digest, at, sender, kind, node, session, origin, body)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?;
            for Message { id, sender, kind, body, digest, at, node, session, origin, .. } in messages {
                *offset += 1;
                let (sender, kind, node, origin): (&str, &str, &str, &str) = (sender, kind, node, origin);
                let (digest, session, epoch) = (*digest as i64, *session as i64, 1_795_172_530_123i64);
                let (room, id) = (*offset % 20, &id.as_bytes()[..]);
                insert.execute(params![room, epoch, *offset, id, digest, at.0, sender, kind, node, session, origin, &body[..]])?;
            }
        }
        transaction.commit()?;
        let taken = start.elapsed();
        // The log is written from its beginning again, and keeps its length: growing a file costs, and the store's does not grow either.
        self.0.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
        Ok(taken)
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(MESSAGES as u64)).sample_size(10).measurement_time(Duration::from_secs(8));
    let dir = tempfile::tempdir().expect("a temporary folder");
    for batch in [100, 500, 2_000] {
        let runtime = runtime();
        let file = SqliteConfig::new(dir.path().join(format!("{batch}.db")));
        let sqlite = runtime.block_on(SqliteStore::open(file)).expect("a store");
        let pipeline = Pipeline::new(Arc::new(sqlite), batch, runtime);
        group.bench_function(BenchmarkId::new("sqlite", batch), |b| {
            b.iter_custom(|n| (0..n).map(|_| pipeline.persist(&messages())).sum());
        });
        let pipeline = Pipeline::new(Arc::new(MemoryStore::default()), batch, self::runtime());
        group.bench_function(BenchmarkId::new("memory", batch), |b| {
            b.iter_custom(|n| (0..n).map(|_| pipeline.persist(&messages())).sum());
        });
    }
    let (mut bare, mut offset) = (Bare::new(&dir.path().join("bare.db")).expect("a database"), 0);
    group.bench_function("sqlite, reference", |b| {
        b.iter_custom(|n| (0..n).map(|_| bare.persist(&messages(), &mut offset).expect("written")).sum());
    });
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
