//! What is read. Every function sees one moment of the database.

use std::collections::HashMap;

use bytestring::ByteString;
use sqlx::mysql::MySqlRow;
use sqlx::{MySqlConnection, Row};

use super::{ORIGIN, failure, place};
use crate::store::times::Stretch;
use crate::store::{LARGEST_PAGE, Located, Mark, Page, PageQuery, RoomSummary, Stored, retention, sql, times};
use crate::{Error, ErrorKind, LogId, Message, MessageId, Position, Result, RoomId, Timestamp};

/// Ids that are asked for in one statement; fewer are filled up, so that there are two statements to prepare.
const STEPS: [usize; 2] = [16, 512];

pub(super) async fn last_epoch(db: &mut MySqlConnection) -> Result<u64> {
    let through = sqlx::query_scalar("SELECT through FROM chatflow_logs ORDER BY through DESC LIMIT 1").fetch_optional(db).await;
    let through: Option<Vec<u8>> = through.map_err(failure::error)?;
    through.map_or(Ok(0), |through| Ok(place(&through)?.epoch))
}

pub(super) async fn watermark(db: &mut MySqlConnection, log: LogId) -> Result<Position> {
    let through = sqlx::query_scalar("SELECT through FROM chatflow_logs WHERE log = ?").bind(log.0).fetch_optional(db).await;
    let through: Option<Vec<u8>> = through.map_err(failure::error)?;
    through.map_or(Ok(Position::ZERO), |through| place(&through))
}

pub(super) async fn marks(db: &mut MySqlConnection) -> Result<Vec<Mark>> {
    let rows = sqlx::query_as("SELECT log, through, began FROM chatflow_logs").fetch_all(db).await;
    let rows: Vec<(i32, Vec<u8>, Option<Vec<u8>>)> = rows.map_err(failure::error)?;
    let mark = |(log, through, began): (i32, Vec<u8>, Option<Vec<u8>>)| {
        let log = u16::try_from(log).map_err(|_| Error::new(ErrorKind::Corrupt, ORIGIN, "a log has an impossible number"))?;
        Ok(Mark::new(LogId(log), place(&through)?, began.map_or(Ok(Position::ZERO), |began| place(&began))?))
    };
    rows.into_iter().map(mark).collect()
}

/// Where the rows of these ids stand, each answer in its id's place.
pub(super) async fn locate(db: &mut MySqlConnection, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
    let found = find(db, ids).await?;
    Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
}

/// The rows of these ids, those that there are.
pub(super) async fn find(db: &mut MySqlConnection, ids: &[MessageId]) -> Result<HashMap<MessageId, Located>> {
    let mut found = HashMap::with_capacity(ids.len());
    let [few, many] = STEPS;
    for part in ids.chunks(many) {
        let step = if part.len() <= few { few } else { many };
        let places = vec!["?"; step].join(", ");
        let sql = format!("SELECT id, room, place, digest FROM chatflow_messages WHERE id IN ({places})");
        let mut query = sqlx::query(&sql);
        for n in 0..step {
            query = query.bind(&part[n.min(part.len() - 1)].as_bytes()[..]);
        }
        for row in query.fetch_all(&mut *db).await.map_err(failure::error)? {
            let id = MessageId::from_slice(get(&row, 0)?);
            let id = id.map_err(|error| Error::new(ErrorKind::Corrupt, ORIGIN, "an id is not 16 bytes long").with_source(error))?;
            found.insert(id, Located::new(place(get(&row, 2)?)?, room(get(&row, 1)?)?, get::<i64>(&row, 3)? as u64));
        }
    }
    Ok(found)
}

pub(super) async fn rooms(db: &mut MySqlConnection, after: &str, limit: usize) -> Result<Vec<RoomSummary>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = "SELECT name, last FROM chatflow_rooms WHERE name > ? ORDER BY name LIMIT ?";
    let rows = sqlx::query_as(sql).bind(after.as_bytes()).bind(limit).fetch_all(db).await;
    let rows: Vec<(Vec<u8>, i64)> = rows.map_err(failure::error)?;
    rows.into_iter().map(|(name, last)| Ok(RoomSummary::new(room(&name)?, Timestamp(last)))).collect()
}

/// The statement of a page: first the watermark, what was removed from the log and where the room's oldest message stands, then the rows, in
/// one snapshot. It walks the index in its own order and never sorts
/// or copies.
pub(super) fn page_sql(newest: bool) -> &'static str {
    macro_rules! page {
        ($order:literal) => {
            concat!(
                "(SELECT through, began, NULL AS place, NULL AS id, NULL AS digest, NULL AS at,
                    (SELECT value FROM chatflow_meta WHERE name = ?) AS sender,
                    (SELECT place FROM chatflow_messages WHERE room = ? ORDER BY place LIMIT 1) AS kind,
                    NULL AS node, NULL AS session, NULL AS origin, NULL AS body FROM chatflow_logs WHERE log = ?)
                 UNION ALL
                 (SELECT NULL, NULL, place, id, digest, at, sender, kind, node, session, origin, body FROM chatflow_messages
                    WHERE room = ? AND place > ? AND place <= least(?, (SELECT through FROM chatflow_logs WHERE log = ?))
                        AND at BETWEEN ? AND ? ORDER BY place ",
                $order,
                " LIMIT ?)"
            )
        };
    }
    if newest { page!("DESC") } else { page!("ASC") }
}

pub(super) async fn page(db: &mut MySqlConnection, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page> {
    let ranged = query.start.is_some() || query.end.is_some();
    let stretch = if ranged { stretch(db, log, query).await? } else { Stretch::ALL };
    let limit = query.limit.clamp(1, LARGEST_PAGE);
    // Nothing has the position zero.
    let last = query.before.map_or(Position::MAX, |before| before.previous().unwrap_or(Position::ZERO));
    let (after, last) = stretch.narrow(query.after, last);
    let (after, last) = (after.to_bytes(), last.to_bytes());
    let rows = sqlx::query(page_sql(query.newest))
        .bind(format!("removed/{}", log.0).into_bytes())
        .bind(room.as_str().as_bytes())
        .bind(log.0)
        .bind(room.as_str().as_bytes())
        .bind(&after[..])
        .bind(&last[..])
        .bind(log.0)
        .bind(query.start.map_or(i64::MIN, |at| at.0))
        .bind(query.end.map_or(i64::MAX, |at| at.0.saturating_sub(1)))
        .bind(limit as i64 + 1)
        .fetch_all(db)
        .await;
    let (mut through, mut since) = (Position::ZERO, Position::ZERO);
    let mut found = Vec::new();
    for row in &rows.map_err(failure::error)? {
        if let Some(at) = get::<Option<&[u8]>>(row, 2)? {
            found.push(stored(row, place(at)?, room)?);
        } else {
            through = place(get(row, 0)?)?;
            let began = get::<Option<&[u8]>>(row, 1)?.map_or(Ok(Position::ZERO), place)?;
            let removed = get::<Option<&[u8]>>(row, 6)?.map(|digits| sql::unhex(ORIGIN, &String::from_utf8_lossy(digits))).transpose()?;
            since = retention::since(began, removed, get::<Option<&[u8]>>(row, 7)?.map(place).transpose()?);
        }
    }
    found.sort_unstable_by_key(|stored| stored.position);
    let more = found.len() > limit;
    match query.newest {
        true => _ = found.drain(..found.len().saturating_sub(limit)),
        false => found.truncate(limit),
    }
    Ok(Page::new(found, more, stretch.complete(through), since))
}

/// Where in the log the range of time is.
async fn stretch(db: &mut MySqlConnection, log: LogId, query: &PageQuery) -> Result<Stretch> {
    let (start, end) = times::range(query.start, query.end);
    let sql = "SELECT through, (SELECT place FROM chatflow_times WHERE log = l.log AND at <= ? ORDER BY at DESC LIMIT 1),
                      (SELECT place FROM chatflow_times WHERE log = l.log AND at > ? + l.disorder ORDER BY at LIMIT 1)
               FROM chatflow_logs l WHERE log = ?";
    let row = sqlx::query(sql).bind(start).bind(end).bind(log.0).fetch_optional(db).await.map_err(failure::error)?;
    let Some(row) = row else { return Ok(Stretch::ALL) };
    let mark = |column| get::<Option<&[u8]>>(&row, column)?.map(place).transpose();
    Ok(Stretch::between(mark(1)?, mark(2)?, place(get(&row, 0)?)?))
}

pub(super) fn stored(row: &MySqlRow, position: Position, room: &RoomId) -> Result<Stored> {
    let text = |column| {
        let bytes: &[u8] = get(row, column)?;
        ByteString::try_from(bytes).map_err(|error| Error::new(ErrorKind::Corrupt, ORIGIN, "a text is not UTF-8").with_source(error))
    };
    let id = MessageId::from_slice(get(row, 3)?);
    let message = Message {
        id: id.map_err(|error| Error::new(ErrorKind::Corrupt, ORIGIN, "an id is not 16 bytes long").with_source(error))?,
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

pub(super) fn room(name: &[u8]) -> Result<RoomId> {
    let name = String::from_utf8_lossy(name);
    RoomId::new(&name).map_err(|error| Error::new(ErrorKind::Corrupt, ORIGIN, "a room has an impossible name").with_source(error))
}

pub(super) fn get<'r, T: sqlx::Decode<'r, sqlx::MySql> + sqlx::Type<sqlx::MySql>>(row: &'r MySqlRow, column: usize) -> Result<T> {
    row.try_get(column).map_err(failure::error)
}
