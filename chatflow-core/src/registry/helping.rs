//! What one member gets in one turn, where that is not simply the newest block.

use std::sync::Arc;

use bytes::Bytes;

use super::log::{Block, Place, RoomLog};
use super::member::Member;
use super::outlet::Written;

/// Bytes that one member is written at most in a turn, and slices.
const BITE: u64 = 512 << 10;
const PARTS: usize = 48;

/// What one member gets in one turn.
pub(super) struct Helping {
    parts: Vec<Bytes>,
    /// For each part, its block and where in the room it begins.
    from: Vec<(Arc<Block>, u64)>,
    end: Place,
}

impl Helping {
    /// What a member that stands at `place` gets next, without its own messages if it wants none; `None` when it was let go.
    pub(super) fn of(log: &RoomLog, place: Place, member: &Member) -> Option<Self> {
        let mut helping = Self { parts: Vec::new(), from: Vec::new(), end: place };
        let mut left = BITE;
        for block in log.blocks_from(place.offset)? {
            if left == 0 || helping.parts.len() >= PARTS {
                break;
            }
            let until = match block.end().offset - helping.end.offset {
                len if len <= left => block.end(),
                _ => block.boundary(helping.end.offset + left),
            };
            left = left.saturating_sub(until.offset - helping.end.offset);
            helping.take(block, until, member.others_only.then_some(member.session));
        }
        Some(helping)
    }

    /// Gives it to its member; how that went, and where the member stands then.
    pub(super) fn deliver(&self, member: &Arc<Member>) -> (Written, Place) {
        let total: usize = self.parts.iter().map(Bytes::len).sum();
        let mut stop = self.end;
        let written = match total {
            0 => Written::All,
            _ => member.outlet.deliver(member, &self.parts, total, |n| {
                let (place, rest) = self.finish(n as u64);
                stop = place;
                rest
            }),
        };
        (written, stop)
    }

    /// Takes `block` up to `until`, passing over frames of the session `not_from`.
    fn take(&mut self, block: &Arc<Block>, until: Place, not_from: Option<u64>) {
        let start = self.end.offset.max(block.from.offset);
        let mut from = start;
        if let Some(session) = not_from {
            let mut begin = block.from.offset;
            for mark in block.marks.iter().filter(|mark| mark.end <= until.offset) {
                if mark.session == session && mark.end > start {
                    self.add(block, from, begin.max(from));
                    from = mark.end;
                }
                begin = mark.end;
            }
        }
        self.add(block, from, until.offset);
        self.end = until;
    }

    fn add(&mut self, block: &Arc<Block>, from: u64, until: u64) {
        if until > from {
            self.parts.push(block.slice(from, until));
            self.from.push((Arc::clone(block), from));
        }
    }

    /// After `n` bytes were written: where the frame that is under way ends, and what is left of it.
    fn finish(&self, n: u64) -> (Place, Bytes) {
        let mut before = 0;
        for (part, (block, from)) in self.parts.iter().zip(&self.from) {
            let len = part.len() as u64;
            if n <= before + len {
                let at = from + (n - before);
                let place = block.boundary(at);
                return (place, block.slice(at, place.offset));
            }
            before += len;
        }
        (self.end, Bytes::new())
    }
}
