//! Counting rows into the summaries.
//!
//! A pass counts what there was when it began: which logs have news is asked of them, which rooms of the rooms. Nothing that a commit
//! waits for is locked for longer than a statement.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};

use super::lease::held;
use super::reader::get;
use super::{ORIGIN, PostgresStore, failure};
use crate::Result;
use crate::store::sql::with;
use crate::store::summary::{Key, Kind, LENGTHS, Rolled, Said, Tally};
use crate::store::{Lease, Projections, SUMMARIES, batch};

/// Rows of one transaction: many, since the blocks are written once for all of them.
const ROWS: usize = 50_000;
/// Rooms that are looked for at once.
const ROOMS: usize = 4_096;
/// Rooms of one transaction, and blocks of one statement.
const TOGETHER: usize = 256;

/// Rooms that have something to count, and up to where.
#[derive(Debug, Default)]
pub(super) struct Pass {
    rooms: VecDeque<(String, Vec<u8>)>,
    /// Whether these are all that there were.
    is_whole: bool,
    /// Logs that had news.
    logs: Vec<i32>,
    /// Of which lease: whoever had it in between may have begun another pass.
    generation: u64,
    /// Whether nothing was left to roll up.
    is_rolled: bool,
}

#[async_trait]
impl Projections for PostgresStore {
    async fn project(&self, lease: &Lease, most: usize) -> Result<bool> {
        let most = most.clamp(1, ROWS);
        let Some(pass) = &self.pass else { return Ok(false) };
        let mut pass = pass.lock().await;
        if pass.rooms.is_empty() || pass.generation != lease.generation {
            let is_rolled = pass.is_rolled && pass.generation == lease.generation;
            *pass = with!(self.pools, projector, |db| begin(db, lease))?;
            pass.is_rolled = is_rolled && pass.logs.is_empty();
        }
        if !pass.rooms.is_empty() {
            let some: Vec<_> = pass.rooms.iter().take(TOGETHER).cloned().collect();
            let left = with!(self.pools, projector, |db| count(db, lease, &some, most))?;
            pass.rooms.drain(..some.len());
            pass.rooms.extend(some.into_iter().filter(|(room, _)| left.contains(room)));
            if !pass.rooms.is_empty() || !pass.is_whole {
                return Ok(true);
            }
        }
        if pass.is_rolled {
            return with!(self.pools, projector, |db| idle(db, lease));
        }
        with!(self.pools, projector, |db| end(db, lease, &pass))?;
        let more = with!(self.pools, projector, |db| roll(db, lease))?;
        pass.is_rolled = !more;
        // A pass does not see what was committed after it began.
        Ok(more || !pass.logs.is_empty())
    }
}

/// Finds out what there is to count.
async fn begin(db: &mut PgConnection, lease: &Lease) -> Result<Pass> {
    let sql = "SELECT log FROM chatflow_logs WHERE fresh_at IS NOT NULL OR counting_at IS NOT NULL ORDER BY log";
    let logs: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&mut *db).await.map_err(failure::error)?;
    if logs.is_empty() {
        return Ok(Pass { generation: lease.generation, ..Pass::default() });
    }
    mark(db, lease, &logs, "counting_at = least(counting_at, fresh_at), fresh_at = NULL").await?;
    let sql = "SELECT r.name, r.place FROM chatflow_rooms r LEFT JOIN chatflow_counted c ON c.room = r.name
               WHERE r.place > coalesce(c.place, '') ORDER BY r.name LIMIT $1";
    let rooms = sqlx::query_as(sql).bind(ROOMS as i64).fetch_all(db).await;
    let rooms: Vec<(String, Vec<u8>)> = rooms.map_err(failure::error)?;
    Ok(Pass { is_whole: rooms.len() < ROOMS, rooms: rooms.into(), logs, generation: lease.generation, is_rolled: false })
}

/// Looks only whether the lease is still this one: there is nothing to do.
async fn idle(db: &mut PgConnection, lease: &Lease) -> Result<bool> {
    let sql = "SELECT 1 FROM chatflow_logs WHERE log = $1 AND generation = $2 AND holder IS NOT NULL";
    let held =
        sqlx::query(sql).bind(i32::from(lease.log.0)).bind(lease.generation as i64).fetch_optional(db).await.map_err(failure::error)?;
    held.map(|_| false).ok_or_else(|| batch::fenced(ORIGIN))
}

/// Everything that there was is counted.
async fn end(db: &mut PgConnection, lease: &Lease, pass: &Pass) -> Result<()> {
    mark(db, lease, &pass.logs, "counting_at = NULL").await
}

/// Each log by itself: who holds one waits for no other. Not without the lease, or what this finds would be taken for what another
/// counts; not synced, since what is lost is lost together with all that follows.
async fn mark(db: &mut PgConnection, lease: &Lease, logs: &[i32], set: &str) -> Result<()> {
    let sql = format!("UPDATE chatflow_logs SET {set} WHERE log = $1");
    for log in logs {
        let mut tx = begun(db, lease).await?;
        sqlx::query(&sql).bind(log).execute(&mut *tx).await.map_err(failure::error)?;
        tx.commit().await.map_err(failure::error)?;
    }
    Ok(())
}

async fn begun<'a>(db: &'a mut PgConnection, lease: &Lease) -> Result<sqlx::Transaction<'a, sqlx::Postgres>> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *tx).await.map_err(failure::error)?;
    held(&mut tx, lease).await?;
    Ok(tx)
}

/// Counts rows of `rooms`; those of which there may be more.
async fn count(db: &mut PgConnection, lease: &Lease, rooms: &[(String, Vec<u8>)], most: usize) -> Result<Vec<String>> {
    let mut tx = begun(db, lease).await?;
    let (names, until): (Vec<_>, Vec<_>) = rooms.iter().map(|(room, until)| (&**room, &**until)).unzip();
    let sql = "SELECT t.room, m.place, m.at, m.sender
               FROM unnest($1::text[], $2::bytea[]) t (room, until) LEFT JOIN chatflow_counted c ON c.room = t.room
               CROSS JOIN LATERAL (SELECT place, at, sender FROM chatflow_messages
                    WHERE room = t.room AND place > coalesce(c.place, '') AND place <= t.until ORDER BY place LIMIT $3) m LIMIT $3";
    let found = sqlx::query(sql).bind(&names).bind(&until).bind(most as i64).fetch_all(&mut *tx).await;
    let found = found.map_err(failure::error)?;
    let is_all = found.len() < most;

    // A room's rows came in the order of their places, so that what was seen of it last is how far it is.
    let mut places: BTreeMap<&str, &[u8]> =
        if is_all { rooms.iter().map(|(room, until)| (&**room, &**until)).collect() } else { BTreeMap::new() };
    let mut rows = Vec::with_capacity(found.len());
    for row in &found {
        let (room, place, at, sender): (&str, &[u8], i64, &str) = (get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?);
        places.insert(room, place);
        rows.push((room, at, sender));
    }
    let numbers = room_numbers(&mut tx, &places).await?;
    let users = user_numbers(&mut tx, rows.iter().map(|(_, _, sender)| *sender)).await?;
    let said = rows.iter().filter_map(|(room, at, sender)| Some(Said { room: *numbers.get(*room)?, user: *users.get(*sender)?, at: *at }));
    let said: Vec<_> = said.collect();
    list(&mut tx, said.iter().map(|said| (said.user, said.room)).collect()).await?;
    let rolled = rolled(&mut tx).await?;
    write(&mut tx, &Tally::of(said, &rolled)).await?;
    tx.commit().await.map_err(failure::error)?;
    let is_left = |(room, until): &(String, Vec<u8>)| places.get(&**room).is_none_or(|place| *place != until);
    Ok(rooms.iter().filter(|room| is_left(room)).map(|(room, _)| room.clone()).collect())
}

/// Keeps how far rooms are; their numbers.
async fn room_numbers(tx: &mut PgConnection, places: &BTreeMap<&str, &[u8]>) -> Result<HashMap<String, u32>> {
    let (rooms, at): (Vec<&str>, Vec<&[u8]>) = places.iter().map(|(room, place)| (*room, *place)).unzip();
    let sql = "INSERT INTO chatflow_counted (room, number, place)
               SELECT t.room, coalesce(c.number, (SELECT coalesce(max(number), -1) FROM chatflow_counted)
                                        + (row_number() OVER (PARTITION BY c.number IS NULL ORDER BY t.room))::int4), t.place
               FROM unnest($1::text[], $2::bytea[]) t (room, place) LEFT JOIN chatflow_counted c ON c.room = t.room
               ON CONFLICT (room) DO UPDATE SET place = excluded.place RETURNING room, number";
    let kept: Result<Vec<(String, i32)>, _> = sqlx::query_as(sql).bind(rooms).bind(at).fetch_all(tx).await;
    Ok(kept.map_err(failure::error)?.into_iter().map(|(room, number)| (room, number as u32)).collect())
}

/// The numbers of users, of whom new ones are given some.
async fn user_numbers<'a>(tx: &mut PgConnection, names: impl Iterator<Item = &'a str>) -> Result<HashMap<String, u32>> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    // One by one, by the index: a join would read all users for every few that said something.
    let sql = "WITH asked AS (SELECT a.name, u.number FROM unnest($1::text[]) a (name)
                        LEFT JOIN LATERAL (SELECT number FROM chatflow_users WHERE name = a.name LIMIT 1) u ON true),
                    made AS (INSERT INTO chatflow_users (name, number)
                        SELECT name, (SELECT coalesce(max(number), -1) FROM chatflow_users) + (row_number() OVER (ORDER BY name))::int4
                        FROM asked WHERE number IS NULL RETURNING name, number)
               SELECT name, number FROM asked WHERE number IS NOT NULL UNION ALL SELECT name, number FROM made";
    let found: Result<Vec<(String, i32)>, _> = sqlx::query_as(sql).bind(names).fetch_all(tx).await;
    Ok(found.map_err(failure::error)?.into_iter().map(|(name, number)| (name, number as u32)).collect())
}

/// Lists users with rooms that they were in.
async fn list(tx: &mut PgConnection, pairs: BTreeSet<(u32, u32)>) -> Result<()> {
    let (users, rooms): (Vec<_>, Vec<_>) = pairs.into_iter().map(|(user, room)| (user as i32, room as i32)).unzip();
    let sql = "INSERT INTO chatflow_user_rooms SELECT * FROM unnest($1::int4[], $2::int4[]) ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(users).bind(rooms).execute(tx).await.map_err(failure::error)?;
    Ok(())
}

/// Up to when stretches are rolled up.
async fn rolled(db: &mut PgConnection) -> Result<Rolled> {
    let text = sqlx::query_scalar("SELECT value FROM chatflow_meta WHERE name = 'rolled'").fetch_optional(db).await;
    let text: Option<String> = text.map_err(failure::error)?;
    Ok(text.map_or_else(Rolled::default, |text| Rolled::parse(&text)))
}

/// Changes the blocks.
async fn write(tx: &mut PgConnection, tally: &Tally) -> Result<()> {
    let keys: Vec<_> = tally.keys().collect();
    for keys in keys.chunks(TOGETHER) {
        let column = |of: fn(&Key) -> i64| keys.iter().map(of).collect::<Vec<_>>();
        let (kinds, levels) = (column(|key| key.kind as i64), column(|key| key.level.into()));
        let (begins, parts) = (column(|key| key.begins), column(|key| key.part.into()));
        let sql = "SELECT k.n, s.data FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[]) WITH ORDINALITY k (kind, level, begins, part, n)
                   JOIN chatflow_summaries s ON s.kind = k.kind::int2 AND s.level = k.level::int2 AND s.begins = k.begins AND s.part = k.part::int4";
        let query = sqlx::query_as(sql).bind(&kinds).bind(&levels).bind(&begins).bind(&parts);
        let old: Vec<(i64, Vec<u8>)> = query.fetch_all(&mut *tx).await.map_err(failure::error)?;
        let old: HashMap<_, _> = old.into_iter().collect();
        let changed = keys.iter().zip(1i64..).map(|(key, n)| tally.changed(*key, old.get(&n).map(Vec::as_slice)));
        let changed = changed.collect::<Result<Vec<_>>>()?;
        let sql = "INSERT INTO chatflow_summaries (kind, level, begins, part, data)
                   SELECT * FROM unnest($1::int8[]::int2[], $2::int8[]::int2[], $3::int8[], $4::int8[]::int4[], $5::bytea[])
                   ON CONFLICT (kind, level, begins, part) DO UPDATE SET data = excluded.data";
        let query = sqlx::query(sql).bind(&kinds).bind(&levels).bind(&begins).bind(&parts).bind(&changed);
        query.execute(&mut *tx).await.map_err(failure::error)?;
    }
    Ok(())
}

/// Rolls up one stretch that is past; whether there may be another.
async fn roll(db: &mut PgConnection, lease: &Lease) -> Result<bool> {
    let mut tx = begun(db, lease).await?;
    let rolled = rolled(&mut tx).await?;
    let newest = sqlx::query_scalar("SELECT max(begins) FROM chatflow_summaries WHERE kind = 0 AND level = 0").fetch_one(&mut *tx).await;
    let newest: Option<i64> = newest.map_err(failure::error)?;
    let Some((level, from, until)) = newest.and_then(|newest| rolled.next(newest)) else { return Ok(false) };
    let sql = "SELECT min(begins) FROM chatflow_summaries WHERE kind = 0 AND level = $1 AND begins >= $2 AND begins < $3";
    let first = sqlx::query_scalar(sql).bind(i16::from(level) - 1).bind(from).bind(until).fetch_one(&mut *tx).await;
    let first: Option<i64> = first.map_err(failure::error)?;
    let until = match first {
        None => until,
        Some(first) => {
            let length = LENGTHS[usize::from(level)];
            let begins = first.div_euclid(length) * length;
            let mut tally = Tally::default();
            for kind in [Kind::Rate, Kind::Rooms, Kind::Users, Kind::Pairs] {
                let sql =
                    "SELECT begins, part, data FROM chatflow_summaries WHERE kind = $1 AND level = $2 AND begins >= $3 AND begins < $4";
                let query = sqlx::query_as(sql).bind(kind as i16).bind(i16::from(level) - 1).bind(begins).bind(begins + length);
                let blocks: Vec<(i64, i32, Vec<u8>)> = query.fetch_all(&mut *tx).await.map_err(failure::error)?;
                for (begins, part, data) in blocks {
                    tally.roll(Key { kind, level: level - 1, begins, part: part as u16 }, &data)?;
                }
            }
            write(&mut tx, &tally).await?;
            begins + length
        }
    };
    let sql = "UPDATE chatflow_meta SET value = $1 WHERE name = 'rolled'";
    sqlx::query(sql).bind(rolled.with(level, until).to_string()).execute(&mut *tx).await.map_err(failure::error)?;
    tx.commit().await.map_err(failure::error)?;
    Ok(true)
}

/// Nothing is counted any more.
pub(super) async fn forget(db: &mut PgConnection) -> Result<()> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    // Whoever counts waits here or is waited for; rooms and users keep their numbers.
    let sql = "SELECT 1 FROM chatflow_logs WHERE log = $1 FOR UPDATE";
    sqlx::query(sql).bind(i32::from(SUMMARIES.0)).execute(&mut *tx).await.map_err(failure::error)?;
    for sql in [
        "DELETE FROM chatflow_summaries",
        "UPDATE chatflow_counted SET place = ''",
        "UPDATE chatflow_meta SET value = '' WHERE name = 'rolled'",
        "UPDATE chatflow_logs SET fresh_at = (SELECT min(at) FROM chatflow_messages)",
    ] {
        sqlx::query(sql).execute(&mut *tx).await.map_err(failure::error)?;
    }
    tx.commit().await.map_err(failure::error)
}
