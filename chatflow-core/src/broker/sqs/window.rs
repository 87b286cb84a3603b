//! What a node knows of one log: the entries that came last, what is settled, and what is on its way.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::wire::{self, Incoming, Load, Origin};
use super::{SqsBrokerConfig, backlog::Backlog};
use crate::{LogId, Position};

/// How many messages are remembered for telling a repeat from one that came out of order.
const RECENT: usize = 1_024;

/// How many entries may come at once, after a while in which a queue gave nothing: readers that are awake lose none of them.
const BURST: usize = 20 * wire::MOST_ENTRIES;

/// A place in a log and what is there.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) position: Position,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Entry(Bytes),
    /// Nothing is missing up to here.
    Mark,
    /// What stood before may be missing; everything that follows is there.
    Hole,
}

/// One log on this node.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: LogId,
    /// Held for a handful of instructions, or while a batch of references is copied; never across a wait.
    pub(super) state: Mutex<State>,
    /// For readers and for who waits for an entry to come back.
    pub(super) news: Notify,
    /// For the one who empties the history's queue.
    pub(super) chores: Notify,
    /// Whether this node published since somebody looked.
    pub(super) published: AtomicBool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) window: Window,
    /// The epoch in which entries are taken from the queue, and the fence that has to come first.
    epoch: u64,
    fence: Option<Origin>,
    /// Where the last fence stood.
    began: Position,
    pub(super) settled: Position,
    unsettled: Count,
    /// Taken from publishers and not seen in the log yet.
    outside: Count,
    /// Of these, the ones whose places are known.
    accepted: VecDeque<(Position, usize)>,
    /// The message that is being published, and the sequence number under which it came back.
    publishing: Option<(Origin, Option<(u64, u128)>)>,
    pub(super) backlog: Option<Backlog>,
    pub(super) readers: HashMap<u64, Position>,
    pub(super) next_reader: u64,
    pub(super) closed: bool,
    most: Count,
    retain: usize,
}

/// Entries and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    entries: usize,
    bytes: usize,
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.entries += 1;
        self.bytes += bytes;
    }

    fn sub(&mut self, bytes: usize) {
        self.entries -= 1;
        self.bytes -= bytes;
    }
}

/// Everything after `base` up to `tail`, holes marked.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) base: Position,
    pub(super) tail: Position,
    items: VecDeque<Item>,
    held: Count,
    recent: VecDeque<u128>,
}

impl Window {
    /// What follows `at`, which must not be before `base`.
    pub(super) fn after(&self, at: Position) -> impl Iterator<Item = &Item> {
        let from = self.items.partition_point(|item| item.position <= at);
        self.items.range(from..)
    }
}

impl Log {
    pub(super) fn new(id: LogId, config: &SqsBrokerConfig) -> Self {
        let state = State {
            window: Window::default(),
            epoch: 0,
            fence: None,
            began: Position::ZERO,
            settled: Position::ZERO,
            unsettled: Count::default(),
            outside: Count::default(),
            accepted: VecDeque::new(),
            publishing: None,
            backlog: None,
            readers: HashMap::new(),
            next_reader: 0,
            closed: false,
            most: Count { entries: config.entries, bytes: config.bytes },
            retain: config.retain,
        };
        Self { id, state: Mutex::new(state), news: Notify::new(), chores: Notify::new(), published: AtomicBool::new(false) }
    }

    /// Makes room for an entry of `bytes`; otherwise how many are in the way.
    pub(super) fn admit(&self, bytes: usize) -> Result<(), u64> {
        let mut state = self.state.lock();
        let mut held = state.outside;
        // Another node may be writing the history; then only the queue knows how far it is.
        let queued = match &state.backlog {
            Some(backlog) if backlog.readers == 0 => backlog.queued,
            _ => {
                held.entries += state.unsettled.entries;
                held.bytes += state.unsettled.bytes;
                0
            }
        };
        if held.entries >= state.most.entries || held.bytes + bytes > state.most.bytes || queued >= state.most.entries as u64 {
            return Err((held.entries as u64).max(queued));
        }
        state.outside.add(bytes);
        Ok(())
    }

    /// An admitted entry did not get into the log.
    pub(super) fn refused(&self, bytes: usize) {
        self.state.lock().outside.sub(bytes);
    }

    /// An admitted entry is in the log, and will come back.
    pub(super) fn accepted(&self, position: Position, bytes: usize) {
        let mut state = self.state.lock();
        if position <= state.window.tail {
            state.outside.sub(bytes);
        } else {
            state.accepted.push_back((position, bytes));
        }
    }

    /// Waits until everything that was accepted came back.
    pub(super) async fn whole(&self) {
        self.until(|state| state.accepted.is_empty().then_some(())).await;
    }

    /// Waits until what was published up to `position` came back.
    pub(super) async fn reaches(&self, position: Position) {
        self.until(|state| (state.window.tail >= position).then_some(())).await;
    }

    /// Waits until the last fence came.
    pub(super) async fn is_attached(&self) {
        self.until(|state| state.fence.is_none().then_some(())).await;
    }

    async fn until<T>(&self, is: impl Fn(&State) -> Option<T>) -> T {
        loop {
            // Listening before looking: what comes in between is not missed.
            let mut news = pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(found) = is(&self.state.lock()) {
                return found;
            }
            news.await;
        }
    }

    /// The message that is published next; one at a time.
    pub(super) fn publishes(&self, origin: Origin) {
        self.state.lock().publishing = Some((origin, None));
    }

    /// The epoch and the sequence number under which the message that is being published came back, if it did.
    pub(super) fn came_back(&self) -> Option<(u64, u128)> {
        self.state.lock().publishing.and_then(|(_, back)| back)
    }

    /// In `epoch`, which is a new one, the node's queue has everything from the beginning.
    pub(super) fn begins(&self, epoch: u64) {
        self.state.lock().begins(epoch);
        self.news.notify_waiters();
    }

    /// Whether entries of `epoch` are taken from the queue.
    pub(super) fn stands_in(&self, epoch: u64) -> bool {
        let state = self.state.lock();
        state.epoch == epoch && state.fence.is_none()
    }

    /// From now on nothing is taken from the queue before `fence` came, in `epoch`.
    pub(super) fn fenced(&self, epoch: u64, fence: Origin) {
        let mut state = self.state.lock();
        (state.epoch, state.fence) = (epoch, Some(fence));
    }

    /// Where the last fence stood, once it came.
    pub(super) fn attached(&self) -> Option<Position> {
        let state = self.state.lock();
        (state.fence.is_none() && state.epoch > 0).then_some(state.began)
    }

    /// A message came out of the node's queue; whether it had come before.
    pub(super) fn arrives(&self, epoch: u64, message: &Incoming) -> bool {
        let Incoming { sequence, origin, load, .. } = message;
        let Some(first) = wire::place(epoch, *sequence, 0) else {
            tracing::error!(log = self.id.0, sequence, "SNS gave a sequence number that is too large; its entries are lost");
            return false;
        };
        {
            let mut state = self.state.lock();
            if let Some((of, back)) = &mut state.publishing
                && of == origin
            {
                *back = Some((epoch, *sequence));
            }
            if epoch > state.epoch && state.fence.is_none() {
                // This node did not subscribe to that topic yet. So it was whoever made it, before anything was published there.
                state.begins(epoch);
            }
            if epoch != state.epoch {
                return false;
            }
            match load {
                Load::Fence if state.fence == Some(*origin) => {
                    (state.fence, state.began) = (None, first);
                    state.window.begin(first);
                }
                _ if state.fence.is_some() => return false,
                _ if first <= state.window.tail => {
                    if state.window.recent.contains(sequence) {
                        return true;
                    }
                    // SNS promises that this does not happen. The entries have no place any more.
                    tracing::error!(log = self.id.0, sequence, tail = %state.window.tail, "a message came out of order; it is lost");
                    let hole = state.window.tail.next();
                    state.window.begin(hole);
                }
                Load::Fence => state.window.tail = first,
                Load::Entries(entries) => {
                    for (position, bytes) in places(epoch, *sequence, entries) {
                        if position > state.settled {
                            state.unsettled.add(bytes.len());
                        }
                        state.window.push(position, bytes.clone());
                    }
                }
            }
            state.window.remember(*sequence);
            state.returned();
            state.trim();
        }
        self.news.notify_waiters();
        false
    }

    /// The history has everything up to `through`.
    pub(super) fn settle(&self, through: Position) {
        {
            let mut state = self.state.lock();
            state.settle(through);
            state.trim();
        }
        self.chores.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.news.notify_waiters();
        self.chores.notify_one();
    }

    /// Whether what waits for a history that another node writes comes near the bound, as far as this node knows.
    pub(super) fn is_tight(&self) -> bool {
        let state = self.state.lock();
        let queued = state.backlog.as_ref().map_or(0, |backlog| if backlog.readers == 0 { backlog.queued } else { 0 });
        queued > state.most.entries as u64 / 2
    }

    /// How many entries wait for the history, as far as this node knows.
    pub(super) fn depth(&self) -> u64 {
        let state = self.state.lock();
        match &state.backlog {
            Some(backlog) if backlog.readers == 0 => backlog.queued,
            _ => (state.unsettled.entries + state.accepted.len()) as u64,
        }
    }
}

/// The entries of a message with their places; those beyond what a place can say can't have been published.
pub(super) fn places(epoch: u64, sequence: u128, entries: &[Bytes]) -> impl Iterator<Item = (Position, &Bytes)> {
    entries.iter().enumerate().filter_map(move |(index, bytes)| Some((wire::place(epoch, sequence, index)?, bytes)))
}

impl Window {
    fn push(&mut self, position: Position, bytes: Bytes) {
        self.held.add(bytes.len());
        self.tail = position;
        self.items.push_back(Item { position, body: Body::Entry(bytes) });
    }

    /// Goes on after `position`, and whatever stood between is not here.
    fn begin(&mut self, position: Position) {
        if self.tail == Position::ZERO {
            self.base = position;
        } else {
            self.held.add(0);
            self.items.push_back(Item { position, body: Body::Hole });
        }
        self.tail = position;
    }

    fn remember(&mut self, sequence: u128) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(sequence);
    }
}

impl State {
    /// The last entry that this node knows of, come back or not.
    pub(super) fn latest(&self) -> Position {
        self.accepted.back().map_or(self.window.tail, |(position, _)| self.window.tail.max(*position))
    }

    pub(super) fn settle(&mut self, through: Position) {
        if through <= self.settled {
            return;
        }
        let from = self.window.items.partition_point(|item| item.position <= self.settled);
        for item in self.window.items.range(from..).take_while(|item| item.position <= through) {
            if let Body::Entry(bytes) = &item.body {
                self.unsettled.sub(bytes.len());
            }
        }
        self.settled = through;
        if let Some(backlog) = &mut self.backlog {
            backlog.settled(through);
        }
    }

    fn begins(&mut self, epoch: u64) {
        if epoch > self.epoch {
            (self.epoch, self.fence, self.began) = (epoch, None, Position::new(epoch, 0));
            self.window.begin(self.began);
            self.returned();
        }
    }

    /// What was accepted up to the tail has come back, or never will.
    fn returned(&mut self) {
        while let Some((position, bytes)) = self.accepted.front().copied()
            && position <= self.window.tail
        {
            self.accepted.pop_front();
            self.outside.sub(bytes);
        }
    }

    /// Lets go of what is settled, read by all, and not among the last few. Readers that stand still don't hold everything: they will
    /// be told that they lost some, or read the history's queue. Of a history that another node writes, a part is kept in case this
    /// node takes it over.
    pub(super) fn trim(&mut self) {
        let unwritten = matches!(&self.backlog, Some(backlog) if backlog.readers == 0);
        let unsettled = if unwritten { Position::MAX } else { self.settled };
        let needed = self.readers.values().copied().min().unwrap_or(Position::MAX).min(unsettled);
        let window = &mut self.window;
        while let Some(first) = window.items.front() {
            let full = window.held.entries > 2 * self.most.entries + BURST || window.held.bytes > 2 * self.most.bytes;
            let spare = unwritten && window.held.entries <= self.most.entries / 2 && window.held.bytes <= self.most.bytes / 4;
            if !full && (spare || first.position > needed || window.items.len() <= self.retain) {
                break;
            }
            let bytes = match &first.body {
                Body::Entry(bytes) => {
                    if first.position > self.settled {
                        self.unsettled.sub(bytes.len());
                    }
                    bytes.len()
                }
                Body::Mark | Body::Hole => 0,
            };
            window.held.sub(bytes);
            window.base = first.position;
            window.items.pop_front();
        }
    }
}
