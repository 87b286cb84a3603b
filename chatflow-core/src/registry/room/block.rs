//! Frames that were sealed together, and what a member gets of them.

use std::sync::Arc;

use bytes::Bytes;

use crate::Position;
use crate::registry::member::Member;
use crate::registry::outlet::Written;

/// A place between two frames, counted since the room began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) index: u64,
}

/// Where a frame ends, which position it has, and which session of this node sent it (0: none).
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) end: u64,
    pub(super) position: Position,
    pub(super) session: u64,
}

/// Frames that were sealed together: one contiguous slice.
pub(super) struct Block {
    pub(super) from: Place,
    pub(super) bytes: Bytes,
    pub(super) marks: Vec<Mark>,
}

impl Block {
    pub(super) fn end(&self) -> Place {
        Place { offset: self.from.offset + self.bytes.len() as u64, index: self.from.index + self.marks.len() as u64 }
    }

    pub(super) fn slice(&self, from: u64, until: u64) -> Bytes {
        self.bytes.slice((from - self.from.offset) as usize..(until - self.from.offset) as usize)
    }

    /// The end of the frame that holds the byte before `offset`.
    pub(super) fn boundary(&self, offset: u64) -> Place {
        let i = self.marks.partition_point(|mark| mark.end < offset);
        Place { offset: self.marks[i].end, index: self.from.index + i as u64 + 1 }
    }
}

/// What one member gets in one turn.
pub(super) struct Helping {
    pub(super) parts: Vec<Bytes>,
    /// For each part, its block and where in the room it begins.
    pub(super) from: Vec<(Arc<Block>, u64)>,
    pub(super) end: Place,
}

impl Helping {
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
    pub(super) fn take(&mut self, block: &Arc<Block>, until: Place, not_from: Option<u64>) {
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

    pub(super) fn add(&mut self, block: &Arc<Block>, from: u64, until: u64) {
        if until > from {
            self.parts.push(block.slice(from, until));
            self.from.push((Arc::clone(block), from));
        }
    }

    /// After `n` bytes were written: where the frame that is under way ends, and what is left of it.
    pub(super) fn finish(&self, n: u64) -> (Place, Bytes) {
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

pub(super) fn place_marks(from: Place, marks: &[Mark]) -> impl DoubleEndedIterator<Item = (Place, &Mark)> {
    (0..marks.len()).map(move |i| {
        let offset = if i == 0 { from.offset } else { marks[i - 1].end };
        (Place { offset, index: from.index + i as u64 }, &marks[i])
    })
}
