//! Answers, added up from blocks.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringTreemap;

use super::block::{corrupt, counts};
use super::{Block, Kind, LENGTHS, PART_BITS};
use crate::Result;

/// Rooms or users, each with its number of something.
type Numbers = Vec<(u32, u64)>;

/// Who said how much.
#[derive(Debug, Default)]
pub(in crate::store) struct Active {
    /// Of the users of each part, by the rest of their numbers.
    parts: BTreeMap<u32, Vec<u32>>,
}

impl Active {
    /// Adds a block of [`Kind::Users`].
    ///
    /// # Errors
    /// It is none.
    pub(in crate::store) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let (mut current, mut of_part): (_, &mut [u32]) = (None, &mut []);
        for sent in counts(bytes) {
            let (user, n) = sent?;
            let part = user >> PART_BITS;
            if current != Some(part) {
                current = Some(part);
                of_part = self.parts.entry(part).or_insert_with(|| vec![0; 1 << PART_BITS]);
            }
            let count = &mut of_part[(user & ((1 << PART_BITS) - 1)) as usize];
            *count = count.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn counts(&self) -> impl Iterator<Item = (u32, u64)> {
        let of_part = |(part, counts): (&u32, &'_ Vec<u32>)| {
            let first = part << PART_BITS;
            counts
                .iter()
                .enumerate()
                .filter(|(_, n)| **n > 0)
                .map(move |(user, n)| (first | user as u32, u64::from(*n)))
                .collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of_part)
    }

    /// How many users there are.
    pub(in crate::store) fn users(&self) -> u64 {
        self.parts.values().flatten().filter(|n| **n > 0).count() as u64
    }

    /// Who may be among the first `limit`: they, and all who equal the last of them.
    pub(in crate::store) fn top(&self, limit: usize) -> Vec<(u32, u64)> {
        candidates(self.counts().collect(), limit)
    }
}

/// Where how much was said, in rooms by their numbers.
#[derive(Debug, Default)]
pub(in crate::store) struct Totals(HashMap<u32, u64>);

impl Totals {
    /// Adds a block of [`Kind::Rooms`].
    ///
    /// # Errors
    /// It is none.
    pub(in crate::store) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        counts(bytes).try_for_each(|said| said.map(|(room, n)| *self.0.entry(room).or_default() += n))
    }

    /// Which may be among the first `limit`: they, and all that equal the last of them.
    pub(in crate::store) fn top(self, limit: usize) -> Vec<(u32, u64)> {
        candidates(self.0.into_iter().collect(), limit)
    }
}

/// Who was in which rooms.
#[derive(Debug, Default)]
pub(in crate::store) struct Shares(RoaringTreemap);

impl Shares {
    /// Adds a block of [`Kind::Pairs`].
    ///
    /// # Errors
    /// It is none.
    pub(in crate::store) fn add(&mut self, bytes: &[u8]) -> Result<()> {
        let Block::Pairs(pairs) = Block::decode(Kind::Pairs, bytes)? else { return Err(corrupt()) };
        self.0 |= pairs;
        Ok(())
    }

    /// How many pairs there are, the rooms with their users' number, and the users with their rooms'.
    pub(in crate::store) fn count(&self) -> (u64, Numbers, Numbers) {
        let rooms = self.0.bitmaps().filter(|(_, users)| !users.is_empty()).map(|(room, users)| (room, users.len())).collect();
        let mut of_user: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (_, users) in self.0.bitmaps() {
            let (mut current, mut counts): (_, &mut [u32]) = (None, &mut []);
            for user in users {
                let part = user >> PART_BITS;
                if current != Some(part) {
                    current = Some(part);
                    counts = of_user.entry(part).or_insert_with(|| vec![0; 1 << PART_BITS]);
                }
                counts[(user & ((1 << PART_BITS) - 1)) as usize] += 1;
            }
        }
        (self.0.len(), rooms, Active { parts: of_user }.counts().collect())
    }
}

/// How much was said when, in steps of some length, the newest first.
#[derive(Debug)]
pub(in crate::store) struct Rates {
    length: i64,
    steps: BTreeMap<i64, u64>,
}

impl Rates {
    /// In steps of `length` milliseconds.
    pub(in crate::store) fn of(length: i64) -> Self {
        Self { length, steps: BTreeMap::new() }
    }

    /// The highest level whose blocks are no longer than a step.
    pub(in crate::store) fn most(&self) -> u8 {
        LENGTHS.iter().rposition(|length| *length <= self.length).unwrap_or(0) as u8
    }

    /// Adds a block of [`Kind::Rate`].
    ///
    /// # Errors
    /// It is none.
    pub(in crate::store) fn add(&mut self, level: u8, begins: i64, bytes: &[u8]) -> Result<()> {
        for said in counts(bytes) {
            let (second, n) = said?;
            let at = if level == 0 { begins + i64::from(second) * 1_000 } else { begins };
            *self.steps.entry(at.div_euclid(self.length) * self.length).or_default() += n;
        }
        Ok(())
    }

    /// Whether there are more than `limit`: then older blocks are of no use.
    pub(in crate::store) fn is_full(&self, limit: usize) -> bool {
        self.steps.len() > limit
    }

    /// The newest `limit`, oldest first.
    pub(in crate::store) fn newest(self, limit: usize) -> Vec<(i64, u64)> {
        let beyond = self.steps.len().saturating_sub(limit);
        self.steps.into_iter().skip(beyond).collect()
    }
}

/// Those with the highest numbers that may be among the first `limit`, whatever their names are.
pub(in crate::store) fn candidates(mut all: Vec<(u32, u64)>, limit: usize) -> Vec<(u32, u64)> {
    if limit == 0 {
        return Vec::new();
    }
    if all.len() > limit {
        let least = all.select_nth_unstable_by_key(limit - 1, |(_, n)| std::cmp::Reverse(*n)).1.1;
        all.retain(|(_, n)| *n >= least);
    }
    all
}

/// The first `limit` of `all` by their numbers, equal ones by name.
pub(in crate::store) fn first<T: Ord>(mut all: Vec<(T, u64)>, limit: usize) -> Vec<(T, u64)> {
    all.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    all.truncate(limit);
    all
}
