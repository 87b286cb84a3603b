//! Counting rows into the summaries.
//!
//! A pass counts what there was when it began: which logs have news is asked of them, which rooms of the rooms. Nothing that a commit
//! waits for is locked for longer than a statement.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use async_trait::async_trait;
use sqlx::{Connection, MySql, MySqlConnection, Transaction};

use super::commit::parts;
use super::lease::held;
use super::reader::get;
use super::{MySqlStore, ORIGIN, failure};
use crate::Result;
use crate::store::sql::with;
use crate::store::summary::{Key, Kind, LENGTHS, Rolled, Said, Tally};
use crate::store::{Lease, Projections, SUMMARIES, batch};

/// Rows of one transaction: many, since the blocks are written once for all of them.
const ROWS: usize = 50_000;
/// Rooms that are looked for at once.
const ROOMS: usize = 4_096;
/// Rooms of one transaction, and blocks of one statement.
const TOGETHER: usize = 16;
/// Names, or pairs of numbers, of one statement; fewer are filled up.
const NAMES: usize = 512;

type Rooms = Vec<(Vec<u8>, Vec<u8>)>;

/// Rooms that have something to count, and up to where.
#[derive(Debug, Default)]
pub(super) struct Pass {
    rooms: VecDeque<(Vec<u8>, Vec<u8>)>,
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
impl Projections for MySqlStore {
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
            let some: Rooms = pass.rooms.iter().take(TOGETHER).cloned().collect();
            let left = with!(self.pools, projector, |db| count(db, lease, &some, most))?;
            pass.rooms.drain(..some.len());
            pass.rooms.extend(left);
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
async fn begin(db: &mut MySqlConnection, lease: &Lease) -> Result<Pass> {
    let sql = "SELECT log FROM chatflow_logs WHERE fresh_at IS NOT NULL OR counting_at IS NOT NULL ORDER BY log";
    let logs: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&mut *db).await.map_err(failure::error)?;
    if logs.is_empty() {
        return Ok(Pass { generation: lease.generation, ..Pass::default() });
    }
    let fresh = "counting_at = least(coalesce(counting_at, fresh_at), coalesce(fresh_at, counting_at)), fresh_at = NULL";
    mark(db, lease, &logs, fresh).await?;
    let sql = "SELECT r.name, r.place FROM chatflow_rooms r LEFT JOIN chatflow_counted c ON c.room = r.name
               WHERE r.place > coalesce(c.place, '') ORDER BY r.name LIMIT ?";
    let rooms = sqlx::query_as(sql).bind(ROOMS as i64).fetch_all(db).await;
    let rooms: Rooms = rooms.map_err(failure::error)?;
    Ok(Pass { is_whole: rooms.len() < ROOMS, rooms: rooms.into(), logs, generation: lease.generation, is_rolled: false })
}

/// Looks only whether the lease is still this one: there is nothing to do.
async fn idle(db: &mut MySqlConnection, lease: &Lease) -> Result<bool> {
    let sql = "SELECT 1 FROM chatflow_logs WHERE log = ? AND generation = ? AND holder IS NOT NULL";
    let held = sqlx::query(sql).bind(lease.log.0).bind(lease.generation as i64).fetch_optional(db).await.map_err(failure::error)?;
    held.map(|_| false).ok_or_else(|| batch::fenced(ORIGIN))
}

/// Everything that there was is counted.
async fn end(db: &mut MySqlConnection, lease: &Lease, pass: &Pass) -> Result<()> {
    mark(db, lease, &pass.logs, "counting_at = NULL").await
}

/// Each log by itself: who holds one waits for no other. Not without the lease, or what this finds would be taken for what another
/// counts.
async fn mark(db: &mut MySqlConnection, lease: &Lease, logs: &[i32], set: &str) -> Result<()> {
    let sql = format!("UPDATE chatflow_logs SET {set} WHERE log = ?");
    for log in logs {
        let mut tx = begun(db, lease).await?;
        sqlx::query(&sql).bind(log).execute(&mut *tx).await.map_err(failure::error)?;
        tx.commit().await.map_err(failure::error)?;
    }
    Ok(())
}

async fn begun<'a>(db: &'a mut MySqlConnection, lease: &Lease) -> Result<Transaction<'a, MySql>> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    held(&mut tx, lease).await?;
    Ok(tx)
}

/// Counts rows of `rooms`; those of which there may be more.
async fn count(db: &mut MySqlConnection, lease: &Lease, rooms: &[(Vec<u8>, Vec<u8>)], most: usize) -> Result<Rooms> {
    let mut tx = begun(db, lease).await?;
    let known = room_places(&mut tx, rooms).await?;
    // What one room alone may have is divided among several.
    let each = most.div_ceil(rooms.len());
    let one =
        "(SELECT room, place, at, user, sender FROM chatflow_messages WHERE room = ? AND place > ? AND place <= ? ORDER BY place LIMIT ?)";
    let sql = vec![one; rooms.len()].join(" UNION ALL ");
    let mut query = sqlx::query(&sql);
    for (room, until) in rooms {
        let after = known.get(room).map_or(&[][..], |(_, place)| place);
        query = query.bind(room).bind(after).bind(until).bind(each as i64);
    }
    let found = query.fetch_all(&mut *tx).await.map_err(failure::error)?;

    let mut places: HashMap<&[u8], &[u8]> = HashMap::new();
    let mut of_room: HashMap<&[u8], usize> = HashMap::new();
    let (mut rows, mut senders) = (Vec::with_capacity(found.len()), BTreeMap::new());
    for row in &found {
        let (room, place, at, user, sender): (&[u8], &[u8], i64, &[u8], &[u8]) =
            (get(row, 0)?, get(row, 1)?, get(row, 2)?, get(row, 3)?, get(row, 4)?);
        let last = places.entry(room).or_insert(place);
        *last = place.max(last);
        *of_room.entry(room).or_default() += 1;
        senders.insert(user, sender);
        rows.push((room, at, user));
    }
    let is_left = |room: &[u8]| of_room.get(room).is_some_and(|n| *n >= each);
    let reached = rooms.iter().map(|(room, until)| (&**room, if is_left(room) { places[&**room] } else { until })).collect();
    let numbers = room_numbers(&mut tx, &known, reached).await?;
    let users = user_numbers(&mut tx, &senders).await?;
    let said = rows.iter().filter_map(|(room, at, user)| Some(Said { room: *numbers.get(room)?, user: *users.get(user)?, at: *at }));
    let said: Vec<_> = said.collect();
    list(&mut tx, said.iter().map(|said| (said.user, said.room)).collect()).await?;
    let rolled = rolled(&mut tx).await?;
    write(&mut tx, &Tally::of(said, &rolled)).await?;
    tx.commit().await.map_err(failure::error)?;
    Ok(rooms.iter().filter(|(room, _)| is_left(room)).cloned().collect())
}

/// The numbers of rooms, and how far they are.
async fn room_places(tx: &mut MySqlConnection, rooms: &[(Vec<u8>, Vec<u8>)]) -> Result<HashMap<Vec<u8>, (u32, Vec<u8>)>> {
    let sql = format!("SELECT room, number, place FROM chatflow_counted WHERE room IN ({})", vec!["?"; rooms.len()].join(", "));
    let query = rooms.iter().fold(sqlx::query_as(&sql), |query, (room, _)| query.bind(room));
    let found: Vec<(Vec<u8>, i32, Vec<u8>)> = query.fetch_all(tx).await.map_err(failure::error)?;
    Ok(found.into_iter().map(|(room, number, place)| (room, (number as u32, place))).collect())
}

/// Keeps how far rooms are; their numbers.
async fn room_numbers<'a>(
    tx: &mut MySqlConnection,
    known: &HashMap<Vec<u8>, (u32, Vec<u8>)>,
    reached: Vec<(&'a [u8], &'a [u8])>,
) -> Result<HashMap<&'a [u8], u32>> {
    let next: i64 = sqlx::query_scalar("SELECT coalesce(max(number) + 1, 0) FROM chatflow_counted")
        .fetch_one(&mut *tx)
        .await
        .map_err(failure::error)?;
    let (mut next, mut numbers) = (next as u32, HashMap::new());
    let rows = vec!["(?, ?, ?)"; reached.len()].join(", ");
    let sql = format!("INSERT INTO chatflow_counted (room, number, place) VALUES {rows} ON DUPLICATE KEY UPDATE place = VALUES(place)");
    let mut query = sqlx::query(&sql);
    for (room, place) in reached {
        let number = known.get(room).map_or_else(
            || {
                next += 1;
                next - 1
            },
            |(number, _)| *number,
        );
        numbers.insert(room, number);
        query = query.bind(room).bind(number).bind(place);
    }
    query.execute(tx).await.map_err(failure::error)?;
    Ok(numbers)
}

/// The numbers of users, of whom new ones are given some. Their full names are by their shortened ones.
async fn user_numbers<'a>(tx: &mut MySqlConnection, names: &BTreeMap<&'a [u8], &[u8]>) -> Result<HashMap<&'a [u8], u32>> {
    let keys: Vec<_> = names.keys().copied().collect();
    let mut numbers = HashMap::with_capacity(keys.len());
    let sql = format!("SELECT user, number FROM chatflow_users WHERE user IN ({})", vec!["?"; NAMES].join(", "));
    for keys in keys.chunks(NAMES) {
        let query = (0..NAMES).fold(sqlx::query(&sql), |query, n| query.bind(keys[n.min(keys.len() - 1)]));
        for row in query.fetch_all(&mut *tx).await.map_err(failure::error)? {
            let (user, number): (&[u8], i32) = (get(&row, 0)?, get(&row, 1)?);
            if let Ok(key) = keys.binary_search(&user) {
                numbers.insert(keys[key], number as u32);
            }
        }
    }
    let new: Vec<_> = keys.into_iter().filter(|key| !numbers.contains_key(key)).collect();
    if new.is_empty() {
        return Ok(numbers);
    }
    let next: i64 =
        sqlx::query_scalar("SELECT coalesce(max(number) + 1, 0) FROM chatflow_users").fetch_one(&mut *tx).await.map_err(failure::error)?;
    let new: Vec<_> = new.into_iter().zip(next as u32..).collect();
    for part in parts(&new, |(user, _)| names[user].len()) {
        let rows = vec!["(?, ?, ?)"; part.len()].join(", ");
        let sql = format!("INSERT INTO chatflow_users (user, number, name) VALUES {rows}");
        let query = part.iter().fold(sqlx::query(&sql), |query, (user, number)| query.bind(*user).bind(number).bind(names[user]));
        query.execute(&mut *tx).await.map_err(failure::error)?;
    }
    numbers.extend(new);
    Ok(numbers)
}

/// Lists users with rooms that they were in.
async fn list(tx: &mut MySqlConnection, pairs: BTreeSet<(u32, u32)>) -> Result<()> {
    let pairs: Vec<_> = pairs.into_iter().collect();
    let sql = format!("INSERT IGNORE INTO chatflow_user_rooms (user, room) VALUES {}", vec!["(?, ?)"; NAMES].join(", "));
    for pairs in pairs.chunks(NAMES) {
        let pair = |n: usize| pairs[n.min(pairs.len() - 1)];
        let query = (0..NAMES).map(pair).fold(sqlx::query(&sql), |query, (user, room)| query.bind(user).bind(room));
        query.execute(&mut *tx).await.map_err(failure::error)?;
    }
    Ok(())
}

/// Up to when stretches are rolled up.
async fn rolled(db: &mut MySqlConnection) -> Result<Rolled> {
    let text = sqlx::query_scalar("SELECT CAST(value AS CHAR) FROM chatflow_meta WHERE name = 'rolled'").fetch_optional(db).await;
    let text: Option<String> = text.map_err(failure::error)?;
    Ok(text.map_or_else(Rolled::default, |text| Rolled::parse(&text)))
}

/// Changes the blocks.
async fn write(tx: &mut MySqlConnection, tally: &Tally) -> Result<()> {
    let keys: Vec<_> = tally.keys().collect();
    let mut changed = Vec::with_capacity(keys.len());
    for keys in keys.chunks(TOGETHER) {
        let one = |n| format!("(SELECT {n}, data FROM chatflow_summaries WHERE kind = ? AND level = ? AND begins = ? AND part = ?)");
        let sql = (0..keys.len()).map(one).collect::<Vec<_>>().join(" UNION ALL ");
        let query = keys.iter().fold(sqlx::query_as(&sql), |query, Key { kind, level, begins, part }| {
            query.bind(*kind as i8).bind(*level as i8).bind(begins).bind(i32::from(*part))
        });
        let old: Vec<(i64, Vec<u8>)> = query.fetch_all(&mut *tx).await.map_err(failure::error)?;
        let old: HashMap<_, _> = old.into_iter().collect();
        for (key, n) in keys.iter().zip(0i64..) {
            changed.push((*key, tally.changed(*key, old.get(&n).map(Vec::as_slice))?));
        }
    }
    for part in parts(&changed, |(_, data)| data.len()) {
        let rows = vec!["(?, ?, ?, ?, ?)"; part.len()].join(", ");
        let sql = format!(
            "INSERT INTO chatflow_summaries (kind, level, begins, part, data) VALUES {rows} ON DUPLICATE KEY UPDATE data = VALUES(data)"
        );
        let query = part.iter().fold(sqlx::query(&sql), |query, (Key { kind, level, begins, part }, data)| {
            query.bind(*kind as i8).bind(*level as i8).bind(begins).bind(i32::from(*part)).bind(data)
        });
        query.execute(&mut *tx).await.map_err(failure::error)?;
    }
    Ok(())
}

/// Rolls up one stretch that is past; whether there may be another.
async fn roll(db: &mut MySqlConnection, lease: &Lease) -> Result<bool> {
    let mut tx = begun(db, lease).await?;
    let rolled = rolled(&mut tx).await?;
    let newest = sqlx::query_scalar("SELECT max(begins) FROM chatflow_summaries WHERE kind = 0 AND level = 0").fetch_one(&mut *tx).await;
    let newest: Option<i64> = newest.map_err(failure::error)?;
    let Some((level, from, until)) = newest.and_then(|newest| rolled.next(newest)) else { return Ok(false) };
    let sql = "SELECT min(begins) FROM chatflow_summaries WHERE kind = 0 AND level = ? AND begins >= ? AND begins < ?";
    let first = sqlx::query_scalar(sql).bind(level as i8 - 1).bind(from).bind(until).fetch_one(&mut *tx).await;
    let first: Option<i64> = first.map_err(failure::error)?;
    let until = match first {
        None => until,
        Some(first) => {
            let length = LENGTHS[usize::from(level)];
            let begins = first.div_euclid(length) * length;
            let mut tally = Tally::default();
            for kind in [Kind::Rate, Kind::Rooms, Kind::Users, Kind::Pairs] {
                let sql = "SELECT begins, part, data FROM chatflow_summaries WHERE kind = ? AND level = ? AND begins >= ? AND begins < ?";
                let query = sqlx::query_as(sql).bind(kind as i8).bind(level as i8 - 1).bind(begins).bind(begins + length);
                let blocks: Vec<(i64, i32, Vec<u8>)> = query.fetch_all(&mut *tx).await.map_err(failure::error)?;
                for (begins, part, data) in blocks {
                    tally.roll(Key { kind, level: level - 1, begins, part: part as u16 }, &data)?;
                }
            }
            write(&mut tx, &tally).await?;
            begins + length
        }
    };
    let sql = "UPDATE chatflow_meta SET value = ? WHERE name = 'rolled'";
    sqlx::query(sql).bind(rolled.with(level, until).to_string()).execute(&mut *tx).await.map_err(failure::error)?;
    tx.commit().await.map_err(failure::error)?;
    Ok(true)
}

/// Nothing is counted any more.
pub(super) async fn forget(db: &mut MySqlConnection) -> Result<()> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    // Whoever counts waits here or is waited for; rooms and users keep their numbers.
    let sql = "SELECT 1 FROM chatflow_logs WHERE log = ? FOR UPDATE";
    sqlx::query(sql).bind(SUMMARIES.0).execute(&mut *tx).await.map_err(failure::error)?;
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
