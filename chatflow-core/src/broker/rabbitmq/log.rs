//! One log as this node knows it: what waits to be published, what was published and not read back, and the end of what was read.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::backlog::Backlog;
use super::envelope::{Envelope, Kind, Mark};
use super::fault::error;
use super::place::nth;
use super::window::{Look, Window};
use crate::broker::outbox::Outbox;
use crate::broker::{Entry, LogId, Receipt, Refused};
use crate::{ErrorKind, Position};

/// Entries of one log that were published and not read back yet. What comes meanwhile gathers in the outbox and makes the next entry
/// larger: RabbitMQ is kept busy by two, and more would only be smaller ones.
const IN_FLIGHT: usize = 2;

/// A log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) id: LogId,
    pub(super) outbox: Outbox,
    /// Held for a handful of instructions; nobody is told anything under it, and nothing is awaited.
    state: Mutex<State>,
    /// The window has moved, or the log has ended.
    news: Notify,
    /// There is room for more in flight, or a fence is wanted.
    room: Notify,
    /// Whether it has been read and published to, once.
    pub(super) ready: watch::Sender<bool>,
    life: u64,
    most_entries: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    window: Window,
    /// The epoch that is being read; 0 before the first.
    epoch: u64,
    /// Whether the window has a place in that epoch.
    placed: bool,
    backlog: Backlog,
    /// In the order in which they were published, which is that in which they come back.
    in_flight: VecDeque<InFlight>,
    /// The last place that has come, which the window is about to hold.
    arriving: Position,
    fences: Vec<oneshot::Sender<Position>>,
    number: u64,
    ended: bool,
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    since: Instant,
    bytes: usize,
    told: Told,
}

#[derive(Debug)]
enum Told {
    /// Of each message in the entry.
    Senders(Vec<Receipt>),
    Fences(Vec<oneshot::Sender<Position>>),
}

impl Told {
    /// Tells the senders; gives the fences.
    fn accepted(self, position: Position) -> Vec<oneshot::Sender<Position>> {
        match self {
            Self::Senders(receipts) => {
                receipts.into_iter().enumerate().for_each(|(index, receipt)| receipt.accepted(Some(nth(position, index))));
                Vec::new()
            }
            Self::Fences(fences) => fences,
        }
    }

    fn failed(self, why: &str) {
        if let Self::Senders(receipts) = self {
            receipts.into_iter().for_each(|receipt| receipt.failed(error(ErrorKind::Unavailable, why)));
        }
    }

    fn senders(&self) -> usize {
        if let Self::Senders(receipts) = self { receipts.len() } else { 0 }
    }
}

/// An entry that was read.
pub(super) type Read = (Position, Envelope);

impl Log {
    /// Number `id`, holding so much that is not settled.
    pub(super) fn new(id: LogId, life: u64, (most_entries, most_bytes): (usize, usize)) -> Self {
        Self {
            id,
            outbox: Outbox::new(most_entries, most_bytes),
            state: Mutex::default(),
            news: Notify::new(),
            room: Notify::new(),
            ready: watch::Sender::new(false),
            life,
            most_entries,
            most_bytes,
        }
    }

    /// Puts an entry on its way, or says why not.
    pub(super) fn submit(&self, entry: Entry, receipt: Receipt) -> Result<(), Refused> {
        let size = entry.bytes.len();
        let mut state = self.state.lock();
        let State { window, backlog, .. } = &mut *state;
        if self.outbox.is_open() && !backlog.admits(window, size, self.most_entries, self.most_bytes) {
            let waiting = backlog.entries(window) + backlog.waiting_entries as u64;
            let error = error(ErrorKind::Full, format!("log {} holds {waiting} messages that are not in the history yet", self.id));
            return Err(Refused { error, receipt });
        }
        self.outbox.push(entry, receipt)?;
        backlog.waiting_entries += 1;
        backlog.waiting_bytes += size;
        Ok(())
    }

    /// A mark that no other entry has.
    pub(super) fn mark(&self) -> Mark {
        self.state.lock().mark(self.life)
    }

    /// Waits until there is room in flight, or a fence is wanted and there is none (`false`).
    pub(super) async fn has_room(&self) -> bool {
        loop {
            let room = self.room.notified();
            {
                let state = self.state.lock();
                let room = state.in_flight.len() < IN_FLIGHT;
                if room || !state.fences.is_empty() {
                    return room;
                }
            }
            room.await;
        }
    }

    /// Waits until a fence is wanted.
    pub(super) async fn fence_wanted(&self) {
        loop {
            let wanted = self.room.notified();
            if !self.state.lock().fences.is_empty() {
                return;
            }
            wanted.await;
        }
    }

    /// What `batch` is published as: one entry, and a fence in front if somebody wants one.
    pub(super) fn enlist(&self, batch: Vec<(Entry, Receipt)>) -> Vec<(u64, Vec<u8>)> {
        let mut out = Vec::with_capacity(2);
        let since = Instant::now();
        let mut state = self.state.lock();
        let fences = std::mem::take(&mut state.fences);
        if !fences.is_empty() {
            let mark = state.mark(self.life);
            state.in_flight.push_back(InFlight { number: mark.number, since, bytes: 0, told: Told::Fences(fences) });
            out.push((mark.number, Envelope::sign(Kind::Fence, mark)));
        }
        if !batch.is_empty() {
            let mark = state.mark(self.life);
            out.push((mark.number, Envelope::seal(mark, batch.iter().map(|(entry, _)| &entry.bytes))));
            let bytes = batch.iter().map(|(entry, _)| entry.bytes.len()).sum();
            let told = Told::Senders(batch.into_iter().map(|(_, receipt)| receipt).collect());
            state.in_flight.push_back(InFlight { number: mark.number, since, bytes, told });
        }
        out
    }

    /// RabbitMQ says that it did not take this one.
    pub(super) fn refuse(&self, number: u64, why: &str) {
        let refused = {
            let mut state = self.state.lock();
            let found = state.in_flight.binary_search_by_key(&number, |waiting| waiting.number);
            let refused = found.ok().and_then(|at| state.in_flight.remove(at));
            state.gone(refused.as_slice());
            refused
        };
        self.room.notify_waiters();
        if let Some(refused) = refused {
            refused.told.failed(why);
        }
    }

    /// Nothing is taken, and whatever waits fails: its outcome is not known.
    pub(super) fn away(&self, why: &str) {
        self.outbox.away(why);
        let (waiting, fences) = {
            let mut state = self.state.lock();
            (state.backlog.waiting_entries, state.backlog.waiting_bytes) = (0, 0);
            (std::mem::take(&mut state.in_flight), std::mem::take(&mut state.fences))
        };
        self.room.notify_waiters();
        drop(fences);
        waiting.into_iter().for_each(|waiting| waiting.told.failed(why));
    }

    /// Waits until all of ours are failed or read back.
    pub(super) async fn flushed(&self) {
        loop {
            let told = self.room.notified();
            if self.state.lock().backlog.waiting_entries == 0 {
                return;
            }
            told.await;
        }
    }

    /// Whether something of ours has been under way for longer than it may.
    pub(super) fn stalled(&self, patience: Duration) -> bool {
        self.state.lock().in_flight.front().is_some_and(|oldest| oldest.since.elapsed() > patience)
    }

    /// The place of an entry that is put into the log now: everything that was there before has been read by then. `None` when the
    /// connection was lost meanwhile.
    pub(super) async fn fence(&self) -> Option<Position> {
        let (tell, told) = oneshot::channel();
        self.state.lock().fences.push(tell);
        self.room.notify_waiters();
        told.await.ok()
    }

    /// The epoch that is being read, 0 before the first; where, and who put the entry there.
    pub(super) fn place(&self) -> (u64, Option<(Position, Option<Mark>)>) {
        let state = self.state.lock();
        (state.epoch, state.placed.then(|| (state.window.tail(), state.window.last())))
    }

    /// Reading begins in `epoch`, or goes on in it.
    pub(super) fn turn(&self, epoch: u64) {
        let mut state = self.state.lock();
        // The first epoch of all begins wherever its end is when it is first read; the next ones at their beginning.
        if state.placed {
            state.window.turn(epoch);
        }
        state.epoch = epoch;
        drop(state);
        self.news.notify_waiters();
    }

    /// The next entry to come follows `position`: the node's first, or after a hole.
    pub(super) fn begin(&self, position: Position) {
        let mut state = self.state.lock();
        if !state.placed {
            state.backlog.begin(position);
        }
        state.window.begin(position);
        state.placed = true;
        drop(state);
        self.news.notify_waiters();
    }

    /// The next entries have come. Those who sent them are told before anybody can see them.
    pub(super) fn read(&self, entries: Vec<Read>) {
        let end = |(position, envelope): &Read| nth(*position, envelope.clone().messages().count().saturating_sub(1));
        let Some(last) = entries.last().map(end) else { return };
        let mut told = Vec::new();
        {
            let mut state = self.state.lock();
            state.arriving = last;
            for (position, envelope) in entries.iter().filter(|(_, envelope)| envelope.mark.life == self.life) {
                let number = envelope.mark.number;
                let through = state.in_flight.partition_point(|ours| ours.number <= number);
                let came: Vec<_> = state.in_flight.drain(..through).collect();
                told.extend(came.into_iter().map(|ours| ((ours.number == number).then_some(*position), ours)));
            }
        }
        let (mut senders, mut bytes, mut passed) = (0, 0, Vec::new());
        for (position, ours) in told {
            senders += ours.told.senders();
            bytes += ours.bytes;
            match position {
                Some(position) => passed.extend(ours.told.accepted(position).into_iter().map(|fence| (fence, position))),
                // One that was published later has come back, and one channel keeps the order.
                None => ours.told.failed("RabbitMQ did not put the message into the log"),
            }
        }
        let mut state = self.state.lock();
        state.backlog.told(senders, bytes);
        let (mut count, mut size) = (0, 0);
        for (position, envelope) in entries {
            state.window.stand(position, envelope.mark);
            for (index, message) in envelope.messages().enumerate() {
                count += 1;
                size += message.len();
                state.window.push(nth(position, index), message);
            }
        }
        state.backlog.read(last, count, size);
        drop(state);
        // Not before the window has what was in front of them: who finds less there takes it for lost.
        for (fence, position) in passed {
            // Whoever does not wait any more need not be told.
            let _ = fence.send(position);
        }
        self.news.notify_waiters();
        self.room.notify_waiters();
    }

    /// Every history has what is up to `position`.
    pub(super) fn settle(&self, position: Position) {
        self.state.lock().backlog.settle(position);
    }

    /// How many entries the histories do not have.
    pub(super) fn depth(&self) -> u64 {
        let state = self.state.lock();
        state.backlog.entries(&state.window)
    }

    /// The last place that was read.
    pub(super) fn tail(&self) -> Position {
        self.state.lock().window.tail()
    }

    /// Waits until whoever was told of a message finds it in front of the [`tail`](Self::tail): a matter of moments.
    pub(super) async fn arrived(&self) {
        loop {
            let news = self.news.notified();
            {
                let state = self.state.lock();
                if state.window.tail() >= state.arriving {
                    return;
                }
            }
            news.await;
        }
    }

    /// What there is for a reader who stands at `at`; `None`: nothing, and nothing comes any more.
    pub(super) fn look(&self, at: Position) -> Option<Look> {
        let state = self.state.lock();
        let look = state.window.look(at);
        (!state.ended || !matches!(look, Look::Tail(_))).then_some(look)
    }

    /// See [`Window::before_last`], and where the window begins and ends.
    pub(super) fn before_last(&self, n: usize) -> (Option<Position>, Position, Position) {
        let state = self.state.lock();
        (state.window.before_last(n), state.window.from(), state.window.tail())
    }

    /// Told whenever [`look`](Self::look) may find something else. Enable it before looking.
    pub(super) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    /// Nothing comes any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.news.notify_waiters();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().ended
    }
}

impl State {
    fn mark(&mut self, life: u64) -> Mark {
        self.number += 1;
        Mark { life, number: self.number }
    }

    fn gone(&mut self, gone: &[InFlight]) {
        let senders = gone.iter().map(|gone| gone.told.senders()).sum();
        let bytes = gone.iter().map(|gone| gone.bytes).sum();
        self.backlog.told(senders, bytes);
    }
}
