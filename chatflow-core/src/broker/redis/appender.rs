//! Gives what waits for a log to Redis, in batches, in order.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};
use redis::{ErrorKind as Kind, RedisResult, ServerErrorKind as Server};

use super::attach::publish;
use super::backlog::Waiting;
use super::batch;
use super::failure::Failure;
use super::link::Link;
use super::log::{Log, unattached};
use super::script::PUBLISH;
use crate::broker::{Entry, Receipt};
use crate::{ErrorKind, Position};

/// The most entries and bytes of a batch.
const BATCH_ENTRIES: usize = 1_024;
const BATCH_BYTES: usize = 128 << 10;
/// Batches on their way at once: while one is with Redis, the next is made.
const FLYING: usize = 2;

/// Why an appender stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The outbox was closed, and everything in it is published.
    Closed,
    /// The log has to be attached again.
    Again(Failure),
}

/// Receipts of a batch that is on its way; whatever becomes of it, its room in the backlog is given back.
struct Flying {
    log: Arc<Log>,
    receipts: Vec<Receipt>,
    bytes: usize,
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.log.backlog.release(self.receipts.len(), self.bytes);
    }
}

impl Flying {
    fn accepted(mut self, epoch: u64, last: u64, waiting: Waiting) {
        let receipts = std::mem::take(&mut self.receipts);
        // First what is known of the log, then who hears of it.
        self.log.backlog.waiting(waiting);
        self.log.backlog.release(receipts.len(), self.bytes);
        self.bytes = 0;
        let first = last - receipts.len() as u64 + 1;
        for (offset, receipt) in (first..).zip(receipts) {
            receipt.accepted(Some(Position::new(epoch, offset.into())));
        }
    }

    fn failed(mut self, failure: &Failure) {
        let receipts = std::mem::take(&mut self.receipts);
        self.log.backlog.release(receipts.len(), self.bytes);
        self.bytes = 0;
        receipts.into_iter().for_each(|receipt| receipt.failed(failure.error()));
    }
}

/// An answer: what became of it, the last offset, what waits.
type Answer = RedisResult<(u8, u64, Vec<u64>)>;

/// Publishes in `epoch` through `link` until there is a reason to stop.
///
/// Batches of one log are on their way two at a time, on one connection, and are never sent again by us. So the order holds: of the
/// batches that Redis takes, each comes after those that were sent before it. One that is refused fails, whatever becomes of the next.
pub(super) async fn append(log: &Arc<Log>, link: &Link, epoch: u64, cluster: bool, most: (usize, usize)) -> Stop {
    let mut flying: FuturesOrdered<BoxFuture<'_, (Flying, Answer)>> = FuturesOrdered::new();
    let mut closed = false;
    let mut again = None;
    loop {
        if flying.is_empty() {
            match again {
                Some(failure) => return Stop::Again(failure),
                None if closed => return Stop::Closed,
                None => {}
            }
        }
        tokio::select! {
            biased;
            Some((batch, answer)) = flying.next(), if !flying.is_empty() => {
                if let Some(failure) = settle(batch, answer, epoch, link) {
                    again.get_or_insert(failure);
                }
            }
            batch = log.outbox.take(BATCH_ENTRIES, BATCH_BYTES), if flying.len() < FLYING && !closed && again.is_none() => {
                let Some(batch) = batch else {
                    closed = true;
                    continue;
                };
                let mut sent = send(log, link, epoch, cluster, most, batch).boxed();
                // The first poll puts it into the connection's queue: here, in order.
                match futures::poll!(&mut sent) {
                    std::task::Poll::Ready(answered) => flying.push_back(futures::future::ready(answered).boxed()),
                    std::task::Poll::Pending => flying.push_back(sent),
                }
            }
        }
    }
}

async fn send(
    log: &Arc<Log>,
    link: &Link,
    epoch: u64,
    cluster: bool,
    (most_entries, most_bytes): (usize, usize),
    batch: Vec<(Entry, Receipt)>,
) -> (Flying, Answer) {
    let joined = batch::join(&batch);
    let flying = Flying { log: Arc::clone(log), bytes: joined.len(), receipts: batch.into_iter().map(|(_, receipt)| receipt).collect() };
    let mut command = PUBLISH.on(&[&log.keys.head, &log.keys.log]);
    command.arg(epoch).arg(flying.receipts.len()).arg(joined).arg(&log.keys.channel).arg(publish(cluster));
    command.arg(most_entries).arg(most_bytes);
    let answer = command.query_async(&mut link.writer()).await;
    (flying, answer)
}

/// Tells the receipts of a batch. A failure for which the log has to be attached again is returned.
fn settle(batch: Flying, answer: Answer, epoch: u64, link: &Link) -> Option<Failure> {
    match answer {
        Ok((0, last, waiting)) => {
            let waiting = <Waiting>::try_from(waiting).unwrap_or_default();
            batch.accepted(epoch, last, waiting);
            None
        }
        Ok((2, _, waiting)) => {
            if let Ok(waiting) = <Waiting>::try_from(waiting) {
                batch.log.backlog.waiting(waiting);
            }
            let text = format!("log {} is full of messages that are not in the history yet", batch.log.id);
            batch.failed(&Failure::new(ErrorKind::Full, text));
            None
        }
        Ok(_) => {
            let failure = unattached();
            batch.failed(&failure);
            Some(failure)
        }
        Err(error) => {
            let failure = link.judge(&error);
            batch.failed(&failure);
            // Memory that is used up, a disk that is full and the like mend without us.
            let stays = matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS")) || error.kind() == Kind::Server(Server::NoPerm);
            (!stays).then_some(failure)
        }
    }
}
