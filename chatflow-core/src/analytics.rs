//! Questions about who said how much, answered from the history.

use std::fmt::{self, Debug};
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::store::LARGEST_PAGE;
use crate::{MessageId, Result, RoomId, Stored, Timestamp, UserId};

const MINUTE: i64 = 60_000;

/// A stretch of whole minutes, both ends open unless given: what analytics count in, so that what was counted before can be added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Minutes {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

impl Minutes {
    /// The least stretch of whole minutes that holds everything from `start` up to, not including, `end`.
    pub fn covering(start: Option<Timestamp>, end: Option<Timestamp>) -> Self {
        let start = start.map(|at| Timestamp(at.0.div_euclid(MINUTE).saturating_mul(MINUTE)));
        let up = |at: i64| if at.rem_euclid(MINUTE) == 0 { at } else { at.div_euclid(MINUTE).saturating_add(1).saturating_mul(MINUTE) };
        Self { start, end: end.map(|at| Timestamp(up(at.0))) }
    }

    /// Accepted at this time or later; `None` for since ever.
    pub fn start(&self) -> Option<Timestamp> {
        self.start
    }

    /// Accepted earlier than this; `None` for no end.
    pub fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// The first and the last time in it.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn bounds(&self) -> (i64, i64) {
        (self.start.map_or(i64::MIN, |at| at.0), self.end.map_or(i64::MAX, |at| at.0.saturating_sub(1)))
    }

    /// Whether `at` is in it.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start.is_none_or(|start| at >= start) && self.end.is_none_or(|end| at < end)
    }
}

/// A place in a user's messages, which are in the order of (time of acceptance, id): no two share one. `"<milliseconds>.<id>"` in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserCursor {
    /// When the message was accepted.
    pub at: Timestamp,
    /// Its id.
    pub id: MessageId,
}

/// The text is no [`UserCursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor from an earlier answer")]
pub struct BadUserCursor;

impl UserCursor {
    /// Where `stored` stands among its sender's messages.
    pub fn of(stored: &Stored) -> Self {
        Self { at: stored.message.at, id: stored.message.id }
    }
}

impl fmt::Display for UserCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.0, self.id)
    }
}

impl FromStr for UserCursor {
    type Err = BadUserCursor;

    fn from_str(text: &str) -> Result<Self, BadUserCursor> {
        let (at, id) = text.split_once('.').ok_or(BadUserCursor)?;
        let id = id.parse().map_err(|_| BadUserCursor)?;
        Ok(Self { at: Timestamp(at.parse().map_err(|_| BadUserCursor)?), id })
    }
}

/// One page of a user's messages to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UserQuery {
    /// Only later than this place.
    pub after: Option<UserCursor>,
    /// Only earlier than this place.
    pub before: Option<UserCursor>,
    /// Only accepted at this time or later.
    pub start: Option<Timestamp>,
    /// Only accepted earlier than this time.
    pub end: Option<Timestamp>,
    /// At most so many, 1 to [`store::LARGEST_PAGE`](crate::store::LARGEST_PAGE).
    pub limit: usize,
    /// Which end of the range to take when there are more: the newest, or the oldest.
    pub newest: bool,
}

impl UserQuery {
    /// The newest `limit` messages.
    pub fn latest(limit: usize) -> Self {
        Self { after: None, before: None, start: None, end: None, limit, newest: true }
    }

    /// The first and the last place that it asks for; `None` when there is none.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn bounds(&self) -> Option<(UserCursor, UserCursor)> {
        let cursor = |at, id| UserCursor { at: Timestamp(at), id: MessageId::from_u128(id) };
        let next = |after: UserCursor| match after.id.as_u128().checked_add(1) {
            Some(id) => Some(cursor(after.at.0, id)),
            None => Some(cursor(after.at.0.checked_add(1)?, 0)),
        };
        let previous = |before: UserCursor| match before.id.as_u128().checked_sub(1) {
            Some(id) => Some(cursor(before.at.0, id)),
            None => Some(cursor(before.at.0.checked_sub(1)?, u128::MAX)),
        };
        let first = self.after.map_or(Some(cursor(i64::MIN, 0)), next)?.max(cursor(self.start.map_or(i64::MIN, |at| at.0), 0));
        let end = self.end.map_or(Some(i64::MAX), |end| end.0.checked_sub(1))?;
        let last = self.before.map_or(Some(cursor(i64::MAX, u128::MAX)), previous)?.min(cursor(end, u128::MAX));
        (first <= last).then_some((first, last))
    }

    /// How many rows a store looks for: one more than fit the page, to know whether there are more.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn one_more(&self) -> i64 {
        self.limit.clamp(1, LARGEST_PAGE) as i64 + 1
    }

    /// The page that `found` is, in the order in which it was asked for, of [`one_more`](Self::one_more) rows at most.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) fn page(&self, mut found: Vec<Stored>) -> UserPage {
        let more = found.len() as i64 >= self.one_more();
        found.truncate(self.limit.clamp(1, LARGEST_PAGE));
        if self.newest {
            found.reverse();
        }
        UserPage::new(found, more)
    }
}

/// A page of a user's messages, in the order of [`UserCursor`] whichever end it was taken from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UserPage {
    /// The messages, oldest first.
    pub messages: Vec<Stored>,
    /// Whether the range holds more, beyond the end that was not taken.
    pub more: bool,
}

impl UserPage {
    /// A page; stores make them.
    pub fn new(messages: Vec<Stored>, more: bool) -> Self {
        Self { messages, more }
    }
}

/// A room in which a user has said something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct UserRoom {
    /// Its name.
    pub room_id: RoomId,
    /// When the last of their messages in it was accepted.
    pub last: Timestamp,
}

impl UserRoom {
    /// A room of a user; stores make them.
    pub fn new(room_id: RoomId, last: Timestamp) -> Self {
        Self { room_id, last }
    }
}

/// An answer that was counted, and how far.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Counted<T> {
    /// The answer.
    pub value: T,
    /// Everything that was accepted before this time is counted, later messages perhaps; `None` when every row is that there was
    /// when it was counted.
    pub as_of: Option<Timestamp>,
    /// When it was counted, by the clock of the node that did: an answer out of a cache is older than its question.
    pub at: Timestamp,
}

/// Two answers that say the same are equal, whenever they were counted.
impl<T: PartialEq> PartialEq for Counted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value && self.as_of == other.as_of
    }
}

impl<T> Counted<T> {
    /// An answer that was counted just now; stores make them.
    pub fn new(value: T, as_of: Option<Timestamp>) -> Self {
        Self { value, as_of, at: Timestamp::now() }
    }
}

/// What a rate counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Messages of each second.
    Second,
    /// Messages of each minute.
    Minute,
    /// Messages of each hour, UTC.
    Hour,
    /// Messages of each day, UTC.
    Day,
}

impl Step {
    /// Its length, milliseconds.
    pub fn milliseconds(self) -> i64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => MINUTE,
            Self::Hour => 60 * MINUTE,
            Self::Day => 24 * 60 * MINUTE,
        }
    }
}

/// Who was in how many rooms.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Participation {
    /// Users who said something.
    pub users: u64,
    /// Rooms in which something was said.
    pub rooms: u64,
    /// Pairs of a user and a room in which they said something: divided by `rooms`, the users of a room; by `users`, the rooms of a user.
    pub pairs: u64,
    /// The rooms with the most users, and how many.
    pub fullest: Vec<(RoomId, u64)>,
    /// The users in the most rooms, and in how many.
    pub busiest: Vec<(UserId, u64)>,
}

impl Participation {
    /// Figures; stores make them.
    pub fn new(users: u64, rooms: u64, pairs: u64, fullest: Vec<(RoomId, u64)>, busiest: Vec<(UserId, u64)>) -> Self {
        Self { users, rooms, pairs, fullest, busiest }
    }
}

/// A history that can be asked about users and numbers.
///
/// A message counts whatever its kind, once, as the row that it is: what was refused, repeated or became a dead letter counts nowhere.
///
/// # Guarantees
/// The conformance suite's cases cite these numbers.
/// 1. **Rows.** Every figure is one that a count of the committed rows gives: of all of them, or of those before `as_of` and perhaps
///    some later ones, each once. [`user_messages`](Self::user_messages) has no such delay.
/// 2. **Walks.** A walk over pages, either way, gives every row that was committed when it began exactly once, whatever is committed
///    meanwhile.
/// 3. **Order.** Lists by number are in descending order of the number, equal ones in ascending order of the name's bytes; lists by
///    name in that of its bytes.
/// 4. **Bounds.** No list holds more than [`store::LARGEST_PAGE`](crate::store::LARGEST_PAGE).
/// 5. **Readers wait for nobody.** Answers come while commits fail, and never wait for a writer.
///
/// # Errors
/// All calls: the store can't be read; [`Timeout`](crate::ErrorKind::Timeout) when an answer takes longer than the store allows.
///
/// # Cancel safety
/// All calls only read.
#[async_trait]
pub trait Analytics: Debug + Send + Sync + 'static {
    /// A page of what `user` has said, in all rooms.
    async fn user_messages(&self, user: &UserId, query: &UserQuery) -> Result<UserPage>;

    /// The rooms in which `user` has said something, by name, after `after`, at most `limit`.
    async fn user_rooms(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Counted<Vec<UserRoom>>>;

    /// How many users have said something in `range`.
    async fn active_users(&self, range: Minutes) -> Result<Counted<u64>>;

    /// Who has said the most in `range`, and how many messages.
    async fn top_users(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>>;

    /// Where the most was said in `range`, and how many messages.
    async fn top_rooms(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>>;

    /// How many messages each of the newest `limit` steps of `range` has that have any, oldest first, each with its beginning.
    async fn message_rate(&self, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>>;

    /// Who was in how many rooms in `range`, with at most `limit` of the fullest rooms and busiest users.
    async fn participation(&self, range: Minutes, limit: usize) -> Result<Counted<Participation>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_cover_what_was_asked_and_no_whole_minute_more() {
        let covering = |start, end| {
            let range = Minutes::covering(Some(Timestamp(start)), Some(Timestamp(end)));
            (range.start().unwrap().0, range.end().unwrap().0)
        };
        assert_eq!(covering(60_000, 120_000), (60_000, 120_000));
        assert_eq!(covering(60_001, 120_001), (60_000, 180_000));
        assert_eq!(covering(-1, 1), (-60_000, 60_000));
        let far = Minutes::covering(Some(Timestamp(i64::MIN)), Some(Timestamp(i64::MAX)));
        assert!(far.contains(Timestamp(0)) && Minutes::default().contains(Timestamp(i64::MAX)));
    }

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        let cursor = UserCursor { at: Timestamp(-5), id: MessageId::from_u128(7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", ".", "5", "5.", "5.x", "x.00000000-0000-0000-0000-000000000007", "1.2.3"] {
            assert_eq!(bad.parse::<UserCursor>(), Err(BadUserCursor), "{bad:?}");
        }
    }
}
