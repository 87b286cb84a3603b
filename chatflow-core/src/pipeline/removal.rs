//! Removes what a history is not to keep any longer, a little at a time, from the logs that this node writes.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::Progress;
use crate::backoff::Backoff;
use crate::stats::Counters;
use crate::store::{MessageStore, Retention};
use crate::{ErrorKind, LogId, Result, RoomId, Timestamp};

/// Messages that go at a time: what a commit may have to wait for.
const PIECE: usize = 256;
/// Between two pieces it rests so many times as long as the last one took, and at least so long.
const REST: u32 = 4;
const LEAST_REST: Duration = Duration::from_millis(5);
/// Rooms that are asked for at a time.
const ROOMS: usize = 100;
/// Before the first pass, at most.
const FIRST: Duration = Duration::from_secs(2);
/// Between two passes, at most; less where little is kept.
const EVERY: Duration = Duration::from_secs(3_600);
/// After a pass that failed.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));

/// The task that removes. It ends when this is dropped, or in order by [`end`](Self::end).
#[derive(Debug)]
pub(crate) struct Removal {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What it works on.
pub(crate) struct Removing {
    pub(crate) store: Arc<dyn MessageStore>,
    /// The writers, by log: they know which leases this node has.
    pub(crate) writers: Vec<Arc<Progress>>,
    pub(crate) counters: Arc<Counters>,
    /// How old a message may become.
    pub(crate) keep: Duration,
}

impl Removal {
    /// Starts the task.
    pub(crate) fn start(removing: Removing) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(removing.run(stopped)) }
    }

    /// Lets what is being removed be finished, until `deadline` at most.
    pub(crate) async fn end(mut self, deadline: Instant) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout_at(deadline, &mut self.task).await;
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Removing {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let Some(retention) = self.store.retention() else { return };
        // Anew for each pass, so that nodes that were started together don't all read at once.
        let every = |longest: Duration| longest / 2 + Backoff::new(longest / 2, longest / 2).delay(0);
        let usual = (self.keep / 20).clamp(Duration::from_millis(10), EVERY);
        let (mut wait, mut failures) = (every(usual.min(FIRST)), 0);
        loop {
            // Whoever dropped the other end wants it to end as well.
            if !matches!(timeout(wait, stop.wait_for(|stop| *stop)).await, Err(_elapsed)) {
                return;
            }
            wait = match self.pass(retention, &stop).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!("old messages are removed again");
                    }
                    failures = 0;
                    every(usual)
                }
                Err(error) => {
                    self.counters.removal_failures.add(1);
                    if failures == 0 {
                        tracing::warn!(%error, "old messages can't be removed; it is tried again");
                    }
                    failures += 1;
                    AGAIN.delay(failures).min(usual)
                }
            };
        }
    }

    /// Looks at every room once.
    async fn pass(&self, retention: &dyn Retention, stop: &watch::Receiver<bool>) -> Result<()> {
        let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(Timestamp::now().0.saturating_sub(keep));
        let mut after: Option<RoomId> = None;
        loop {
            let rooms = self.store.rooms(after.as_ref(), ROOMS).await?;
            let Some(last) = rooms.last() else { return Ok(()) };
            after = Some(last.room.clone());
            let begun = Instant::now();
            for summary in rooms {
                if self.room(retention, &summary.room, before, stop).await?.is_break() {
                    return Ok(());
                }
            }
            sleep((begun.elapsed() / REST).clamp(LEAST_REST, Duration::from_secs(1))).await;
        }
    }

    /// Removes what is too old in one room, if this node writes its log.
    async fn room(
        &self,
        retention: &dyn Retention,
        room: &RoomId,
        before: Timestamp,
        stop: &watch::Receiver<bool>,
    ) -> Result<ControlFlow<()>> {
        let log = LogId::of(room.as_str(), self.writers.len() as u16);
        loop {
            if *stop.borrow() {
                return Ok(ControlFlow::Break(()));
            }
            let Some(lease) = self.writers.get(usize::from(log.0)).and_then(|writer| writer.lease()) else { break };
            let begun = Instant::now();
            let removed = match retention.remove(&lease, room, before, PIECE).await {
                Ok(removed) => removed,
                // Whoever has the log by now does it.
                Err(error) if error.kind() == ErrorKind::Fenced => break,
                Err(error) => return Err(error),
            };
            self.counters.removed.add(removed as u64);
            if removed < PIECE {
                break;
            }
            sleep((begun.elapsed() * REST).max(LEAST_REST)).await;
        }
        Ok(ControlFlow::Continue(()))
    }
}
