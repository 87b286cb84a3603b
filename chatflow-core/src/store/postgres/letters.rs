//! Dead letters, in a table that all nodes see.

use std::borrow::Cow;

use async_trait::async_trait;
use sqlx::PgConnection;

use super::text::{escaped, plain};
use super::{ORIGIN, PostgresStore, failure, place};
use crate::store::sql::{with, written_log, written_room};
use crate::store::{DeadLetter, DeadLetters};
use crate::{LogId, MessageId, Position, Result, Timestamp};

#[async_trait]
impl DeadLetters for PostgresStore {
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

async fn put(db: &mut PgConnection, letters: &[DeadLetter]) -> Result<()> {
    let places: Vec<_> = letters.iter().map(|letter| letter.position.to_bytes()).collect();
    let sql = "INSERT INTO chatflow_dead_letters (log, place, id, room, at, reason, entry)
               SELECT * FROM unnest($1::int4[], $2::bytea[], $3::uuid[], $4::text[], $5::int8[], $6::text[], $7::bytea[])
               ON CONFLICT (log, place) DO NOTHING";
    let put = sqlx::query(sql)
        .bind(letters.iter().map(|letter| i32::from(letter.log.0)).collect::<Vec<_>>())
        .bind(places.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(letters.iter().map(|letter| letter.id).collect::<Vec<_>>())
        .bind(letters.iter().map(|letter| letter.room.as_ref().map(|room| room.as_str())).collect::<Vec<_>>())
        .bind(letters.iter().map(|letter| letter.at.0).collect::<Vec<_>>())
        .bind(letters.iter().map(|letter| escaped(&letter.reason)).collect::<Vec<Cow<'_, str>>>())
        .bind(letters.iter().map(|letter| &letter.entry[..]).collect::<Vec<_>>())
        .execute(db)
        .await;
    put.map(|_| ()).map_err(failure::error)
}

type Row = (i32, Vec<u8>, MessageId, Option<String>, i64, String, Vec<u8>);

async fn list(db: &mut PgConnection, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
    let (log, position) = after.map_or((-1, Position::ZERO), |(log, position)| (i32::from(log.0), position));
    let sql = "SELECT log, place, id, room, at, reason, entry FROM chatflow_dead_letters
               WHERE (log, place) > ($1, $2) ORDER BY log, place LIMIT $3";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = sqlx::query_as(sql).bind(log).bind(&position.to_bytes()[..]).bind(limit).fetch_all(db).await;
    let rows: Vec<Row> = rows.map_err(failure::error)?;
    rows.into_iter().map(letter).collect()
}

fn letter((log, position, id, room, at, reason, entry): Row) -> Result<DeadLetter> {
    Ok(DeadLetter {
        log: written_log(ORIGIN, log.into())?,
        position: place(&position)?,
        id,
        room: room.map(|room| written_room(ORIGIN, &room)).transpose()?,
        at: Timestamp(at),
        reason: plain(&reason).to_string(),
        entry: entry.into(),
    })
}

async fn discard(db: &mut PgConnection, log: LogId, position: Position) -> Result<bool> {
    let sql = "DELETE FROM chatflow_dead_letters WHERE log = $1 AND place = $2";
    let discarded = sqlx::query(sql).bind(i32::from(log.0)).bind(&position.to_bytes()[..]).execute(db).await;
    Ok(discarded.map_err(failure::error)?.rows_affected() > 0)
}
