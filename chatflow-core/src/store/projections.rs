//! Keeping summaries up to date, beside the commits.

use std::fmt::Debug;

use async_trait::async_trait;

use super::Lease;
use crate::{LogId, Result};

/// Who keeps the summaries of a history holds the lease of this log, in which nothing is ever said. No broker has so many. What is kept has
/// another log in each version: a program that knows less of it can't take part.
pub const SUMMARIES: LogId = LogId(u16::MAX - 1);

/// A store that answers some questions from summaries, which are counted after the commits, not by them.
///
/// # Guarantees
/// The conformance suite's cases cite these numbers.
/// 1. **Rows.** Every row is counted exactly once, and nothing else is, whoever counts and wherever they are interrupted: what was
///    counted and how far that is are one transaction, which a later lease of [`SUMMARIES`] fences.
/// 2. **Nobody waits.** No commit waits for the counting of rows.
/// 3. **It is said how far.** Answers carry in [`as_of`](crate::analytics::Counted::as_of) up to when everything is counted.
#[async_trait]
pub trait Projections: Debug + Send + Sync + 'static {
    /// Counts some of what is not counted yet: `most` rows, or as many as fit a short transaction if that is less. `true` when there may
    /// be more.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have counted something; the next one goes on behind it.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced): somebody else has the lease; otherwise the store's. Nothing was counted.
    async fn project(&self, lease: &Lease, most: usize) -> Result<bool>;
}
