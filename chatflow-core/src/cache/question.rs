//! Figures, and what was asked for them.

use async_trait::async_trait;
use std::sync::atomic::Ordering::Relaxed;

use super::{CachedStore, again};
use crate::analytics::{Counted, Minutes, Participation, Step, UserPage, UserQuery, UserRoom};
use crate::{Analytics, Error, ErrorKind, Result, RoomId, Timestamp, UserId};

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Question {
    UserRooms(UserId, Option<RoomId>, usize),
    ActiveUsers(Minutes),
    TopUsers(Minutes, usize),
    TopRooms(Minutes, usize),
    Rate(Minutes, Step, usize),
    Participation(Minutes, usize),
}

/// What was answered.
#[derive(Debug, Clone)]
pub(super) enum Figure {
    UserRooms(Counted<Vec<UserRoom>>),
    ActiveUsers(Counted<u64>),
    TopUsers(Counted<Vec<(UserId, u64)>>),
    TopRooms(Counted<Vec<(RoomId, u64)>>),
    Rate(Counted<Vec<(Timestamp, u64)>>),
    Participation(Counted<Participation>),
}

impl CachedStore {
    fn counts(&self) -> Result<&dyn Analytics> {
        self.store.analytics().ok_or_else(|| Error::new(ErrorKind::NotFound, "cache", "the history counts nothing"))
    }

    /// The answer to `question`, which `count` gives if nobody has it.
    async fn figure(&self, question: Question, count: impl Future<Output = Result<Figure>>) -> Result<Figure> {
        let Some(figures) = &self.figures else { return count.await };
        self.counters.figures.fetch_add(1, Relaxed);
        let count = async {
            self.counters.figure_misses.fetch_add(1, Relaxed);
            count.await
        };
        figures.try_get_with(question, count).await.map_err(|error| again(&error))
    }
}

/// Asks through the cache. An answer is of the question's own kind, or something is badly wrong.
macro_rules! figure {
    ($self:ident, $kind:ident, ($($asked:expr),*), $count:expr) => {
        match $self.figure(Question::$kind($($asked),*), async { Ok(Figure::$kind($count.await?)) }).await? {
            Figure::$kind(counted) => Ok(counted),
            _ => Err(Error::new(ErrorKind::Internal, "cache", "an answer to another question")),
        }
    };
}

#[async_trait]
impl Analytics for CachedStore {
    async fn user_messages(&self, user: &UserId, query: &UserQuery) -> Result<UserPage> {
        self.counts()?.user_messages(user, query).await
    }

    async fn user_rooms(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Counted<Vec<UserRoom>>> {
        figure!(self, UserRooms, (user.clone(), after.cloned(), limit), self.counts()?.user_rooms(user, after, limit))
    }

    async fn active_users(&self, range: Minutes) -> Result<Counted<u64>> {
        figure!(self, ActiveUsers, (range), self.counts()?.active_users(range))
    }

    async fn top_users(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
        figure!(self, TopUsers, (range, limit), self.counts()?.top_users(range, limit))
    }

    async fn top_rooms(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
        figure!(self, TopRooms, (range, limit), self.counts()?.top_rooms(range, limit))
    }

    async fn message_rate(&self, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>> {
        figure!(self, Rate, (range, step, limit), self.counts()?.message_rate(range, step, limit))
    }

    async fn participation(&self, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
        figure!(self, Participation, (range, limit), self.counts()?.participation(range, limit))
    }
}
