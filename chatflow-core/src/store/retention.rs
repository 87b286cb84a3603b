//! A history that does not keep everything for ever.

use async_trait::async_trait;

use super::{Lease, MessageStore};
#[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::Position;
use crate::{Result, RoomId, Timestamp};

/// A [`MessageStore`] from which old messages can be removed.
///
/// # Guarantees
/// 10. **From the old end.** Of a room, messages go in position order, and none that stands behind one that stays. The newest of the room stays, and
///     so does whatever the lease's `through` has not reached: it may be committed again. Where logs are does not change.
/// 11. **Told.** A page's `since` is past whatever was removed, from the moment at which that is gone: whoever reads on from before it sees
///     that something is missing. Before the place of the room's oldest message, it may also be where another room of the log lost something.
/// 12. **Whoever does it.** A lease that was taken over or given back removes nothing. Two calls at once remove what one would.
#[async_trait]
pub trait Retention: MessageStore {
    /// Whether everything is there that removing takes, rights above all.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) says what is missing.
    async fn may_remove(&self) -> Result<()> {
        Ok(())
    }

    /// Removes the oldest messages of `room`, which lives in the lease's log: of those that were accepted earlier than `before`, at most
    /// `limit`, which is cut to [`LARGEST_PAGE`](super::LARGEST_PAGE). How many that were: fewer than `limit` when there are no more.
    /// Where summaries are kept, only what is counted in them goes, and it stays counted; a user's messages and rooms are those that are there.
    ///
    /// # Cancel safety
    /// A dropped call may or may not have removed them, all or none.
    ///
    /// # Errors
    /// [`Fenced`](crate::ErrorKind::Fenced); transient kinds otherwise. Nothing was removed.
    async fn remove(&self, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize) -> Result<usize>;
}

/// How many of a room's oldest messages may go, if these are when they were accepted, oldest position first: one more than `limit`, or
/// all that there are.
pub(super) fn removable(times: &[Timestamp], before: Timestamp, limit: usize) -> usize {
    let old = times.iter().take_while(|at| **at < before).count();
    old.min(limit).min(times.len().saturating_sub(1))
}

/// Where the history of a room begins, whose log `began` there and lost nothing to retention after `removed`, and whose own
/// oldest message stands at `oldest`.
#[cfg(any(test, feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(super) fn since(began: Position, removed: Option<Position>, oldest: Option<Position>) -> Position {
    // A room without a message never had one: its newest stays.
    let gone = removed.zip(oldest).map(|(removed, oldest)| removed.min(oldest.previous().unwrap_or(Position::ZERO)));
    began.max(gone.unwrap_or(Position::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stays_and_so_does_what_stands_behind_it() {
        let times = |times: &[i64]| times.iter().map(|at| Timestamp(*at)).collect::<Vec<_>>();
        for (at, before, limit, gone) in [
            (&[1, 2, 3][..], 3, 10, 2),
            (&[1, 2, 3], 9, 10, 2),
            (&[1, 2, 3], 9, 2, 2),
            (&[1, 2, 3], 9, 1, 1),
            (&[1, 5, 2, 3], 4, 10, 1),
            (&[5, 1], 4, 10, 0),
            (&[1], 4, 10, 0),
            (&[], 4, 10, 0),
        ] {
            assert_eq!(removable(&times(at), Timestamp(before), limit), gone, "{at:?}");
        }
    }

    #[test]
    fn a_room_begins_where_it_lost_something_at_the_most() {
        let at = |offset| Position::new(1, offset);
        assert_eq!(since(at(3), None, Some(at(9))), at(3));
        assert_eq!(since(at(3), Some(at(7)), Some(at(9))), at(7));
        assert_eq!(since(at(3), Some(at(7)), Some(at(5))), at(4));
        assert_eq!(since(at(3), Some(at(7)), Some(at(2))), at(3));
        assert_eq!(since(at(3), Some(at(7)), None), at(3));
    }
}
