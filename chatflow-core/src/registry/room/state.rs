//! What a room has: its frames in memory, and who is in it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;

use super::Shared;
use super::block::{Block, Mark, Place, place_marks};
use crate::Position;
use crate::registry::member::Member;

pub(super) struct State {
    /// Everything after this position is in `blocks` and `tail`.
    pub(super) start: Position,
    pub(super) blocks: VecDeque<Arc<Block>>,
    pub(super) tail: BytesMut,
    pub(super) marks: Vec<Mark>,
    pub(super) end: Place,
    /// Up to here the history has the log; what is past it is not let go.
    pub(super) watermark: Position,
    pub(super) roster: HashMap<u64, Arc<Member>, foldhash::fast::RandomState>,
    pub(super) arrivals: Vec<Arc<Member>>,
    pub(super) late: Vec<Arc<Member>>,
    pub(super) gone: usize,
    /// Members that read the past before they can be joined.
    pub(super) parked: usize,
    pub(super) joined: Vec<u64>,
    pub(super) left: Vec<String>,
}

impl State {
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

    /// Lets go of the oldest blocks as far as nobody needs them: what comes after `needed` stays, and what some are `behind` with
    /// stays within the bounds for slow members, unless the node is short of memory. Answers with the bytes that were freed.
    pub(super) fn trim(&mut self, shared: &Shared, needed: u64, behind: bool) -> usize {
        let messages = match (shared.is_over(), behind) {
            (true, _) => 0,
            (false, true) => shared.slow_messages.max(shared.recent_messages),
            (false, false) => shared.recent_messages,
        };
        let mut freed = 0;
        while let Some(block) = self.blocks.front() {
            let end = block.end();
            let enough = self.end.index - end.index >= messages || self.end.offset - end.offset >= shared.slow_bytes;
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

    pub(super) fn marks_with_starts(&self) -> impl DoubleEndedIterator<Item = (Place, &Mark)> {
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
