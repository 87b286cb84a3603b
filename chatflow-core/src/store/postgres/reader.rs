//! What is read. Every function sees one moment of the database.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::text::plain;
use super::{ORIGIN, failure, place};
use crate::store::times::Stretch;
use crate::store::{LARGEST_PAGE, Located, Mark, Page, PageQuery, RoomSummary, Stored, retention, sql, times};
use crate::{Error, ErrorKind, LogId, Message, MessageId, Position, Result, RoomId, Timestamp};

pub(super) async fn last_epoch(db: &mut PgConnection) -> Result<u64> {
    let through = sqlx::query_scalar("SELECT through FROM chatflow_logs ORDER BY through DESC LIMIT 1").fetch_optional(db).await;
    let through: Option<Vec<u8>> = through.map_err(failure::error)?;
    through.map_or(Ok(0), |through| Ok(place(&through)?.epoch))
}

pub(super) async fn watermark(db: &mut PgConnection, log: LogId) -> Result<Position> {
    let through = sqlx::query_scalar("SELECT through FROM chatflow_logs WHERE log = $1").bind(i32::from(log.0)).fetch_optional(db).await;
    let through: Option<Vec<u8>> = through.map_err(failure::error)?;
    through.map_or(Ok(Position::ZERO), |through| place(&through))
}

pub(super) async fn marks(db: &mut PgConnection) -> Result<Vec<Mark>> {
    let rows = sqlx::query_as("SELECT log, through, began FROM chatflow_logs").fetch_all(db).await;
    let rows: Vec<(i32, Vec<u8>, Option<Vec<u8>>)> = rows.map_err(failure::error)?;
    let mark = |(log, through, began): (i32, Vec<u8>, Option<Vec<u8>>)| {
        let log = u16::try_from(log).map_err(|_| Error::new(ErrorKind::Corrupt, ORIGIN, "a log has an impossible number"))?;
        Ok(Mark::new(LogId(log), place(&through)?, began.map_or(Ok(Position::ZERO), |began| place(&began))?))
    };
    rows.into_iter().map(mark).collect()
}

/// Where the rows of these ids stand, each answer in its id's place.
pub(super) async fn locate(db: &mut PgConnection, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let found = find(db, ids).await?;
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

/// The rows of these ids, those that there are. No plan of it is kept, in whatever transaction: one that was made for an empty table reads
/// all of a large one.
pub(super) async fn find(db: &mut PgConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, Located>> {
    let sql = "SELECT id, room, place, digest FROM chatflow_messages WHERE id = ANY ($1)";
    let rows = sqlx::query(sql).persistent(false).bind(ids).fetch_all(db).await;
    let found = |row: PgRow| {
        let position = place(get(&row, 2)?)?;
        Ok((get(&row, 0)?, Located::new(position, room(get(&row, 1)?)?, get::<i64>(&row, 3)? as u64)))
    };
    rows.map_err(failure::error)?.into_iter().map(found).collect()
}

pub(super) async fn rooms(db: &mut PgConnection, after: &str, limit: usize) -> Result<Vec<RoomSummary>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = "SELECT name, last FROM chatflow_rooms WHERE name > $1 ORDER BY name LIMIT $2";
    let rows = sqlx::query_as(sql).bind(after).bind(limit).fetch_all(db).await;
    let rows: Vec<(String, i64)> = rows.map_err(failure::error)?;
    rows.into_iter().map(|(name, last)| Ok(RoomSummary::new(room(&name)?, Timestamp(last)))).collect()
}

/// The statement of a page: the watermark and the rows in one snapshot, and with each what was removed from the log and which message of the room
/// is the oldest, looked up once. It walks the index in its own order and never sorts.
pub(super) fn page_sql(newest: bool) -> &'static str {
    macro_rules! page {
        ($order:literal) => {
            concat!(
                "SELECT l.through, l.began, m.*, (SELECT value FROM chatflow_meta WHERE name = 'removed/' || $1::text),
                    (SELECT place FROM chatflow_messages WHERE room = $2 ORDER BY place LIMIT 1)
                 FROM chatflow_logs l LEFT JOIN LATERAL (
                    SELECT place, id, digest, at, sender, kind, node, session, origin, body FROM chatflow_messages
                    WHERE room = $2 AND place > $3 AND place <= $4 AND place <= l.through AND at BETWEEN $5 AND $6 ORDER BY place ",
                $order,
                " LIMIT $7) m ON true WHERE l.log = $1"
            )
        };
    }
    if newest { page!("DESC") } else { page!("ASC") }
}

pub(super) async fn page(db: &mut PgConnection, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page> {
    let limit = query.limit.clamp(1, LARGEST_PAGE);
    // Nothing has the position zero.
    let last = query.before.map_or(Position::MAX, |before| before.previous().unwrap_or(Position::ZERO));
    let ranged = query.start.is_some() || query.end.is_some();
    let stretch = if ranged { stretch(db, log, query).await? } else { Stretch::ALL };
    let (after, last) = stretch.narrow(query.after, last);
    let rows = sqlx::query(page_sql(query.newest))
        .bind(i32::from(log.0))
        .bind(room.as_str())
        .bind(&after.to_bytes()[..])
        .bind(&last.to_bytes()[..])
        .bind(query.start.map_or(i64::MIN, |at| at.0))
        .bind(query.end.map_or(i64::MAX, |at| at.0.saturating_sub(1)))
        .bind(limit as i64 + 1)
        .fetch_all(db)
        .await;
    let rows = rows.map_err(failure::error)?;
    let (through, since) = match rows.first() {
        None => (Position::ZERO, Position::ZERO),
        Some(row) => {
            let began = get::<Option<&[u8]>>(row, 1)?.map_or(Ok(Position::ZERO), place)?;
            let removed = get::<Option<&str>>(row, 12)?.map(|hex| sql::unhex(ORIGIN, hex)).transpose()?;
            let oldest = get::<Option<&[u8]>>(row, 13)?.map(place).transpose()?;
            (place(get(row, 0)?)?, retention::since(began, removed, oldest))
        }
    };
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(at) = get::<Option<&[u8]>>(row, 2)? {
            found.push(stored(row, place(at)?, room)?);
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    if query.newest {
        found.reverse();
    }
    Ok(Page::new(found, more, stretch.complete(through), since))
}

/// Where in the log the range of time is. Asked by itself: of places that a statement looks up, the database does not know how many rows
/// they bound, and takes them for few that it may as well sort.
async fn stretch(db: &mut PgConnection, log: LogId, query: &PageQuery) -> Result<Stretch> {
    let (start, end) = times::range(query.start, query.end);
    let sql = "SELECT through, (SELECT place FROM chatflow_times WHERE log = l.log AND at <= $2 ORDER BY at DESC LIMIT 1),
                      (SELECT place FROM chatflow_times WHERE log = l.log AND at > $3 + l.disorder ORDER BY at LIMIT 1)
               FROM chatflow_logs l WHERE log = $1";
    let row = sqlx::query(sql).bind(i32::from(log.0)).bind(start).bind(end).fetch_optional(db).await.map_err(failure::error)?;
    let Some(row) = row else { return Ok(Stretch::ALL) };
    let mark = |column| get::<Option<&[u8]>>(&row, column)?.map(place).transpose();
    Ok(Stretch::between(mark(1)?, mark(2)?, place(get(&row, 0)?)?))
}

pub(super) fn stored(row: &PgRow, position: Position, room: &RoomId) -> Result<Stored> {
    let text = |column| get(row, column).map(plain);
    let message = Message {
        id: get(row, 3)?,
        room: room.clone(),
        digest: get::<i64>(row, 4)? as u64,
        at: Timestamp(get(row, 5)?),
        sender: text(6)?,
        kind: text(7)?,
        node: text(8)?,
        session: get::<i64>(row, 9)? as u64,
        origin: text(10)?,
        body: get::<&[u8]>(row, 11)?.to_vec().into(),
    };
    Ok(Stored { position, message })
}

pub(super) fn room(name: &str) -> Result<RoomId> {
    RoomId::new(name).map_err(|error| Error::new(ErrorKind::Corrupt, ORIGIN, "a room has an impossible name").with_source(error))
}

pub(super) fn get<'r, T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>>(row: &'r PgRow, column: usize) -> Result<T> {
    row.try_get(column).map_err(failure::error)
}
