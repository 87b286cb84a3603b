//! What became of every message that was sent: 16 bytes each, shared by all connections.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::args::MOST_MESSAGES;

const SEGMENT: usize = 1 << 16;

const WRITES: u32 = 0xff;
const ANSWERED: u32 = 1 << 8;

#[derive(Debug, Default)]
struct Record {
    /// From when its latency counts, microseconds of the run plus 1; 0 = not sent.
    from: AtomicU64,
    /// When it was made, milliseconds of the run: the time in its id.
    made_ms: AtomicU32,
    /// How often it was written, and whether it was answered.
    state: AtomicU32,
}

/// The table of sent messages, by number.
pub(super) struct Sent {
    start_ms: u64,
    segments: Box<[OnceLock<Box<[Record]>>]>,
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sent").finish_non_exhaustive()
    }
}

impl Sent {
    /// An empty table of a run that began at `start_ms` since 1970.
    pub(super) fn new(start_ms: u64) -> Self {
        Self { start_ms, segments: (0..MOST_MESSAGES as usize / SEGMENT).map(|_| OnceLock::new()).collect() }
    }

    fn record(&self, number: u32) -> Option<&Record> {
        let segment = self.segments.get(number as usize / SEGMENT)?.get()?;
        segment.get(number as usize % SEGMENT)
    }

    /// Message `number`, made at `ms` since 1970, is about to be written for the first time; its latency counts from
    /// `from_us` of the run.
    pub(super) fn first(&self, number: u32, ms: u64, from_us: u64) {
        let segment = self.segments[number as usize / SEGMENT].get_or_init(|| (0..SEGMENT).map(|_| Record::default()).collect());
        let record = &segment[number as usize % SEGMENT];
        record.made_ms.store(ms.saturating_sub(self.start_ms) as u32, Ordering::Relaxed);
        record.state.store(1, Ordering::Relaxed);
        record.from.store(from_us + 1, Ordering::Release);
    }

    /// It is about to be written again.
    pub(super) fn again(&self, number: u32) {
        if let Some(record) = self.record(number) {
            record.state.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From when its latency counts, in microseconds of the run; `None` if it was never sent.
    pub(super) fn since_us(&self, number: u32) -> Option<u64> {
        self.record(number)?.from.load(Ordering::Acquire).checked_sub(1)
    }

    /// When it was made, in milliseconds since 1970; `None` if it was never sent.
    pub(super) fn made_ms(&self, number: u32) -> Option<u64> {
        self.since_us(number)?;
        Some(self.start_ms + u64::from(self.record(number)?.made_ms.load(Ordering::Relaxed)))
    }

    /// Whether it was written exactly once.
    pub(super) fn written_once(&self, number: u32) -> bool {
        self.record(number).is_some_and(|r| r.state.load(Ordering::Relaxed) & WRITES == 1)
    }

    /// It was answered with success; whether that was the first time.
    pub(super) fn answer(&self, number: u32) -> bool {
        self.record(number).is_some_and(|r| r.state.fetch_or(ANSWERED, Ordering::Relaxed) & ANSWERED == 0)
    }

    /// Whether it was answered with success.
    pub(super) fn answered(&self, number: u32) -> bool {
        self.record(number).is_some_and(|r| r.state.load(Ordering::Relaxed) & ANSWERED != 0)
    }
}
