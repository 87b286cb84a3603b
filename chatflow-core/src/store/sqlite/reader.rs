//! Threads that read. Each has a connection of its own and sees the database as of its last look, whatever the writer does.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::mpsc;

use super::place;
use crate::store::exclusive::Exclusive;
use crate::store::times::Stretch;
use crate::store::{LARGEST_PAGE, Lease, Located, Page, PageQuery, RoomSummary, Stored, times};
use crate::{LogId, Message, MessageId, Position, RoomId, Timestamp};

/// Something to read, which sends its own answer.
pub(super) type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Jobs that may wait for each reader.
const WAITING: usize = 64;

/// How long one of them may take, as in a database that nodes share.
const LONGEST: Duration = Duration::from_secs(5);

/// Instructions of SQLite's between two looks at the clock, well under a millisecond.
const LOOK: i32 = 10_000;

/// One thread for each of `connections`. They end when the sender is gone and what was sent is done.
pub(super) fn spawn(connections: Vec<Connection>, lock: &Arc<Exclusive>) -> std::io::Result<(mpsc::Sender<Job>, Vec<JoinHandle<()>>)> {
    let (sender, jobs) = mpsc::channel::<Job>(WAITING * connections.len());
    let jobs = Arc::new(Mutex::new(jobs));
    let spawn = |mut db: Connection| {
        let (jobs, lock) = (jobs.clone(), lock.clone());
        Builder::new().name("sqlite-reader".into()).spawn(move || {
            let _lock = lock;
            loop {
                // Whoever waits for a job holds the lock, the others wait for the lock: the same to them.
                let job = jobs.lock().blocking_recv();
                let Some(job) = job else { break };
                let begun = Instant::now();
                if let Err(error) = db.progress_handler(LOOK, Some(move || begun.elapsed() > LONGEST)) {
                    tracing::warn!(%error, "a reader of the history has no bound on its time");
                }
                job(&db);
            }
        })
    };
    let threads = connections.into_iter().map(spawn).collect::<Result<_, _>>()?;
    Ok((sender, threads))
}

pub(super) fn last_epoch(db: &Connection) -> rusqlite::Result<u64> {
    let latest = "SELECT epoch, \"offset\" FROM logs ORDER BY epoch DESC LIMIT 1";
    let position = db.prepare_cached(latest)?.query_row([], |row| place::position(row, 0)).optional()?;
    Ok(position.map_or(0, |position| position.epoch))
}

pub(super) fn watermark(db: &Connection, log: LogId) -> rusqlite::Result<Position> {
    let through = "SELECT epoch, \"offset\" FROM logs WHERE log = ?";
    Ok(db.prepare_cached(through)?.query_row([log.0], |row| place::position(row, 0)).optional()?.unwrap_or(Position::ZERO))
}

/// Where the log's history begins, whatever was removed from it.
fn began(db: &Connection, log: LogId) -> rusqlite::Result<Position> {
    let began = "SELECT began, began_offset FROM logs WHERE log = ? AND began IS NOT NULL";
    Ok(db.prepare_cached(began)?.query_row([log.0], |row| place::position(row, 0)).optional()?.unwrap_or(Position::ZERO))
}

pub(super) fn holds(db: &Connection, lease: &Lease) -> rusqlite::Result<bool> {
    let held = "SELECT 1 FROM logs WHERE log = ? AND generation = ? AND holder IS NOT NULL";
    db.prepare_cached(held)?.exists(params![lease.log.0, lease.generation as i64])
}

pub(super) fn rooms(db: &Connection, after: &str, limit: usize) -> rusqlite::Result<Vec<RoomSummary>> {
    let sql = "SELECT name, last FROM rooms WHERE name > ? AND last IS NOT NULL ORDER BY name LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, limit], |row| Ok(RoomSummary::new(room(row, 0)?, Timestamp(row.get(1)?))))?;
    rows.collect()
}

pub(super) fn locate(db: &Connection, ids: &[MessageId]) -> rusqlite::Result<Vec<Option<Located>>> {
    let sql = "SELECT m.epoch, m.\"offset\", r.name, m.digest FROM messages m JOIN rooms r ON r.id = m.room WHERE m.id = ?";
    let mut statement = db.prepare_cached(sql)?;
    let mut located = |id: &MessageId| {
        let found = statement
            .query_row([&id.as_bytes()[..]], |row| Ok(Located::new(place::position(row, 0)?, room(row, 2)?, row.get::<_, i64>(3)? as u64)));
        found.optional()
    };
    ids.iter().map(&mut located).collect()
}

/// The statement of a page; it walks the index in its own order and never sorts.
pub(super) fn page_sql(newest: bool) -> &'static str {
    macro_rules! page {
        ($order:literal) => {
            concat!(
                "SELECT epoch, \"offset\", id, digest, at, sender, kind, node, session, origin, body FROM messages ",
                "WHERE room = (SELECT id FROM rooms WHERE name = ?1) ",
                "AND (epoch, \"offset\") > (?2, ?3) AND (epoch, \"offset\") <= (?4, ?5) AND at BETWEEN ?6 AND ?7 ",
                "ORDER BY epoch ",
                $order,
                ", \"offset\" ",
                $order,
                " LIMIT ?8"
            )
        };
    }
    if newest { page!("DESC") } else { page!("ASC") }
}

pub(super) fn page(db: &Connection, log: LogId, room: &RoomId, query: &PageQuery) -> rusqlite::Result<Page> {
    // One snapshot for the watermark and the rows.
    let snapshot = db.unchecked_transaction()?;
    let (through, began) = (watermark(&snapshot, log)?, began(&snapshot, log)?);
    let since = super::retention::since(&snapshot, log, room, began)?;
    let limit = query.limit.clamp(1, LARGEST_PAGE);
    let mut found = Vec::with_capacity(limit.min(128));
    if let Some(last) = query.before.map_or(Some(through), |before| before.previous().map(|last| last.min(through))) {
        let (after, last) = bounds(&snapshot, log, query, last)?;
        let ((after_epoch, after_offset), (epoch, offset)) = (place::halves(after), place::halves(last));
        let start = query.start.map_or(i64::MIN, |at| at.0);
        let end = query.end.map_or(i64::MAX, |at| at.0.saturating_sub(1));
        let mut statement = snapshot.prepare_cached(page_sql(query.newest))?;
        let one_more = limit as i64 + 1;
        let rows = statement
            .query_map(params![room.as_str(), after_epoch, after_offset, epoch, offset, start, end, one_more], |row| stored(row, room))?;
        for row in rows {
            found.push(row?);
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    if query.newest {
        found.reverse();
    }
    Ok(Page::new(found, more, through, since))
}

/// Behind which place and up to which the page is looked for: between the [marks](crate::store::times) around its range of time, and not past `last`.
fn bounds(snapshot: &Connection, log: LogId, query: &PageQuery, last: Position) -> rusqlite::Result<(Position, Position)> {
    if query.start.is_none() && query.end.is_none() {
        return Ok(Stretch::ALL.narrow(query.after, last));
    }
    let (start, end) = times::range(query.start, query.end);
    let mark = |sql, at| snapshot.prepare_cached(sql)?.query_row(params![log.0, at], |row| place::position(row, 0)).optional();
    let from = mark("SELECT epoch, \"offset\" FROM times WHERE log = ? AND at <= ? ORDER BY at DESC LIMIT 1", start)?;
    let sql =
        "SELECT epoch, \"offset\" FROM times WHERE log = ?1 AND at > ?2 + (SELECT disorder FROM logs WHERE log = ?1) ORDER BY at LIMIT 1";
    Ok(Stretch::between(from, mark(sql, end)?, Position::MAX).narrow(query.after, last))
}

pub(super) fn stored(row: &Row<'_>, room: &RoomId) -> rusqlite::Result<Stored> {
    let text = |column| row.get_ref(column)?.as_str().map(ByteString::from).map_err(|error| unreadable(column, error));
    let message = Message {
        id: MessageId::from_slice(row.get_ref(2)?.as_blob()?).map_err(|error| unreadable(2, error))?,
        room: room.clone(),
        digest: row.get::<_, i64>(3)? as u64,
        at: Timestamp(row.get(4)?),
        sender: text(5)?,
        kind: text(6)?,
        node: text(7)?,
        session: row.get::<_, i64>(8)? as u64,
        origin: text(9)?,
        body: row.get_ref(10)?.as_blob()?.to_vec().into(),
    };
    Ok(Stored { position: place::position(row, 0)?, message })
}

pub(super) fn room(row: &Row<'_>, column: usize) -> rusqlite::Result<RoomId> {
    RoomId::new(row.get_ref(column)?.as_str()?).map_err(|error| unreadable(column, error))
}

pub(super) fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Null, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_walks_the_index_both_ways_within_both_bounds_and_never_sorts() {
        let folder = tempfile::tempdir().unwrap();
        let db = super::super::schema::prepare(&folder.path().join("x.db"), std::time::Duration::ZERO).unwrap();
        for newest in [true, false] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {}", page_sql(newest))).unwrap();
            let steps = plan.query_map(rusqlite::params_from_iter([1; 8]), |row| row.get::<_, String>(3)).unwrap();
            let steps = steps.collect::<Result<Vec<_>, _>>().unwrap();
            let walk = "SEARCH messages USING INDEX messages_by_place (room=? AND (epoch,offset)>(?,?) AND (epoch,offset)<(?,?))";
            assert_eq!(steps[0], walk);
            assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE") || step.contains("SCAN")), "{steps:?}");
        }
    }
}
