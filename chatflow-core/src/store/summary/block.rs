//! Blocks, and how they are kept.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;

use super::Kind;
use crate::{Error, ErrorKind, Result};

/// What one block holds.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) enum Block {
    /// How many messages, by second, room or user.
    Counts(BTreeMap<u32, u64>),
    /// Users in rooms: see [`pair`].
    Pairs(RoaringTreemap),
}

/// A user in a room: all of a room's stand together.
pub(super) fn pair(room: u32, user: u32) -> u64 {
    u64::from(room) << 32 | u64::from(user)
}

impl Block {
    /// One in which nothing was said.
    pub(super) fn empty(kind: Kind) -> Self {
        if kind == Kind::Pairs { Self::Pairs(RoaringTreemap::new()) } else { Self::Counts(BTreeMap::new()) }
    }

    /// Adds what `other` has. `flat`: as one number, where it counts by second.
    pub(super) fn add(&mut self, other: &Self, flat: bool) {
        match (self, other) {
            (Self::Counts(counts), Self::Counts(more)) => {
                more.iter().for_each(|(key, n)| *counts.entry(if flat { 0 } else { *key }).or_default() += n);
            }
            (Self::Pairs(pairs), Self::Pairs(more)) => *pairs |= more,
            _ => {}
        }
    }

    /// The bytes of a block: counts as differences of ascending keys, each with its number, in as few bytes as they need; pairs in the
    /// format of Roaring bitmaps.
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Counts(counts) => {
                let mut last = 0;
                for (key, n) in counts {
                    put(&mut out, u64::from(key - last));
                    put(&mut out, *n);
                    last = *key;
                }
            }
            // Writing into memory does not fail.
            Self::Pairs(pairs) => _ = pairs.serialize_into(&mut out),
        }
        out
    }

    /// The reverse of [`encode`](Self::encode).
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`]: these are no such bytes.
    pub(in crate::store) fn decode(kind: Kind, bytes: &[u8]) -> Result<Self> {
        if kind == Kind::Pairs {
            return RoaringTreemap::deserialize_from(bytes).map(Self::Pairs).map_err(|error| corrupt().with_source(error));
        }
        counts(bytes).collect::<Result<_>>().map(Self::Counts)
    }
}

/// Every key of an encoded block of counts, ascending, with its number; an error, as of [`Block::decode`], is the last.
pub(super) fn counts(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u32, u64)>> {
    let mut key = 0u32;
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let mut next = || {
            let (step, n) = take(&mut bytes).zip(take(&mut bytes))?;
            key = key.checked_add(u32::try_from(step).ok()?)?;
            Some((key, n))
        };
        let next = next();
        if next.is_none() {
            bytes = &[];
        }
        Some(next.ok_or_else(corrupt))
    })
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[inline]
fn take(bytes: &mut &[u8]) -> Option<u64> {
    // Nearly all are that small.
    if let Some((byte @ 0..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some(u64::from(*byte));
    }
    let (mut n, mut shift) = (0u64, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(n);
        }
        shift += 7;
    }
}

pub(super) fn corrupt() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "summaries",
        "a summary can't be read back: have them counted anew (chatflow-server migrate --rebuild-summaries)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_come_back_and_bytes_from_anywhere_never_panic(counts: BTreeMap<u32, u64>, pairs: Vec<u64>, junk: Vec<u8>) {
            let counts = Block::Counts(counts);
            prop_assert_eq!(Block::decode(Kind::Users, &counts.encode()).unwrap(), counts);
            let pairs = Block::Pairs(pairs.into_iter().collect());
            prop_assert_eq!(Block::decode(Kind::Pairs, &pairs.encode()).unwrap(), pairs);
            let _ = Block::decode(Kind::Rate, &junk);
            let _ = Block::decode(Kind::Pairs, &junk);
        }
    }
}
