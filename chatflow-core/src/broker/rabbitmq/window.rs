//! The end of a log, in memory: what every reader of this node shares.

use std::collections::VecDeque;

use bytes::Bytes;

use super::envelope::Mark;
use super::place::before;
use crate::Position;
use crate::broker::Delivered;

/// The most entries and bytes in one [`Event::Batch`](crate::broker::Event::Batch).
pub(super) const BATCH_ENTRIES: usize = 2_048;
pub(super) const BATCH_BYTES: usize = 1 << 20;
/// What is kept in memory for readers that are a little behind; others read from RabbitMQ again.
const MOST_ENTRIES: usize = 8_192;
const MOST_BYTES: usize = 4 << 20;

/// The last entries that this node has read of a log.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Everything that follows this is in `ring`.
    from: Position,
    /// What was read last, a sign perhaps.
    tail: Position,
    /// Who put it there; `None` as long as nothing was read of the epoch.
    last: Option<Mark>,
    ring: VecDeque<Delivered>,
    bytes: usize,
}

/// What a reader who stands at some place finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The next entries, and where it stands once it has them.
    Batch(Vec<Delivered>, Position),
    /// Its epoch is over, and this is the next.
    Turn(u64),
    /// It is at the end, which is here.
    Tail(Position),
    /// What follows is not here any more.
    Behind,
}

impl Window {
    pub(super) fn tail(&self) -> Position {
        self.tail
    }

    pub(super) fn from(&self) -> Position {
        self.from
    }

    pub(super) fn last(&self) -> Option<Mark> {
        self.last
    }

    /// Begins after `position`, with nothing; what was before is not here.
    pub(super) fn begin(&mut self, position: Position) {
        (self.from, self.tail, self.last, self.bytes) = (position, position, None, 0);
        self.ring.clear();
    }

    /// Goes on in a new epoch.
    pub(super) fn turn(&mut self, epoch: u64) {
        (self.tail, self.last) = (Position::new(epoch, 0), None);
    }

    /// The next entry was read: it stands at `position`.
    pub(super) fn stand(&mut self, position: Position, mark: Mark) {
        (self.tail, self.last) = (position, Some(mark));
    }

    /// The next message of that entry.
    pub(super) fn push(&mut self, position: Position, bytes: Bytes) {
        self.tail = position;
        self.bytes += bytes.len();
        self.ring.push_back(Delivered { position, bytes });
        while (self.ring.len() > MOST_ENTRIES || self.bytes > MOST_BYTES) && self.ring.len() > 1 {
            if let Some(oldest) = self.ring.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.from = oldest.position;
            }
        }
    }

    /// How many messages there are after `position`; `None` when not all of them are here.
    pub(super) fn messages_after(&self, position: Position) -> Option<u64> {
        let after = || (self.ring.len() - self.ring.partition_point(|entry| entry.position <= position)) as u64;
        (position >= self.from).then(after)
    }

    /// The place before the last `n` messages of the tail's epoch, if they are here, or all of that epoch is.
    pub(super) fn before_last(&self, n: usize) -> Option<Position> {
        let start = Position::new(self.tail.epoch, 0);
        if n == 0 {
            return Some(self.tail);
        }
        let first = self.ring.partition_point(|entry| entry.position <= start);
        match (self.ring.len() - first).checked_sub(n) {
            Some(more) => self.ring.get(first + more).map(|entry| before(entry.position)),
            None => (self.from <= start).then_some(start),
        }
    }

    /// What there is for a reader who stands at `at`.
    pub(super) fn look(&self, at: Position) -> Look {
        if at < self.from {
            return Look::Behind;
        }
        let next = self.ring.partition_point(|entry| entry.position <= at);
        match self.ring.get(next) {
            Some(entry) if entry.position.epoch != at.epoch => return Look::Turn(entry.position.epoch),
            Some(_) => {}
            None if self.tail.epoch > at.epoch => return Look::Turn(self.tail.epoch),
            None => return Look::Tail(self.tail.max(at)),
        }
        let mut bytes = 0;
        let fits = |entry: &&Delivered| {
            bytes += entry.bytes.len();
            entry.position.epoch == at.epoch && (bytes <= BATCH_BYTES || bytes == entry.bytes.len())
        };
        let batch: Vec<_> = self.ring.iter().skip(next).take(BATCH_ENTRIES).take_while(fits).cloned().collect();
        let last = batch.last().map_or(at, |entry| entry.position);
        Look::Batch(batch, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { life: 1, number: 1 };

    fn at(epoch: u64, offset: u128) -> Position {
        Position::new(epoch, offset)
    }

    fn message() -> Bytes {
        Bytes::from_static(b"m")
    }

    /// Messages at these places, a sign at the first one.
    fn window(epoch: u64, offsets: std::ops::RangeInclusive<u128>) -> Window {
        let mut window = Window::default();
        window.begin(before(at(epoch, *offsets.start())));
        window.stand(at(epoch, *offsets.start()), MARK);
        offsets.skip(1).for_each(|offset| window.push(at(epoch, offset), message()));
        window
    }

    fn offsets(look: Look) -> Vec<u128> {
        let Look::Batch(batch, _) = look else { panic!("{look:?}") };
        batch.iter().map(|entry| entry.position.offset).collect()
    }

    #[test]
    fn readers_find_what_follows_them() {
        let window = window(7, 5..=9);
        assert_eq!(window.look(at(7, 3)), Look::Behind);
        assert_eq!(offsets(window.look(at(7, 4))), [6, 7, 8, 9], "a sign is passed over");
        assert_eq!(offsets(window.look(at(7, 8))), [9]);
        assert_eq!(window.look(at(7, 9)), Look::Tail(at(7, 9)));
        assert_eq!(
            (window.messages_after(at(7, 3)), window.messages_after(at(7, 4)), window.messages_after(at(7, 7))),
            (None, Some(4), Some(2))
        );
        assert_eq!((window.before_last(2), window.before_last(4), window.before_last(5)), (Some(at(7, 7)), Some(at(7, 5)), None));
    }

    #[test]
    fn an_epoch_is_read_to_its_end_before_the_next() {
        let mut window = window(7, 1..=3);
        window.turn(9);
        assert_eq!(offsets(window.look(at(7, 0))), [2, 3]);
        assert_eq!(window.look(at(7, 3)), Look::Turn(9), "before anything is in it");
        window.push(at(9, 1), message());
        assert_eq!(offsets(window.look(at(7, 1))), [2, 3]);
        assert_eq!(window.look(at(7, 3)), Look::Turn(9));
        assert_eq!(offsets(window.look(at(9, 0))), [1]);
        assert_eq!((window.messages_after(at(7, 2)), window.before_last(5)), (Some(2), Some(at(9, 0))));
    }

    #[test]
    fn it_is_bounded() {
        let mut window = window(7, 1..=1);
        (0..10_000u128).for_each(|i| window.push(at(7, 2 + i), message()));
        assert_eq!((window.ring.len(), window.look(at(7, 1)), window.from), (MOST_ENTRIES, Look::Behind, at(7, 1_809)));
        (0..10u128).for_each(|i| window.push(at(7, 20_000 + i), vec![0; 1 << 20].into()));
        assert_eq!(window.ring.len(), 4);
    }
}
