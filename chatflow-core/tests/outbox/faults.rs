//! A broker and a table that fail on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::broker::{Entry, Event, From, Opening, Profile, Reader, Receipt, Refused, Status};
use chatflow_core::outbox::{OutboxRow, OutboxTable};
use chatflow_core::{Broker, Error, ErrorKind, LogId, Position, Result};
use futures::stream::BoxStream;

/// A broker that is away, refuses now and then, or takes no poison.
#[derive(Debug, Default)]
pub(crate) struct Moody {
    broker: InMemoryBroker,
    pub(crate) away: AtomicBool,
    /// Refuses one of so many; 0 none.
    pub(crate) every: AtomicU64,
    pub(crate) count: AtomicU64,
}

impl Moody {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { broker: InMemoryBroker::new(MemoryBrokerConfig::default()), ..Self::default() })
    }

    fn mood(&self, entry: &Entry) -> Option<Error> {
        let count = self.count.fetch_add(1, SeqCst) + 1;
        let every = self.every.load(SeqCst);
        if self.away.load(SeqCst) {
            return Some(Error::new(ErrorKind::Unavailable, "test", "the broker is away"));
        }
        if every > 0 && count.is_multiple_of(every) {
            return Some(Error::new(ErrorKind::Full, "test", "the log is full"));
        }
        let poison = String::from_utf8_lossy(&entry.bytes).contains("poison");
        poison.then(|| Error::new(ErrorKind::Invalid, "test", "that is poison"))
    }
}

#[async_trait]
impl Broker for Moody {
    fn profile(&self) -> &Profile {
        self.broker.profile()
    }

    async fn open(&self, opening: &Opening) -> Result<()> {
        self.broker.open(opening).await
    }

    fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        match self.mood(&entry) {
            Some(error) => Err(Refused { error, receipt }),
            None => self.broker.submit(entry, receipt),
        }
    }

    async fn read(&self, log: LogId, reader: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>> {
        self.broker.read(log, reader, from).await
    }

    async fn settle(&self, log: LogId, through: Position) -> Result<()> {
        self.broker.settle(log, through).await
    }

    async fn status(&self) -> Status {
        self.broker.status().await
    }

    async fn close(&self) -> Result<()> {
        self.broker.close().await
    }
}

/// A table from which nothing can be removed: as if the forwarder were killed each time just before it does.
#[derive(Debug)]
pub(crate) struct Sticky {
    pub(crate) table: Arc<dyn OutboxTable>,
    pub(crate) tried: AtomicU64,
}

impl Sticky {
    pub(crate) fn new(table: Arc<dyn OutboxTable>) -> Arc<Self> {
        Arc::new(Self { table, tried: AtomicU64::new(0) })
    }
}

#[async_trait]
impl OutboxTable for Sticky {
    async fn lead(&self, holder: &str, lease: Duration) -> Result<bool> {
        self.table.lead(holder, lease).await
    }

    async fn resign(&self, holder: &str) -> Result<()> {
        self.table.resign(holder).await
    }

    async fn first(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        self.table.first(limit).await
    }

    async fn remove(&self, _: &[i64]) -> Result<()> {
        self.tried.fetch_add(1, SeqCst);
        Err(Error::new(ErrorKind::Unavailable, "test", "killed"))
    }

    async fn news(&self) {
        self.table.news().await;
    }
}
