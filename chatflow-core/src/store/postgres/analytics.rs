//! Questions about users and numbers, answered from the rows where there are no summaries.

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres};

use super::reader::{get, room, stored};
use super::text::{escaped, plain};
use super::{ORIGIN, PostgresStore, failure, place, summaries};
use crate::analytics::{Analytics, Counted, Minutes, Participation, Step, UserPage, UserQuery, UserRoom};
use crate::store::LARGEST_PAGE;
use crate::store::sql::with;
use crate::{Result, RoomId, Timestamp, UserId};

#[async_trait]
impl Analytics for PostgresStore {
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
        with!(self.pools, reader, |db| of_rows(db, async |db| active_users(db, range).await))
    }

    async fn top_users(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::top_users(db, range, limit));
        }
        with!(self.pools, reader, |db| of_rows(db, async |db| top_users(db, range, limit).await))
    }

    async fn top_rooms(&self, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::top_rooms(db, range, limit));
        }
        with!(self.pools, reader, |db| of_rows(db, async |db| top_rooms(db, range, limit).await))
    }

    async fn message_rate(&self, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::message_rate(db, range, step, limit));
        }
        with!(self.pools, reader, |db| of_rows(db, async |db| message_rate(db, range, step, limit).await))
    }

    async fn participation(&self, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
        if self.pass.is_some() {
            return with!(self.pools, reader, |db| summaries::participation(db, range, limit));
        }
        with!(self.pools, reader, |db| of_rows(db, async |db| participation(db, range, limit).await))
    }
}

/// A name's bytes, by which names are ordered: escapes order otherwise. No other backslash is left when `\1` stands in for one.
macro_rules! bytes_of_sender {
    () => {
        r"CASE strpos(sender, '\') WHEN 0 THEN convert_to(sender, 'UTF8')
          ELSE decode(replace(replace(replace(sender, '\\', '\1'), '\0', '\000'), '\1', '\134'), 'escape') END"
    };
}

/// The statement of a user's page. It walks the index by sender and time in its order and sorts no more than what shares a time.
pub(super) fn user_messages_sql(newest: bool) -> &'static str {
    macro_rules! page {
        ($order:literal) => {
            concat!(
                "SELECT NULL, NULL, place, id, digest, at, sender, kind, node, session, origin, body, room FROM chatflow_messages
                 WHERE sender = $1 AND at BETWEEN $2 AND $4 AND (at, id) >= ($2, $3) AND (at, id) <= ($4, $5) ORDER BY at ",
                $order,
                ", id ",
                $order,
                " LIMIT $6"
            )
        };
    }
    if newest { page!("DESC") } else { page!("ASC") }
}

/// With the range bound as $1 and $2.
fn ranged(sql: &str, range: Minutes) -> Query<'_, Postgres, PgArguments> {
    let (first, last) = range.bounds();
    sqlx::query(sql).bind(first).bind(last)
}

/// Reads rows of a range of time, wherever they stand: by the summary of each stretch of the table, which pages must not be read by.
async fn of_rows<T>(db: &mut PgConnection, ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T>) -> Result<T> {
    let mut tx = db.begin().await.map_err(failure::error)?;
    sqlx::query("SET LOCAL enable_bitmapscan = on").execute(&mut *tx).await.map_err(failure::error)?;
    let answer = ask(&mut tx).await?;
    tx.commit().await.map_err(failure::error)?;
    Ok(answer)
}

async fn all(db: &mut PgConnection, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>> {
    query.fetch_all(db).await.map_err(failure::error)
}

fn most(limit: usize) -> i64 {
    limit.min(LARGEST_PAGE) as i64
}

fn count(row: &PgRow, column: usize) -> Result<u64> {
    Ok(get::<i64>(row, column)?.unsigned_abs())
}

async fn user_messages(db: &mut PgConnection, user: &UserId, query: &UserQuery) -> Result<UserPage> {
    let Some((first, last)) = query.bounds() else { return Ok(UserPage::default()) };
    let statement = sqlx::query(user_messages_sql(query.newest)).bind(escaped(user));
    let statement = statement.bind(first.at.0).bind(first.id).bind(last.at.0).bind(last.id).bind(query.one_more());
    let row = |row: &PgRow| stored(row, place(get(row, 2)?)?, &room(get(row, 12)?)?);
    let found = all(db, statement).await?.iter().map(row).collect::<Result<_>>()?;
    Ok(query.page(found))
}

async fn user_rooms(db: &mut PgConnection, user: &UserId, after: Option<&RoomId>, limit: usize) -> Result<Counted<Vec<UserRoom>>> {
    let sql = "SELECT room, max(at) FROM chatflow_messages WHERE sender = $1 AND room > $2 GROUP BY room ORDER BY room LIMIT $3";
    let query = sqlx::query(sql).bind(escaped(user)).bind(after.map_or("", RoomId::as_str)).bind(most(limit));
    let rooms = |row: &PgRow| Ok(UserRoom::new(room(get(row, 0)?)?, Timestamp(get(row, 1)?)));
    Ok(Counted::new(all(db, query).await?.iter().map(rooms).collect::<Result<_>>()?, None))
}

async fn active_users(db: &mut PgConnection, range: Minutes) -> Result<Counted<u64>> {
    let sql = "SELECT count(*) FROM (SELECT FROM chatflow_messages WHERE at BETWEEN $1 AND $2 GROUP BY sender) active";
    let row = ranged(sql, range).fetch_one(db).await.map_err(failure::error)?;
    Ok(Counted::new(count(&row, 0)?, None))
}

async fn top_users(db: &mut PgConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(UserId, u64)>>> {
    let sql = concat!(
        "SELECT sender, count(*) FROM chatflow_messages WHERE at BETWEEN $1 AND $2 GROUP BY sender ORDER BY 2 DESC, ",
        bytes_of_sender!(),
        " LIMIT $3"
    );
    let rows = all(db, ranged(sql, range).bind(most(limit))).await?;
    Ok(Counted::new(rows.iter().map(|row| Ok((plain(get(row, 0)?), count(row, 1)?))).collect::<Result<_>>()?, None))
}

async fn top_rooms(db: &mut PgConnection, range: Minutes, limit: usize) -> Result<Counted<Vec<(RoomId, u64)>>> {
    let sql = "SELECT room, count(*) FROM chatflow_messages WHERE at BETWEEN $1 AND $2 GROUP BY room ORDER BY 2 DESC, 1 LIMIT $3";
    let rows = all(db, ranged(sql, range).bind(most(limit))).await?;
    Ok(Counted::new(rows.iter().map(|row| Ok((room(get(row, 0)?)?, count(row, 1)?))).collect::<Result<_>>()?, None))
}

async fn message_rate(db: &mut PgConnection, range: Minutes, step: Step, limit: usize) -> Result<Counted<Vec<(Timestamp, u64)>>> {
    let sql = "SELECT at - (at % $3 + $3) % $3, count(*) FROM chatflow_messages WHERE at BETWEEN $1 AND $2
               GROUP BY 1 ORDER BY 1 DESC LIMIT $4";
    let mut rows = all(db, ranged(sql, range).bind(step.milliseconds()).bind(most(limit))).await?;
    rows.reverse();
    Ok(Counted::new(rows.iter().map(|row| Ok((Timestamp(get(row, 0)?), count(row, 1)?))).collect::<Result<_>>()?, None))
}

async fn participation(db: &mut PgConnection, range: Minutes, limit: usize) -> Result<Counted<Participation>> {
    let sql = concat!(
        "WITH pairs AS MATERIALIZED (SELECT sender, room FROM chatflow_messages WHERE at BETWEEN $1 AND $2 GROUP BY sender, room),
            users AS MATERIALIZED (SELECT sender, count(*) AS n FROM pairs GROUP BY sender),
            rooms AS MATERIALIZED (SELECT room, count(*) AS n FROM pairs GROUP BY room)
         (SELECT 0, '', (SELECT count(*) FROM users), (SELECT count(*) FROM rooms), (SELECT count(*) FROM pairs))
         UNION ALL (SELECT 1, room, n, 0, 0 FROM rooms ORDER BY n DESC, room LIMIT $3)
         UNION ALL (SELECT 2, sender, n, 0, 0 FROM users ORDER BY n DESC, ",
        bytes_of_sender!(),
        " LIMIT $3)"
    );
    let mut found = Participation::default();
    for row in &all(db, ranged(sql, range).bind(most(limit))).await? {
        match get::<i32>(row, 0)? {
            0 => (found.users, found.rooms, found.pairs) = (count(row, 2)?, count(row, 3)?, count(row, 4)?),
            1 => found.fullest.push((room(get(row, 1)?)?, count(row, 2)?)),
            _ => found.busiest.push((plain(get(row, 1)?), count(row, 2)?)),
        }
    }
    Ok(Counted::new(found, None))
}

#[cfg(test)]
mod tests {
    use chatflow_testkit::{Postgres as Server, Service, needs};
    use sqlx::{Connection, Executor};

    use super::*;
    use crate::MessageId;

    /// By itself: while a program is started, its parent's locks on files are its own, which other tests here count on.
    #[tokio::test]
    #[ignore = "starts a database beside tests that lock files"]
    async fn a_users_page_walks_the_index_both_ways_whoever_they_are() {
        needs!(Server);
        let server = Service::start_new(Server::new()).await;
        let mut db = PgConnection::connect(&server.url()).await.unwrap();
        super::super::schema::migrate(&mut db).await.unwrap();
        // One with half of all rows, and a thousand with the rest.
        let rows = "INSERT INTO chatflow_messages SELECT gen_random_uuid(), n, 1700000000000 + n / 4 * 10, 0, 'room' || n % 9,
            decode(lpad(to_hex(n), 48, '0'), 'hex'), CASE n % 2 WHEN 0 THEN 'ada' ELSE 'user' || n % 2001 END, 'TEXT', 'n', '', ''
            FROM generate_series(1, 60000) n";
        db.execute(rows).await.unwrap();
        db.execute("ANALYZE chatflow_messages").await.unwrap();
        for (user, newest) in [("ada", true), ("ada", false), ("user7", true), ("user7", false)] {
            let sql = format!("EXPLAIN {}", user_messages_sql(newest));
            let query = sqlx::query(&sql).bind(user).bind(0i64).bind(MessageId::nil()).bind(i64::MAX).bind(MessageId::max()).bind(101i64);
            let plan: Vec<String> = all(&mut db, query).await.unwrap().iter().map(|row| get::<String>(row, 0).unwrap()).collect();
            let plan = plan.join("\n");
            assert!(plan.contains("chatflow_messages_by_user"), "{user}: {plan}");
            assert!(!plan.contains("Seq Scan"), "{user}: {plan}");
            if user == "ada" {
                assert!(plan.contains("Incremental Sort") && !plan.contains("Bitmap"), "{user}: {plan}");
            }
        }
    }
}
