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
/// Between two pieces it rests so many times as long as the last one took, and at least so long: less once a pass takes longer than it may be
/// until the next one, or what comes in would outrun it.
const REST: u32 = 4;
const SHORT_REST: u32 = 1;
const LEAST_REST: Duration = Duration::from_millis(5);
/// What looking at that many rooms counts for at the most, before the rest that follows.
const LONGEST_LOOK: Duration = Duration::from_millis(250);
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

/// One look at all rooms.
struct Pass<'a> {
    retention: &'a dyn Retention,
    /// What was accepted earlier than this goes.
    before: Timestamp,
    /// When it should have ended.
    due: Instant,
    stop: &'a watch::Receiver<bool>,
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
        // Not long after the start, and less and less often: summaries may have to be counted first.
        let mut next = usual.min(FIRST);
        let (mut wait, mut failures) = (every(next), 0);
        loop {
            // Whoever dropped the other end wants it to end as well.
            if !matches!(timeout(wait, stop.wait_for(|stop| *stop)).await, Err(_elapsed)) {
                return;
            }
            let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
            let before = Timestamp(Timestamp::now().0.saturating_sub(keep));
            let pass = Pass { retention, before, due: Instant::now() + usual, stop: &stop };
            wait = match self.pass(&pass).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!("old messages are removed again");
                    }
                    (failures, next) = (0, (next * 2).min(usual));
                    every(next)
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
    async fn pass(&self, pass: &Pass<'_>) -> Result<()> {
        let mut after: Option<RoomId> = None;
        loop {
            let rooms = self.store.rooms(after.as_ref(), ROOMS).await?;
            let Some(last) = rooms.last() else { return Ok(()) };
            after = Some(last.room.clone());
            let begun = Instant::now();
            for summary in rooms {
                if self.room(pass, &summary.room).await?.is_break() {
                    return Ok(());
                }
            }
            // Half of the time, where there is nothing to do but look.
            pass.rest((begun.elapsed() / REST).min(LONGEST_LOOK)).await;
        }
    }

    /// Removes what is too old in one room, if this node writes its log.
    async fn room(&self, pass: &Pass<'_>, room: &RoomId) -> Result<ControlFlow<()>> {
        let log = LogId::of(room.as_str(), self.writers.len() as u16);
        loop {
            if *pass.stop.borrow() {
                return Ok(ControlFlow::Break(()));
            }
            let Some(lease) = self.writers.get(usize::from(log.0)).and_then(|writer| writer.lease()) else { break };
            let begun = Instant::now();
            let removed = match pass.retention.remove(&lease, room, pass.before, PIECE).await {
                Ok(removed) => removed,
                // Whoever has the log by now does it.
                Err(error) if error.kind() == ErrorKind::Fenced => break,
                Err(error) => return Err(error),
            };
            self.counters.removed.add(removed as u64);
            if removed > 0 {
                pass.rest(begun.elapsed()).await;
            }
            if removed < PIECE {
                break;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Pass<'_> {
    /// Makes room for others after something that took so long.
    async fn rest(&self, took: Duration) {
        let times = if Instant::now() < self.due { REST } else { SHORT_REST };
        sleep((took * times).max(LEAST_REST)).await;
    }
}
