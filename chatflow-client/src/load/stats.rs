//! Counting and timing, cheap enough to be always on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

use super::plan::KINDS;

/// The finest time bucket, microseconds.
pub(super) const TICK_US: u64 = 100_000;
/// The longest latency that is told apart: ten minutes.
const LONGEST_US: u64 = 600_000_000;
const SHARDS: usize = 16;

/// What the whole run counts while it goes on.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) sent: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) reconnections: AtomicU64,
    /// Broadcasts received, all members together.
    pub(super) delivered: AtomicU64,
    /// Times that a listener was told of a gap.
    pub(super) announced_gaps: AtomicU64,
    /// From when time buckets count, microseconds of the run: when the measured part began.
    origin_us: AtomicU64,
    /// One for a few connections each, so that they seldom meet.
    shards: Vec<Mutex<Tally>>,
}

/// An error that was met.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Met {
    pub(super) times: u64,
    /// What the first one said.
    pub(super) first: String,
}

/// Counts of which each connection keeps its part.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// From a message's sending (or due) time to its answer, microseconds.
    pub(super) answer: Histogram<u64>,
    /// The same to the moment when the last listener saw it.
    pub(super) last_member: Histogram<u64>,
    /// How long after it was due a message was first written, at a fixed rate: the load's own share of its latency.
    pub(super) lag: Histogram<u64>,
    pub(super) kinds: [u64; KINDS.len()],
    pub(super) rooms: Vec<u64>,
    /// By code, `timeout` and `lost` included.
    pub(super) errors: BTreeMap<String, Met>,
    /// By tick of the measured part: answers, broadcasts.
    pub(super) ticks: Vec<[u64; 2]>,
}

impl Tally {
    fn new(rooms: u32) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants that it takes");
        Self {
            answer: histogram(),
            last_member: histogram(),
            lag: histogram(),
            kinds: [0; KINDS.len()],
            rooms: vec![0; rooms as usize],
            errors: BTreeMap::new(),
            ticks: Vec::new(),
        }
    }

    fn tick(&mut self, us: u64, answers: u64, broadcasts: u64) {
        let tick = (us / TICK_US) as usize;
        if self.ticks.len() <= tick {
            self.ticks.resize(tick + 1, [0; 2]);
        }
        self.ticks[tick][0] += answers;
        self.ticks[tick][1] += broadcasts;
    }

    /// Counts one error; `say` is only called for the first of its code.
    pub(super) fn error(&mut self, code: &str, say: impl FnOnce() -> String) {
        match self.errors.get_mut(code) {
            Some(met) => met.times += 1,
            None => drop(self.errors.insert(code.to_owned(), Met { times: 1, first: say() })),
        }
    }

    fn add(&mut self, other: &Self) {
        // Alike by construction, so their bounds fit.
        let _ = self.answer.add(&other.answer);
        let _ = self.last_member.add(&other.last_member);
        let _ = self.lag.add(&other.lag);
        self.kinds.iter_mut().zip(other.kinds).for_each(|(a, b)| *a += b);
        self.rooms.iter_mut().zip(&other.rooms).for_each(|(a, b)| *a += b);
        for (code, met) in &other.errors {
            self.errors.entry(code.clone()).or_insert_with(|| Met { times: 0, first: met.first.clone() }).times += met.times;
        }
        if self.ticks.len() < other.ticks.len() {
            self.ticks.resize(other.ticks.len(), [0; 2]);
        }
        self.ticks.iter_mut().zip(&other.ticks).for_each(|(a, b)| (a[0], a[1]) = (a[0] + b[0], a[1] + b[1]));
    }
}

impl Stats {
    pub(super) fn new(rooms: u32) -> Self {
        let zero = AtomicU64::default;
        Self {
            sent: zero(),
            acknowledged: zero(),
            failed: zero(),
            retries: zero(),
            connections: zero(),
            reconnections: zero(),
            delivered: zero(),
            announced_gaps: zero(),
            origin_us: AtomicU64::new(u64::MAX),
            shards: (0..SHARDS).map(|_| Mutex::new(Tally::new(rooms))).collect(),
        }
    }

    /// The part of the tally that connection `number` writes to.
    pub(super) fn tally(&self, number: u32) -> MutexGuard<'_, Tally> {
        self.shards[number as usize % SHARDS].lock()
    }

    /// The measured part begins at `us` of the run.
    pub(super) fn begin(&self, us: u64) {
        self.origin_us.store(us, Ordering::Relaxed);
    }

    /// Connection `number` got so many answers and broadcasts at `us` of the run.
    pub(super) fn tick(&self, number: u32, us: u64, answers: u64, broadcasts: u64) {
        if let Some(us) = us.checked_sub(self.origin_us.load(Ordering::Relaxed)) {
            self.tally(number).tick(us, answers, broadcasts);
        }
    }

    /// All parts together.
    pub(super) fn total(&self) -> Tally {
        let mut total = self.shards[0].lock().clone();
        for shard in &self.shards[1..] {
            total.add(&shard.lock());
        }
        total
    }
}

/// Adds to a counter that orders nothing.
pub(super) fn count(counter: &AtomicU64, n: u64) {
    if n > 0 {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Reads a counter.
pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
