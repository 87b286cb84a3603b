//! A reader's place in a log: from the feed while it keeps up, from Redis while it does not.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;

use super::batch::Batch;
use super::feed::Heard;
use super::head::{Ahead, Head};
use super::log::{Log, Page};
use super::servers::BACKOFF;
use crate::Position;
use crate::broker::Event;

/// About so many bytes are read from Redis at once.
const PAGE_BYTES: usize = 1 << 20;
/// The fewest and the most batches that are asked for at once; twice as many as before at the most, since they may get larger.
const FEWEST: usize = 8;
const MOST: usize = 128;

/// One reader. A slow one holds nothing but what it reads next.
#[derive(Debug)]
pub(super) struct Tail {
    log: Arc<Log>,
    /// Told, and not taken yet: at most a page.
    events: VecDeque<Event>,
    /// The last entry that was read, or where the reader was attached.
    last: Position,
    /// Where it goes on: the same place, perhaps by the name that it has in a later epoch.
    at: Position,
    /// Redis was asked for everything through this place.
    looked: Position,
    batches: usize,
    failures: u32,
}

impl Tail {
    /// A reader that stands at `at` and is told `events` first.
    pub(super) fn new(log: Arc<Log>, at: Position, events: Vec<Event>) -> Self {
        Self { log, events: events.into(), last: at, at, looked: Position::ZERO, batches: FEWEST, failures: 0 }
    }

    /// The next event; `None` at the end of a broker that was closed.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was not returned is read again.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let log = Arc::clone(&self.log);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            // Listening before looking: what comes in between is not missed.
            let mut news = pin!(log.feed.news());
            news.as_mut().enable();
            match log.feed.after(self.at, self.looked) {
                Heard::Entries(entries) => {
                    if let Some(entry) = entries.last() {
                        (self.last, self.at) = (entry.position, entry.position);
                        return Some(Event::Batch(entries));
                    }
                }
                Heard::Behind(known) => {
                    if self.read(&log, known).await {
                        continue;
                    }
                    if log.feed.is_closed() {
                        return None;
                    }
                    // The link is away or the log is not attached again yet: its keeper will say so, or the next try.
                    self.failures = self.failures.saturating_add(1);
                    tokio::select! {
                        () = news => {}
                        () = tokio::time::sleep(BACKOFF.ceiling(self.failures)) => {}
                    }
                    continue;
                }
                Heard::Ended => return None,
                Heard::Nothing => {}
            }
            news.await;
        }
    }

    /// Reads a page of what is there through `known`. Whether Redis answered.
    async fn read(&mut self, log: &Log, known: Position) -> bool {
        let Some(link) = log.link() else { return false };
        match log.page(&link, self.at, self.batches).await {
            Ok(page) => {
                self.failures = 0;
                self.take(page, known);
                true
            }
            Err(failure) => {
                tracing::debug!(log = log.id.0, %failure, "the log can't be read just now");
                false
            }
        }
    }

    fn take(&mut self, (head, batches): Page, known: Position) {
        match head.go_on(self.at) {
            Ok((at, false)) => self.at = at,
            Ok((at, true)) => self.lost(at),
            Err(Ahead) => {
                self.looked = known;
                return self.log.doubt(self.at);
            }
        }
        let asked = std::mem::replace(&mut self.batches, FEWEST);
        let (found, mut size) = (batches.len(), 0);
        let mut entries = Vec::new();
        for (id, mut fields) in batches {
            // A batch: its entries under "b", and how many bytes there were through it.
            let joined = if fields.len() > 1 { Bytes::from(fields.swap_remove(1)) } else { Bytes::new() };
            size += joined.len();
            let Some(batch) = Batch::kept(&id, joined) else {
                tracing::warn!(log = self.log.id.0, id, "something that is no batch stands in the log");
                continue;
            };
            if batch.last() <= self.at {
                continue;
            }
            let joins = batch.epoch == self.at.epoch && batch.before() <= self.at || head.same(self.at, batch.before());
            if !joins {
                self.flush(&mut entries);
                self.lost(batch.before());
            }
            entries.extend(batch.after(self.at));
            self.at = batch.last();
        }
        self.flush(&mut entries);
        if found < asked {
            // That was all, and should be the tail. What is missing was taken away by somebody else.
            if !head.same(self.at, head.tail()) {
                self.lost(head.tail());
            }
            self.at = self.at.max(head.tail());
            self.looked = known;
        } else {
            self.batches = (PAGE_BYTES / (size / found.max(1)).max(1)).clamp(FEWEST, MOST.min(2 * asked));
        }
    }

    fn flush(&mut self, entries: &mut Vec<crate::broker::Delivered>) {
        if let Some(entry) = entries.last() {
            self.last = entry.position;
            self.events.push_back(Event::Batch(std::mem::take(entries)));
        }
    }

    fn lost(&mut self, at: Position) {
        self.events.push_back(Event::Lost { last: self.last, epoch: at.epoch });
        self.events.push_back(Event::Attached(at));
        (self.last, self.at) = (at, at);
    }
}

/// Where a log is; for a reader that starts.
pub(super) async fn head(log: &Log) -> Result<Head, super::failure::Failure> {
    let away = || super::failure::Failure::new(crate::ErrorKind::Unavailable, format!("log {} is away just now", log.id));
    let link = log.link().ok_or_else(away)?;
    log.page(&link, Position::ZERO, 0).await.map(|(head, _)| head)
}
