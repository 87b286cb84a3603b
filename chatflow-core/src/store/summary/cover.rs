//! Which blocks a question needs.

use super::{LENGTHS, LONGEST};
use crate::analytics::Minutes;

/// Up to when each level but the first is rolled up: all of its blocks that end there or before are there, and kept up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Rolled(pub(super) [i64; LONGEST as usize]);

/// No message is from before or after these.
const FIRST: i64 = -(1 << 60);
const LAST: i64 = 1 << 60;

impl Default for Rolled {
    fn default() -> Self {
        Self([FIRST; LONGEST as usize])
    }
}

impl Rolled {
    /// As [`Display`](std::fmt::Display) wrote it; of anything else, that nothing is rolled up.
    pub(in crate::store) fn parse(text: &str) -> Self {
        let levels = text.split(' ').map(str::parse).collect::<Result<Vec<_>, _>>();
        levels.ok().and_then(|levels| levels.try_into().ok()).map_or_else(Self::default, Self)
    }

    /// Whether the block of `level` that holds `at` is rolled up.
    pub(super) fn has(&self, level: u8, at: i64) -> bool {
        level == 0 || at < self.0[usize::from(level) - 1]
    }

    /// The stretches that are past, where the newest minute begins at `newest`, and not yet rolled up, the first of each level: a level
    /// is rolled up from the one below. `None` when there is none.
    pub(in crate::store) fn next(&self, newest: i64) -> Option<(u8, i64, i64)> {
        (1..=LONGEST).find_map(|level| {
            let length = LENGTHS[usize::from(level)];
            let below = if level == 1 { newest } else { self.0[usize::from(level) - 2] };
            let until = below.div_euclid(length) * length;
            let from = self.0[usize::from(level) - 1];
            (from < until).then_some((level, from, until))
        })
    }

    /// The same once `level` is rolled up until `until`.
    pub(in crate::store) fn with(mut self, level: u8, until: i64) -> Self {
        self.0[usize::from(level) - 1] = until;
        self
    }
}

impl std::fmt::Display for Rolled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.map(|until| until.to_string()).join(" "))
    }
}

/// Blocks of a level that begin in `from..until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Piece {
    pub(in crate::store) level: u8,
    pub(in crate::store) from: i64,
    pub(in crate::store) until: i64,
}

/// The fewest blocks, of levels up to `most`, that hold what `range` does, in order.
pub(in crate::store) fn cover(range: Minutes, rolled: &Rolled, most: u8) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (from, until) = (range.start().map_or(FIRST, |at| at.0.max(FIRST)), range.end().map_or(LAST, |at| at.0.min(LAST)));
    part(from, until, most, rolled, &mut pieces);
    pieces
}

fn part(from: i64, until: i64, level: u8, rolled: &Rolled, pieces: &mut Vec<Piece>) {
    if from >= until {
        return;
    }
    let Some(below) = level.checked_sub(1) else { return pieces.push(Piece { level, from, until }) };
    let length = LENGTHS[usize::from(level)];
    let first = -(-from).div_euclid(length) * length;
    let last = until.min(rolled.0[usize::from(below)]).div_euclid(length) * length;
    if first < last {
        part(from, first, below, rolled, pieces);
        pieces.push(Piece { level, from: first, until: last });
        part(last, until, below, rolled, pieces);
    } else {
        part(from, until, below, rolled, pieces);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_hold_each_minute_once_and_only_what_is_rolled_up(
            from in -9_000i64..9_000, minutes in 0i64..9_000, rolled in (-9_000i64..9_000, [0i64..9_000, 0i64..9_000, 0i64..20_000]), most in 0..=LONGEST,
        ) {
            let until = from + minutes;
            let (mut minute, [hour, day, days]) = rolled;
            let rolled = Rolled([(1, 0), (2, hour), (3, day), (4, days)].map(|(level, less)| {
                minute -= less;
                (minute * LENGTHS[0]).div_euclid(LENGTHS[level]) * LENGTHS[level]
            }));
            prop_assert_eq!(Rolled::parse(&rolled.to_string()), rolled);
            let range = Minutes::covering(Some(Timestamp(from * 60_000)), Some(Timestamp(until * 60_000)));
            let pieces = cover(range, &rolled, most);
            let mut at = from * 60_000;
            for piece in &pieces {
                prop_assert_eq!(piece.from, at);
                prop_assert!(piece.level <= most && piece.from < piece.until && piece.from % LENGTHS[usize::from(piece.level)] == 0);
                prop_assert!(rolled.has(piece.level, piece.until - LENGTHS[usize::from(piece.level)]));
                at = piece.until;
            }
            prop_assert_eq!(at, until * 60_000);
        }
    }

    #[test]
    fn levels_are_rolled_up_one_after_the_other_and_then_no_more() {
        let (mut rolled, newest, mut steps) = (Rolled::default(), 12 * 86_400_000 + 61 * 60_000, Vec::new());
        while let Some((level, from, until)) = rolled.next(newest) {
            assert!(from < until);
            steps.push((level, until));
            rolled = rolled.with(level, until);
        }
        assert_eq!(steps, [(1, newest - 60_000), (2, newest - 60_000), (3, 12 * 86_400_000), (4, 10 * 86_400_000)]);
    }
}
