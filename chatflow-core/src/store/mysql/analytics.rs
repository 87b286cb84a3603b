//! Questions about users and numbers, answered from the rows where there are no summaries.

use async_trait::async_trait;
use bytestring::ByteString;
use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::query::Query;
use sqlx::{Connection, MySql, MySqlConnection};

use super::reader::{get, room, stored};
use super::{MySqlStore, ORIGIN, failure, place, summaries};
use crate::analytics::{Analytics, Counted, Minutes, Participation, Step, UserPage, UserQuery, UserRoom};
use crate::store::LARGEST_PAGE;
use crate::store::sql::with;
use crate::{Error, ErrorKind, Result, RoomId, Timestamp, UserId};

#[async_trait]
impl Analytics for MySqlStore {
    async fn user_messages(&self, user: &UserId, query: &UserQuery) -> Result<UserPage> {
        with!(self.pools, reader, |db| user_messages(db, user, query))
    }

    async fn user_rooms(&self, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Counted<Vec<UserRoom>>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::user_rooms(db, user, after, limit));
        }
        with!(self.pools, reader, |db| user_rooms(db, user, after, limit))
    }

    async fn active_users(&self, range: Minutes) -> Result<Counted<u64>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::active_users(db, range));
        }
        with!(self.pools, reader, |db| active_users(db, range))
    }

    async fn top_users(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::top_users(db, range, limit));
        }
        with!(self.pools, reader, |db| top_users(db, range, limit))
    }

    async fn top_rooms(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::top_rooms(db, range, limit));
        }
        with!(self.pools, reader, |db| top_rooms(db, range, limit))
    }

    async fn message_rate(&self, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::message_rate(db, range, step, limit));
        }
        with!(self.pools, reader, |db| message_rate(db, range, step, limit))
    }

    async fn participation(&self, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::participation(db, range, limit));
        }
        with!(self.pools, reader, |db| participation(db, range, limit))
    }
}

/// The value of `user` for a sender that is bound four times: as the schema makes it.
macro_rules! user {
    () => {
        "CAST(IF(LENGTH(?) < 255, ?, CONCAT(LEFT(?, 223), UNHEX(SHA2(?, 256)))) AS BINARY)"
    };
}

/// The users with the highest numbers, `n`, by `$key` that selects `user` and `n`: first who they are, then their full names.
macro_rules! named {
    ($each:literal) => {
        concat!(
            "SELECT coalesce((SELECT sender FROM chatflow_messages m WHERE m.user = t.user LIMIT 1), t.user), n FROM (",
            $each,
            " GROUP BY user ORDER BY n DESC, user LIMIT ?) t ORDER BY n DESC, t.user"
        )
    };
}

/// The statement of a user's page. It walks the index by user, time and id in its order from where it begins, and never sorts. Where the
/// database saw that one user is asked for, it would rather begin at their first message and pass over all that come before.
pub(super) fn user_messages_sql(newest: bool) -> &'static str {
    macro_rules! page {
        ($order:literal) => {
            concat!(
                "SELECT NULL, NULL, place, id, digest, at, sender, kind, node, session, origin, body, room FROM chatflow_messages
                 WHERE user >= ",
                user!(),
                " AND user <= CONCAT(",
                user!(),
                ", '') AND at BETWEEN ? AND ? AND (at > ? OR id >= ?) AND (at < ? OR id <= ?) ORDER BY user ",
                $order,
                ", at ",
                $order,
                ", id ",
                $order,
                " LIMIT ?"
            )
        };
    }
    if newest { page!("DESC") } else { page!("ASC") }
}

pub(super) use user;

type Statement<'q> = Query<'q, MySql, MySqlArguments>;

/// A statement with the user bound for each time that the statement names it.
pub(super) fn of_user<'q>(sql: &'q str, user: &'q UserId, times: usize) -> Statement<'q> {
    (0..4 * times).fold(sqlx::query(sql), |query, _| query.bind(user[..].as_bytes()))
}

fn ranged(sql: &str, range: Minutes) -> Statement<'_> {
    let (first, last) = range.bounds();
    sqlx::query(sql).bind(first).bind(last)
}

pub(super) async fn all(db: &mut MySqlConnection, query: Statement<'_>) -> Result<Vec<MySqlRow>> {
    query.fetch_all(db).await.map_err(failure::error)
}

fn most(limit: usize) -> i64 {
    limit.min(LARGEST_PAGE) as i64
}

fn count(row: &MySqlRow, column: usize) -> Result<u64> {
    Ok(get::<i64>(row, column)?.unsigned_abs())
}

fn user_count(row: &MySqlRow) -> Result<(UserId, u64)> {
    let name = ByteString::try_from(get::<&[u8]>(row, 0)?);
    let name = name.map_err(|error| Error::new(ErrorKind::Corrupt, ORIGIN, "a text is not UTF-8").with_source(error))?;
    Ok((name, count(row, 1)?))
}

fn room_count(row: &MySqlRow) -> Result<(RoomId, u64)> {
    Ok((room(get(row, 0)?)?, count(row, 1)?))
}

async fn user_messages(db: &mut MySqlConnection, user: &UserId, query: &UserQuery) -> Result<UserPage> {
    let Some((first, last)) = query.bounds() else { return Ok(UserPage::default()) };
    let statement = of_user(user_messages_sql(query.newest), user, 2).bind(first.at.0).bind(last.at.0);
    let statement = statement.bind(first.at.0).bind(&first.id.as_bytes()[..]).bind(last.at.0).bind(&last.id.as_bytes()[..]);
    let row = |row: &MySqlRow| stored(row, place(get(row, 2)?)?, &room(get(row, 12)?)?);
    let found = all(db, statement.bind(query.one_more())).await?.iter().map(row).collect::<Result<_>>()?;
    Ok(query.page(found))
}

async fn user_rooms(db: &mut MySqlConnection, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Counted<Vec<UserRoom>>> {
    let sql =
        concat!("SELECT room, max(at) FROM chatflow_messages WHERE user = ", user!(), " AND room > ? GROUP BY room ORDER BY room LIMIT ?");
    let query = of_user(sql, user, 1).bind(after.map_or("", RoomId::as_str).as_bytes()).bind(most(limit));
    let rooms = |row: &MySqlRow| Ok(UserRoom::new(room(get(row, 0)?)?, Timestamp(get(row, 1)?)));
    Ok(Counted::new(all(db, query).await?.iter().map(rooms).collect::<Result<_>>()?, None))
}

async fn active_users(db: &mut MySqlConnection, range: Minutes) -> Result<Counted<u64>> {
    let sql = "SELECT count(DISTINCT user) FROM chatflow_messages WHERE at BETWEEN ? AND ?";
    let row = ranged(sql, range).fetch_one(db).await.map_err(failure::error)?;
    Ok(Counted::new(count(&row, 0)?, None))
}

async fn top_users(db: &mut MySqlConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
    let sql = named!("SELECT user, count(*) AS n FROM chatflow_messages WHERE at BETWEEN ? AND ?");
    let rows = all(db, ranged(sql, range).bind(most(limit))).await?;
    Ok(Counted::new(rows.iter().map(user_count).collect::<Result<_>>()?, None))
}

async fn top_rooms(db: &mut MySqlConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
    let sql = "SELECT room, count(*) AS n FROM chatflow_messages WHERE at BETWEEN ? AND ? GROUP BY room ORDER BY n DESC, room LIMIT ?";
    let rows = all(db, ranged(sql, range).bind(most(limit))).await?;
    Ok(Counted::new(rows.iter().map(room_count).collect::<Result<_>>()?, None))
}

async fn message_rate(db: &mut MySqlConnection, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>> {
    // The length is no text from elsewhere; as a parameter, it would make each mention a column of its own.
    let length = step.milliseconds();
    let sql = format!(
        "SELECT at - (at % {length} + {length}) % {length} AS begins, count(*) FROM chatflow_messages WHERE at BETWEEN ? AND ?
         GROUP BY begins ORDER BY begins DESC LIMIT ?"
    );
    let mut rows = all(db, ranged(&sql, range).bind(most(limit))).await?;
    rows.reverse();
    Ok(Counted::new(rows.iter().map(|row| Ok((Timestamp(get(row, 0)?), count(row, 1)?))).collect::<Result<_>>()?, None))
}

/// Three looks at one snapshot: a connection's transactions are repeatable.
async fn participation(db: &mut MySqlConnection, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    let sql = "SELECT count(DISTINCT user), count(DISTINCT room), count(DISTINCT user, room) FROM chatflow_messages
               WHERE at BETWEEN ? AND ?";
    let row = ranged(sql, range).fetch_one(&mut *tx).await.map_err(failure::error)?;
    let (users, rooms, pairs) = (count(&row, 0)?, count(&row, 1)?, count(&row, 2)?);
    let sql = "SELECT room, count(DISTINCT user) AS n FROM chatflow_messages WHERE at BETWEEN ? AND ?
               GROUP BY room ORDER BY n DESC, room LIMIT ?";
    let fullest = all(&mut tx, ranged(sql, range).bind(most(limit))).await?;
    let sql = named!("SELECT user, count(DISTINCT room) AS n FROM chatflow_messages WHERE at BETWEEN ? AND ?");
    let busiest = all(&mut tx, ranged(sql, range).bind(most(limit))).await?;
    tx.commit().await.map_err(failure::error)?;
    let fullest = fullest.iter().map(room_count).collect::<Result<_>>()?;
    let busiest = busiest.iter().map(user_count).collect::<Result<_>>()?;
    Ok(Counted::new(Participation::new(users, rooms, pairs, fullest, busiest), None))
}

#[cfg(test)]
mod tests {
    use chatflow_testkit::{MariaDb, Service, needs};
    use sqlx::Executor;

    use super::*;

    /// By itself: while a program is started, its parent's locks on files are its own, which other tests here count on.
    #[tokio::test]
    #[ignore = "starts a database beside tests that lock files"]
    async fn a_users_page_walks_the_index_both_ways_and_never_sorts() {
        needs!(MariaDb);
        let server = Service::start_new(MariaDb::new()).await;
        let mut db = MySqlConnection::connect(&server.url()).await.unwrap();
        super::super::schema::migrate(&mut db).await.unwrap();
        // One with half of all rows, and a thousand with the rest.
        let rows = "INSERT INTO chatflow_messages (id, digest, at, session, room, place, sender, kind, node, origin, body)
            SELECT UNHEX(MD5(seq)), seq, 1700000000000 + seq DIV 4 * 10, 0, CONCAT('room', seq % 9), UNHEX(LPAD(HEX(seq), 48, '0')),
                IF(seq % 2, 'ada', CONCAT('user', seq % 2001)), 'TEXT', 'n', '', '' FROM seq_1_to_60000";
        db.execute(rows).await.unwrap();
        db.execute("ANALYZE TABLE chatflow_messages").await.unwrap();
        let everything = (i64::MIN, i64::MAX);
        for (user, newest, (first, last)) in [
            ("ada", true, everything),
            ("ada", false, everything),
            ("user7", true, everything),
            ("ada", true, (i64::MIN, 1_700_000_070_000)),
            ("ada", false, (1_700_000_070_000, i64::MAX)),
        ] {
            let (sql, user) = (format!("EXPLAIN {}", user_messages_sql(newest)), UserId::from(user));
            let (low, high) = ([0u8; 16], [255u8; 16]);
            let query = of_user(&sql, &user, 2).bind(first).bind(last).bind(first).bind(&low[..]).bind(last).bind(&high[..]).bind(101i64);
            let plan = all(&mut db, query).await.unwrap();
            let text = |column: &str| sqlx::Row::try_get::<Option<String>, _>(&plan[0], column).unwrap().unwrap_or_default();
            assert_eq!((plan.len(), &*text("key")), (1, "chatflow_messages_by_user_and_room"), "{user}");
            assert_eq!(text("type"), "range", "{user}");
            // The time is a part of what is looked for, not only the user.
            assert!(text("key_len").parse::<u32>().unwrap() >= 266, "{user}");
            assert!(!text("Extra").contains("filesort") && !text("Extra").contains("temporary"), "{user}: {}", text("Extra"));
        }
    }
}
