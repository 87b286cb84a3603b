//! Batches with their cursor, each in one transaction.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::lease::{held, held_with_times, milliseconds};
use super::text::escaped;
use super::{ORIGIN, failure, reader};
use crate::store::{Exception, Lease, Stored, batch, sql};
use crate::{Position, Result};

/// Makes rows of `entries`, moves the cursor of the log and lets the lease run for `time` again.
pub(super) async fn commit(
    db: &mut PgConnection,
    lease: &Lease,
    entries: &[Stored],
    through: Position,
    time: Duration,
) -> Result<Vec<(usize, Exception)>> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    let (watermark, mut times) = held_with_times(&mut tx, lease).await?;
    batch::follows(ORIGIN, lease, watermark)?;
    batch::check(ORIGIN, entries, through)?;
    let fresh = sql::fresh(entries, watermark);
    let written = insert(&mut tx, &fresh).await?;
    let exceptions = if written == entries.len() as u64 { Vec::new() } else { exceptions(&mut tx, entries, watermark).await? };

    let news = sql::news(entries, &exceptions, &mut times);
    let (rooms, lasts): (Vec<_>, Vec<_>) = news.rooms.iter().map(|(room, (at, _))| (*room, *at)).unzip();
    let places: Vec<_> = news.rooms.values().map(|(_, place)| place.to_bytes()).collect();
    let (marks, marked): (Vec<_>, Vec<_>) = news.marks.iter().map(|(at, place)| (*at, place.to_bytes())).unzip();
    let sql = "WITH marked AS (INSERT INTO chatflow_times (log, at, place) SELECT $1, * FROM unnest($9::int8[], $10::bytea[])),
                    touched AS (INSERT INTO chatflow_rooms (name, last, place) SELECT * FROM unnest($5::text[], $6::int8[], $7::bytea[])
                                ON CONFLICT (name) DO UPDATE SET last = excluded.last, place = excluded.place)
               UPDATE chatflow_logs SET through = greatest(through, $2), began = coalesce(began, $3), fresh_at = least(fresh_at, $8),
                                        latest = $11, disorder = $12, unmarked = $13,
                                        expires = clock_timestamp() + $4 * interval '1 ms' WHERE log = $1";
    let moved = sqlx::query(sql)
        .bind(i32::from(lease.log.0))
        .bind(&through.to_bytes()[..])
        .bind(&Position::new(through.epoch, 0).to_bytes()[..])
        .bind(milliseconds(time))
        .bind(rooms)
        .bind(lasts)
        .bind(places.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(news.least)
        .bind(marks)
        .bind(marked.iter().map(|place| &place[..]).collect::<Vec<_>>())
        .bind(times.latest)
        .bind(times.disorder)
        .bind(times.rows)
        .execute(&mut *tx)
        .await;
    moved.map_err(failure::error)?;
    tx.commit().await.map_err(failure::error)?;
    Ok(exceptions)
}

/// Inserts those whose id is new; how many that were.
async fn insert(tx: &mut PgConnection, fresh: &[&Stored]) -> Result<u64> {
    if fresh.is_empty() {
        return Ok(0);
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
async fn exceptions(tx: &mut PgConnection, entries: &[Stored], watermark: Position) -> Result<Vec<(usize, Exception)>> {
    let ids: Vec<_> = entries.iter().map(|entry| entry.message.id).collect();
    let kept = reader::find(tx, &ids).await?;
    sql::exceptions(ORIGIN, entries, watermark, &kept)
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
