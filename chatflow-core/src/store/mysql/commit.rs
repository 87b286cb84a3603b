//! Batches with their cursor, each in one transaction.

use std::time::Duration;

use sqlx::{Connection, MySqlConnection};

use super::lease::{clock, held, held_together, held_with_times, milliseconds};
use super::{ORIGIN, failure, reader};
use crate::store::sql::{self, Exceptions, News, Outcome, Part, Small};
use crate::store::{Lease, Stored, batch};
use crate::{Error, ErrorKind, LogId, Position, Result};

/// Rows of one statement, the most first: few lengths, so that the statements are prepared once.
const STEPS: [usize; 4] = [512, 64, 8, 1];

/// Bytes of one statement; the database takes 16 MiB unless it is told otherwise.
const BYTES: usize = 4 << 20;

/// What `BLOB` holds.
const LONGEST_TEXT: usize = u16::MAX as usize;

/// Makes rows of `entries`, moves the cursor of the log and lets the lease run for `time` again.
pub(super) async fn commit(
    db: &mut MySqlConnection,
    lease: &Lease,
    entries: &[Stored],
    through: Position,
    time: Duration,
) -> Result<Exceptions> {
    let mut tx = db.begin().await.map_err(failure::error)?;
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
pub(super) async fn together(db: &mut MySqlConnection, batches: &[Small], time: Duration) -> Result<Vec<Outcome>> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    let held = held_together(&mut tx, batches.iter().map(|small| &small.lease)).await?;
    let (places, parts) = sql::admitted(ORIGIN, batches, held);
    let exceptions = if parts.is_empty() { Vec::new() } else { write(&mut tx, parts, time).await? };
    tx.commit().await.map_err(failure::error)?;
    Ok(sql::outcomes(batches.len(), places, exceptions))
}

/// Makes rows, and moves cursors and leases; what did not become a row of each part.
async fn write(tx: &mut MySqlConnection, mut parts: Vec<Part<'_>>, time: Duration) -> Result<Vec<Exceptions>> {
    let written = insert(tx, &sql::fresh(&parts)).await?;
    let entries: usize = parts.iter().map(|part| part.entries.len()).sum();
    let exceptions = if written == entries as u64 { vec![Vec::new(); parts.len()] } else { exceptions(tx, &parts).await? };
    let News { rooms, least, marks } = sql::news(&mut parts, &exceptions);
    touch(tx, &rooms.into_iter().collect::<Vec<_>>()).await?;
    mark(tx, &marks).await?;
    let sql = concat!(
        "UPDATE chatflow_logs SET through = greatest(through, ?), began = coalesce(began, ?), fresh_at = coalesce(least(coalesce(fresh_at, ?), ?), fresh_at),
            latest = ?, disorder = ?, unmarked = ?, expires = ",
        clock!(),
        " + ? WHERE log = ?"
    );
    for (Part { log, through, times, .. }, least) in parts.iter().zip(least) {
        let moved = sqlx::query(sql)
            .bind(&through.to_bytes()[..])
            .bind(&Position::new(through.epoch, 0).to_bytes()[..])
            .bind(least)
            .bind(least)
            .bind(times.latest)
            .bind(times.disorder)
            .bind(times.rows)
            .bind(milliseconds(time))
            .bind(log.0)
            .execute(&mut *tx)
            .await;
        moved.map_err(failure::error)?;
    }
    Ok(exceptions)
}

/// Keeps when the last message of each room with new rows was accepted and where it stands, in the order of their names.
async fn touch(tx: &mut MySqlConnection, rooms: &[(&str, (i64, Position))]) -> Result<()> {
    for rooms in parts(rooms, |_| 0) {
        let rows = vec!["(?, ?, ?)"; rooms.len()].join(", ");
        let sql = format!(
            "INSERT INTO chatflow_rooms (name, last, place) VALUES {rows} ON DUPLICATE KEY UPDATE last = VALUES(last), place = VALUES(place)"
        );
        let mut query = sqlx::query(&sql);
        for (name, (last, place)) in rooms {
            query = query.bind(name.as_bytes()).bind(last).bind(place.to_bytes().to_vec());
        }
        query.execute(&mut *tx).await.map_err(failure::error)?;
    }
    Ok(())
}

/// Keeps the marks of new rows, few.
async fn mark(tx: &mut MySqlConnection, marks: &[(LogId, i64, Position)]) -> Result<()> {
    for (log, at, place) in marks {
        let query = sqlx::query("INSERT INTO chatflow_times (log, at, place) VALUES (?, ?, ?)").bind(log.0).bind(at);
        query.bind(&place.to_bytes()[..]).execute(&mut *tx).await.map_err(failure::error)?;
    }
    Ok(())
}

/// Inserts those whose id is new; how many that were.
async fn insert(tx: &mut MySqlConnection, fresh: &[&Stored]) -> Result<u64> {
    let mut inserted = 0;
    for part in parts(fresh, |entry| entry.message.body.len()) {
        // What `IGNORE` would cut to fit is refused here, so that it ignores nothing but rows that are there.
        let long = part.iter().any(|Stored { message, .. }| {
            [&message.sender, &message.kind, &message.node, &message.origin].iter().any(|text| text.len() > LONGEST_TEXT)
        });
        if long {
            return Err(Error::new(ErrorKind::Invalid, ORIGIN, "a text is longer than 65,535 bytes"));
        }
        let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"; part.len()].join(", ");
        let sql = format!(
            "INSERT IGNORE INTO chatflow_messages (id, digest, at, session, room, place, sender, kind, node, origin, body) VALUES {rows}"
        );
        let mut query = sqlx::query(&sql);
        for Stored { position, message } in part {
            query = query
                .bind(&message.id.as_bytes()[..])
                .bind(message.digest as i64)
                .bind(message.at.0)
                .bind(message.session as i64)
                .bind(message.room.as_str().as_bytes())
                .bind(position.to_bytes().to_vec())
                .bind(message.sender[..].as_bytes())
                .bind(message.kind[..].as_bytes())
                .bind(message.node[..].as_bytes())
                .bind(message.origin[..].as_bytes())
                .bind(&message.body[..]);
        }
        inserted += query.execute(&mut *tx).await.map_err(failure::error)?.rows_affected();
    }
    Ok(inserted)
}

/// `items` in parts whose length is one of [`STEPS`], each of not much more than [`BYTES`] unless it is a single item.
pub(super) fn parts<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut rest, mut parts) = (items, Vec::new());
    while !rest.is_empty() {
        let fits = |step: &usize| *step <= rest.len() && (*step == 1 || rest[..*step].iter().map(&bytes).sum::<usize>() <= BYTES);
        let step = STEPS.into_iter().find(fits).unwrap_or(1);
        let (part, after) = rest.split_at(step);
        parts.push(part);
        rest = after;
    }
    parts
}

/// What became of the entries that are no new rows. A batch that is committed again is found here.
async fn exceptions(tx: &mut MySqlConnection, parts: &[Part<'_>]) -> Result<Vec<Exceptions>> {
    let ids: Vec<_> = parts.iter().flat_map(|part| part.entries).map(|entry| entry.message.id).collect();
    let kept = reader::find(tx, &ids).await?;
    parts.iter().map(|part| sql::exceptions(ORIGIN, part, &kept)).collect()
}

/// Moves the cursor over what is lost, and the beginning of the history with it.
pub(super) async fn skip(db: &mut MySqlConnection, lease: &Lease, to: Position) -> Result<()> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    if to > held(&mut tx, lease).await? {
        let sql = "UPDATE chatflow_logs SET through = ?, began = ? WHERE log = ?";
        let (through, began) = (to.to_bytes(), to.to_bytes());
        let moved = sqlx::query(sql).bind(&through[..]).bind(&began[..]).bind(lease.log.0).execute(&mut *tx).await;
        moved.map_err(failure::error)?;
    }
    tx.commit().await.map_err(failure::error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_few_lengths_and_are_bounded() {
        let lengths = |count: usize, bytes: usize| {
            let items = vec![bytes; count];
            parts(&items, |bytes| *bytes).iter().map(|part| part.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(0, 1), [0; 0]);
        assert_eq!(lengths(1_100, 1), [512, 512, 64, 8, 1, 1, 1, 1]);
        assert_eq!(lengths(70, BYTES / 10), [8, 8, 8, 8, 8, 8, 8, 8, 1, 1, 1, 1, 1, 1]);
        assert_eq!(lengths(2, BYTES * 3), [1, 1]);
    }
}
