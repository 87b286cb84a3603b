//! Where a member of a room stands: what to resume from, and what it has seen already.

use chatflow_core::Position;

/// One room's place: the guard against repeats, and the position to resume from.
///
/// It holds a single position, so it is bounded whatever a server does. Only what was *shown* moves it: broadcasts and
/// the server's own word on where the member stands, never an answer, for a `SUCCESS` at 10 may overtake the
/// broadcasts 8 and 9.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    last: Option<Position>,
}

impl Cursor {
    /// A member that has seen everything through `position`.
    pub const fn at(position: Position) -> Self {
        Self { last: Some(position) }
    }

    /// The position to resume after; `None` as long as the room was never entered.
    pub const fn resume_after(&self) -> Option<Position> {
        self.last
    }

    /// Whether a broadcast at `position` is new. If so it counts as seen.
    #[must_use]
    pub fn admit(&mut self, position: Position) -> bool {
        let new = self.last.is_none_or(|last| position > last);
        if new {
            self.last = Some(position);
        }
        new
    }

    /// The server has let the member in at `position`.
    ///
    /// If it `recovered`, it goes on after what was seen, so the cursor never moves back and repeats stay out. If not,
    /// the old place means nothing any more (another epoch, a log that was lost) and the server's word is taken.
    pub fn welcome(&mut self, position: Option<Position>, recovered: bool) {
        let Some(position) = position else { return };
        self.last = if recovered { self.last.max(Some(position)) } else { Some(position) };
    }

    /// Messages were passed over: the next ones follow `position`.
    pub fn skip_to(&mut self, position: Position) {
        self.last = self.last.max(Some(position));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A server's log, read by a member whose connection is cut at will and who is sent more than it asked for.
    fn seen_by_a_member(log: &[Position], cuts: &[(usize, usize)]) -> Vec<Position> {
        let mut cursor = Cursor::default();
        cursor.welcome(Some(Position::ZERO), true);
        let mut seen = Vec::new();
        for (length, repeats) in cuts.iter().chain([&(log.len(), 0)]) {
            let after = cursor.resume_after();
            cursor.welcome(after, true);
            let from = log.iter().position(|p| Some(*p) > after).unwrap_or(log.len());
            let sent = log[from.saturating_sub(*repeats)..].iter().take(length + repeats);
            seen.extend(sent.filter(|p| cursor.admit(**p)));
        }
        seen
    }

    proptest! {
        #[test]
        fn a_member_sees_the_log_once_and_in_order_whatever_is_cut_and_repeated(
            steps in proptest::collection::vec((0u64..2, 1u128..1_000), 0..60),
            cuts in proptest::collection::vec((0usize..20, 0usize..20), 0..20),
        ) {
            let mut at = Position::new(1, 0);
            let log: Vec<Position> = steps.into_iter().map(|(epoch, offset)| {
                // A new epoch begins its offsets anew.
                at = Position::new(at.epoch + epoch, if epoch > 0 { offset } else { at.offset + offset });
                at
            }).collect();
            prop_assert_eq!(seen_by_a_member(&log, &cuts), log);
        }

        #[test]
        fn whatever_comes_the_positions_admitted_only_grow(positions in proptest::collection::vec((0u64..3, 0u128..20), 0..200)) {
            let mut cursor = Cursor::default();
            let admitted: Vec<Position> =
                positions.into_iter().map(|(e, o)| Position::new(e, o)).filter(|p| cursor.admit(*p)).collect();
            prop_assert!(admitted.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(cursor.resume_after(), admitted.last().copied());
        }
    }

    #[test]
    fn a_resume_never_moves_back_and_a_lost_log_begins_anew() {
        let mut cursor = Cursor::at(Position::new(2, 50));
        cursor.welcome(Some(Position::new(2, 40)), true);
        assert_eq!(cursor.resume_after(), Some(Position::new(2, 50)));
        cursor.welcome(Some(Position::new(1, 7)), false);
        assert!(cursor.admit(Position::new(1, 8)), "after recovered: false the server's place counts");
    }

    #[test]
    fn a_gap_moves_it_forward_only() {
        let mut cursor = Cursor::at(Position::new(1, 5));
        cursor.skip_to(Position::new(1, 9));
        assert!(!cursor.admit(Position::new(1, 9)));
        cursor.skip_to(Position::new(1, 2));
        assert_eq!(cursor.resume_after(), Some(Position::new(1, 9)));
    }
}
