//! Counting the summaries of a history beside its writing: by one node at a time, under a lease of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::Receiver;
use tokio::time::{Instant, timeout};

use crate::store::{Lease, MessageStore, Projections, SUMMARIES, batch};
use crate::{ErrorKind, NodeId, Result};

/// Between two looks at a history that is wholly counted: how much later than a commit the summaries have it, at the most.
const LOOK: Duration = Duration::from_millis(100);
/// The longest pause after work that is not done.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two claims while another node counts.
const CLAIM: Duration = Duration::from_secs(1);
/// How often the lease is renewed, at least.
const RENEW: Duration = Duration::from_secs(3);
/// The longest wait after a failure.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Counts until `stop` is told or dropped, and gives the lease back.
pub(crate) async fn keep(store: Arc<dyn MessageStore>, node: NodeId, mut stop: Receiver<()>) {
    let Some(projections) = store.projections() else { return };
    let mut wait = LOOK;
    loop {
        let failed = match store.claim(SUMMARIES, &node).await {
            Ok(lease) => match count(&*store, projections, &lease, &mut stop).await {
                Ok(()) => {
                    // It runs out by itself otherwise.
                    return drop(store.release(&lease).await);
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        let pause = match failed.kind() {
            ErrorKind::Closed => return,
            _ if failed.kind() == ErrorKind::Fenced || batch::is_held(&failed) => {
                wait = LOOK;
                CLAIM
            }
            _ => {
                tracing::warn!(error = %failed, "the summaries of the history can't be counted; trying again in {wait:?}");
                wait = (wait * 2).min(LAST_WAIT);
                wait
            }
        };
        if timeout(pause, &mut stop).await.is_ok() {
            return;
        }
    }
}

/// Counts under one lease, until something fails or it is to stop (`Ok`).
async fn count(store: &dyn MessageStore, projections: &dyn Projections, lease: &Lease, stop: &mut Receiver<()>) -> Result<()> {
    let every = store.shared().map_or(RENEW, |shared| shared.lease() / 4).min(RENEW);
    let mut renewed = Instant::now();
    loop {
        if renewed.elapsed() >= every {
            store.renew(lease).await?;
            renewed = Instant::now();
        }
        let begun = Instant::now();
        let is_behind = projections.project(lease, usize::MAX).await?;
        // As long a pause as there was work, so that commits and answers have half of what there is at the least.
        let pause = if is_behind { begun.elapsed().min(LONGEST_PAUSE) } else { LOOK };
        if timeout(pause, &mut *stop).await.is_ok() {
            return Ok(());
        }
    }
}
