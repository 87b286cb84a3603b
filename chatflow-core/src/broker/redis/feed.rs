//! The end of a log as this node hears it: a bounded ring of the latest batches that all its readers share.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::batch::Batch;
use super::head::Head;
use crate::Position;
use crate::broker::Delivered;

/// Bytes of the latest batches that a log keeps. A reader that is further behind reads from Redis.
const RING_BYTES: usize = 2 << 20;
/// The most entries and bytes of one event.
const EVENT_ENTRIES: usize = 2_048;
const EVENT_BYTES: usize = 1 << 20;

/// What is heard of a log's end.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Held for a handful of instructions, or while references are copied; never across a wait.
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Batches of one epoch without a hole, from after `base` through `end`.
    ring: VecDeque<Batch>,
    size: usize,
    base: Position,
    end: Position,
    /// The furthest place of which this node has heard.
    known: Position,
    closed: bool,
}

/// What a feed has for a reader.
#[derive(Debug)]
pub(super) enum Heard {
    /// The next entries.
    Entries(Vec<Delivered>),
    /// There is something through this place that the ring does not have.
    Behind(Position),
    /// Nothing yet.
    Nothing,
    /// Nothing, and nothing will come.
    Ended,
}

impl Feed {
    /// A batch came over the channel. Channels lose, and may repeat what was read already: only the numbers count.
    pub(super) fn tell(&self, batch: Batch) {
        {
            let mut state = self.state.lock();
            if batch.last() <= state.end || state.closed {
                return;
            }
            if batch.before() != state.end {
                state.clear(batch.before());
            }
            state.end = batch.last();
            state.known = state.known.max(state.end);
            state.size += batch.size();
            state.ring.push_back(batch);
            while state.size > RING_BYTES && state.ring.len() > 1 {
                let Some(oldest) = state.ring.pop_front() else { break };
                state.size -= oldest.size();
                state.base = oldest.last();
            }
        }
        self.news.notify_waiters();
    }

    /// The node is attached to the log, whose channel it heard before it looked.
    pub(super) fn attach(&self, head: &Head) {
        {
            let mut state = self.state.lock();
            if state.end.epoch != head.epoch {
                state.clear(head.tail());
            }
            state.known = state.known.max(head.tail());
        }
        self.news.notify_waiters();
    }

    /// Somebody has heard of a place.
    pub(super) fn know(&self, place: Position) {
        {
            let mut state = self.state.lock();
            if place <= state.known {
                return;
            }
            state.known = place;
        }
        self.news.notify_waiters();
    }

    /// The furthest place of which this node has heard.
    pub(super) fn known(&self) -> Position {
        self.state.lock().known
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.news.notify_waiters();
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Done at the next news. To be enabled before [`after`](Self::after) is asked, so that nothing is missed in between.
    pub(super) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// What follows `at` for a reader that has looked in Redis for everything through `looked`.
    pub(super) fn after(&self, at: Position, looked: Position) -> Heard {
        let state = self.state.lock();
        if at >= state.base && at < state.end {
            let first = state.ring.partition_point(|batch| batch.last() <= at);
            let mut entries = Vec::new();
            let mut size = 0;
            for batch in state.ring.range(first..) {
                size += batch.size();
                if !entries.is_empty() && (entries.len() >= EVENT_ENTRIES || size > EVENT_BYTES) {
                    break;
                }
                entries.extend(batch.after(at));
            }
            return Heard::Entries(entries);
        }
        if state.known > at.max(looked) {
            return Heard::Behind(state.known);
        }
        if state.closed { Heard::Ended } else { Heard::Nothing }
    }
}

impl State {
    fn clear(&mut self, at: Position) {
        self.ring.clear();
        (self.size, self.base, self.end) = (0, at, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn batch(epoch: u64, last: u64, count: usize, size: usize) -> Batch {
        let entry = [&(size as u32).to_le_bytes()[..], &vec![b'x'; size]].concat();
        Batch::kept(&format!("{epoch}-{last}"), Bytes::from(entry.repeat(count))).unwrap()
    }

    fn offsets(feed: &Feed, epoch: u64, offset: u128) -> Option<Vec<u128>> {
        match feed.after(Position::new(epoch, offset), Position::ZERO) {
            Heard::Entries(entries) => Some(entries.iter().map(|entry| entry.position.offset).collect()),
            Heard::Behind(_) => None,
            Heard::Nothing | Heard::Ended => Some(Vec::new()),
        }
    }

    #[test]
    fn a_hole_is_behind_and_a_repeat_is_nothing() {
        let feed = Feed::default();
        feed.tell(batch(1, 2, 2, 1));
        feed.tell(batch(1, 4, 2, 1));
        feed.tell(batch(1, 2, 2, 1));
        assert_eq!(offsets(&feed, 1, 0), Some(vec![1, 2, 3, 4]));
        assert_eq!(offsets(&feed, 1, 3), Some(vec![4]));
        feed.tell(batch(1, 7, 2, 1));
        assert_eq!(offsets(&feed, 1, 4), None, "5 was not heard");
        assert_eq!(offsets(&feed, 1, 5), Some(vec![6, 7]));
        feed.tell(batch(2, 1, 1, 1));
        assert_eq!((offsets(&feed, 1, 7), offsets(&feed, 2, 0)), (None, Some(vec![1])));
        feed.tell(batch(1, 8, 1, 1));
        assert_eq!(offsets(&feed, 2, 1), Some(vec![]), "an epoch that is over says nothing any more");
    }

    #[test]
    fn the_ring_and_events_are_bounded() {
        let feed = Feed::default();
        (1..=100).for_each(|last| feed.tell(batch(1, last, 1, 100_000)));
        assert_eq!(offsets(&feed, 1, 70), None);
        let event = offsets(&feed, 1, 90).unwrap();
        assert_eq!(event, (91..=100).collect::<Vec<_>>());
        assert!(feed.state.lock().size <= RING_BYTES);
        assert!(offsets(&feed, 1, 81).unwrap().len() * 100_000 <= EVENT_BYTES);
    }

    #[test]
    fn what_was_looked_for_is_not_looked_for_again() {
        let feed = Feed::default();
        feed.know(Position::new(5, 0));
        let after = |looked| feed.after(Position::new(3, 9), looked);
        assert!(matches!(after(Position::ZERO), Heard::Behind(known) if known == Position::new(5, 0)));
        assert!(matches!(after(Position::new(5, 0)), Heard::Nothing));
        feed.close();
        assert!(matches!(after(Position::new(5, 0)), Heard::Ended));
    }
}
