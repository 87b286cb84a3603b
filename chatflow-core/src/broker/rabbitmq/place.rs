//! Where a message stands: the offset of its entry in the stream, and its place in that entry.

use crate::Position;

/// The bits of a position's offset that count messages within an entry.
const BITS: u32 = 16;

/// The place of the first message of the entry at `offset` of the stream of an epoch. Offset 0 of a position stands before the first
/// entry, of which the stream says 0.
pub(super) fn place_of(epoch: u64, offset: u64) -> Position {
    Position::new(epoch, (u128::from(offset) + 1) << BITS)
}

/// The place of the message number `index` of an entry, counted from 0, whose first stands at `first`.
pub(super) fn nth(first: Position, index: usize) -> Position {
    Position::new(first.epoch, first.offset + index as u128)
}

/// Which entry of its stream a message is in, counted from 1; 0 before the first.
pub(super) fn number_of(position: Position) -> u128 {
    position.offset >> BITS
}

/// From which offset of the stream on everything after `position` is read, and the entry that it is in.
pub(super) fn offset_of(position: Position) -> u64 {
    u64::try_from(number_of(position)).unwrap_or(u64::MAX).saturating_sub(1)
}

/// A place before `position` with nothing in between.
pub(super) fn before(position: Position) -> Position {
    Position::new(position.epoch, position.offset.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_one_another_within_and_across_entries() {
        let (first, second) = (place_of(7, 0), place_of(7, 1));
        assert!(
            Position::new(7, 0) < before(first) && before(first) < first && first < nth(first, 511) && nth(first, 511) <= before(second)
        );
        assert_eq!((number_of(Position::new(7, 0)), number_of(before(first)), number_of(nth(first, 511)), number_of(second)), (0, 0, 1, 2));
        assert_eq!((offset_of(Position::new(7, 0)), offset_of(nth(first, 3)), offset_of(nth(second, 3))), (0, 0, 1));
        assert_eq!(number_of(before(second)), 1, "what was read last is read again");
    }
}
