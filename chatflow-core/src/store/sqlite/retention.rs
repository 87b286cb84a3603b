//! Removing what is old: looked for by a reader, so that the writer only removes.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::commit::{Stop, held};
use super::writer::Request;
use super::{SqliteStore, place, projection};
use crate::store::retention::{removable, since as begins};
use crate::store::{LARGEST_PAGE, Lease, MessageStore, Retention};
use crate::{LogId, Position, Result, RoomId, Timestamp};

/// Rows that may go: the oldest of a room, by their numbers.
#[derive(Debug)]
pub(super) struct Oldest {
    room: i64,
    rows: Vec<i64>,
    /// Where the last of them stands.
    last: Position,
    before: Timestamp,
}

impl Oldest {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

#[async_trait]
impl Retention for SqliteStore {
    async fn remove(&self, lease: &Lease, room: &RoomId, before: Timestamp, limit: usize) -> Result<usize> {
        let (limit, through, name) = (limit.min(LARGEST_PAGE), lease.through, room.clone());
        let summaries = self.summaries;
        match self.read(move |db| oldest(db, &name, through, before, limit, summaries)).await? {
            Some(rows) => self.write(|reply| Request::Remove { lease: lease.clone(), rows, reply }).await,
            None => self.renew(lease).await.map(|()| 0),
        }
    }
}

/// What may go of `room`, if anything may; with `summaries`, only what is counted. It walks the index by place from its begin.
fn oldest(
    db: &Connection,
    room: &RoomId,
    through: Position,
    before: Timestamp,
    limit: usize,
    summaries: bool,
) -> rusqlite::Result<Option<Oldest>> {
    let known = db.prepare_cached("SELECT id FROM rooms WHERE name = ?")?.query_row([room.as_str()], |row| row.get(0)).optional()?;
    let Some(room) = known else { return Ok(None) };
    let sql = "SELECT rowid, epoch, \"offset\", at FROM messages WHERE room = ? AND (epoch, \"offset\") <= (?, ?)
               ORDER BY epoch, \"offset\" LIMIT ?";
    let (epoch, offset) = place::halves(through);
    let mut statement = db.prepare_cached(sql)?;
    let found = statement.query_map(params![room, epoch, offset, limit as i64 + 1], |row| {
        Ok((row.get::<_, i64>(0)?, place::position(row, 1)?, Timestamp(row.get(3)?)))
    })?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    let times: Vec<_> = found.iter().map(|(.., at)| *at).collect();
    // The last that is counted stays as well: by it the next count knows where it was.
    let counted = if summaries { projection::counted(db)?.0 } else { i64::MAX };
    let count = found.iter().take_while(|(row, ..)| *row < counted).count().min(removable(&times, before, limit));
    let found = &found[..count];
    let rows = found.iter().map(|(row, ..)| *row).collect();
    Ok(found.last().map(|(_, last, _)| Oldest { room, rows, last: *last, before }))
}

/// Removes rows that may go, those that are still there, and keeps how far that was. How many that were.
pub(super) fn remove(db: &Connection, lease: &Lease, Oldest { room, rows, last, before }: &Oldest) -> Result<usize, Stop> {
    held(db, lease)?;
    // A number is not given again while its room has a newer one; all the same, no other row goes by mistake.
    let mut delete = db.prepare_cached("DELETE FROM messages WHERE rowid = ? AND room = ? AND at < ? RETURNING sender, at")?;
    let mut unlist =
        db.prepare_cached("DELETE FROM user_rows WHERE user = (SELECT number FROM users WHERE name = ?) AND at = ? AND row = ?")?;
    let mut count = 0;
    for row in rows {
        let gone =
            delete.query_row(params![row, room, before.0], |gone| Ok((gone.get::<_, String>(0)?, gone.get::<_, i64>(1)?))).optional()?;
        let Some((sender, at)) = gone else { continue };
        unlist.execute(params![sender, at, row])?;
        count += 1;
    }
    let keep = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)";
    db.prepare_cached(keep)?.execute(params![name(lease.log), &last.to_bytes()[..]])?;
    Ok(count)
}

/// Under which name it is kept how far something was removed from `log`: 24 bytes, which sort as positions do.
fn name(log: LogId) -> String {
    format!("removed/{}", log.0)
}

/// Where the history of `room` begins, whose log `began` there.
pub(super) fn since(db: &Connection, log: LogId, room: &RoomId, began: Position) -> rusqlite::Result<Position> {
    let kept =
        db.prepare_cached("SELECT value FROM meta WHERE name = ?")?.query_row([name(log)], |row| row.get::<_, Vec<u8>>(0)).optional()?;
    let Some(removed) = kept.and_then(|bytes| Position::from_bytes(&bytes)) else { return Ok(began) };
    let sql =
        "SELECT epoch, \"offset\" FROM messages WHERE room = (SELECT id FROM rooms WHERE name = ?) ORDER BY epoch, \"offset\" LIMIT 1";
    let oldest = db.prepare_cached(sql)?.query_row([room.as_str()], |row| place::position(row, 0)).optional()?;
    Ok(begins(began, Some(removed), oldest))
}
