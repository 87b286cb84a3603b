//! Counting rows into blocks.

use std::collections::BTreeMap;

use super::block::pair;
use super::{Block, Key, Kind, LENGTHS, Rolled};
use crate::Result;

/// What a row says of itself, users and rooms by their numbers.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Said {
    pub(in crate::store) room: u32,
    pub(in crate::store) user: u32,
    pub(in crate::store) at: i64,
}

/// What is to be added to blocks.
#[derive(Debug, Default)]
pub(in crate::store) struct Tally {
    more: BTreeMap<Key, Block>,
}

impl Tally {
    /// Counts rows: in their minutes, and in longer stretches that are rolled up already.
    pub(in crate::store) fn of(rows: impl IntoIterator<Item = Said>, rolled: &Rolled) -> Self {
        let mut tally = Self::default();
        for Said { room, user, at } in rows {
            for level in (0..LENGTHS.len() as u8).filter(|level| rolled.has(*level, at)) {
                let second = if level == 0 { at.rem_euclid(LENGTHS[0]) as u32 / 1_000 } else { 0 };
                for (kind, counted) in [(Kind::Rate, second), (Kind::Rooms, room), (Kind::Users, user), (Kind::Pairs, user)] {
                    match tally.block(Key::of(kind, level, at, user)) {
                        Block::Counts(counts) => *counts.entry(counted).or_default() += 1,
                        Block::Pairs(pairs) => _ = pairs.insert(pair(room, user)),
                    }
                }
            }
        }
        tally
    }

    fn block(&mut self, key: Key) -> &mut Block {
        self.more.entry(key).or_insert_with(|| Block::empty(key.kind))
    }

    /// Adds a block to the one of the next level that it is a part of.
    ///
    /// # Errors
    /// It is no block.
    pub(in crate::store) fn roll(&mut self, key: Key, bytes: &[u8]) -> Result<()> {
        let block = Block::decode(key.kind, bytes)?;
        self.block(key.above()).add(&block, key.kind == Kind::Rate);
        Ok(())
    }

    /// The blocks that change, in their order.
    pub(in crate::store) fn keys(&self) -> impl Iterator<Item = Key> {
        self.more.keys().copied()
    }

    /// What becomes of the block `key`, which was `old`.
    ///
    /// # Errors
    /// That was no block.
    pub(in crate::store) fn changed(&self, key: Key, old: Option<&[u8]>) -> Result<Vec<u8>> {
        let Some(more) = self.more.get(&key) else { return Ok(old.unwrap_or_default().to_vec()) };
        let Some(old) = old else { return Ok(more.encode()) };
        let mut block = Block::decode(key.kind, old)?;
        block.add(more, false);
        Ok(block.encode())
    }
}
