//! How much of a log waits for a history, as far as this node knows: what can be refused at once is.

use parking_lot::Mutex;

use super::failure::Failure;
use super::head::Head;
use crate::{ErrorKind, LogId, Position};

/// The bounds of one log, and what is known of how full it is. The script has the last word.
#[derive(Debug)]
pub(super) struct Backlog {
    most_entries: u64,
    most_bytes: u64,
    /// Held for a handful of instructions.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    head: Head,
    /// Entries of all epochs that this node's history holds.
    own: u64,
    /// Submitted here and not answered yet.
    entries: u64,
    bytes: u64,
}

/// What a script says of the waiting, counted over all epochs: entries, settled entries, bytes, settled bytes.
pub(super) type Waiting = [u64; 4];

impl Backlog {
    pub(super) fn new(most_entries: usize, most_bytes: usize) -> Self {
        Self { most_entries: most_entries as u64, most_bytes: most_bytes as u64, state: Mutex::default() }
    }

    /// Takes room for an entry, to be given back once its outcome is known.
    pub(super) fn reserve(&self, log: LogId, size: usize) -> Result<(), Failure> {
        let mut state = self.state.lock();
        let waiting = state.head.count().saturating_sub(state.head.settled) + state.entries;
        let bytes = state.head.bytes.saturating_sub(state.head.freed) + state.bytes;
        if waiting >= self.most_entries || bytes + size as u64 > self.most_bytes {
            let text = format!("log {log} holds {waiting} messages that are not in the history yet");
            return Err(Failure::new(ErrorKind::Full, text));
        }
        state.entries += 1;
        state.bytes += size as u64;
        Ok(())
    }

    /// Gives room back.
    pub(super) fn release(&self, entries: usize, bytes: usize) {
        let mut state = self.state.lock();
        state.entries = state.entries.saturating_sub(entries as u64);
        state.bytes = state.bytes.saturating_sub(bytes as u64);
    }

    /// The node is attached: this is the log.
    pub(super) fn attach(&self, head: &Head, own: u64) {
        let mut state = self.state.lock();
        state.head = head.clone();
        state.own = own;
    }

    /// A later look at the log. Answers may come in another order than they were given: all these numbers only grow.
    pub(super) fn learn(&self, head: &Head) {
        let mut state = self.state.lock();
        if state.head.epoch == head.epoch {
            state.head.tail = state.head.tail.max(head.tail);
        }
        state.grow(head.settled, head.bytes, head.freed);
    }

    /// What `publish` said.
    pub(super) fn waiting(&self, [count, settled, bytes, freed]: Waiting) {
        let mut state = self.state.lock();
        state.head.tail = state.head.tail.max(count.saturating_sub(state.head.base));
        state.grow(settled, bytes, freed);
    }

    /// Others were heard to have published through `place`.
    pub(super) fn heard(&self, place: Position) {
        let mut state = self.state.lock();
        if state.head.epoch == place.epoch {
            state.head.tail = state.head.tail.max(u64::try_from(place.offset).unwrap_or_default());
        }
    }

    /// This node's history holds everything through `through`. Whether it is behind by much, so that settling is urgent.
    pub(super) fn settled(&self, through: Position) -> bool {
        let mut state = self.state.lock();
        if let Some(count) = state.head.count_through(through) {
            state.own = state.own.max(count);
        }
        let waiting = state.head.count().saturating_sub(state.head.settled) + state.entries;
        let bytes = state.head.bytes.saturating_sub(state.head.freed) + state.bytes;
        waiting >= self.most_entries / 4 || bytes >= self.most_bytes / 4
    }

    /// How many entries this node's history does not hold yet.
    pub(super) fn depth(&self) -> u64 {
        let state = self.state.lock();
        state.head.count().saturating_sub(state.own)
    }
}

impl State {
    fn grow(&mut self, settled: u64, bytes: u64, freed: u64) {
        self.head.settled = self.head.settled.max(settled);
        self.head.bytes = self.head.bytes.max(bytes);
        self.head.freed = self.head.freed.max(freed);
    }
}
