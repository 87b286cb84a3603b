//! Telling repeats: the fold over a log that drops the second copy of a message.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::message::Header;
use crate::store::Exception;
use crate::{MessageId, Position, Timestamp};

/// Ids that were seen among the last entries of one log, as many and for as long as is set.
///
/// It depends on those entries alone, so every node that folds the log comes to the same result, whenever it began.
#[derive(Debug)]
pub(crate) struct Dedup {
    seen: HashMap<MessageId, Seen, foldhash::fast::RandomState>,
    /// Which entry each came in, counted from the first that was folded.
    order: VecDeque<(u64, MessageId, Timestamp)>,
    entries: u64,
    most: usize,
    window: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    position: Position,
    digest: u64,
    room: u64,
}

impl Dedup {
    pub(crate) fn new(most: usize, window: Duration) -> Self {
        Self { seen: HashMap::default(), order: VecDeque::new(), entries: 0, most, window }
    }

    /// Takes the log's next message; what it repeats, if it does.
    pub(crate) fn admit(&mut self, message: &Header<'_>, position: Position) -> Option<Exception> {
        self.pass();
        let room = twox_hash::XxHash3_64::oneshot(message.room.as_bytes());
        let this = Seen { position, digest: message.digest, room };
        if let Some(first) = self.seen.get(&message.id) {
            let same = first.digest == this.digest && first.room == this.room;
            let first = first.position;
            return Some(if same { Exception::Repeat { first } } else { Exception::Conflict { first } });
        }
        self.forget(message.at);
        self.seen.insert(message.id, this);
        self.order.push_back((self.entries, message.id, message.at));
        None
    }

    /// Takes the log's next entry, which is no message.
    pub(crate) fn pass(&mut self) {
        self.entries += 1;
        while self.order.front().is_some_and(|(entry, ..)| self.entries - entry >= self.most as u64) {
            self.forget_first();
        }
    }

    fn forget(&mut self, now: Timestamp) {
        let oldest = Timestamp(now.0.saturating_sub(self.window.as_millis() as i64));
        while self.order.front().is_some_and(|(.., at)| *at < oldest) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, id, _)) = self.order.pop_front() {
            self.seen.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u128, digest: u64, at: i64) -> Header<'static> {
        Header { room: "a", id: MessageId::from_u128(id), digest, at: Timestamp(at) }
    }

    #[test]
    fn the_second_copy_is_told_by_what_it_says() {
        let mut dedup = Dedup::new(10, Duration::from_secs(300));
        let first = Position::new(1, 1);
        assert_eq!(dedup.admit(&message(1, 7, 0), first), None);
        assert_eq!(dedup.admit(&message(1, 7, 5), Position::new(1, 2)), Some(Exception::Repeat { first }));
        assert_eq!(dedup.admit(&message(1, 8, 5), Position::new(1, 3)), Some(Exception::Conflict { first }));
        let elsewhere = Header { room: "b", ..message(1, 7, 5) };
        assert_eq!(dedup.admit(&elsewhere, Position::new(1, 4)), Some(Exception::Conflict { first }));
    }

    #[test]
    fn it_is_bounded_by_count_and_time() {
        let mut dedup = Dedup::new(3, Duration::from_secs(300));
        for id in 1..=4 {
            assert_eq!(dedup.admit(&message(id, 0, 0), Position::new(1, id)), None);
        }
        assert_eq!(dedup.seen.len(), 3);
        assert_eq!(dedup.admit(&message(1, 0, 0), Position::new(1, 9)), None, "the oldest was forgotten");
        assert_eq!(dedup.admit(&message(4, 0, 300_001), Position::new(1, 10)), Some(Exception::Repeat { first: Position::new(1, 4) }));
        assert_eq!(dedup.admit(&message(9, 0, 300_001), Position::new(1, 11)), None);
        assert_eq!(dedup.seen.len(), 1, "what is past the window was forgotten");
    }

    #[test]
    fn whoever_begins_later_tells_the_same_whatever_else_is_in_the_log() {
        let fold = |dedup: &mut Dedup, entry: u64| match entry % 3 {
            0 => {
                dedup.pass();
                None
            }
            // Each id comes again, further and further away.
            _ => dedup.admit(&message(u128::from(entry * entry % 37), 0, 0), Position::new(1, entry.into())),
        };
        let (most, begun) = (8, 100);
        let (mut old, mut new) = (Dedup::new(most, Duration::from_secs(300)), Dedup::new(most, Duration::from_secs(300)));
        for entry in 0..begun {
            let _ = fold(&mut old, entry);
        }
        for entry in begun - most as u64..begun {
            let _ = fold(&mut new, entry);
        }
        let repeats = (begun..300).filter(|entry| {
            let (one, other) = (fold(&mut old, *entry), fold(&mut new, *entry));
            assert_eq!(one.is_some(), other.is_some(), "at {entry}");
            one.is_some()
        });
        assert!(repeats.count() > 10);
    }
}
