//! Where in a log the messages of a time can stand, so that a page of a range of time need not walk all of its room.
//!
//! Messages stand nearly in the order in which they were accepted. Every so many rows a log gets a mark: a place that nothing accepted
//! at the mark's time, or later, stands in front of. With how much earlier than one before it any message was accepted, marks bound a
//! range at both ends, and always hold all of it. Rows from before there were marks stand in front of the first.

use crate::Position;

/// Rows of a log from one mark to the next, at the least: a page looks at so many that are not of its range, at either end.
const APART: i64 = 1_000;

/// Times beyond this are taken for it, so that no sum of two of them overflows.
const FARTHEST: i64 = 1 << 60;

/// What is known of the times of a log's rows; milliseconds since 1970. Kept with its cursor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// The latest at which any was accepted; `None` before the first.
    pub(super) latest: Option<i64>,
    /// How much earlier than one before it any was accepted, at the most.
    pub(super) disorder: i64,
    /// Since the last mark.
    pub(super) rows: i64,
}

impl Times {
    /// Takes in the next row of the log, which was accepted `at`; whether it gets a mark.
    pub(super) fn take(&mut self, at: i64) -> Option<i64> {
        let at = at.clamp(-FARTHEST, FARTHEST);
        let is_first = self.latest.is_none();
        let is_latest = self.latest.is_none_or(|latest| at > latest);
        if !is_latest {
            self.disorder = self.disorder.max(self.latest.map_or(0, |latest| latest - at));
        } else {
            self.latest = Some(at);
        }
        let is_marked = is_first || (is_latest && self.rows >= APART);
        self.rows = if is_marked { 1 } else { self.rows + 1 };
        is_marked.then_some(at)
    }
}

/// The range of time of a page, for statements that look for marks.
pub(super) fn range(start: Option<crate::Timestamp>, end: Option<crate::Timestamp>) -> (i64, i64) {
    let bound = |at: crate::Timestamp| at.0.clamp(-FARTHEST, FARTHEST);
    // Nothing has a mark at or before the one, or behind the other.
    (start.map_or(-FARTHEST - 1, bound), end.map_or(2 * FARTHEST, bound))
}

/// What the marks around a range of time bound: it is all found behind `after` and up to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    after: Position,
    last: Position,
    /// How far the log was when the marks were read: what came since may be of any time.
    through: Position,
}

impl Stretch {
    /// All of a log.
    pub(super) const ALL: Self = Self { after: Position::ZERO, last: Position::MAX, through: Position::MAX };

    /// Between two marks, in a log that was `through` when they were read.
    pub(super) fn between(from: Option<Position>, until: Option<Position>, through: Position) -> Self {
        let before = |position: Position| position.previous().unwrap_or(Position::ZERO);
        Self { after: from.map_or(Position::ZERO, before), last: until.map_or(through, before).min(through), through }
    }

    /// Behind which place a page begins and up to which it goes.
    pub(super) fn narrow(self, after: Option<Position>, last: Position) -> (Position, Position) {
        (after.map_or(self.after, |after| after.max(self.after)), last.min(self.last))
    }

    /// Up to where a page is complete that was read when the log was at `through`.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn complete(self, through: Position) -> Position {
        through.min(self.through)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Timestamp;

    /// What a store does with it.
    fn bounds(marks: &[(i64, u128)], disorder: i64, start: Option<i64>, end: Option<i64>) -> (Position, Position) {
        let (start, end) = range(start.map(Timestamp), end.map(Timestamp));
        let from = marks.iter().rev().find(|(at, _)| *at <= start).map(|(_, place)| Position::new(1, *place));
        let until = marks.iter().find(|(at, _)| *at > end + disorder).map(|(_, place)| Position::new(1, *place));
        Stretch::between(from, until, Position::new(1, u128::MAX)).narrow(None, Position::MAX)
    }

    fn marked(rows: &[i64]) -> (Vec<(i64, u128)>, Times) {
        let mut times = Times::default();
        let marks = rows.iter().zip(1..).filter_map(|(at, place)| Some((times.take(*at)?, place))).collect();
        (marks, times)
    }

    #[test]
    fn a_range_is_bounded_at_both_ends() {
        let rows: Vec<i64> = (0..100_000).map(|n| 1_700_000_000_000 + n * 10).collect();
        let (marks, times) = marked(&rows);
        assert_eq!((marks.len(), times.disorder), (100, 0));
        let (after, last) = bounds(&marks, 0, Some(rows[50_500]), Some(rows[50_600]));
        assert_eq!((after, last), (Position::new(1, 50_000), Position::new(1, 51_000)));
        let (after, last) = bounds(&marks, 0, None, None);
        assert_eq!((after, last), (Position::ZERO, Position::new(1, u128::MAX)));
    }

    proptest! {
        #[test]
        fn nothing_of_a_range_stands_outside(
            steps in prop::collection::vec((-40i64..60, 0i64..400), 1..6_000),
            extreme in prop::option::of((any::<prop::sample::Index>(), any::<i64>())),
            start in prop::option::of(-1_000i64..200_000),
            end in prop::option::of(-1_000i64..200_000),
        ) {
            let mut now = 0;
            let mut rows: Vec<i64> = steps.iter().map(|(step, late)| { now += step; now - if late % 7 == 0 { *late } else { 0 } }).collect();
            if let Some((at, time)) = extreme {
                let at = at.index(rows.len());
                rows[at] = time;
            }
            let (marks, times) = marked(&rows);
            let (after, last) = bounds(&marks, times.disorder, start, end);
            for (at, place) in rows.iter().zip(1..) {
                let place = Position::new(1, place);
                if start.is_none_or(|start| *at >= start) && end.is_none_or(|end| *at <= end) {
                    prop_assert!(after < place && place <= last, "{at} at {place}, not in {after} to {last}");
                }
            }
        }
    }
}
