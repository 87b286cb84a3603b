//! Summaries of a history: what they look like, whichever store keeps them, and how questions are answered from them.
//!
//! A **block** is what was said in one stretch of time (a minute, ten, an hour, a day, ten days), of one [kind](Kind). Minutes are counted
//! as rows come; a longer stretch is rolled up from the shorter ones once it is past, and from then on what comes late is counted in all of
//! them. [`Rolled`] says how far that is, so that a question knows which blocks to [read](cover): few, however long its range.
//! Users and rooms stand in them by numbers.

mod answer;
mod block;
mod cover;
mod tally;

pub(super) use answer::{Active, Rates, Shares, Totals, candidates, first};
pub(super) use block::Block;
pub(super) use cover::{Piece, Rolled, cover};
pub(super) use tally::{Said, Tally};

/// What a block counts. The numbers are kept in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Messages: in a minute by second, in longer stretches as one number.
    Rate = 0,
    /// Messages by room.
    Rooms = 1,
    /// Messages by user.
    Users = 2,
    /// Which users were in which rooms.
    Pairs = 3,
}

/// Lengths of stretches, milliseconds, by level.
pub(super) const LENGTHS: [i64; 5] = [60_000, 600_000, 3_600_000, 86_400_000, 864_000_000];

/// The longest of them.
pub(super) const LONGEST: u8 = LENGTHS.len() as u8 - 1;

/// Users of one block are those whose numbers share what is beyond these bits: so many bytes has a block at most, and so it stays small.
const PART_BITS: u32 = 16;

/// What names a block; in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) kind: Kind,
    /// Which of [`LENGTHS`].
    pub(super) level: u8,
    /// When its stretch begins.
    pub(super) begins: i64,
    /// Which users; 0 for kinds without.
    pub(super) part: u16,
}

impl Key {
    fn of(kind: Kind, level: u8, at: i64, user: u32) -> Self {
        let length = LENGTHS[usize::from(level)];
        let part = if matches!(kind, Kind::Users | Kind::Pairs) { (user >> PART_BITS) as u16 } else { 0 };
        Self { kind, level, begins: at.div_euclid(length) * length, part }
    }

    /// The block of the next level that this one is a part of.
    fn above(self) -> Self {
        let length = LENGTHS[usize::from(self.level) + 1];
        Self { level: self.level + 1, begins: self.begins.div_euclid(length) * length, ..self }
    }
}
