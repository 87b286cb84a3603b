//! A node whose log another node takes into the store they share: it passes on how far that is, and is there to take over.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Pipeline;
use crate::relay::{Committed, Reach};
use crate::store::{Lease, Mark, batch};
use crate::{Position, Result};

/// How often a node that stands by tries to claim the log, at least.
const CLAIM: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Whether other nodes can write the log as well as this one. A log that is this node's alone is in no other node's care.
    pub(super) fn takes_turns(&self) -> bool {
        self.broker.profile().shared && self.store.shared().is_some()
    }

    /// The lease; `None` while another node has it, or if this one is not to write.
    ///
    /// # Errors
    /// The store can't say.
    pub(super) async fn claim(&self) -> Result<Option<Lease>> {
        if self.takes_turns() && !self.writes {
            return Ok(None);
        }
        match self.store.claim(self.log, &self.node).await {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if self.takes_turns() && batch::is_held(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Passes on what the other node has written, until the log is this node's (its lease) or has ended.
    pub(super) async fn stand_by(&mut self) -> Option<Lease> {
        let mut marks = self.marks.subscribe();
        marks.mark_changed();
        let every = CLAIM.min(self.store.shared()?.lease() / 4);
        let mut claim = Instant::now() + every;
        loop {
            if self.is_over() {
                return None;
            }
            tokio::select! {
                biased;
                changed = marks.changed() => {
                    let mark = {
                        let marks = marks.borrow_and_update();
                        match &marks.trouble {
                            Some(error) => self.progress.fails(error),
                            None => self.progress.works(),
                        }
                        marks.of.get(&self.log).copied()
                    };
                    let goes_on = match mark {
                        Some(mark) => self.pass_on(mark).await,
                        None => true,
                    };
                    if changed.is_err() || !goes_on {
                        return None;
                    }
                }
                _ = self.reach.changed() => {}
                () = sleep_until(claim) => {
                    match self.claim().await {
                        Ok(Some(lease)) => {
                            tracing::info!(log = self.log.0, "this node takes over the writing of the log");
                            return Some(lease);
                        }
                        Ok(None) => {}
                        Err(error) => self.progress.fails(&error),
                    }
                    claim = Instant::now() + every;
                }
            }
        }
    }

    /// Whether the log has ended, and nobody waits any more for what this node has read of it.
    fn is_over(&self) -> bool {
        let Reach { read, ended } = *self.reach.borrow();
        let ended = ended || self.reach.has_changed().is_err();
        ended && (self.told >= read || !self.answers.anybody_waits(self.log))
    }

    /// What others have written of the log by the time it becomes this node's. False when nobody listens any more.
    ///
    /// # Errors
    /// The store can't be read.
    pub(super) async fn pass_on_before(&mut self, lease: &Lease) -> Result<bool> {
        let Some(shared) = self.store.shared() else {
            self.told = lease.through;
            return Ok(true);
        };
        let marks = shared.marks().await?;
        let mark = marks.into_iter().find(|mark| mark.log == self.log);
        Ok(match mark {
            Some(mark) => self.pass_on(mark).await,
            None => true,
        })
    }

    /// Tells the relay and the broker how far the log is. False when nobody listens any more.
    async fn pass_on(&mut self, Mark { through, since, .. }: Mark) -> bool {
        if through <= self.told {
            return true;
        }
        let epoch = (through.epoch > self.told.epoch).then_some(Position::new(through.epoch, 0));
        let lost = epoch.max((since > self.told).then_some(since));
        self.told = through;
        if self.news.send(Committed { through, lost, fates: None }).await.is_err() {
            return false;
        }
        if let Err(error) = self.broker.settle(self.log, through).await {
            tracing::debug!(log = self.log.0, %error, "settling failed; a later position will do");
        }
        true
    }
}
