//! The writer: takes one log into the store, in log order, batch by batch.

mod marks;
mod removal;
mod standby;
mod under_way;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

pub(crate) use self::marks::{Marks, look};
pub(crate) use self::removal::{Removal, Removing};
use self::under_way::{Batch, UnderWay};
use crate::answers::{Answers, Fate};
use crate::broker::{Broker, Delivered, Event, From, Reader};
use crate::notice::Notice;
use crate::relay::{Committed, Reach};
use crate::stats::Counters;
use crate::store::{DeadLetter, DeadLetters, Lease, MessageStore, Stored, batch};
use crate::{Error, ErrorKind, Exception, LogId, Message, MessageId, NodeId, Position, Result, RoomId, Timestamp};

/// How often an idle writer renews its lease.
const RENEW: Duration = Duration::from_secs(3);
/// Waits between tries while a backend is away: doubled from the first to the last, so that a writer is back well
/// within the five seconds that are promised.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What others see of a writer.
#[derive(Debug)]
pub(crate) struct Progress {
    healthy: AtomicBool,
    /// What this node writes under, while it does, and how far that is known to be in the store.
    lease: Mutex<Option<Lease>>,
    trouble: Mutex<String>,
    writing: Mutex<Vec<Arc<[Stored]>>>,
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { healthy: AtomicBool::new(true), lease: Mutex::default(), trouble: Mutex::default(), writing: Mutex::default() })
    }

    /// What keeps the writer from writing, if anything does.
    pub(crate) fn trouble(&self) -> Option<String> {
        (!self.healthy.load(Relaxed)).then(|| self.trouble.lock().clone())
    }

    /// Whether this node writes the log; if not, another one does that shares the store.
    pub(crate) fn writes(&self) -> bool {
        self.lease.lock().is_some()
    }

    /// The lease under which this node writes the log, as far as commits have returned.
    fn lease(&self) -> Option<Lease> {
        self.lease.lock().clone()
    }

    /// How many messages of `room` are being written.
    pub(crate) fn writing(&self, room: &RoomId) -> u64 {
        let batches = self.writing.lock().clone();
        batches.iter().flat_map(|rows| rows.iter()).filter(|stored| stored.message.room == *room).count() as u64
    }

    fn fails(&self, error: &Error) {
        *self.trouble.lock() = error.to_string();
        self.healthy.store(false, Relaxed);
    }

    fn works(&self) {
        self.healthy.store(true, Relaxed);
    }
}

/// Takes one log into the store, under a lease.
///
/// The store's cursor is the only one: whatever happens between a commit and the broker's settling is read again and
/// found to be there.
pub(crate) struct Pipeline {
    pub(crate) log: LogId,
    pub(crate) node: NodeId,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) store: Arc<dyn MessageStore>,
    pub(crate) dead_letters: Arc<dyn DeadLetters>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) news: mpsc::Sender<Committed>,
    /// Whether this node takes its turn where nodes share the store.
    pub(crate) writes: bool,
    /// How far the logs are that other nodes write.
    pub(crate) marks: Arc<watch::Sender<Marks>>,
    pub(crate) reach: watch::Receiver<Reach>,
    pub(crate) answers: Arc<Answers>,
    /// How far the log is in the history, as the relay was told.
    pub(crate) told: Position,
    pub(crate) batch_rows: usize,
    pub(crate) batch_bytes: usize,
}

impl Pipeline {
    /// Runs until the broker is closed and everything it held is written. `claimed` is told of the first claim.
    pub(crate) async fn run(mut self, claimed: oneshot::Sender<Result<()>>) {
        let mut lease = match self.claim().await {
            Ok(lease) => lease,
            Err(error) if batch::is_held(&error) => {
                let text = format!("{error}: nodes that share a history need a broker that they share as well");
                return drop(claimed.send(Err(Error::new(ErrorKind::Config, "engine", text))));
            }
            Err(error) => return drop(claimed.send(Err(error))),
        };
        if claimed.send(Ok(())).is_err() {
            return;
        }
        let lease = loop {
            let held = match lease {
                Some(lease) => lease,
                None => match self.stand_by().await {
                    Some(lease) => lease,
                    None => return,
                },
            };
            *self.progress.lease.lock() = Some(held.clone());
            let outcome = self.write(&held).await;
            *self.progress.lease.lock() = None;
            self.progress.writing.lock().clear();
            match outcome {
                Ok(()) => break held,
                Err(error) if error.kind() == ErrorKind::Fenced && self.takes_turns() => {
                    tracing::warn!(log = self.log.0, "another node has taken over the writing of the log");
                    lease = None;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(log = self.log.0, %error, "the writer starts again");
                    self.progress.fails(&error);
                }
            }
            sleep(LAST_WAIT).await;
            lease = self.persist("claiming the log", || self.claim()).await;
        };
        if let Err(error) = self.store.release(&lease).await {
            tracing::debug!(log = self.log.0, %error, "the lease was not given back; it runs out by itself");
        }
    }

    /// Reads and writes under one lease, until the log ends (`Ok`) or has to be claimed or read again.
    async fn write(&mut self, lease: &Lease) -> Result<()> {
        if !self.pass_on_before(lease).await? {
            return Ok(());
        }
        let from = if lease.through == Position::ZERO { From::Oldest } else { From::After(lease.through) };
        let mut events = match self.broker.read(self.log, Reader::History, from).await {
            Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
            events => events?,
        };
        self.progress.works();
        let shared = self.broker.profile().shared;
        let mut lost = false;
        let every = self.store.shared().map_or(RENEW, |shared| shared.lease() / 4).min(RENEW);
        let mut renew = Instant::now() + every;
        let mut under_way = UnderWay::new(lease, self.store.commits_under_way());
        let mut read = self.told;
        loop {
            while under_way.has_room()
                && let Some(batch) = self.next_batch(&mut under_way, &mut read).await
            {
                under_way.start(&self.store, batch).await;
                *self.progress.writing.lock() = under_way.rows();
            }
            // With no room nothing more is read: what comes meanwhile makes the next batch the bigger.
            let event = tokio::select! {
                biased;
                outcome = under_way.outcome(), if !under_way.is_empty() => {
                    if !self.conclude(&mut under_way, outcome).await? {
                        return Ok(());
                    }
                    continue;
                }
                event = events.next(), if under_way.has_room() => event,
                // A commit renews the lease itself, and holds what a renewal would wait for.
                () = tokio::time::sleep_until(renew), if under_way.is_empty() => {
                    self.store.renew(lease).await?;
                    renew = Instant::now() + every;
                    continue;
                }
            };
            if let Some(Ok(Event::Batch(batch))) = event {
                under_way.unread = batch.into_iter().peekable();
                continue;
            }
            // Whatever it is, it comes after what was read before it.
            while !under_way.is_empty() {
                let outcome = under_way.outcome().await;
                if !self.conclude(&mut under_way, outcome).await? {
                    return Ok(());
                }
            }
            match event {
                None => return Ok(()),
                Some(Err(error)) => return Err(error),
                Some(Ok(Event::Batch(_))) => {}
                Some(Ok(Event::Attached(position))) if shared && lost => {
                    lost = false;
                    let lease = under_way.lease();
                    self.retry("passing over what was lost", || self.store.skip(lease, position)).await?;
                    under_way.is_at(position);
                    self.told = self.told.max(position);
                    read = self.told;
                    let news = Committed { through: self.told, lost: Some(position), fates: Some(Vec::new()) };
                    if self.news.send(news).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Ok(Event::Attached(position))) if position > under_way.lease().through => {
                    // Nothing stands between the history and where the log begins: say so, or whoever comes back to a room in which
                    // nothing was said since could not be told that it missed nothing.
                    let lease = under_way.lease();
                    self.retry("committing", || self.store.commit(lease, &[], position)).await?;
                    under_way.is_at(position);
                    (self.told, read) = (position, position);
                }
                Some(Ok(Event::Attached(_))) => {}
                Some(Ok(Event::Lost { last, epoch })) => {
                    // A log that is this node's alone is new with each start, and nobody has seen what was not in the history.
                    if shared {
                        tracing::error!(log = self.log.0, %last, epoch, "the log lost entries before the history had them");
                    }
                    lost = true;
                }
            }
        }
    }

    /// The next bounded batch of what was read, which is known up to `read`.
    async fn next_batch(&self, under_way: &mut UnderWay, read: &mut Position) -> Option<Batch> {
        let entries = &mut under_way.unread;
        // An epoch ends where its last entry does: whatever else some node has seen of it was lost with the log.
        let epoch = entries.peek()?.position.epoch;
        let lost = (epoch > read.epoch).then_some(Position::new(epoch, 0));
        let (mut rows, mut bytes, mut fates) = (Vec::new(), 0, Vec::new());
        while rows.len() < self.batch_rows && bytes < self.batch_bytes {
            let Some(Delivered { position, bytes: entry }) = entries.next_if(|entry| entry.position.epoch == epoch) else { break };
            *read = position;
            bytes += entry.len();
            if Notice::is(&entry) {
                continue;
            }
            match Message::decode(entry.clone()) {
                Ok(message) => rows.push(Stored { position, message }),
                Err(error) => {
                    self.bury(position, MessageId::nil(), None, &error, entry).await;
                    fates.push((position, Fate::Dead));
                }
            }
        }
        Some(Batch { rows: rows.into(), begun: Instant::now(), through: *read, lost, fates })
    }

    /// Sees to it that the oldest batch is written, and tells everybody. False when nobody listens any more.
    async fn conclude(&mut self, under_way: &mut UnderWay, outcome: Result<Vec<(usize, Exception)>>) -> Result<bool> {
        let Some((Batch { rows, begun, through, lost, mut fates }, lease)) = under_way.take() else { return Ok(true) };
        match outcome {
            Ok(exceptions) => self.committed(&rows, begun, exceptions, &mut fates),
            Err(error) => {
                // None of those that follow it can be written before it.
                under_way.stop();
                if error.is_transient() {
                    self.failed("committing", &error, FIRST_WAIT);
                    sleep(FIRST_WAIT).await;
                }
                self.commit(&lease, &rows, through, &mut fates).await?;
                under_way.start_again(&self.store).await;
            }
        }
        *self.progress.writing.lock() = under_way.rows();
        *self.progress.lease.lock() = Some(lease.at(through));
        self.told = through;
        fates.sort_by_key(|(position, _)| *position);
        // Waiting here for a relay that is behind is what bounds the news.
        if self.news.send(Committed { through, lost, fates: Some(fates) }).await.is_err() {
            return Ok(false);
        }
        if let Err(error) = self.broker.settle(self.log, through).await {
            tracing::debug!(log = self.log.0, %error, "settling failed; a later position will do");
        }
        Ok(true)
    }

    fn committed(&self, rows: &[Stored], begun: Instant, exceptions: Vec<(usize, Exception)>, fates: &mut Vec<(Position, Fate)>) {
        self.progress.works();
        self.counters.commits.add(1);
        self.counters.commit_us.add(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        let met = exceptions.into_iter().map(|(i, exception)| (rows[i].position, exception));
        // A row that the store has at this very position is the answer to a commit whose answer was lost, or not waited for.
        let before = fates.len();
        fates.extend(met.filter(|(position, e)| !is_at(e, *position)).map(|(position, e)| (position, Fate::Excepted(e))));
        self.counters.persisted.add((rows.len() - (fates.len() - before)) as u64);
    }

    fn failed(&self, what: &str, error: &Error, wait: Duration) {
        self.counters.commit_failures.add(1);
        self.progress.fails(error);
        tracing::warn!(log = self.log.0, %error, "{what} failed; trying again in {wait:?}");
    }

    /// Commits `rows`, halving what the store will never take until the poison stands alone. The halves are written in order, so
    /// the watermark never passes a row that is not there.
    async fn commit(&self, lease: &Lease, rows: &[Stored], through: Position, fates: &mut Vec<(Position, Fate)>) -> Result<()> {
        let mut parts = vec![(rows, through)];
        while let Some((rows, through)) = parts.pop() {
            let begun = Instant::now();
            match self.retry("committing", || self.store.commit(lease, rows, through)).await {
                Ok(exceptions) => self.committed(rows, begun, exceptions, fates),
                Err(error) if error.kind() == ErrorKind::Invalid && !rows.is_empty() => match rows {
                    [Stored { position, message }] => {
                        self.bury(*position, message.id, Some(message.room.clone()), &error, message.encode()).await;
                        fates.push((*position, Fate::Dead));
                        // The watermark goes on without the row.
                        parts.push((&[], through));
                    }
                    _ => {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        parts.push((second, through));
                        parts.push((first, first[first.len() - 1].position));
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Puts an entry aside for good, before the watermark passes it.
    async fn bury(&self, position: Position, id: MessageId, room: Option<RoomId>, error: &Error, entry: bytes::Bytes) {
        tracing::error!(log = self.log.0, %position, %id, %error, "a message can't be stored: it becomes a dead letter");
        let letter = DeadLetter { log: self.log, position, id, room, at: Timestamp::now(), reason: error.to_string(), entry };
        self.persist("keeping a dead letter", || self.dead_letters.put(std::slice::from_ref(&letter))).await;
        self.counters.dead_letters.add(1);
    }

    /// Tries until it succeeds, or fails for a reason that time does not mend.
    async fn retry<T, F: Future<Output = Result<T>>>(&self, what: &str, call: impl Fn() -> F) -> Result<T> {
        let mut wait = FIRST_WAIT;
        loop {
            match call().await {
                Ok(value) => {
                    self.progress.works();
                    return Ok(value);
                }
                Err(error) if error.is_transient() => self.failed(what, &error, wait),
                Err(error) => return Err(error),
            }
            sleep(wait).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Tries until it succeeds, whatever the failure.
    async fn persist<T, F: Future<Output = Result<T>>>(&self, what: &str, call: impl Fn() -> F) -> T {
        loop {
            match self.retry(what, &call).await {
                Ok(value) => return value,
                Err(error) => {
                    self.progress.fails(&error);
                    tracing::error!(log = self.log.0, %error, "{what} failed; trying again in {LAST_WAIT:?}");
                }
            }
            sleep(LAST_WAIT).await;
        }
    }
}

fn is_at(exception: &Exception, position: Position) -> bool {
    matches!(exception, Exception::Repeat { first } if *first == position)
}
