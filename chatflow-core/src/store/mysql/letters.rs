//! Dead letters, in a table that all nodes see.

use async_trait::async_trait;
use sqlx::{Connection, MySqlConnection};

use super::{MySqlStore, ORIGIN, failure, place};
use crate::store::sql::{with, written_log, written_room};
use crate::store::{DeadLetter, DeadLetters};
use crate::{Error, ErrorKind, LogId, MessageId, Position, Result, Timestamp};

/// What `BLOB` holds.
const LONGEST_REASON: usize = u16::MAX as usize;

#[async_trait]
impl DeadLetters for MySqlStore {
    async fn put(&self, letters: &[DeadLetter]) -> Result<()> {
        with!(self.pools, writer, |db| put(db, letters))
    }

    async fn list(&self, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        with!(self.pools, primary, |db| list(db, after, limit))
    }

    async fn discard(&self, log: LogId, position: Position) -> Result<bool> {
        with!(self.pools, writer, |db| discard(db, log, position))
    }
}

/// One statement each: an entry may be nearly as large as a statement can be, and there are few.
async fn put(db: &mut MySqlConnection, letters: &[DeadLetter]) -> Result<()> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    let sql = "INSERT INTO chatflow_dead_letters (log, place, id, room, at, reason, entry) VALUES (?, ?, ?, ?, ?, ?, ?)
               ON DUPLICATE KEY UPDATE log = chatflow_dead_letters.log";
    for letter in letters {
        let reason = &letter.reason.as_bytes()[..letter.reason.len().min(LONGEST_REASON)];
        let put = sqlx::query(sql)
            .bind(letter.log.0)
            .bind(letter.position.to_bytes().to_vec())
            .bind(&letter.id.as_bytes()[..])
            .bind(letter.room.as_ref().map(|room| room.as_str().as_bytes()))
            .bind(letter.at.0)
            .bind(reason)
            .bind(&letter.entry[..])
            .execute(&mut *tx)
            .await;
        put.map_err(failure::error)?;
    }
    tx.commit().await.map_err(failure::error)
}

type Row = (i32, Vec<u8>, Vec<u8>, Option<Vec<u8>>, i64, Vec<u8>, Vec<u8>);

async fn list(db: &mut MySqlConnection, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
    let (log, position) = after.map_or((-1, Position::ZERO), |(log, position)| (i32::from(log.0), position));
    // Not `(log, place) > (?, ?)`, for which the index is not used.
    let sql = "SELECT log, place, id, room, at, reason, entry FROM chatflow_dead_letters
               WHERE log > ? OR (log = ? AND place > ?) ORDER BY log, place LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = sqlx::query_as(sql).bind(log).bind(log).bind(position.to_bytes().to_vec()).bind(limit).fetch_all(db).await;
    let rows: Vec<Row> = rows.map_err(failure::error)?;
    rows.into_iter().map(letter).collect()
}

fn letter((log, position, id, room, at, reason, entry): Row) -> Result<DeadLetter> {
    let corrupt = |_| Error::new(ErrorKind::Corrupt, ORIGIN, "an id is not 16 bytes long");
    Ok(DeadLetter {
        log: written_log(ORIGIN, log.into())?,
        position: place(&position)?,
        id: MessageId::from_slice(&id).map_err(corrupt)?,
        room: room.map(|room| written_room(ORIGIN, &String::from_utf8_lossy(&room))).transpose()?,
        at: Timestamp(at),
        reason: String::from_utf8_lossy(&reason).into_owned(),
        entry: entry.into(),
    })
}

async fn discard(db: &mut MySqlConnection, log: LogId, position: Position) -> Result<bool> {
    let sql = "DELETE FROM chatflow_dead_letters WHERE log = ? AND place = ?";
    let discarded = sqlx::query(sql).bind(log.0).bind(position.to_bytes().to_vec()).execute(db).await;
    Ok(discarded.map_err(failure::error)?.rows_affected() > 0)
}
