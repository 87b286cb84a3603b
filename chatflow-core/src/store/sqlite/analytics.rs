//! Questions about users and numbers, answered from the rows where there are no summaries.

use async_trait::async_trait;
use rusqlite::{Connection, Params, Row, params};

use super::{SqliteStore, reader, summaries};
use crate::analytics::{Analytics, Counted, Minutes, Participation, Step, UserPage, UserQuery, UserRoom};
use crate::store::LARGEST_PAGE;
use crate::{Result, RoomId, Timestamp, UserId};

#[async_trait]
impl Analytics for SqliteStore {
    async fn user_messages(&self, user: &UserId, query: &UserQuery) -> Result<UserPage> {
        let (user, query) = (user.clone(), query.clone());
        let look = if self.summaries { summaries::user_messages } else { user_messages };
        self.read(move |db| look(db, &user, &query)).await
    }

    async fn user_rooms(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Counted<Vec<UserRoom>>> {
        let (user, after) = (user.clone(), after.map_or(String::new(), |room| room.as_str().to_owned()));
        let look = if self.summaries { summaries::user_rooms } else { user_rooms };
        self.read(move |db| look(db, &user, &after, limit)).await
    }

    async fn active_users(&self, range: Minutes) -> Result<Counted<u64>> {
        let look = if self.summaries { summaries::active_users } else { active_users };
        self.read(move |db| look(db, range)).await
    }

    async fn top_users(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
        let look = if self.summaries { summaries::top_users } else { top_users };
        self.read(move |db| look(db, range, limit)).await
    }

    async fn top_rooms(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
        let look = if self.summaries { summaries::top_rooms } else { top_rooms };
        self.read(move |db| look(db, range, limit)).await
    }

    async fn message_rate(&self, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>> {
        let look = if self.summaries { summaries::message_rate } else { message_rate };
        self.read(move |db| look(db, range, step, limit)).await
    }

    async fn participation(&self, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
        let look = if self.summaries { summaries::participation } else { participation };
        self.read(move |db| look(db, range, limit)).await
    }
}

pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    with: impl Params,
    of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map(with, of)?.collect()
}

/// The same with the range bound as ?1 and ?2, and how many rows there may be as ?3.
fn ranged<T>(
    db: &Connection,
    sql: &str,
    range: Minutes,
    limit: usize,
    of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let (first, last) = range.bounds();
    all(db, sql, params![first, last, most(limit)], of)
}

pub(super) fn most(limit: usize) -> i64 {
    limit.min(LARGEST_PAGE) as i64
}

pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.unsigned_abs())
}

fn user_count(row: &Row<'_>) -> rusqlite::Result<(UserId, u64)> {
    Ok((row.get_ref(0)?.as_str()?.into(), count(row, 1)?))
}

fn room_count(row: &Row<'_>) -> rusqlite::Result<(RoomId, u64)> {
    Ok((reader::room(row, 0)?, count(row, 1)?))
}

fn user_messages(db: &Connection, user: &str, query: &UserQuery) -> rusqlite::Result<UserPage> {
    let Some((first, last)) = query.bounds() else { return Ok(UserPage::default()) };
    let order = if query.newest { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT epoch, \"offset\", m.id, digest, at, sender, kind, node, session, origin, body, r.name
         FROM messages m JOIN rooms r ON r.id = m.room
         WHERE sender = ?1 AND (at, m.id) >= (?2, ?3) AND (at, m.id) <= (?4, ?5) ORDER BY at {order}, m.id {order} LIMIT ?6"
    );
    let bounds = params![user, first.at.0, &first.id.as_bytes()[..], last.at.0, &last.id.as_bytes()[..], query.one_more()];
    let found = all(db, &sql, bounds, |row| reader::stored(row, &reader::room(row, 11)?))?;
    Ok(query.page(found))
}

fn user_rooms(db: &Connection, user: &str, after: &str, limit: usize) -> rusqlite::Result<Counted<Vec<UserRoom>>> {
    let sql = "SELECT r.name, c.last FROM (SELECT room, max(at) AS last FROM messages WHERE sender = ?1 GROUP BY room) c
               JOIN rooms r ON r.id = c.room WHERE r.name > ?2 ORDER BY 1 LIMIT ?3";
    let room = |row: &Row<'_>| Ok(UserRoom::new(reader::room(row, 0)?, Timestamp(row.get(1)?)));
    Ok(Counted::new(all(db, sql, params![user, after, most(limit)], room)?, None))
}

fn active_users(db: &Connection, range: Minutes) -> rusqlite::Result<Counted<u64>> {
    let sql = "SELECT count(DISTINCT sender) FROM messages WHERE at BETWEEN ? AND ?";
    Ok(Counted::new(db.prepare_cached(sql)?.query_row(range.bounds(), |row| count(row, 0))?, None))
}

fn top_users(db: &Connection, range: Minutes, limit: usize) -> rusqlite::Result<Counted<Vec<(UserId, u64)>>> {
    let sql = "SELECT sender, count(*) FROM messages WHERE at BETWEEN ?1 AND ?2 GROUP BY sender ORDER BY 2 DESC, 1 LIMIT ?3";
    Ok(Counted::new(ranged(db, sql, range, limit, user_count)?, None))
}

fn top_rooms(db: &Connection, range: Minutes, limit: usize) -> rusqlite::Result<Counted<Vec<(RoomId, u64)>>> {
    let sql = "SELECT r.name, c.n FROM (SELECT room, count(*) AS n FROM messages WHERE at BETWEEN ?1 AND ?2 GROUP BY room) c
               JOIN rooms r ON r.id = c.room ORDER BY 2 DESC, 1 LIMIT ?3";
    Ok(Counted::new(ranged(db, sql, range, limit, room_count)?, None))
}

fn message_rate(db: &Connection, range: Minutes, step: Step, limit: usize) -> rusqlite::Result<Counted<Vec<(Timestamp, u64)>>> {
    let length = step.milliseconds();
    let sql = format!(
        "SELECT at - (at % {length} + {length}) % {length}, count(*) FROM messages WHERE at BETWEEN ?1 AND ?2
         GROUP BY 1 ORDER BY 1 DESC LIMIT ?3"
    );
    let mut steps = ranged(db, &sql, range, limit, |row| Ok((Timestamp(row.get(0)?), count(row, 1)?)))?;
    steps.reverse();
    Ok(Counted::new(steps, None))
}

fn participation(db: &Connection, range: Minutes, limit: usize) -> rusqlite::Result<Counted<Participation>> {
    let snapshot = db.unchecked_transaction()?;
    let sql = "SELECT count(DISTINCT sender), count(DISTINCT room), count(*)
               FROM (SELECT DISTINCT sender, room FROM messages WHERE at BETWEEN ? AND ?)";
    let totals = |row: &Row<'_>| Ok((count(row, 0)?, count(row, 1)?, count(row, 2)?));
    let (users, rooms, pairs) = snapshot.prepare_cached(sql)?.query_row(range.bounds(), totals)?;
    let sql = "SELECT r.name, c.n FROM (SELECT room, count(DISTINCT sender) AS n FROM messages WHERE at BETWEEN ?1 AND ?2 GROUP BY room) c
               JOIN rooms r ON r.id = c.room ORDER BY 2 DESC, 1 LIMIT ?3";
    let fullest = ranged(&snapshot, sql, range, limit, room_count)?;
    let sql = "SELECT sender, count(DISTINCT room) FROM messages WHERE at BETWEEN ?1 AND ?2 GROUP BY sender ORDER BY 2 DESC, 1 LIMIT ?3";
    let busiest = ranged(&snapshot, sql, range, limit, user_count)?;
    Ok(Counted::new(Participation::new(users, rooms, pairs, fullest, busiest), None))
}
