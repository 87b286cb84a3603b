//! What all connections of a run share.

use std::sync::atomic::AtomicBool;

use chatflow_core::Position;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::args::Setup;
use super::clock::Clock;
use super::ledger::{Ledger, Truth};
use super::plan::Plan;
use super::reads::Reads;
use super::sent::Sent;
use super::stats::Stats;
use super::violation::Violations;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections are made, and the warm-up is sent.
    Prepare,
    /// The measured part began at `start_us` of the run.
    Send {
        /// Microseconds of the run.
        start_us: u64,
    },
    /// Nothing new is sent; what is under way is brought to its end.
    Stop,
    /// Everybody leaves.
    Close,
}

/// A run: its plan, and everything that is found out on the way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) setup: Setup,
    pub(super) plan: Plan,
    pub(super) clock: Clock,
    pub(super) sent: Sent,
    pub(super) ledger: Ledger,
    pub(super) stats: Stats,
    pub(super) reads: Reads,
    pub(super) violations: Violations,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) interrupted: AtomicBool,
    /// Where each room's log stood before the run.
    pub(super) baseline: Mutex<Vec<Option<Position>>>,
}

impl Run {
    pub(super) fn new(setup: Setup) -> Self {
        let clock = Clock::start();
        Self {
            plan: Plan::new(&setup),
            clock,
            sent: Sent::new(clock.wall_ms(0)),
            ledger: Ledger::new(setup.rooms, setup.listeners, setup.shared),
            stats: Stats::new(setup.rooms),
            reads: Reads::new(setup.reads, setup.connections),
            violations: Violations::default(),
            phase: watch::Sender::new(Phase::Prepare),
            interrupted: AtomicBool::new(false),
            baseline: Mutex::new(vec![None; setup.rooms as usize]),
            setup,
        }
    }

    /// What the ledger checks against.
    pub(super) fn truth(&self) -> Truth<'_> {
        Truth { plan: &self.plan, sent: &self.sent, violations: &self.violations }
    }

    /// A room's log stood at `position` when somebody joined.
    pub(super) fn stood_at(&self, room: u32, position: Position) {
        let known = &mut self.baseline.lock()[room as usize];
        *known = Some(known.map_or(position, |k| k.min(position)));
    }
}

/// What a connection tells the run.
#[derive(Debug)]
pub(super) enum Event {
    /// It stands, and is a member wherever it should be.
    Ready,
    /// It has sent all that it had to, and everything was answered or failed.
    Finished,
    /// It never came to stand: why.
    Unable(String),
}

/// A number from 0 to 1, by chance.
pub(super) fn chance() -> f64 {
    uuid::Uuid::new_v4().as_u64_pair().1 as u32 as f64 / f64::from(u32::MAX)
}
