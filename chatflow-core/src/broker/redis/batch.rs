//! Entries side by side, as Redis holds and tells them.

use bytes::Bytes;

use crate::Position;
use crate::broker::{Delivered, Entry, Receipt};

/// What an entry takes in a batch beyond its own bytes.
pub(super) const FRAME: usize = 4;

/// Some entries in one value: each with its length in front, four bytes, least significant first.
pub(super) fn join(entries: &[(Entry, Receipt)]) -> Vec<u8> {
    let size = entries.iter().map(|(entry, _)| FRAME + entry.bytes.len()).sum();
    let mut joined = Vec::with_capacity(size);
    for (entry, _) in entries {
        // An entry is at most 1 MiB.
        joined.extend_from_slice(&(entry.bytes.len() as u32).to_le_bytes());
        joined.extend_from_slice(&entry.bytes);
    }
    joined
}

/// Consecutive entries of one epoch.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) epoch: u64,
    /// Offset of the entry before the first one.
    pub(super) before: u64,
    /// Offset of the last one.
    pub(super) last: u64,
    joined: Bytes,
}

impl Batch {
    /// What the channel says: `epoch:last:count:` and the entries. `None` if it says anything else.
    pub(super) fn told(message: Bytes) -> Option<Self> {
        let mut parts = message.splitn(4, |byte| *byte == b':');
        let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse::<u64>().ok();
        let (epoch, last, count) = (number()?, number()?, number()?);
        let joined = message.slice_ref(parts.next()?);
        Self::new(epoch, last, joined).filter(|batch| batch.last - batch.before == count)
    }

    /// What the stream holds under the id `epoch-last`.
    pub(super) fn kept(id: &str, joined: Bytes) -> Option<Self> {
        let (epoch, last) = id.split_once('-')?;
        Self::new(epoch.parse().ok()?, last.parse().ok()?, joined)
    }

    fn new(epoch: u64, last: u64, joined: Bytes) -> Option<Self> {
        let batch = Self { epoch, before: last, last, joined };
        let mut pieces = batch.pieces();
        let count = pieces.by_ref().count() as u64;
        let whole = pieces.rest.is_empty() && count > 0;
        let before = last.checked_sub(count).filter(|_| whole)?;
        Some(Self { before, ..batch })
    }

    /// The place before the first entry.
    pub(super) fn before(&self) -> Position {
        Position::new(self.epoch, self.before.into())
    }

    /// The place of the last entry.
    pub(super) fn last(&self) -> Position {
        Position::new(self.epoch, self.last.into())
    }

    /// Bytes of all entries.
    pub(super) fn size(&self) -> usize {
        self.joined.len()
    }

    /// The entries after `at`.
    pub(super) fn after(&self, at: Position) -> impl Iterator<Item = Delivered> + '_ {
        let entries = (self.before + 1..).zip(self.pieces());
        let entries = entries.map(|(offset, bytes)| Delivered { position: Position::new(self.epoch, offset.into()), bytes });
        entries.skip_while(move |entry| entry.position <= at)
    }

    fn pieces(&self) -> Pieces {
        Pieces { rest: self.joined.clone() }
    }
}

/// Takes joined entries apart; `rest` is what is left, nothing if all was well.
struct Pieces {
    rest: Bytes,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let (length, _) = self.rest.split_first_chunk::<FRAME>()?;
        let end = usize::try_from(u32::from_le_bytes(*length)).ok()?.checked_add(FRAME)?;
        if end > self.rest.len() {
            return None;
        }
        let piece = self.rest.split_to(end);
        Some(piece.slice(FRAME..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOINED: &[u8] = b"\x02\0\0\0ab\0\0\0\0\x01\0\0\0c";

    #[test]
    fn a_batch_is_taken_apart_again() {
        let told = Batch::told([b"18446744073709551615:7:3:", JOINED].concat().into()).unwrap();
        let kept = Batch::kept("18446744073709551615-7", Bytes::from_static(JOINED)).unwrap();
        for batch in [told, kept] {
            assert_eq!((batch.before(), batch.last()), (Position::new(u64::MAX, 4), Position::new(u64::MAX, 7)));
            let after = |offset| batch.after(Position::new(u64::MAX, offset)).map(|entry| entry.bytes).collect::<Vec<_>>();
            assert_eq!(after(0), ["ab", "", "c"]);
            assert_eq!(after(5), ["", "c"]);
            assert!(after(7).is_empty());
        }
    }

    #[test]
    fn anything_else_is_no_batch() {
        for message in ["", "1:2:3", "1:2:1:", "1:2:2:\x01\0\0\0a", "1:0:1:\x01\0\0\0a", "1:9:1:\x02\0\0\0a", "-1:9:1:\x01\0\0\0a"] {
            assert!(Batch::told(Bytes::copy_from_slice(message.as_bytes())).is_none(), "{message:?}");
        }
    }
}
