//! Questions that are answered from the summaries.

use std::collections::HashMap;
use std::hash::Hash;

use sqlx::{Connection, MySql, MySqlConnection, Transaction};

use super::analytics::{all, of_user, user};
use super::reader::{get, room};
use super::{ORIGIN, failure};
use crate::analytics::{Counted, Minutes, Participation, Step, UserRoom};
use crate::store::LARGEST_PAGE;
use crate::store::sql::Walk;
use crate::store::summary::{Active, Kind, LONGEST, Piece, Rates, Rolled, Shares, Totals, candidates, cover, first};
use crate::{Error, ErrorKind, Result, RoomId, Timestamp, UserId};

/// Names that are asked for at once.
const NAMES: usize = 1_024;

/// One moment of the summaries: a reader's transactions are repeatable.
struct Moment<'a> {
    tx: Transaction<'a, MySql>,
    rolled: Rolled,
    as_of: Option<Timestamp>,
}

impl<'a> Moment<'a> {
    async fn of(db: &'a mut MySqlConnection) -> Result<Self> {
        let mut tx = db.begin().await.map_err(failure::error)?;
        let sql = "SELECT (SELECT min(least(coalesce(fresh_at, counting_at), coalesce(counting_at, fresh_at))) FROM chatflow_logs),
                          (SELECT CAST(value AS CHAR) FROM chatflow_meta WHERE name = 'rolled')";
        let (as_of, rolled): (Option<i64>, Option<String>) = sqlx::query_as(sql).fetch_one(&mut *tx).await.map_err(failure::error)?;
        Ok(Self { tx, rolled: Rolled::parse(&rolled.unwrap_or_default()), as_of: as_of.map(Timestamp) })
    }

    /// The blocks of each piece, the newest first; at most `limit` of each.
    async fn blocks(&mut self, kind: Kind, pieces: &[Piece], limit: i64) -> Result<Vec<(i64, Vec<u8>)>> {
        let one = "(SELECT begins, data FROM chatflow_summaries WHERE kind = ? AND level = ? AND begins >= ? AND begins < ?
                    ORDER BY begins DESC LIMIT ?)";
        let sql = vec![one; pieces.len()].join(" UNION ALL ");
        let query = pieces.iter().fold(sqlx::query_as(&sql), |query, piece| {
            query.bind(kind as i8).bind(piece.level as i8).bind(piece.from).bind(piece.until).bind(limit)
        });
        query.fetch_all(&mut *self.tx).await.map_err(failure::error)
    }

    /// Every block that `range` needs.
    async fn all(&mut self, kind: Kind, range: Minutes, mut add: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let pieces = cover(range, &self.rolled, LONGEST);
        if pieces.is_empty() {
            return Ok(());
        }
        self.blocks(kind, &pieces, i64::MAX).await?.iter().try_for_each(|(_, data)| add(data))
    }

    /// The first `limit` of `all`, by their names.
    async fn users(&mut self, all: Vec<(u32, u64)>, limit: usize) -> Result<Vec<(UserId, u64)>> {
        let names = self.names("SELECT number, name FROM chatflow_users WHERE number IN", &all).await?;
        Ok(first(named(all, &names, name)?, limit))
    }

    async fn rooms(&mut self, all: Vec<(u32, u64)>, limit: usize) -> Result<Vec<(RoomId, u64)>> {
        let names = self.names("SELECT number, room FROM chatflow_counted WHERE number IN", &all).await?;
        Ok(first(named(all, &names, room)?, limit))
    }

    async fn names(&mut self, sql: &str, of: &[(u32, u64)]) -> Result<HashMap<u32, Vec<u8>>> {
        let mut names = HashMap::with_capacity(of.len());
        for of in of.chunks(NAMES) {
            // Numbers of our own, as many as there are: no statement to keep.
            let numbers = of.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ");
            let sql = format!("{sql} ({numbers})");
            let found = sqlx::query_as(&sql).persistent(false).fetch_all(&mut *self.tx).await;
            let found: Vec<(i32, Vec<u8>)> = found.map_err(failure::error)?;
            names.extend(found.into_iter().map(|(number, name)| (number as u32, name)));
        }
        Ok(names)
    }

    fn answer<T>(self, value: T) -> Counted<T> {
        Counted::new(value, self.as_of)
    }
}

fn name(name: &[u8]) -> Result<UserId> {
    UserId::try_from(name).map_err(|error| Error::new(ErrorKind::Corrupt, ORIGIN, "a text is not UTF-8").with_source(error))
}

fn named<T: Eq + Hash>(all: Vec<(u32, u64)>, names: &HashMap<u32, Vec<u8>>, of: impl Fn(&[u8]) -> Result<T>) -> Result<Vec<(T, u64)>> {
    let lacks = || Error::new(ErrorKind::Corrupt, ORIGIN, "a number in the summaries has no name");
    all.into_iter().map(|(number, n)| Ok((of(names.get(&number).ok_or_else(lacks)?)?, n))).collect()
}

pub(super) async fn user_rooms(
    db: &mut MySqlConnection,
    user: &UserId,
    after: Option<&RoomId>,
    limit: usize,
) -> Result<Counted<Vec<UserRoom>>> {
    let (mut walk, limit) = (Walk::whole(), limit.min(LARGEST_PAGE));
    further(db, user, &mut walk).await?;
    if !walk.is_done() {
        let mut moment = Moment::of(db).await?;
        let sql = concat!(
            "SELECT c.room FROM chatflow_users u JOIN chatflow_user_rooms l ON l.user = u.number
             JOIN chatflow_counted c ON c.number = l.room WHERE u.user = ",
            user!(),
            " AND c.room > ? ORDER BY c.room LIMIT ?"
        );
        let query = of_user(sql, user, 1).bind(after.map_or("", RoomId::as_str).as_bytes()).bind(limit as i64);
        let listed = all(&mut moment.tx, query).await?.iter().map(|row| room(get(row, 0)?)).collect::<Result<_>>()?;
        walk = Walk::new(listed, moment.as_of.map(|at| at.0));
        while !walk.is_done() {
            further(&mut moment.tx, user, &mut walk).await?;
        }
    }
    // Every row is in it, counted or not.
    Ok(Counted::new(walk.rooms(after, limit), None))
}

async fn further(db: &mut MySqlConnection, user: &UserId, walk: &mut Walk) -> Result<()> {
    let sql = concat!(
        "SELECT room, max(at), min(at), count(*) FROM (SELECT room, at FROM chatflow_messages WHERE user = ",
        user!(),
        " AND at <= ? ORDER BY at DESC LIMIT ?) latest GROUP BY room"
    );
    let (until, rows) = walk.stretch();
    let seen = all(db, of_user(sql, user, 1).bind(until).bind(rows)).await?;
    let seen = seen.iter().map(|row| Ok((room(get(row, 0)?)?, get(row, 1)?, get(row, 2)?, get(row, 3)?)));
    walk.saw(seen.collect::<Result<_>>()?);
    Ok(())
}

pub(super) async fn active_users(db: &mut MySqlConnection, range: Minutes) -> Result<Counted<u64>> {
    let (mut moment, mut active) = (Moment::of(db).await?, Active::default());
    moment.all(Kind::Users, range, |data| active.add(data)).await?;
    Ok(moment.answer(active.users()))
}

pub(super) async fn top_users(db: &mut MySqlConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
    let (mut moment, mut active, limit) = (Moment::of(db).await?, Active::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Users, range, |data| active.add(data)).await?;
    let top = moment.users(active.top(limit), limit).await?;
    Ok(moment.answer(top))
}

pub(super) async fn top_rooms(db: &mut MySqlConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
    let (mut moment, mut totals, limit) = (Moment::of(db).await?, Totals::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Rooms, range, |data| totals.add(data)).await?;
    let top = moment.rooms(totals.top(limit), limit).await?;
    Ok(moment.answer(top))
}

pub(super) async fn message_rate(
    db: &mut MySqlConnection,
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

pub(super) async fn participation(db: &mut MySqlConnection, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
    let (mut moment, mut shares, limit) = (Moment::of(db).await?, Shares::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Pairs, range, |data| shares.add(data)).await?;
    let (pairs, rooms, users) = shares.count();
    let (in_rooms, of_users) = (rooms.len() as u64, users.len() as u64);
    let fullest = moment.rooms(candidates(rooms, limit), limit).await?;
    let busiest = moment.users(candidates(users, limit), limit).await?;
    Ok(moment.answer(Participation::new(of_users, in_rooms, pairs, fullest, busiest)))
}
