//! The broker within the process: bounded logs, nothing more durable than memory.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Broker, Delivered, Entry, Event, From, LogId, Opening, Profile, Reader, Receipt, Refused, Status};
use crate::{Error, ErrorKind, Position, Result, Timestamp};

/// The bounds of an [`InMemoryBroker`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBrokerConfig {
    /// How many logs. Default 16.
    pub logs: u16,
    /// Entries of one log that may wait for the history. Default 65,536.
    pub entries: usize,
    /// Bytes of one log that may wait for the history. Default 32 MiB.
    pub bytes: usize,
    /// Settled entries of one log that are kept for readers that rewind. Default 256.
    pub retain: usize,
}

impl Default for MemoryBrokerConfig {
    fn default() -> Self {
        Self { logs: 16, entries: 65_536, bytes: 32 << 20, retain: 256 }
    }
}

/// The most entries and bytes in one [`Event::Batch`].
const BATCH_ENTRIES: usize = 2_048;
const BATCH_BYTES: usize = 1 << 20;

/// A [`Broker`] in this process's memory, for one node.
///
/// It is volatile: acknowledge nothing before the store has it. Every life of it is a new epoch, so a position is never
/// given to two messages.
#[derive(Debug)]
pub struct InMemoryBroker {
    profile: Profile,
    logs: Vec<Arc<Log>>,
}

#[derive(Debug)]
struct Log {
    /// Held for a handful of instructions, or while a batch of references is copied; never across a wait.
    state: Mutex<State>,
    news: Notify,
    limits: MemoryBrokerConfig,
}

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    /// The entries `base..base + ring.len()`; the first entry of a log has offset 1.
    ring: VecDeque<Bytes>,
    base: u64,
    settled: u64,
    /// Bytes of the entries after `settled`.
    waiting: usize,
    /// How far each attached reader has read; entries are kept for them.
    readers: HashMap<u64, u64>,
    next_reader: u64,
    closed: bool,
}

impl State {
    fn tail(&self) -> u64 {
        self.base + self.ring.len() as u64 - 1
    }

    fn position(&self, offset: u64) -> Position {
        Position::new(self.epoch, offset.into())
    }

    /// Lets go of what is settled, read by all, and not among the last few.
    fn trim(&mut self, limits: &MemoryBrokerConfig) {
        let read = self.readers.values().copied().min().unwrap_or(u64::MAX);
        // A reader that stands still must not hold everything: it will be told that it lost some.
        let patience = self.tail().saturating_sub(2 * limits.entries as u64);
        let through = self.settled.min(read.max(patience));
        while self.base <= through && self.ring.len() > limits.retain {
            self.ring.pop_front();
            self.base += 1;
        }
    }
}

impl InMemoryBroker {
    /// A broker with these bounds.
    pub fn new(config: MemoryBrokerConfig) -> Self {
        let log = || {
            let state = State { base: 1, ..State::default() };
            Arc::new(Log { state: Mutex::new(state), news: Notify::new(), limits: config.clone() })
        };
        Self { profile: Profile::new("memory", config.logs.max(1)), logs: (0..config.logs.max(1)).map(|_| log()).collect() }
    }

    fn log(&self, log: LogId) -> Result<&Arc<Log>> {
        let missing = || Error::new(ErrorKind::NotFound, "broker", format!("there is no log {log}"));
        self.logs.get(usize::from(log.0)).ok_or_else(missing)
    }
}

impl Default for InMemoryBroker {
    fn default() -> Self {
        Self::new(MemoryBrokerConfig::default())
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "broker", "the broker was closed")
}

#[async_trait]
impl Broker for InMemoryBroker {
    fn profile(&self) -> &Profile {
        &self.profile
    }

    async fn open(&self, opening: &Opening) -> Result<()> {
        let epoch = u64::try_from(Timestamp::now().0).unwrap_or_default().max(opening.floor + 1);
        for log in &self.logs {
            log.state.lock().epoch = epoch;
        }
        Ok(())
    }

    fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        let log = match self.log(entry.log) {
            Ok(log) => log,
            Err(error) => return Err(Refused { error, receipt }),
        };
        if entry.bytes.len() > self.profile.largest_entry {
            let error = Error::new(ErrorKind::Invalid, "broker", format!("an entry has at most {} bytes", self.profile.largest_entry));
            return Err(Refused { error, receipt });
        }
        {
            let mut state = log.state.lock();
            let unsettled = state.tail() - state.settled;
            if state.closed {
                return Err(Refused { error: closed(), receipt });
            }
            if unsettled >= log.limits.entries as u64 || state.waiting + entry.bytes.len() > log.limits.bytes {
                let error = Error::new(
                    ErrorKind::Full,
                    "broker",
                    format!("log {} holds {unsettled} messages that are not in the history yet", entry.log),
                );
                return Err(Refused { error, receipt });
            }
            state.waiting += entry.bytes.len();
            state.ring.push_back(entry.bytes);
            let position = state.position(state.tail());
            // Told under the lock, so that nobody hears of the entry's fate before its sender's side has its place.
            receipt.accepted(Some(position));
        }
        log.news.notify_waiters();
        Ok(())
    }

    async fn read(&self, log: LogId, _reader: Reader, from: From) -> Result<BoxStream<'static, Result<Event>>> {
        let log = Arc::clone(self.log(log)?);
        let (first, tail) = {
            let mut state = log.state.lock();
            if state.closed {
                return Err(closed());
            }
            let (at, first) = from.attach(state.position(state.base - 1), state.position(state.tail()));
            // An offset of this log's own, so it fits.
            let at = at.offset as u64;
            let id = state.next_reader;
            state.next_reader += 1;
            state.readers.insert(id, at);
            (first, Tail { log: Arc::clone(&log), id, at, resumes: false })
        };
        let rest = stream::unfold(tail, |mut tail| async move { tail.next().await.map(|event| (event, tail)) });
        Ok(stream::iter(first).chain(rest).map(Ok).boxed())
    }

    async fn settle(&self, log: LogId, through: Position) -> Result<()> {
        let log = self.log(log)?;
        let mut state = log.state.lock();
        if through.epoch != state.epoch {
            return Ok(());
        }
        let through = u64::try_from(through.offset).unwrap_or(u64::MAX).min(state.tail());
        while state.settled < through {
            state.settled += 1;
            let index = state.settled.checked_sub(state.base);
            let bytes = index.and_then(|i| state.ring.get(i as usize)).map_or(0, Bytes::len);
            state.waiting -= bytes;
        }
        state.trim(&log.limits);
        Ok(())
    }

    async fn status(&self) -> Status {
        let states = self.logs.iter().map(|log| log.state.lock());
        let (depths, closed): (Vec<u64>, Vec<bool>) = states.map(|s| (s.tail() - s.settled, s.closed)).unzip();
        Status { healthy: !closed.contains(&true), detail: "in memory, not durable".into(), depths }
    }

    async fn close(&self) -> Result<()> {
        for log in &self.logs {
            log.state.lock().closed = true;
            log.news.notify_waiters();
        }
        Ok(())
    }
}

/// One reader's place in a log.
struct Tail {
    log: Arc<Log>,
    id: u64,
    at: u64,
    /// It was told that it lost something, and not yet where it goes on.
    resumes: bool,
}

impl Tail {
    async fn next(&mut self) -> Option<Event> {
        let log = Arc::clone(&self.log);
        loop {
            // Listening before looking: an entry that comes in between is not missed.
            let mut news = pin!(log.news.notified());
            news.as_mut().enable();
            {
                let mut state = log.state.lock();
                if let Some(event) = self.take(&mut state) {
                    state.readers.insert(self.id, self.at);
                    state.trim(&log.limits);
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            news.await;
        }
    }

    fn take(&mut self, state: &mut State) -> Option<Event> {
        let oldest = state.base - 1;
        if std::mem::take(&mut self.resumes) {
            return Some(Event::Attached(state.position(self.at)));
        }
        if self.at < oldest {
            let last = state.position(self.at);
            (self.at, self.resumes) = (oldest, true);
            return Some(Event::Lost { last, epoch: state.epoch });
        }
        let mut bytes = 0;
        let fits = |entry: &&Bytes| {
            bytes += entry.len();
            bytes <= BATCH_BYTES || bytes == entry.len()
        };
        let fresh = state.ring.iter().skip((self.at - oldest) as usize).take(BATCH_ENTRIES).take_while(fits);
        let batch: Vec<_> = (self.at + 1..)
            .zip(fresh)
            .map(|(offset, bytes)| Delivered { position: state.position(offset), bytes: bytes.clone() })
            .collect();
        self.at += batch.len() as u64;
        (!batch.is_empty()).then_some(Event::Batch(batch))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut state = self.log.state.lock();
        state.readers.remove(&self.id);
        state.trim(&self.log.limits);
    }
}
