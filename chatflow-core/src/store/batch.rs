//! What every store demands of a batch before it looks at the rows.

use super::{Lease, Stored};
use crate::{Error, ErrorKind, Position, Result};

/// Checks that `batch` is in strictly ascending order and does not pass `through`.
///
/// # Errors
/// [`ErrorKind::Invalid`]: the caller broke the contract of [`commit`](super::MessageStore::commit).
pub(super) fn check(origin: &'static str, batch: &[Stored], through: Position) -> Result<()> {
    let invalid = |text| Err(Error::new(ErrorKind::Invalid, origin, text));
    if !batch.is_sorted_by(|a, b| a.position < b.position) {
        return invalid("the batch is not in position order");
    }
    match batch.last() {
        Some(last) if last.position > through => invalid("the batch goes past its own cursor"),
        _ => Ok(()),
    }
}

/// Checks that the store, which is at `watermark`, has all that the holder of the lease takes to be in it.
///
/// # Errors
/// [`ErrorKind::Fenced`]: an earlier commit failed or is lost; whoever went on would leave a hole.
pub(super) fn follows(origin: &'static str, lease: &Lease, watermark: Position) -> Result<()> {
    if watermark >= lease.through {
        return Ok(());
    }
    let text =
        format!("log {} is in the history up to {watermark}, not up to {}: it has to be claimed and read again", lease.log, lease.through);
    Err(Error::new(ErrorKind::Fenced, origin, text))
}

/// The error for an entry that is no row yet and stands where readers have already been.
pub(super) fn behind(origin: &'static str, position: Position) -> Error {
    Error::new(ErrorKind::Invalid, origin, format!("{position} is behind the log's watermark and is not in the history"))
}

/// The error for a lease that somebody else has by now.
pub(super) fn fenced(origin: &'static str) -> Error {
    Error::new(ErrorKind::Fenced, origin, "the lease of the log was taken over or given back")
}

/// The error for a call after `close`.
pub(super) fn closed(origin: &'static str) -> Error {
    Error::new(ErrorKind::Closed, origin, "the store is closed")
}

/// The error for a claim of a log that another node writes.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) fn held(origin: &'static str, log: crate::LogId, holder: &str) -> Error {
    Error::new(ErrorKind::Unavailable, origin, format!("log {log} is written by {holder}")).with_source(Held)
}

/// Whether an error says no more than that another node writes the log.
pub(crate) fn is_held(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Held>())
}

#[derive(Debug, thiserror::Error)]
#[error("its lease has not run out")]
struct Held;
