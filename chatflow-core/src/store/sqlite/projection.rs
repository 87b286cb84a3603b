//! Counting rows into the summaries: prepared by a reader, so that the writer only writes.

use std::collections::HashMap;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::commit::{Stop, held};
use super::reader::{holds, unreadable};
use super::writer::Request;
use super::{ORIGIN, SqliteStore};
use crate::Result;
use crate::store::summary::{Key, Kind, LENGTHS, Rolled, Said, Tally};
use crate::store::{Lease, Projections, batch};

/// Rows of one pass, all of them in memory: many, since the blocks are written once for all of them, and the more there are, the more of
/// them share a page of the lists.
const ROWS: usize = 100_000;

/// Rows of one transaction: few, since commits wait for its end.
const TOGETHER: usize = 2_000;

/// What the writer is to change, if nothing was counted meanwhile.
#[derive(Debug)]
pub(super) struct Change {
    /// The last row that is counted before.
    counted: i64,
    users: Vec<(i64, String)>,
    /// User, time, row, room.
    rows: Vec<(i64, i64, i64, i64)>,
    then: Then,
}

/// What else it changes.
#[derive(Debug)]
enum Then {
    /// Nothing: more of the same rows follows.
    More,
    Counted(Counts),
    /// Nothing that was counted can be relied on.
    Forget,
}

#[derive(Debug)]
struct Counts {
    /// The last row that is counted, and its id.
    last: (i64, Vec<u8>),
    blocks: Vec<(Key, Vec<u8>)>,
    rolled: Rolled,
}

impl Change {
    /// Rows that it writes, of whatever table.
    pub(super) fn len(&self) -> usize {
        let blocks = if let Then::Counted(counts) = &self.then { counts.blocks.len() } else { 0 };
        self.users.len() + self.rows.len() + blocks
    }

    /// The same in several transactions. Only the last of them counts the rows: until then nobody looks at what the others list.
    fn parts(mut self) -> Vec<Self> {
        let mut parts = Vec::new();
        while self.users.len() + self.rows.len() > TOGETHER {
            let users: Vec<_> = self.users.drain(..self.users.len().min(TOGETHER)).collect();
            let rows = self.rows.drain(..self.rows.len().min(TOGETHER - users.len())).collect();
            parts.push(Self { counted: self.counted, users, rows, then: Then::More });
        }
        parts.push(self);
        parts
    }
}

#[async_trait]
impl Projections for SqliteStore {
    async fn project(&self, lease: &Lease, most: usize) -> Result<bool> {
        let (held, most) = (lease.clone(), most.clamp(1, ROWS));
        let (is_held, change) = self.read(move |db| Ok((holds(db, &held)?, prepare(db, most)?))).await?;
        if !is_held {
            return Err(batch::fenced(ORIGIN));
        }
        let Some(change) = change else { return Ok(false) };
        for change in change.parts() {
            self.write(|reply| Request::Count { lease: lease.clone(), change: Box::new(change), reply }).await?;
        }
        Ok(true)
    }
}

/// The last row that is counted, and its id.
pub(super) fn counted(db: &Connection) -> rusqlite::Result<(i64, Vec<u8>)> {
    let mut kept = db.prepare_cached("SELECT value FROM meta WHERE name = ?")?;
    Ok((kept.query_row(["counted"], |row| row.get(0))?, kept.query_row(["counted_id"], |row| row.get(0))?))
}

/// Up to when stretches are rolled up.
pub(super) fn rolled(db: &Connection) -> rusqlite::Result<Rolled> {
    let text = db.prepare_cached("SELECT value FROM meta WHERE name = 'rolled'")?.query_row([], |row| row.get::<_, String>(0));
    Ok(Rolled::parse(&text?))
}

/// Looks at up to `most` rows; `None` when everything is counted and rolled up.
fn prepare(db: &Connection, most: usize) -> rusqlite::Result<Option<Change>> {
    let db = db.unchecked_transaction()?;
    let (counted, rolled) = (counted(&db)?, rolled(&db)?);
    let same = "SELECT 1 FROM messages WHERE rowid = ? AND id = ?";
    if counted.0 > 0 && !db.prepare_cached(same)?.exists(params![counted.0, counted.1])? {
        return Ok(Some(Change { counted: counted.0, users: Vec::new(), rows: Vec::new(), then: Then::Forget }));
    }
    let mut change = Change { counted: counted.0, users: Vec::new(), rows: Vec::new(), then: Then::More };
    let mut counts = Counts { last: counted, blocks: Vec::new(), rolled };
    let tally = match count(&db, most, &mut change, &mut counts)? {
        Some(tally) => tally,
        None => match roll(&db, &mut counts.rolled)? {
            Some(tally) => tally,
            None => return Ok(None),
        },
    };
    let mut find = db.prepare_cached("SELECT data FROM summaries WHERE kind = ? AND level = ? AND begins = ? AND part = ?")?;
    for key in tally.keys() {
        let old: Option<Vec<u8>> = find.query_row(place(&key), |row| row.get(0)).optional()?;
        counts.blocks.push((key, tally.changed(key, old.as_deref()).map_err(|error| unreadable(0, error))?));
    }
    change.then = Then::Counted(counts);
    Ok(Some(change))
}

fn place(key: &Key) -> (i64, i64, i64, i64) {
    (key.kind as i64, key.level.into(), key.begins, key.part.into())
}

/// The rows that come next; `None` when there are none.
fn count(db: &Connection, most: usize, change: &mut Change, counts: &mut Counts) -> rusqlite::Result<Option<Tally>> {
    let sql = "SELECT rowid, id, room, at, sender FROM messages WHERE rowid > ? ORDER BY rowid LIMIT ?";
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query(params![change.counted, most as i64])?;
    let mut find = db.prepare_cached("SELECT number FROM users WHERE name = ?")?;
    let mut next: i64 = db.prepare_cached("SELECT coalesce(max(number) + 1, 0) FROM users")?.query_row([], |row| row.get(0))?;
    let (mut numbers, mut said) = (HashMap::<String, i64>::new(), Vec::new());
    while let Some(row) = found.next()? {
        let (number, room, at, sender) = (row.get(0)?, row.get::<_, i64>(2)?, row.get(3)?, row.get_ref(4)?.as_str()?);
        let user = match numbers.get(sender) {
            Some(user) => *user,
            None => {
                let user = find.query_row([sender], |row| row.get(0)).optional()?.unwrap_or_else(|| {
                    change.users.push((next, sender.to_owned()));
                    next += 1;
                    next - 1
                });
                numbers.insert(sender.to_owned(), user);
                user
            }
        };
        counts.last = (number, row.get(1)?);
        change.rows.push((user, at, number, room));
        said.push(Said { room: room as u32, user: user as u32, at });
    }
    change.rows.sort_unstable();
    Ok((!said.is_empty()).then(|| Tally::of(said, &counts.rolled)))
}

/// One stretch that is past, rolled up; `None` when there is none.
fn roll(db: &Connection, rolled: &mut Rolled) -> rusqlite::Result<Option<Tally>> {
    let newest: Option<i64> =
        db.prepare_cached("SELECT max(begins) FROM summaries WHERE kind = 0 AND level = 0")?.query_row([], |row| row.get(0))?;
    let Some((level, from, until)) = newest.and_then(|newest| rolled.next(newest)) else { return Ok(None) };
    let sql = "SELECT min(begins) FROM summaries WHERE kind = 0 AND level = ? AND begins >= ? AND begins < ?";
    let first: Option<i64> = db.prepare_cached(sql)?.query_row(params![level - 1, from, until], |row| row.get(0))?;
    let mut tally = Tally::default();
    *rolled = match first {
        None => rolled.with(level, until),
        Some(first) => {
            let length = LENGTHS[usize::from(level)];
            let begins = first.div_euclid(length) * length;
            for kind in [Kind::Rate, Kind::Rooms, Kind::Users, Kind::Pairs] {
                let sql = "SELECT begins, part, data FROM summaries WHERE kind = ? AND level = ? AND begins >= ? AND begins < ?";
                let mut statement = db.prepare_cached(sql)?;
                let mut blocks = statement.query(params![kind as i64, level - 1, begins, begins + length])?;
                while let Some(row) = blocks.next()? {
                    let key = Key { kind, level: level - 1, begins: row.get(0)?, part: row.get(1)? };
                    tally.roll(key, row.get_ref(2)?.as_blob()?).map_err(|error| unreadable(2, error))?;
                }
            }
            rolled.with(level, begins + length)
        }
    };
    Ok(Some(tally))
}

/// Writes a change, unless it was prepared from what is no longer so: then the next one is.
pub(super) fn write(db: &Connection, lease: &Lease, change: &Change) -> Result<(), Stop> {
    held(db, lease)?;
    if counted(db)?.0 != change.counted {
        return Ok(());
    }
    if matches!(change.then, Then::Forget) {
        tracing::warn!("the rows of the history have other numbers than they had: its summaries are counted anew");
        return Ok(forget(db)?);
    }
    let mut insert = db.prepare_cached("INSERT INTO users (number, name) VALUES (?, ?)")?;
    for (number, name) in &change.users {
        insert.execute(params![number, name])?;
    }
    // A pass that ended in its midst has listed some of them.
    let mut insert = db.prepare_cached("INSERT INTO user_rows (user, at, row, room) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")?;
    for row in &change.rows {
        insert.execute(*row)?;
    }
    let Then::Counted(Counts { last, blocks, rolled }) = &change.then else { return Ok(()) };
    let sql = "INSERT INTO summaries (kind, level, begins, part, data) VALUES (?, ?, ?, ?, ?)
               ON CONFLICT (kind, level, begins, part) DO UPDATE SET data = excluded.data";
    let mut upsert = db.prepare_cached(sql)?;
    for (key, data) in blocks {
        let (kind, level, begins, part) = place(key);
        upsert.execute(params![kind, level, begins, part, data])?;
    }
    let mut keep = db.prepare_cached("UPDATE meta SET value = ? WHERE name = ?")?;
    keep.execute(params![last.0, "counted"])?;
    keep.execute(params![last.1, "counted_id"])?;
    keep.execute(params![rolled.to_string(), "rolled"])?;
    Ok(())
}

/// Nothing is counted any more. Users keep their numbers.
pub(super) fn forget(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "DELETE FROM summaries; DELETE FROM user_rows; UPDATE meta SET value = 0 WHERE name = 'counted';
         UPDATE meta SET value = x'' WHERE name = 'counted_id'; UPDATE meta SET value = '' WHERE name = 'rolled'",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::NodeId;
    use crate::analytics::{UserCursor, UserQuery};
    use crate::store::SUMMARIES;
    use crate::store::sqlite::{commit, schema, summaries};

    /// What the questions say of users of whom each of `rows` messages in turn has another.
    fn users(db: &Connection, rows: i64) {
        for user in ["0", "1", "2"] {
            assert_eq!(summaries::user_rooms(db, user, "", 10).unwrap().value.len(), 1, "of user {user}");
            for newest in [true, false] {
                let (mut places, mut seen) = (BTreeSet::new(), 0);
                let mut query = UserQuery { newest, ..UserQuery::latest(1_000) };
                loop {
                    let page = summaries::user_messages(db, user, &query).unwrap();
                    seen += page.messages.len() as i64;
                    places.extend(page.messages.iter().map(|row| row.position));
                    match newest {
                        true => query.before = page.messages.first().map(UserCursor::of),
                        false => query.after = page.messages.last().map(UserCursor::of),
                    }
                    if !page.more {
                        break;
                    }
                }
                assert_eq!((seen, places.len() as i64), (rows / 3, rows / 3), "of user {user}");
            }
        }
    }

    #[test]
    fn a_pass_that_ends_in_its_midst_shows_nothing_twice() {
        const ROWS: i64 = 9_000;
        let folder = tempfile::tempdir().unwrap();
        let db = schema::prepare(&folder.path().join("x.db"), Duration::ZERO).unwrap();
        let Ok(lease) = commit::claim(&db, SUMMARIES, &NodeId::from_static("n")) else { panic!("nobody else has it") };
        db.execute_batch(&format!(
            "INSERT INTO rooms (id, name, last) VALUES (1, 'room', {ROWS});
             WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {ROWS})
             INSERT INTO messages SELECT randomblob(16), 1, 1, n, 0, n, n % 3 || '', 'text', '', 0, '', x'00' FROM series"
        ))
        .unwrap();
        let parts = prepare(&db, usize::MAX).unwrap().unwrap().parts();
        assert!(parts.len() > 3 && parts.iter().all(|part| part.users.len() + part.rows.len() <= TOGETHER), "{}", parts.len());
        users(&db, ROWS);
        for part in &parts[..2] {
            assert!(write(&db, &lease, part).is_ok());
            users(&db, ROWS);
        }
        while let Some(change) = prepare(&db, usize::MAX).unwrap() {
            change.parts().iter().for_each(|part| assert!(write(&db, &lease, part).is_ok()));
            users(&db, ROWS);
        }
        assert_eq!(counted(&db).unwrap().0, ROWS);
    }
}
