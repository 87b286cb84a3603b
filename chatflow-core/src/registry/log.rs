//! A room's log on this node: ready-made frames, and what is known of each.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Encoder;
use crate::Position;
use crate::broker::Delivered;

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

/// What a room keeps in mind: `blocks`, then the `tail` that the next block will be made of.
pub(super) struct RoomLog {
    /// Everything after this position is here.
    start: Position,
    blocks: VecDeque<Arc<Block>>,
    tail: BytesMut,
    marks: Vec<Mark>,
    end: Place,
    /// Up to here the history has the log; what is past it is not let go.
    watermark: Position,
}

impl RoomLog {
    pub(super) fn new(start: Position, watermark: Position) -> Self {
        Self { start, blocks: VecDeque::new(), tail: BytesMut::new(), marks: Vec::new(), end: Place::default(), watermark }
    }

    /// Appends an entry's frame; how long it is, if there is one.
    pub(super) fn append(&mut self, entry: &Delivered, watermark: Position, encoder: &dyn Encoder) -> Option<usize> {
        let before = self.tail.len();
        let session = encoder.encode(entry, &mut self.tail)?;
        let len = self.tail.len() - before;
        self.end.offset += len as u64;
        self.end.index += 1;
        self.marks.push(Mark { end: self.end.offset, position: entry.position, session });
        self.settle(watermark);
        Some(len)
    }

    /// The history has the log up to `watermark`.
    pub(super) fn settle(&mut self, watermark: Position) {
        self.watermark = watermark;
    }

    /// Everything after this position is here.
    pub(super) fn start(&self) -> Position {
        self.start
    }

    pub(super) fn end(&self) -> Place {
        self.end
    }

    /// Whether there is anything that is in no block.
    pub(super) fn has_tail(&self) -> bool {
        !self.marks.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.tail.len() + self.blocks.iter().map(|block| block.bytes.len()).sum::<usize>()
    }

    /// The blocks from the one that holds `offset` on; `None` when that was let go.
    pub(super) fn blocks_from(&self, offset: u64) -> Option<impl Iterator<Item = &Arc<Block>>> {
        let oldest = self.blocks.front()?.from.offset;
        let first = self.blocks.partition_point(|block| block.end().offset <= offset);
        (offset >= oldest).then(|| self.blocks.iter().skip(first))
    }

    /// Makes the tail a block.
    pub(super) fn seal(&mut self) -> Option<Arc<Block>> {
        if self.marks.is_empty() {
            return None;
        }
        let bytes = self.tail.split().freeze();
        let from = Place { offset: self.end.offset - bytes.len() as u64, index: self.end.index - self.marks.len() as u64 };
        let block = Arc::new(Block { from, bytes, marks: std::mem::take(&mut self.marks) });
        self.blocks.push_back(Arc::clone(&block));
        Some(block)
    }

    /// Lets go of the oldest blocks while the rest holds `messages` or `bytes`, but of nothing after `needed` or past the watermark.
    /// Answers with the bytes that were freed.
    pub(super) fn trim(&mut self, messages: u64, bytes: u64, needed: u64) -> usize {
        let mut freed = 0;
        while let Some(block) = self.blocks.front() {
            let end = block.end();
            let enough = self.end.index - end.index >= messages || self.end.offset - end.offset >= bytes;
            let last = block.marks.last().map_or(Position::ZERO, |mark| mark.position);
            if !enough || end.offset > needed || last > self.watermark {
                break;
            }
            freed += block.bytes.len();
            self.start = last;
            self.blocks.pop_front();
        }
        freed
    }

    pub(super) fn has_blocks(&self) -> bool {
        !self.blocks.is_empty()
    }

    fn marks_with_starts(&self) -> impl DoubleEndedIterator<Item = (Place, &Mark)> {
        let sealed = self.blocks.iter().flat_map(|block| place_marks(block.from, &block.marks));
        let tail = Place { offset: self.end.offset - self.tail.len() as u64, index: self.end.index - self.marks.len() as u64 };
        sealed.chain(place_marks(tail, &self.marks))
    }

    /// The place of the first frame after `position`.
    pub(super) fn after(&self, position: Position) -> Place {
        let later = self.marks_with_starts().rev().take_while(|(_, mark)| mark.position > position);
        later.last().map_or(self.end, |(place, _)| place)
    }

    /// The place of the last `n` frames, and the position before them.
    pub(super) fn last(&self, n: usize, progress: Position) -> (Place, Position) {
        let Some((place, first)) = self.marks_with_starts().rev().take(n).last() else { return (self.end, progress) };
        let before = self.marks_with_starts().rev().find(|(_, mark)| mark.position < first.position);
        (place, before.map_or(self.start, |(_, mark)| mark.position))
    }

    pub(super) fn end_of_blocks(&self) -> Place {
        self.blocks.back().map_or(self.end, |block| block.end())
    }

    pub(super) fn last_sealed(&self) -> Position {
        self.blocks.back().and_then(|block| block.marks.last()).map_or(self.start, |mark| mark.position)
    }

    /// The position of the frame that ends at `offset`, or where memory begins.
    pub(super) fn position_at(&self, offset: u64) -> Position {
        let sealed = self.blocks.iter().flat_map(|block| &block.marks);
        sealed.take_while(|mark| mark.end <= offset).last().map_or(self.start, |mark| mark.position)
    }
}

fn place_marks(from: Place, marks: &[Mark]) -> impl DoubleEndedIterator<Item = (Place, &Mark)> {
    (0..marks.len()).map(move |i| {
        let offset = if i == 0 { from.offset } else { marks[i - 1].end };
        (Place { offset, index: from.index + i as u64 }, &marks[i])
    })
}
