//! Questions that are answered from the summaries, and from the lists of users' rows beside them.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, Row, Transaction, params};

use super::analytics::{all, most};
use super::projection::{counted, rolled};
use super::reader::{self, unreadable};
use crate::analytics::{Counted, Minutes, Participation, Step, UserCursor, UserPage, UserQuery, UserRoom};
use crate::store::LARGEST_PAGE;
use crate::store::summary::{Active, Kind, LONGEST, Piece, Rates, Rolled, Shares, Totals, candidates, cover, first};
use crate::{Result, RoomId, Timestamp, UserId};

/// Rows that are looked at to say up to when everything is counted; where there are more, nothing is promised.
const LOOKED_AT: i64 = 100_000;

/// One moment of the summaries.
struct Moment<'a> {
    db: Transaction<'a>,
    rolled: Rolled,
    as_of: Option<Timestamp>,
}

impl<'a> Moment<'a> {
    fn of(db: &'a Connection) -> rusqlite::Result<Self> {
        let db = db.unchecked_transaction()?;
        let sql = "SELECT count(*), min(at) FROM (SELECT at FROM messages WHERE rowid > ? LIMIT ?)";
        let look = params![counted(&db)?.0, LOOKED_AT + 1];
        let (rows, least): (i64, Option<i64>) = db.prepare_cached(sql)?.query_row(look, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let as_of = if rows > LOOKED_AT { Some(i64::MIN) } else { least };
        Ok(Self { rolled: rolled(&db)?, as_of: as_of.map(Timestamp), db })
    }

    /// The blocks of a piece, the newest first, as long as they are wanted.
    fn blocks(&self, kind: Kind, piece: Piece, mut add: impl FnMut(i64, &[u8]) -> Result<bool>) -> rusqlite::Result<()> {
        let sql = "SELECT begins, data FROM summaries WHERE kind = ? AND level = ? AND begins >= ? AND begins < ? ORDER BY begins DESC";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(params![kind as i64, piece.level, piece.from, piece.until])?;
        while let Some(row) = rows.next()? {
            if !add(row.get(0)?, row.get_ref(1)?.as_blob()?).map_err(|error| unreadable(1, error))? {
                break;
            }
        }
        Ok(())
    }

    /// Every block that `range` needs.
    fn all(&self, kind: Kind, range: Minutes, mut add: impl FnMut(&[u8]) -> Result<()>) -> rusqlite::Result<()> {
        cover(range, &self.rolled, LONGEST).into_iter().try_for_each(|piece| self.blocks(kind, piece, |_, data| add(data).map(|()| true)))
    }

    /// The first `limit` of `all`, by their names.
    fn users(&self, all: Vec<(u32, u64)>, limit: usize) -> rusqlite::Result<Vec<(UserId, u64)>> {
        let mut name = self.db.prepare_cached("SELECT name FROM users WHERE number = ?")?;
        let mut named = |(number, n)| Ok((name.query_row([number], |row| Ok(UserId::from(row.get_ref(0)?.as_str()?)))?, n));
        Ok(first(all.into_iter().map(&mut named).collect::<rusqlite::Result<_>>()?, limit))
    }

    fn rooms(&self, all: Vec<(u32, u64)>, limit: usize) -> rusqlite::Result<Vec<(RoomId, u64)>> {
        let mut name = self.db.prepare_cached("SELECT name FROM rooms WHERE id = ?")?;
        let mut named = |(number, n)| Ok((name.query_row([number], |row| reader::room(row, 0))?, n));
        Ok(first(all.into_iter().map(&mut named).collect::<rusqlite::Result<_>>()?, limit))
    }
}

pub(super) fn active_users(db: &Connection, range: Minutes) -> rusqlite::Result<Counted<u64>> {
    let (moment, mut active) = (Moment::of(db)?, Active::default());
    moment.all(Kind::Users, range, |data| active.add(data))?;
    Ok(Counted::new(active.users(), moment.as_of))
}

pub(super) fn top_users(db: &Connection, range: Minutes, limit: usize) -> rusqlite::Result<Counted<Vec<(UserId, u64)>>> {
    let (moment, mut active, limit) = (Moment::of(db)?, Active::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Users, range, |data| active.add(data))?;
    Ok(Counted::new(moment.users(active.top(limit), limit)?, moment.as_of))
}

pub(super) fn top_rooms(db: &Connection, range: Minutes, limit: usize) -> rusqlite::Result<Counted<Vec<(RoomId, u64)>>> {
    let (moment, mut totals, limit) = (Moment::of(db)?, Totals::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Rooms, range, |data| totals.add(data))?;
    Ok(Counted::new(moment.rooms(totals.top(limit), limit)?, moment.as_of))
}

pub(super) fn message_rate(db: &Connection, range: Minutes, step: Step, limit: usize) -> rusqlite::Result<Counted<Vec<(Timestamp, u64)>>> {
    let (moment, mut rates, limit) = (Moment::of(db)?, Rates::of(step.milliseconds()), limit.min(LARGEST_PAGE));
    for piece in cover(range, &moment.rolled, rates.most()).into_iter().rev() {
        if !rates.is_full(limit) {
            moment.blocks(Kind::Rate, piece, |begins, data| rates.add(piece.level, begins, data).map(|()| !rates.is_full(limit)))?;
        }
    }
    let steps = rates.newest(limit).into_iter().map(|(at, n)| (Timestamp(at), n)).collect();
    Ok(Counted::new(steps, moment.as_of))
}

pub(super) fn participation(db: &Connection, range: Minutes, limit: usize) -> rusqlite::Result<Counted<Participation>> {
    let (moment, mut shares, limit) = (Moment::of(db)?, Shares::default(), limit.min(LARGEST_PAGE));
    moment.all(Kind::Pairs, range, |data| shares.add(data))?;
    let (pairs, rooms, users) = shares.count();
    let (in_rooms, of_users) = (rooms.len() as u64, users.len() as u64);
    let fullest = moment.rooms(candidates(rooms, limit), limit)?;
    let busiest = moment.users(candidates(users, limit), limit)?;
    Ok(Counted::new(Participation::new(of_users, in_rooms, pairs, fullest, busiest), moment.as_of))
}

/// The statement of a user's rows that are counted: it walks their list in its order and sorts no more than what shares a time.
pub(super) fn user_messages_sql(newest: bool) -> &'static str {
    macro_rules! page {
        ($order:literal) => {
            concat!(
                "SELECT m.epoch, m.\"offset\", m.id, m.digest, m.at, m.sender, m.kind, m.node, m.session, m.origin, m.body, r.name
                 FROM user_rows u CROSS JOIN messages m ON m.rowid = u.row CROSS JOIN rooms r ON r.id = m.room
                 WHERE u.user = (SELECT number FROM users WHERE name = ?1) AND u.at BETWEEN ?2 AND ?4 AND u.row <= ?7
                    AND (u.at > ?2 OR m.id >= ?3) AND (u.at < ?4 OR m.id <= ?5) ORDER BY u.at ",
                $order,
                ", m.id ",
                $order,
                " LIMIT ?6"
            )
        };
    }
    if newest { page!("DESC") } else { page!("ASC") }
}

/// From the list of the user's rows, and from the rows that are in no list yet.
pub(super) fn user_messages(db: &Connection, user: &str, query: &UserQuery) -> rusqlite::Result<UserPage> {
    let Some((first, last)) = query.bounds() else { return Ok(UserPage::default()) };
    let db = db.unchecked_transaction()?;
    let (since, one_more) = (counted(&db)?.0, query.one_more());
    let bounds = params![user, first.at.0, &first.id.as_bytes()[..], last.at.0, &last.id.as_bytes()[..], one_more, since];
    let row = |row: &Row<'_>| reader::stored(row, &reader::room(row, 11)?);
    let mut found = all(&db, user_messages_sql(query.newest), bounds, row)?;
    let order = if query.newest { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT m.epoch, m.\"offset\", m.id, m.digest, m.at, m.sender, m.kind, m.node, m.session, m.origin, m.body, r.name
         FROM messages m CROSS JOIN rooms r ON r.id = m.room WHERE m.rowid > ?7 AND m.sender = ?1
            AND (m.at, m.id) >= (?2, ?3) AND (m.at, m.id) <= (?4, ?5) ORDER BY m.at {order}, m.id {order} LIMIT ?6"
    );
    let fresh = all(&db, &sql, bounds, row)?;
    if !fresh.is_empty() {
        found.extend(fresh);
        found.sort_by_key(UserCursor::of);
        if query.newest {
            found.reverse();
        }
        found.truncate(one_more as usize);
    }
    Ok(query.page(found))
}

/// The same for their rooms: all that there is, as with the rows.
pub(super) fn user_rooms(db: &Connection, user: &str, after: &str, limit: usize) -> rusqlite::Result<Counted<Vec<UserRoom>>> {
    let db = db.unchecked_transaction()?;
    let theirs = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let since = counted(&db)?.0;
    let sql = "SELECT room, max(at) FROM user_rows WHERE user = (SELECT number FROM users WHERE name = ?) AND row <= ? GROUP BY room";
    let mut rooms: HashMap<i64, i64> = all(&db, sql, params![user, since], theirs)?.into_iter().collect();
    let sql = "SELECT room, max(at) FROM messages WHERE rowid > ? AND sender = ? GROUP BY room";
    for (room, last) in all(&db, sql, params![since, user], theirs)? {
        let known = rooms.entry(room).or_insert(last);
        *known = last.max(*known);
    }
    let mut named = BTreeMap::new();
    let mut name = db.prepare_cached("SELECT name FROM rooms WHERE id = ?")?;
    for (room, last) in rooms {
        let room = name.query_row([room], |row| reader::room(row, 0))?;
        if room.as_str() > after {
            named.insert(room, last);
        }
    }
    let rooms = named.into_iter().map(|(room, last)| UserRoom::new(room, Timestamp(last)));
    Ok(Counted::new(rooms.take(most(limit) as usize).collect(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_page_walks_their_list_both_ways_and_sorts_only_what_shares_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let db = super::super::schema::prepare(&folder.path().join("x.db"), std::time::Duration::ZERO).unwrap();
        for newest in [true, false] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {}", user_messages_sql(newest))).unwrap();
            let steps = plan.query_map(rusqlite::params_from_iter([1; 7]), |row| row.get::<_, String>(3)).unwrap();
            let steps = steps.collect::<rusqlite::Result<Vec<_>>>().unwrap();
            assert_eq!(steps[0], "SEARCH u USING PRIMARY KEY (user=? AND at>? AND at<?)");
            assert!(!steps.iter().any(|step| step.contains("SCAN")), "{steps:?}");
            let sorts: Vec<_> = steps.iter().filter(|step| step.contains("TEMP B-TREE")).collect();
            assert_eq!(sorts, ["USE TEMP B-TREE FOR LAST TERM OF ORDER BY"]);
        }
    }
}
