//! Whether a log still is what it was when this node read it last.

use super::envelope::{Kind, Mark};
use super::place::{number_of, offset_of};
use crate::Position;

/// What an entry means to a reader who comes back to a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It is known already.
    Known,
    /// It is the next one.
    Next,
    /// It is the next that there still is, and some before it are gone.
    AfterHole,
    /// The log is not the one that was read: its end was cut off, or other entries stand in their place.
    Cut,
}

/// Compares the first entries that come with what was read last.
#[derive(Debug)]
pub(super) struct Resume {
    /// Where this node was, and who put the entry there; `None` once it is found to be there.
    known: Option<(Position, Option<Mark>)>,
    /// Our own entries from this number on were published after reading began.
    fresh: Mark,
}

impl Resume {
    /// Of a reader who stands at `known`, in an epoch at whose beginning there is no mark; entries of `fresh.life` from `fresh.number`
    /// on are put into the log later than now.
    pub(super) fn new(known: Option<(Position, Option<Mark>)>, fresh: Mark) -> Self {
        Self { known, fresh }
    }

    /// From which offset on the stream has to be read; `None`: with the next entry.
    pub(super) fn offset(&self) -> Option<u64> {
        // The entry itself is read again, to see that it is there.
        self.known.map(|(at, _)| offset_of(at))
    }

    /// The entry at `position` has come.
    pub(super) fn found(&mut self, position: Position, kind: Kind, mark: Mark) -> Found {
        let Some((at, last)) = self.known else { return Found::Next };
        // RabbitMQ begins at the end when asked for a place beyond it: then the first that comes is not the one that was asked for.
        let new = kind == Kind::Fence && mark.life == self.fresh.life && mark.number >= self.fresh.number;
        let found = match (number_of(position), number_of(at)) {
            (entry, known) if entry < known => {
                if new {
                    Found::Cut
                } else {
                    return Found::Known;
                }
            }
            (entry, known) if entry == known => {
                if last == Some(mark) {
                    Found::Known
                } else {
                    Found::Cut
                }
            }
            (entry, known) if entry == known + 1 => Found::Next,
            _ => Found::AfterHole,
        };
        self.known = None;
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::{nth, place_of};
    use super::*;

    const OTHERS: Mark = Mark { life: 2, number: 40 };
    const OURS: Mark = Mark { life: 1, number: 10 };

    /// The third message of the entry with this number.
    fn at(number: u64) -> Position {
        nth(place_of(7, number - 1), 2)
    }

    fn resume() -> Resume {
        Resume::new(Some((at(100), Some(OTHERS))), OURS)
    }

    #[test]
    fn the_entry_that_was_read_last_is_still_there() {
        let mut resume = resume();
        assert_eq!(resume.offset(), Some(99), "the first entry of a stream has the number 1 here");
        assert_eq!(resume.found(at(99), Kind::Messages, OURS), Found::Known, "a whole chunk may come");
        assert_eq!(resume.found(at(100), Kind::Messages, OTHERS), Found::Known);
        assert_eq!(resume.found(at(101), Kind::Fence, OURS), Found::Next);
        assert_eq!(resume.found(at(105), Kind::Messages, OTHERS), Found::Next, "streams may leave offsets out");
    }

    #[test]
    fn what_was_dropped_in_front_of_us_is_noticed() {
        assert_eq!(resume().found(at(101), Kind::Messages, OTHERS), Found::Next, "nothing that we lack");
        assert_eq!(resume().found(at(102), Kind::Messages, OTHERS), Found::AfterHole);
        let mut beginning = Resume::new(Some((Position::new(7, 0), None)), OURS);
        assert_eq!((beginning.offset(), beginning.found(at(1), Kind::Messages, OTHERS)), (Some(0), Found::Next));
        assert_eq!(Resume::new(Some((Position::new(7, 0), None)), OURS).found(at(2), Kind::Messages, OTHERS), Found::AfterHole);
    }

    #[test]
    fn a_log_that_was_cut_is_noticed() {
        assert_eq!(resume().found(at(60), Kind::Fence, OURS), Found::Cut, "our new fence stands before it");
        let older = Mark { number: 9, ..OURS };
        assert_eq!(resume().found(at(60), Kind::Fence, older), Found::Known, "an old one does not");
        assert_eq!(resume().found(at(100), Kind::Messages, Mark { number: 41, ..OTHERS }), Found::Cut, "another stands in its place");
    }

    #[test]
    fn who_was_never_there_knows_nothing() {
        let mut resume = Resume::new(None, OURS);
        assert_eq!((resume.offset(), resume.found(at(60), Kind::Messages, OTHERS)), (None, Found::Next));
    }
}
