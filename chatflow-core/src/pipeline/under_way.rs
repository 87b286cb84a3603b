//! Batches that were given to the store and not answered yet, in log order.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::pin::Pin;
use std::sync::Arc;
use std::vec::IntoIter;

use futures::future::{BoxFuture, MaybeDone, maybe_done};
use futures::poll;
use tokio::time::Instant;

use crate::answers::Fate;
use crate::broker::Delivered;
use crate::store::{Exception, Lease, MessageStore, Stored};
use crate::{Error, ErrorKind, Position, Result};

type Outcome = Result<Vec<(usize, Exception)>>;

/// A commit that runs. Boxed, because the queue moves.
type Commit = Pin<Box<MaybeDone<BoxFuture<'static, Outcome>>>>;

/// One transaction's worth of a log.
pub(super) struct Batch {
    pub(super) rows: Arc<[Stored]>,
    /// When it was made, to be given to the store at once.
    pub(super) begun: Instant,
    /// How far the log is once it is written, whether or not the last entry is a row.
    pub(super) through: Position,
    /// Where a new epoch begins, if one does with this batch.
    pub(super) lost: Option<Position>,
    pub(super) fates: Vec<(Position, Fate)>,
}

/// What is under way under one lease: each batch says in its own what it follows, so that none is written before the one before it.
pub(super) struct UnderWay {
    batches: VecDeque<(Batch, Lease, Option<Commit>)>,
    most: usize,
    /// What the next batch follows.
    lease: Lease,
    /// What was read and is in no batch yet.
    pub(super) unread: Peekable<IntoIter<Delivered>>,
}

impl UnderWay {
    pub(super) fn new(lease: &Lease, most: usize) -> Self {
        Self { batches: VecDeque::new(), most: most.max(1), lease: lease.clone(), unread: Vec::new().into_iter().peekable() }
    }

    pub(super) fn has_room(&self) -> bool {
        self.batches.len() < self.most
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The log is in the store up to `position`, by another way than a batch.
    pub(super) fn is_at(&mut self, position: Position) {
        self.lease = self.lease.at(position);
    }

    /// Rows of all batches, oldest first.
    pub(super) fn rows(&self) -> Vec<Arc<[Stored]>> {
        self.batches.iter().map(|(batch, ..)| Arc::clone(&batch.rows)).collect()
    }

    /// Gives `batch` to the store.
    pub(super) async fn start(&mut self, store: &Arc<dyn MessageStore>, batch: Batch) {
        let lease = self.lease.clone();
        self.lease = self.lease.at(batch.through);
        let commit = start(store, &lease, &batch).await;
        self.batches.push_back((batch, lease, Some(commit)));
    }

    /// Waits for the oldest batch. For ever when there is none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn outcome(&mut self) -> Outcome {
        match self.batches.front_mut() {
            Some((.., Some(commit))) => {
                commit.as_mut().await;
                // Taken once, because whoever has it takes the batch out.
                let taken = || Err(Error::new(ErrorKind::Internal, "pipeline", "the outcome of a commit was asked for twice"));
                commit.as_mut().take_output().unwrap_or_else(taken)
            }
            _ => std::future::pending().await,
        }
    }

    /// Takes out the oldest batch, whose outcome is known, and what it follows.
    pub(super) fn take(&mut self) -> Option<(Batch, Lease)> {
        self.batches.pop_front().map(|(batch, lease, _)| (batch, lease))
    }

    /// Gives up on all commits: what they follow was not written.
    pub(super) fn stop(&mut self) {
        self.batches.iter_mut().for_each(|(.., commit)| *commit = None);
    }

    /// Gives all batches to the store again.
    pub(super) async fn start_again(&mut self, store: &Arc<dyn MessageStore>) {
        for (batch, lease, commit) in &mut self.batches {
            *commit = Some(start(store, lease, batch).await);
        }
    }
}

/// Begins a commit: once this returns, it is in the store's queue, if it has one.
async fn start(store: &Arc<dyn MessageStore>, lease: &Lease, batch: &Batch) -> Commit {
    let (store, lease, rows, through) = (Arc::clone(store), lease.clone(), Arc::clone(&batch.rows), batch.through);
    let commit: BoxFuture<'static, Outcome> = Box::pin(async move { store.commit(&lease, &rows, through).await });
    let mut commit = Box::pin(maybe_done(commit));
    let _ = poll!(commit.as_mut());
    commit
}
