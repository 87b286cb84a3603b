//! A broker of one's own, in less than 100 lines without what shows it: logs in memory, each told to its readers by a watch channel.
//!
//! `cargo run --example custom_broker` runs an engine on it; `tests/custom_broker.rs` holds it against the public suite.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use chatflow_core::broker::{Broker, Delivered, Entry, Event, From, LogId, Opening, Profile, Reader, Receipt, Refused, Status};
use chatflow_core::{Ack, Draft, Engine, Error, ErrorKind, Position, Result, RoomId, Timestamp, kind};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

/// Its entries follow `start`, one offset each. As many as may wait to be settled stay for readers that are behind.
#[derive(Debug, Default)]
struct Log {
    start: Position,
    entries: VecDeque<Delivered>,
    settled: Position,
    closed: bool,
}

impl Log {
    fn tail(&self) -> Position {
        self.entries.back().map_or(self.start, |entry| entry.position)
    }

    fn unsettled(&self) -> usize {
        (self.tail().offset - self.settled.offset) as usize
    }

    /// What a reader that stands at `at` is told next, and where it stands then.
    fn next(&self, at: Position) -> Option<(Vec<Event>, Position)> {
        if at < self.start {
            return Some((vec![Event::Lost { last: at, epoch: self.start.epoch }, Event::Attached(self.start)], self.start));
        }
        let batch: Vec<_> = self.entries.range((at.offset - self.start.offset) as usize..).cloned().collect();
        (!batch.is_empty()).then(|| (vec![Event::Batch(batch)], self.tail()))
    }
}

#[derive(Debug)]
struct WatchBroker {
    profile: Profile,
    logs: Vec<watch::Sender<Log>>,
    most: usize,
}

#[async_trait::async_trait]
impl Broker for WatchBroker {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn open(&self, opening: &Opening) -> Result<()> {
        let start = Position::new(opening.floor.max(Timestamp::now().0 as u64) + 1, 0);
        self.logs.iter().for_each(|log| log.send_modify(|log| *log = Log { start, settled: start, ..Log::default() }));
        Ok(())
    }

    fn submit(&self, Entry { log, bytes, .. }: Entry, receipt: Receipt) -> Result<(), Refused> {
        let mut taken = Err((ErrorKind::Full, "too much waits to be settled"));
        self.logs[usize::from(log.0)].send_if_modified(|log| {
            if log.closed {
                taken = Err((ErrorKind::Closed, "the broker is closed"));
            } else if bytes.len() > self.profile.largest_entry {
                taken = Err((ErrorKind::Invalid, "the entry is too large"));
            } else if log.unsettled() < self.most {
                taken = Ok(log.tail().next());
            }
            log.entries.extend(taken.map(|position| Delivered { position, bytes }));
            taken.is_ok()
        });
        match taken {
            Ok(position) => receipt.accepted(Some(position)),
            Err((kind, why)) => return Err(Refused { error: Error::new(kind, "watch", why), receipt }),
        }
        Ok(())
    }

    async fn read(&self, log: LogId, _: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>> {
        let mut log = self.logs[usize::from(log.0)].subscribe();
        let attach = |log: &Log| from.attach(log.start, log.tail());
        let (at, first) = attach(&log.borrow_and_update());
        let rest = stream::unfold((log, at), |(mut log, at)| async move {
            let (events, at) = log.wait_for(|log| log.closed || log.next(at).is_some()).await.ok()?.next(at)?;
            Some((stream::iter(events), (log, at)))
        });
        Ok(stream::iter(first).chain(rest.flatten()).map(Ok).boxed())
    }

    async fn settle(&self, log: LogId, through: Position) -> Result<()> {
        self.logs[usize::from(log.0)].send_if_modified(|log| {
            log.settled = log.settled.max(through.min(log.tail()));
            let surplus = ((log.settled.offset - log.start.offset) as usize).saturating_sub(self.most);
            if let Some(last) = log.entries.drain(..surplus).last() {
                log.start = last.position;
            }
            false
        });
        Ok(())
    }

    async fn status(&self) -> Status {
        Status::new(true, "in memory, not durable", self.logs.iter().map(|log| log.borrow().unsettled() as u64).collect())
    }

    async fn close(&self) -> Result<()> {
        self.logs.iter().for_each(|log| log.send_modify(|log| log.closed = true));
        Ok(())
    }
}

// The broker ends here.

pub(crate) fn broker(logs: u16, most: usize) -> Arc<dyn Broker> {
    let new = (0..logs).map(|_| watch::Sender::default()).collect();
    Arc::new(WatchBroker { profile: Profile::new("watch", logs), logs: new, most })
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().broker(broker(16, 4_096)).build().await?;
    for text in ["one", "two", "three"] {
        let (sender, name, timestamp) = ("1".into(), "ada".into(), Timestamp::now().to_string().into());
        let draft = Draft { sender, name, timestamp, kind: kind::TEXT, text: text.into(), ..Draft::default() };
        let published = engine.publish(&RoomId::new("lobby")?, draft, Ack::Accepted).await?;
        println!("{text:?} stands at {:?}", published.position.ok_or("without a position")?);
    }
    let health = engine.health().await;
    println!("{:?}", health.components);
    assert!(health.ready);
    // An engine whose broker ends its streams has nothing to wait for.
    tokio::time::timeout(Duration::from_secs(5), engine.shutdown(Duration::from_secs(30))).await?;
    Ok(())
}
