//! Questions that are answered from the summaries.

use std::collections::HashMap;
use std::hash::Hash;

use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::reader::room;
use super::text::{escaped, plain};
use super::{ORIGIN, failure};
use crate::analytics::{Counted, Minutes, Participation, Step, UserRoom};
use crate::store::LARGEST_PAGE;
use crate::store::sql::Walk;
use crate::store::summary::{Active, Kind, LONGEST, Piece, Rates, Rolled, Shares, Totals, candidates, cover, first};
use crate::{Error, ErrorKind, Result, RoomId, Timestamp, UserId};

/// One moment of the summaries.
struct Moment<'a> {
    tx: Transaction<'a, Postgres>,
    rolled: Rolled,
    as_of: Option<Timestamp>,
}

impl<'a> Moment<'a> {
    async fn of(db: &'a mut PgConnection) -> Result<Self> {
        let mut tx = db.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failure::error)?;
        let sql =
            "SELECT (SELECT min(least(fresh_at, counting_at)) FROM chatflow_logs), (SELECT value FROM chatflow_meta WHERE name = 'rolled')";
        let (as_of, rolled): (Option<i64>, Option<String>) = sqlx::query_as(sql).fetch_one(&mut *tx).await.map_err(failure::error)?;
        Ok(Self { tx, rolled: Rolled::parse(&rolled.unwrap_or_default()), as_of: as_of.map(Timestamp) })
    }

    /// The blocks of each piece, the newest first; at most `limit` of each.
    async fn blocks(&mut self, kind: Kind, pieces: &[Piece], limit: i64) -> Result<Vec<(i64, Vec<u8>)>> {
        let column = |of: fn(&Piece) -> i64| pieces.iter().map(of).collect::<Vec<_>>();
        let (levels, from, until) = (column(|piece| piece.level.into()), column(|piece| piece.from), column(|piece| piece.until));
        let sql = "SELECT s.begins, s.data FROM unnest($2::int8[]::int2[], $3::int8[], $4::int8[]) p (level, since, until)
                   CROSS JOIN LATERAL (SELECT begins, data FROM chatflow_summaries
                        WHERE kind = $1 AND level = p.level AND begins >= p.since AND begins < p.until ORDER BY begins DESC LIMIT $5) s";
        let query = sqlx::query_as(sql).bind(kind as i16).bind(levels).bind(from).bind(until).bind(limit);
        query.fetch_all(&mut *self.tx).await.map_err(failure::error)
    }

    /// Every block that `range` needs.
    async fn all(&mut self, kind: Kind, range: Minutes, mut add: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let pieces = cover(range, &self.rolled, LONGEST);
        self.blocks(kind, &pieces, i64::MAX).await?.iter().try_for_each(|(_, data)| add(data))
    }

    /// The first `limit` of `all`, by their names.
    async fn users(&mut self, all: Vec<(u32, u64)>, limit: usize) -> Result<Vec<(UserId, u64)>> {
        let names = self.names("SELECT number, name FROM chatflow_users WHERE number = ANY ($1)", &all).await?;
        Ok(first(named(all, &names, |name| Ok(plain(name)))?, limit))
    }

    async fn rooms(&mut self, all: Vec<(u32, u64)>, limit: usize) -> Result<Vec<(RoomId, u64)>> {
        let names = self.names("SELECT number, room FROM chatflow_counted WHERE number = ANY ($1)", &all).await?;
        Ok(first(named(all, &names, room)?, limit))
    }

    async fn names(&mut self, sql: &str, of: &[(u32, u64)]) -> Result<HashMap<u32, String>> {
        let numbers: Vec<_> = of.iter().map(|(number, _)| *number as i32).collect();
        let names: Vec<(i32, String)> = sqlx::query_as(sql).bind(numbers).fetch_all(&mut *self.tx).await.map_err(failure::error)?;
        Ok(names.into_iter().map(|(number, name)| (number as u32, name)).collect())
    }

    fn answer<T>(self, value: T) -> Counted<T> {
        Counted::new(value, self.as_of)
    }
}

fn named<T: Eq + Hash>(all: Vec<(u32, u64)>, names: &HashMap<u32, String>, of: impl Fn(&str) -> Result<T>) -> Result<Vec<(T, u64)>> {
    let lacks = || Error::new(ErrorKind::Corrupt, ORIGIN, "a number in the summaries has no name");
    all.into_iter().map(|(number, n)| Ok((of(names.get(&number).ok_or_else(lacks)?)?, n))).collect()
}

pub(super) async fn user_rooms(
    db: &mut PgConnection,
    user: &UserId,
    after: Option<&RoomId>,
    limit: usize,
) -> Result<Counted<Vec<UserRoom>>> {
    let (limit, name) = (limit.min(LARGEST_PAGE), escaped(user));
    let mut walk = Walk::whole();
    further(db, &name, &mut walk).await?;
    if !walk.is_done() {
        let mut moment = Moment::of(db).await?;
        let sql = r#"SELECT c.room FROM chatflow_users u JOIN chatflow_user_rooms l ON l."user" = u.number
                    JOIN chatflow_counted c ON c.number = l.room WHERE u.name = $1 AND c.room > $2 ORDER BY c.room LIMIT $3"#;
        let listed = sqlx::query_scalar(sql).bind(&name).bind(after.map_or("", RoomId::as_str)).bind(limit as i64);
        let listed: Vec<String> = listed.fetch_all(&mut *moment.tx).await.map_err(failure::error)?;
        let listed = listed.iter().map(|name| room(name)).collect::<Result<_>>()?;
        walk = Walk::new(listed, moment.as_of.map(|at| at.0));
        while !walk.is_done() {
            further(&mut moment.tx, &name, &mut walk).await?;
        }
    }
    // Every row is in it, counted or not.
    Ok(Counted::new(walk.rooms(after, limit), None))
}

async fn further(db: &mut PgConnection, user: &str, walk: &mut Walk) -> Result<()> {
    let sql = "SELECT room, max(at), min(at), count(*) FROM
                   (SELECT room, at FROM chatflow_messages WHERE sender = $1 AND at <= $2 ORDER BY at DESC LIMIT $3) latest GROUP BY room";
    let (until, rows) = walk.stretch();
    let seen: Result<Vec<(String, i64, i64, i64)>, _> = sqlx::query_as(sql).bind(user).bind(until).bind(rows).fetch_all(db).await;
    let seen = seen.map_err(failure::error)?.into_iter();
    walk.saw(seen.map(|(name, last, first, n)| Ok((room(&name)?, last, first, n))).collect::<Result<_>>()?);
    Ok(())
}

pub(super) async fn active_users(db: &mut PgConnection, range: Minutes) -> Result<Counted<u64>> {
    let (mut moment, mut active) = (Moment::of(db).await?, Active::default());
    moment.all(Kind::Users, range, |data| active.add(data)).await?;
    Ok(moment.answer(active.users()))
}

pub(super) async fn top_users(db: &mut PgConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
    let (mut moment, mut active, limit) = (Moment::of(db).await?, Active::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Users, range, |data| active.add(data)).await?;
    let top = moment.users(active.top(limit), limit).await?;
    Ok(moment.answer(top))
}

pub(super) async fn top_rooms(db: &mut PgConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
    let (mut moment, mut totals, limit) = (Moment::of(db).await?, Totals::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Rooms, range, |data| totals.add(data)).await?;
    let top = moment.rooms(totals.top(limit), limit).await?;
    Ok(moment.answer(top))
}

pub(super) async fn message_rate(
    db: &mut PgConnection,
    range: Minutes,
    step: Step,
    limit: usize,
) -> Result<Counted<Vec<(Timestamp, u64)>>> {
    let (mut moment, mut rates, limit) = (Moment::of(db).await?, Rates::of(step.milliseconds()), limit.min(LARGEST_PAGE));
    for piece in cover(range, &moment.rolled, rates.most()).into_iter().rev() {
        // A block has at least one step, unless a step has many blocks: then there are not many.
        let mut until = piece.until;
        while until > piece.from && !rates.is_full(limit) {
            let blocks = moment.blocks(Kind::Rate, &[Piece { until, ..piece }], limit as i64 + 1).await?;
            for (begins, data) in &blocks {
                rates.add(piece.level, *begins, data)?;
            }
            until = blocks.last().map_or(piece.from, |(begins, _)| *begins);
        }
    }
    Ok(moment.answer(rates.newest(limit).into_iter().map(|(at, n)| (Timestamp(at), n)).collect()))
}

pub(super) async fn participation(db: &mut PgConnection, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
    let (mut moment, mut shares, limit) = (Moment::of(db).await?, Shares::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Pairs, range, |data| shares.add(data)).await?;
    let (pairs, rooms, users) = shares.count();
    let (in_rooms, of_users) = (rooms.len() as u64, users.len() as u64);
    let fullest = moment.rooms(candidates(rooms, limit), limit).await?;
    let busiest = moment.users(candidates(users, limit), limit).await?;
    Ok(moment.answer(Participation::new(of_users, in_rooms, pairs, fullest, busiest)))
}
