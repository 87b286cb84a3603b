//! Batches with their cursors, in one transaction.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::lease::{held, held_together, held_with_times, milliseconds};
use super::text::escaped;
use super::{ORIGIN, copy, failure, reader};
use crate::store::sql::{self, Exceptions, News, Outcome, Part, Small};
use crate::store::{Lease, Stored, batch};
use crate::{LogId, Position, Result};

/// A commit's statements have one plan each, whatever the tables hold: it is made once, or planning would take longer than a small batch.
const BEGIN: &str = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan";

/// Rows from which on it pays to copy them, for which there are three more round trips.
const COPIED: usize = 100;

/// Makes rows of `entries`, moves the cursor of the log and lets the lease run for `time` again.
pub(super) async fn commit(
    db: &mut PgConnection,
    lease: &Lease,
    entries: &[Stored],
    through: Position,
    time: Duration,
) -> Result<Exceptions> {
    let mut tx = db.begin_with(BEGIN).await.map_err(failure::error)?;
    let (watermark, times) = held_with_times(&mut tx, lease).await?;
    batch::follows(ORIGIN, lease, watermark)?;
    batch::check(ORIGIN, entries, through)?;
    let part = Part { log: lease.log, entries, through, watermark, times };
    let exceptions = write(&mut tx, vec![part], time).await?;
    tx.commit().await.map_err(failure::error)?;
    Ok(exceptions.into_iter().flatten().collect())
}

/// The same with several batches, each of another log. One whose log is locked by somebody else, or which is not as it should be, is
/// left out: it holds up none of the others.
pub(super) async fn together(db: &mut PgConnection, batches: &[Small], time: Duration) -> Result<Vec<Outcome>> {
    let mut tx = db.begin_with(BEGIN).await.map_err(failure::error)?;
    let held = held_together(&mut tx, batches.iter().map(|small| &small.lease)).await?;
    let (places, parts) = sql::admitted(ORIGIN, batches, held);
    let exceptions = if parts.is_empty() { Vec::new() } else { write(&mut tx, parts, time).await? };
    tx.commit().await.map_err(failure::error)?;
    Ok(sql::outcomes(batches.len(), places, exceptions))
}

/// Makes rows, and moves cursors and leases; what did not become a row of each part.
async fn write(tx: &mut PgConnection, mut parts: Vec<Part<'_>>, time: Duration) -> Result<Vec<Exceptions>> {
    let written = insert(tx, &sql::fresh(&parts)).await?;
    let entries: usize = parts.iter().map(|part| part.entries.len()).sum();
    let exceptions = if written == entries as u64 { vec![Vec::new(); parts.len()] } else { exceptions(tx, &parts).await? };
    let News { rooms, least, marks } = sql::news(&mut parts, &exceptions);
    let sql = "WITH marked AS (INSERT INTO chatflow_times (log, at, place) SELECT * FROM unnest($1::int4[], $2::int8[], $3::bytea[])),
                    touched AS (INSERT INTO chatflow_rooms (name, last, place) SELECT * FROM unnest($4::text[], $5::int8[], $6::bytea[])
                                ON CONFLICT (name) DO UPDATE SET last = excluded.last, place = excluded.place)
               UPDATE chatflow_logs l SET through = greatest(l.through, n.through), began = coalesce(l.began, n.began),
                                          fresh_at = least(l.fresh_at, n.least), latest = n.latest, disorder = n.disorder,
                                          unmarked = n.unmarked, expires = clock_timestamp() + $7 * interval '1 ms'
               FROM unnest($8::int4[], $9::bytea[], $10::bytea[], $11::int8[], $12::int8[], $13::int8[], $14::int8[])
                    n (log, through, began, least, latest, disorder, unmarked)
               WHERE l.log = n.log";
    let through: Vec<_> = parts.iter().map(|part| part.through.to_bytes()).collect();
    let began: Vec<_> = parts.iter().map(|part| Position::new(part.through.epoch, 0).to_bytes()).collect();
    let places: Vec<_> = rooms.values().map(|(_, place)| place.to_bytes()).collect();
    let marked: Vec<_> = marks.iter().map(|(.., place)| place.to_bytes()).collect();
    let moved = sqlx::query(sql)
        .bind(marks.iter().map(|(log, ..)| number(*log)).collect::<Vec<_>>())
        .bind(marks.iter().map(|(_, at, _)| *at).collect::<Vec<_>>())
        .bind(marked.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(rooms.keys().copied().collect::<Vec<_>>())
        .bind(rooms.values().map(|(last, _)| *last).collect::<Vec<_>>())
        .bind(places.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(milliseconds(time))
        .bind(parts.iter().map(|part| number(part.log)).collect::<Vec<_>>())
        .bind(through.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(began.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(least)
        .bind(parts.iter().map(|part| part.times.latest).collect::<Vec<_>>())
        .bind(parts.iter().map(|part| part.times.disorder).collect::<Vec<_>>())
        .bind(parts.iter().map(|part| part.times.rows).collect::<Vec<_>>())
        .execute(tx)
        .await;
    moved.map_err(failure::error)?;
    Ok(exceptions)
}

fn number(log: LogId) -> i32 {
    i32::from(log.0)
}

/// Inserts those whose id is new; how many that were.
async fn insert(tx: &mut PgConnection, fresh: &[&Stored]) -> Result<u64> {
    if fresh.is_empty() {
        return Ok(0);
    }
    if fresh.len() >= COPIED {
        let mut attempt = tx.begin().await.map_err(failure::error)?;
        match copy::insert(&mut attempt, fresh).await {
            Ok(inserted) => {
                attempt.commit().await.map_err(failure::error)?;
                return Ok(inserted);
            }
            // Rare: what may be there already is looked for before it comes here.
            Err(error) if failure::is_duplicate(&error) => attempt.rollback().await.map_err(failure::error)?,
            Err(error) => return Err(failure::error(error)),
        }
    }
    let places: Vec<_> = fresh.iter().map(|entry| entry.position.to_bytes()).collect();
    let messages = || fresh.iter().map(|entry| &entry.message);
    let sql = "INSERT INTO chatflow_messages (id, digest, at, session, room, place, sender, kind, node, origin, body)
               SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::int8[], $5::text[], $6::bytea[],
                                    $7::text[], $8::text[], $9::text[], $10::text[], $11::bytea[])
               ON CONFLICT (id) DO NOTHING";
    let inserted = sqlx::query(sql)
        .bind(messages().map(|message| message.id).collect::<Vec<_>>())
        .bind(messages().map(|message| message.digest as i64).collect::<Vec<_>>())
        .bind(messages().map(|message| message.at.0).collect::<Vec<_>>())
        .bind(messages().map(|message| message.session as i64).collect::<Vec<_>>())
        .bind(messages().map(|message| message.room.as_str()).collect::<Vec<_>>())
        .bind(places.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(messages().map(|message| escaped(&message.sender)).collect::<Vec<Cow<'_, str>>>())
        .bind(messages().map(|message| escaped(&message.kind)).collect::<Vec<Cow<'_, str>>>())
        .bind(messages().map(|message| escaped(&message.node)).collect::<Vec<Cow<'_, str>>>())
        .bind(messages().map(|message| escaped(&message.origin)).collect::<Vec<Cow<'_, str>>>())
        .bind(messages().map(|message| &message.body[..]).collect::<Vec<_>>())
        .execute(tx)
        .await;
    Ok(inserted.map_err(failure::error)?.rows_affected())
}

/// What became of the entries that are no new rows. A batch that is committed again is found here.
async fn exceptions(tx: &mut PgConnection, parts: &[Part<'_>]) -> Result<Vec<Exceptions>> {
    let ids: Vec<_> = parts.iter().flat_map(|part| part.entries).map(|entry| entry.message.id).collect();
    let kept = reader::find(tx, &ids).await?;
    parts.iter().map(|part| sql::exceptions(ORIGIN, part, &kept)).collect()
}

/// Moves the cursor over what is lost, and the beginning of the history with it.
pub(super) async fn skip(db: &mut PgConnection, lease: &Lease, to: Position) -> Result<()> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    if to > held(&mut tx, lease).await? {
        let sql = "UPDATE chatflow_logs SET through = $2, began = $2 WHERE log = $1";
        let moved = sqlx::query(sql).bind(i32::from(lease.log.0)).bind(&to.to_bytes()[..]).execute(&mut *tx).await;
        moved.map_err(failure::error)?;
    }
    tx.commit().await.map_err(failure::error)
}
