//! A node as a broker's user sees it: publishes, reads, and keeps what it has read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use chatflow_core::broker::redis::{RedisBroker, RedisBrokerConfig};
use chatflow_core::broker::{Completion, Delivered, Entry, Event, From, Reader, Receipt, Refused};
use chatflow_core::{Broker, Error, ErrorKind, LogId, Message, MessageId, Opening, Position, Result, RoomId, Timestamp, kind};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

pub(crate) const LOG: LogId = LogId(0);
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Settings small enough to be reached, under a prefix that nobody else has.
pub(crate) fn config(url: &str) -> RedisBrokerConfig {
    static PREFIXES: AtomicU64 = AtomicU64::new(0);
    let prefix = format!("test{}", PREFIXES.fetch_add(1, Relaxed));
    RedisBrokerConfig::new(url).with_prefix(prefix).with_logs(2).with_backlog(64, 0).with_retain(16)
}

/// An opened broker.
pub(crate) async fn open(config: &RedisBrokerConfig, opening: &Opening) -> Arc<RedisBroker> {
    let broker = RedisBroker::new(config.clone()).unwrap();
    broker.open(opening).await.unwrap();
    Arc::new(broker)
}

struct Told(oneshot::Sender<Result<Option<Position>>>);

impl Completion for Told {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        let _ = self.0.send(Ok(position));
    }

    fn failed(self: Box<Self>, error: Error) {
        let _ = self.0.send(Err(error));
    }
}

pub(crate) fn entry(log: LogId, text: &str) -> Entry {
    let message = Message {
        id: MessageId::now_v7(),
        room: RoomId::new("room").unwrap(),
        sender: "1".into(),
        kind: kind::TEXT,
        body: text.to_owned().into(),
        digest: 1,
        at: Timestamp::now(),
        node: "n".into(),
        session: 0,
        origin: "".into(),
    };
    Entry::new(log, &message)
}

/// Submits, and waits for the outcome.
pub(crate) async fn try_publish(broker: &RedisBroker, text: &str) -> Result<Position> {
    let (tell, told) = oneshot::channel();
    if let Err(Refused { error, .. }) = broker.submit(entry(LOG, text), Receipt::new(Box::new(Told(tell)))) {
        return Err(error);
    }
    let position = timeout(PATIENCE, told).await.expect("told in time").expect("told")?;
    Ok(position.expect("a position"))
}

pub(crate) async fn publish(broker: &RedisBroker, text: &str) -> Position {
    try_publish(broker, text).await.expect("accepted")
}

/// Publishes again until it is accepted.
pub(crate) async fn publish_at_last(broker: &RedisBroker, text: &str) -> Position {
    let tries = async {
        loop {
            match try_publish(broker, text).await {
                Ok(position) => return position,
                Err(error) => assert!(error.is_transient() && error.kind() != ErrorKind::Full, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, tries).await.expect("accepted in time")
}

/// A reader, and what it was told.
pub(crate) struct Tail(BoxStream<'static, Result<Event>>);

impl Tail {
    pub(crate) async fn new(broker: &RedisBroker, reader: Reader, from: From) -> (Self, Position) {
        let mut tail = Self(broker.read(LOG, reader, from).await.unwrap());
        match tail.event().await {
            Event::Attached(position) => (tail, position),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.0.next()).await.expect("an event in time").expect("no end").unwrap()
    }

    /// The next `n` entries, without a loss.
    pub(crate) async fn entries(&mut self, n: usize) -> Vec<Delivered> {
        let mut all = Vec::new();
        while all.len() < n {
            match self.event().await {
                Event::Batch(batch) => all.extend(batch),
                other => panic!("{other:?} after {} of {n} entries", all.len()),
            }
        }
        assert_eq!(all.len(), n);
        all
    }

    pub(crate) async fn texts(&mut self, n: usize) -> Vec<String> {
        texts(&self.entries(n).await)
    }

    /// What was lost, and where reading goes on.
    pub(crate) async fn loss(&mut self) -> (Position, Position) {
        match (self.event().await, self.event().await) {
            (Event::Lost { last, epoch }, Event::Attached(at)) if at.epoch == epoch => (last, at),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn texts(entries: &[Delivered]) -> Vec<String> {
    let body = |entry: &Delivered| Message::decode(entry.bytes.clone()).unwrap().body;
    entries.iter().map(|entry| String::from_utf8(body(entry).to_vec()).unwrap()).collect()
}

/// Waits until it holds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
}
