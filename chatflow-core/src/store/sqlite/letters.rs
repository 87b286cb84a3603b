//! Dead letters, in a table of the file.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::commit::Stop;
use super::writer::Request;
use super::{ORIGIN, SqliteStore};
use crate::store::{DeadLetter, DeadLetters};
use crate::{Error, ErrorKind, LogId, MessageId, Position, Result, RoomId, Timestamp};

#[async_trait]
impl DeadLetters for SqliteStore {
    async fn put(&self, letters: &[DeadLetter]) -> Result<()> {
        let letters = letters.to_vec();
        self.write(|reply| Request::Put { letters, reply }).await
    }

    async fn list(&self, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        let rows = self.read(move |db| list(db, after, limit)).await?;
        rows.into_iter().collect()
    }

    async fn discard(&self, log: LogId, position: Position) -> Result<bool> {
        self.write(|reply| Request::Discard { log, position, reply }).await
    }
}

pub(super) fn put(db: &Connection, letters: &[DeadLetter]) -> Result<(), Stop> {
    let sql = "INSERT INTO dead_letters (log, place, id, room, at, reason, entry) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING";
    let mut statement = db.prepare_cached(sql)?;
    for letter in letters {
        let (place, room) = (letter.position.to_bytes(), letter.room.as_ref().map(RoomId::as_str));
        let (id, entry) = (&letter.id.as_bytes()[..], &letter.entry[..]);
        statement.execute(params![letter.log.0, &place[..], id, room, letter.at.0, letter.reason, entry])?;
    }
    Ok(())
}

pub(super) fn discard(db: &Connection, log: LogId, position: Position) -> Result<bool, Stop> {
    let mut statement = db.prepare_cached("DELETE FROM dead_letters WHERE log = ? AND place = ?")?;
    Ok(statement.execute(params![log.0, &position.to_bytes()[..]])? > 0)
}

fn list(db: &Connection, after: Option<(LogId, Position)>, limit: usize) -> rusqlite::Result<Vec<Result<DeadLetter>>> {
    let (log, position) = after.map_or((-1, Position::ZERO), |(log, position)| (i32::from(log.0), position));
    let sql = "SELECT log, place, id, room, at, reason, entry FROM dead_letters WHERE (log, place) > (?, ?) ORDER BY log, place LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(sql)?;
    statement.query_map(params![log, &position.to_bytes()[..], limit], letter)?.collect()
}

fn letter(row: &Row<'_>) -> rusqlite::Result<Result<DeadLetter>> {
    let corrupt = |text: &'static str| Error::new(ErrorKind::Corrupt, ORIGIN, text);
    let room: Option<String> = row.get(3)?;
    let room = room.map(|room| RoomId::new(&room).map_err(|_| corrupt("a dead letter has no possible room"))).transpose();
    let position = Position::from_bytes(&row.get::<_, Vec<u8>>(1)?).ok_or_else(|| corrupt("a position is not 24 bytes long"));
    let (room, position) = match (room, position) {
        (Ok(room), Ok(position)) => (room, position),
        (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
    };
    Ok(Ok(DeadLetter {
        log: LogId(row.get(0)?),
        position,
        id: MessageId::from_bytes(row.get(2)?),
        room,
        at: Timestamp(row.get(4)?),
        reason: row.get(5)?,
        entry: row.get::<_, Vec<u8>>(6)?.into(),
    }))
}
