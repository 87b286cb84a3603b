//! Counting by looking at every row: slow, and plainly right.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use async_trait::async_trait;

use super::{History, MemoryStore};
use crate::analytics::{Analytics, Counted, Minutes, Participation, Step, UserCursor, UserPage, UserQuery, UserRoom};
use crate::store::{LARGEST_PAGE, Stored};
use crate::{Message, Position, Result, RoomId, Timestamp, UserId};

impl History {
    fn rows(&self) -> impl Iterator<Item = (&Position, &Message)> {
        self.rooms.values().flatten()
    }

    fn said_in(&self, range: Minutes) -> impl Iterator<Item = &Message> {
        self.rows().map(|(_, message)| message).filter(move |message| range.contains(message.at))
    }
}

/// How often each is there, the most frequent first, equal ones by name; at most `limit`.
fn top<T: Ord + Hash>(each: impl Iterator<Item = T>, limit: usize) -> Vec<(T, u64)> {
    let mut counts = BTreeMap::new();
    each.for_each(|one| *counts.entry(one).or_default() += 1);
    let mut counts: Vec<(T, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(limit.min(LARGEST_PAGE));
    counts
}

#[async_trait]
impl Analytics for MemoryStore {
    async fn user_messages(&self, user: &UserId, query: &UserQuery) -> Result<UserPage> {
        self.read(|history| {
            let is_wanted = |cursor: UserCursor| {
                query.after.is_none_or(|after| cursor > after)
                    && query.before.is_none_or(|before| cursor < before)
                    && query.start.is_none_or(|start| cursor.at >= start)
                    && query.end.is_none_or(|end| cursor.at < end)
            };
            let theirs = history.rows().filter(|(_, message)| message.sender == *user);
            let stored = theirs.map(|(position, message)| Stored { position: *position, message: message.clone() });
            let mut found: Vec<_> = stored.filter(|stored| is_wanted(UserCursor::of(stored))).collect();
            found.sort_by_key(UserCursor::of);
            let limit = query.limit.clamp(1, LARGEST_PAGE);
            let more = found.len() > limit;
            if query.newest {
                found.drain(..found.len() - limit.min(found.len()));
            }
            found.truncate(limit);
            UserPage::new(found, more)
        })
    }

    async fn user_rooms(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Counted<Vec<UserRoom>>> {
        self.read(|history| {
            let room = |(room, messages): (&RoomId, &BTreeMap<Position, Message>)| {
                let times = messages.values().filter(|message| message.sender == *user).map(|message| message.at);
                Some(UserRoom::new(room.clone(), times.max()?))
            };
            let rooms = history.rooms.iter().filter(|(room, _)| after.is_none_or(|after| *room > after)).filter_map(room);
            Counted::new(rooms.take(limit.min(LARGEST_PAGE)).collect(), None)
        })
    }

    async fn active_users(&self, range: Minutes) -> Result<Counted<u64>> {
        self.read(|history| {
            let users: BTreeSet<_> = history.said_in(range).map(|message| &message.sender).collect();
            Counted::new(users.len() as u64, None)
        })
    }

    async fn top_users(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
        self.read(|history| Counted::new(top(history.said_in(range).map(|message| message.sender.clone()), limit), None))
    }

    async fn top_rooms(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
        self.read(|history| Counted::new(top(history.said_in(range).map(|message| message.room.clone()), limit), None))
    }

    async fn message_rate(&self, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>> {
        self.read(|history| {
            let mut steps = BTreeMap::new();
            for message in history.said_in(range) {
                *steps.entry(message.at.0.div_euclid(step.milliseconds())).or_default() += 1;
            }
            let newest = steps.into_iter().rev().take(limit.min(LARGEST_PAGE));
            let mut newest: Vec<_> = newest.map(|(at, count)| (Timestamp(at * step.milliseconds()), count)).collect();
            newest.reverse();
            Counted::new(newest, None)
        })
    }

    async fn participation(&self, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
        self.read(|history| {
            let pairs: BTreeSet<_> = history.said_in(range).map(|message| (&message.sender, &message.room)).collect();
            let users: BTreeSet<_> = pairs.iter().map(|(user, _)| user).collect();
            let rooms: BTreeSet<_> = pairs.iter().map(|(_, room)| room).collect();
            let fullest = top(pairs.iter().map(|(_, room)| (*room).clone()), limit);
            let busiest = top(pairs.iter().map(|(user, _)| (*user).clone()), limit);
            let value = Participation::new(users.len() as u64, rooms.len() as u64, pairs.len() as u64, fullest, busiest);
            Counted::new(value, None)
        })
    }
}
