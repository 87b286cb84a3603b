//! What the writer does inside its transaction: leases, and batches with their cursor.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::{ORIGIN, failure, place};
use crate::store::times::Times;
use crate::store::{Exception, Lease, Stored, batch};
use crate::{Error, LogId, NodeId, Position, RoomId};

/// Why a request ended without having changed anything.
pub(super) enum Stop {
    /// It is at fault itself: its neighbours in the group go on.
    Refused(Error),
    /// The database failed: the whole group ends.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        if failure::is_of_row(&error) { Self::Refused(failure::error(&error)) } else { Self::Failed(error) }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// The numbers of rooms that were seen lately. Forgotten whole when it is full, or after a rollback may have taken one back.
#[derive(Debug, Default)]
pub(super) struct RoomNumbers(HashMap<RoomId, i64, foldhash::fast::RandomState>);

const ROOM_NUMBERS: usize = 65_536;

impl RoomNumbers {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn number(&mut self, db: &Connection, room: &RoomId) -> rusqlite::Result<i64> {
        if let Some(number) = self.0.get(room) {
            return Ok(*number);
        }
        let known = db.prepare_cached("SELECT id FROM rooms WHERE name = ?")?.query_row([room.as_str()], |row| row.get(0)).optional()?;
        let number = match known {
            Some(number) => number,
            None => db.prepare_cached("INSERT INTO rooms (name) VALUES (?)")?.insert([room.as_str()])?,
        };
        if self.0.len() >= ROOM_NUMBERS {
            self.0.clear();
        }
        self.0.insert(room.clone(), number);
        Ok(number)
    }
}

pub(super) fn claim(db: &Connection, log: LogId, holder: &NodeId) -> Result<Lease, Stop> {
    // The file belongs to this process alone, so whoever held the lease is gone or is us: no time to wait out.
    let sql = "INSERT INTO logs (log, generation, holder, epoch, \"offset\") VALUES (?, 1, ?, 0, 0)
               ON CONFLICT (log) DO UPDATE SET generation = generation + 1, holder = excluded.holder
               RETURNING generation, epoch, \"offset\"";
    let lease = db
        .prepare_cached(sql)?
        .query_row(params![log.0, &holder[..]], |row| Ok(Lease::new(log, row.get::<_, i64>(0)? as u64, place::position(row, 1)?)))?;
    Ok(lease)
}

pub(super) fn release(db: &Connection, lease: &Lease) -> Result<(), Stop> {
    let sql = "UPDATE logs SET holder = NULL WHERE log = ? AND generation = ? AND holder IS NOT NULL";
    match db.prepare_cached(sql)?.execute(params![lease.log.0, lease.generation as i64])? {
        0 => Err(batch::fenced(ORIGIN).into()),
        _ => Ok(()),
    }
}

/// The watermark of a log whose lease is still this one.
pub(super) fn held(db: &Connection, lease: &Lease) -> Result<Position, Stop> {
    let sql = "SELECT epoch, \"offset\" FROM logs WHERE log = ? AND generation = ? AND holder IS NOT NULL";
    let watermark = db.prepare_cached(sql)?.query_row(params![lease.log.0, lease.generation as i64], |row| place::position(row, 0));
    watermark.optional()?.ok_or_else(|| batch::fenced(ORIGIN).into())
}

/// Makes rows of `entries` and moves the cursor of the log.
pub(super) fn commit(
    db: &Connection,
    numbers: &mut RoomNumbers,
    lease: &Lease,
    entries: &[Stored],
    through: Position,
) -> Result<Vec<(usize, Exception)>, Stop> {
    let watermark = held(db, lease)?;
    batch::follows(ORIGIN, lease, watermark)?;
    batch::check(ORIGIN, entries, through)?;

    let mut exceptions = Vec::new();
    let mut last = HashMap::new();
    let mut times = db
        .prepare_cached("SELECT latest, disorder, unmarked FROM logs WHERE log = ?")?
        .query_row([lease.log.0], |row| Ok(Times { latest: row.get(0)?, disorder: row.get(1)?, rows: row.get(2)? }))?;
    let mut insert = db.prepare_cached(
        "INSERT INTO messages (room, epoch, \"offset\", id, digest, at, sender, kind, node, session, origin, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    )?;
    for (index, entry @ Stored { position, message }) in entries.iter().enumerate() {
        if *position > watermark {
            let room = numbers.number(db, &message.room)?;
            let (epoch, offset) = place::halves(*position);
            let (sender, kind, node, origin): (&str, &str, &str, &str) = (&message.sender, &message.kind, &message.node, &message.origin);
            let (digest, session, body) = (message.digest as i64, message.session as i64, &message.body[..]);
            let id = &message.id.as_bytes()[..];
            let row = params![room, epoch, offset, id, digest, message.at.0, sender, kind, node, session, origin, body];
            if insert.execute(row)? > 0 {
                last.insert(room, message.at.0);
                if let Some(at) = times.take(message.at.0) {
                    let mut mark = db.prepare_cached("INSERT INTO times (log, at, epoch, \"offset\") VALUES (?, ?, ?, ?)")?;
                    mark.execute(params![lease.log.0, at, epoch, offset])?;
                }
                continue;
            }
        }
        // Behind the watermark nothing may appear any more: readers have been there. A batch that is committed again is found here.
        exceptions.push((index, first_copy(db, entry)?.ok_or_else(|| batch::behind(ORIGIN, *position))?));
    }
    let mut touch = db.prepare_cached("UPDATE rooms SET last = ? WHERE id = ?")?;
    for (room, at) in last {
        touch.execute([at, room])?;
    }
    if through > watermark {
        let (epoch, offset) = place::halves(through);
        let sql = "UPDATE logs SET epoch = ?1, \"offset\" = ?2, began = coalesce(began, ?1), latest = ?4, disorder = ?5, unmarked = ?6
                   WHERE log = ?3";
        let row = params![epoch, offset, lease.log.0, times.latest, times.disorder, times.rows];
        db.prepare_cached(sql)?.execute(row)?;
    }
    Ok(exceptions)
}

/// Moves the cursor over what is lost, and the beginning of the history with it.
pub(super) fn skip(db: &Connection, lease: &Lease, to: Position) -> Result<(), Stop> {
    if to > held(db, lease)? {
        let (epoch, offset) = place::halves(to);
        db.prepare_cached("UPDATE logs SET epoch = ?1, \"offset\" = ?2, began = ?1, began_offset = ?2 WHERE log = ?3")?
            .execute(params![epoch, offset, lease.log.0])?;
    }
    Ok(())
}

fn first_copy(db: &Connection, Stored { message, .. }: &Stored) -> Result<Option<Exception>, Stop> {
    let sql = "SELECT m.epoch, m.\"offset\", m.digest, r.name FROM messages m JOIN rooms r ON r.id = m.room WHERE m.id = ?";
    let first = db.prepare_cached(sql)?.query_row([&message.id.as_bytes()[..]], |row| {
        Ok((place::position(row, 0)?, row.get::<_, i64>(2)? as u64, row.get::<_, String>(3)?))
    });
    Ok(first.optional()?.map(|(first, digest, room)| Exception::of(message, first, &room, digest)))
}
