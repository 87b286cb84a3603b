//! A backend in this process that can be stopped, cut off, wiped and wound back: what the suite is proved with. It holds what it
//! must, unless it is told to have a fault.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chatflow_core::broker::{Entry, Receipt};
use chatflow_core::conformance::broker::{Backend, Capabilities};
use chatflow_core::{Error, ErrorKind, Position, Result, Timestamp};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

/// Entries of one log that were not settled; settled ones that are kept.
pub(super) const MOST: usize = 64;
const RETAIN: usize = 16;

/// What a broken one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The second node's readers get two entries in each other's place.
    Swaps,
    /// The second node counts from another number.
    Shifts,
    /// The second node's readers go on with the entry after the next when they were cut off.
    Skips,
    /// They get the last entry once more when they were cut off.
    Repeats,
    /// Streams end when the backend goes away.
    EndsStreams,
    /// Entries are accepted while the backend is away, and forgotten.
    AcceptsAway,
    /// Publishers learn only after a while that the backend is away.
    RefusesLate,
    /// What the last entries were is forgotten in a restart.
    CutsInRestart,
    /// A full log drops its oldest entry.
    DropsOldest,
    /// What one history has settled is trimmed for all.
    TrimsForOne,
    /// A reader that stands still keeps the log from being trimmed.
    WaitsForReaders,
    /// So does one whose node is dead.
    WaitsForTheDead,
    /// A log that was wound back goes on in its epoch.
    ReusesPlaces,
    /// So does a log that was wiped.
    ForgetsItsEpoch,
    /// A node that comes with a later epoch is not heeded.
    IgnoresTheFloor,
    /// A node with another number of logs is let in.
    AnyNumberOfLogs,
    /// Closing one node's broker closes all.
    ClosesAll,
}

/// The backend, and what its nodes know.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) state: Mutex<State>,
    pub(super) news: Notify,
    fault: Option<Fault>,
    capabilities: Capabilities,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) up: bool,
    /// How often connections were cut.
    pub(super) cuts: u64,
    pub(super) logs: Vec<Log>,
    pub(super) nodes: Vec<Node>,
    /// How far each stream has read; for the faults only.
    pub(super) readers: BTreeMap<u64, u64>,
    pub(super) streams: u64,
}

/// What a node remembers.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) history: Option<String>,
    pub(super) floor: u64,
    /// For each log, the last position that it has read or been told.
    pub(super) seen: Vec<Position>,
    pub(super) closed: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// 0: there is none.
    pub(super) epoch: u64,
    /// How many entries were trimmed; the first has offset 1.
    trimmed: u64,
    pub(super) ring: VecDeque<Bytes>,
    /// By the histories, and by nodes that have none.
    pub(super) settled: BTreeMap<Option<String>, u64>,
}

impl Log {
    pub(super) fn oldest(&self) -> Position {
        Position::new(self.epoch, self.trimmed.into())
    }

    pub(super) fn tail(&self) -> Position {
        Position::new(self.epoch, u128::from(self.trimmed) + self.ring.len() as u128)
    }

    /// What all histories have settled; where there are none, what nodes have.
    pub(super) fn settled(&self) -> u64 {
        let of_histories = self.settled.iter().filter(|(history, _)| history.is_some()).map(|(_, through)| *through).min();
        of_histories.or_else(|| self.settled.get(&None).copied()).unwrap_or_default()
    }

    pub(super) fn depth(&self, through: u64) -> usize {
        (self.trimmed as usize + self.ring.len()).saturating_sub(through as usize)
    }

    pub(super) fn trim(&mut self, through: u64) {
        while self.trimmed < through && self.ring.len() > RETAIN {
            self.ring.pop_front();
            self.trimmed += 1;
        }
    }
}

pub(super) fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "shared", "the backend is away")
}

impl Service {
    pub(super) fn new(fault: Option<Fault>, capabilities: Capabilities) -> Arc<Self> {
        let state = Mutex::new(State { up: true, ..State::default() });
        Arc::new(Self { state, news: Notify::new(), fault, capabilities })
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.news.notify_waiters();
        changed
    }

    /// A log as a node finds it: made anew, in a greater epoch, when it is not what the node knows it was.
    pub(super) fn visit<'a>(&self, state: &'a mut State, node: usize, log: usize) -> &'a mut Log {
        let Node { history, floor, seen, .. } = &state.nodes[node];
        let (it, seen) = (&mut state.logs[log], seen[log]);
        let floor = if self.has(Fault::IgnoresTheFloor) { 0 } else { *floor };
        let wound_back = seen > it.tail() && !self.has(Fault::ReusesPlaces) && !self.has(Fault::CutsInRestart);
        if it.epoch == 0 || it.epoch < floor || wound_back {
            let newest = it.epoch.max(seen.epoch).max(floor).max(Timestamp::now().0 as u64);
            let epoch = if self.has(Fault::ForgetsItsEpoch) && seen.epoch > 0 { seen.epoch } else { newest + 1 };
            let settled = it.settled.keys().map(|history| (history.clone(), 0)).collect();
            *it = Log { epoch, settled, ..Log::default() };
        }
        let oldest = it.trimmed;
        it.settled.entry(history.clone()).or_insert(oldest);
        it
    }

    fn append(&self, node: usize, cuts: u64, entry: Entry) -> Result<Option<Position>> {
        let mut state = self.state.lock();
        if !state.up && self.has(Fault::AcceptsAway) {
            return Ok(None);
        }
        // What was under way when the connection was cut has not arrived.
        if !state.up || state.cuts != cuts {
            return Err(away());
        }
        let index = usize::from(entry.log.0);
        let held = self.held(&state);
        let log = self.visit(&mut state, node, index);
        if log.depth(log.settled().min(held)) >= MOST {
            if !self.has(Fault::DropsOldest) {
                return Err(Error::new(ErrorKind::Full, "shared", "too much was not settled"));
            }
            log.ring.pop_front();
            log.trimmed += 1;
        }
        log.ring.push_back(entry.bytes);
        let position = log.tail();
        state.nodes[node].seen[index] = position;
        Ok(Some(position))
    }

    /// How far readers let the log be trimmed: as far as one likes.
    pub(super) fn held(&self, state: &State) -> u64 {
        let holds = self.has(Fault::WaitsForReaders) || self.has(Fault::WaitsForTheDead);
        state.readers.values().copied().filter(|_| holds).min().unwrap_or(u64::MAX)
    }

    /// Gives what was submitted to the backend, in its order, as long as the broker is there.
    pub(super) async fn carry(self: Arc<Self>, node: usize, tells: bool, mut queue: mpsc::Receiver<(u64, Entry, Receipt)>) {
        while let Some((cuts, entry, receipt)) = queue.recv().await {
            match self.append(node, cuts, entry) {
                Ok(position) => receipt.accepted(position.filter(|_| tells)),
                Err(error) => {
                    if self.has(Fault::RefusesLate) {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    receipt.failed(error);
                }
            }
            self.news.notify_waiters();
        }
    }
}

#[async_trait]
impl Backend for Service {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn stop(&self) {
        self.change(|state| {
            (state.up, state.cuts) = (false, state.cuts + 1);
            for log in state.logs.iter_mut().filter(|_| self.has(Fault::CutsInRestart)) {
                log.ring.truncate(log.ring.len().saturating_sub(3));
            }
        });
    }

    async fn start(&self) {
        // As long as a service takes, so that nodes see that it is away.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.change(|state| state.up = true);
    }

    async fn wipe(&self) {
        self.change(|state| state.logs.iter_mut().for_each(|log| *log = Log::default()));
    }

    async fn snapshot(&self) -> Box<dyn Any + Send> {
        Box::new(self.state.lock().logs.clone())
    }

    async fn restore(&self, copy: Box<dyn Any + Send>) {
        let copy = copy.downcast().expect("a snapshot");
        self.change(|state| (state.logs, state.cuts) = (*copy, state.cuts + 1));
    }

    async fn lose_live(&self) {
        self.change(|state| state.cuts += 1);
    }
}
