//! A database that is locked, goes away and comes back, and a node that falls asleep in the middle of a commit.

use std::time::{Duration, Instant};

use chatflow_core::analytics::Minutes;
use chatflow_core::conformance::store::{LOG, at, batch, room};
use chatflow_core::store::{DatabaseConfig, PageQuery, PostgresStore};
use chatflow_core::{ErrorKind, MessageStore};
use chatflow_testkit::{Postgres, Proxy, Service, eventually_async, needs};
use sqlx::{Connection, PgConnection};

use super::database::Database;

/// What is promised of a backend that is back.
const BACK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_fails_commits_for_the_time_being_and_no_reads() {
    needs!(Postgres);
    let database = Database::new().await;
    let store = PostgresStore::open(DatabaseConfig::new(database.url())).await.unwrap();
    let lease = store.claim(LOG, &"n".into()).await.unwrap();
    store.commit(&lease, &batch("a", 1..=5), at(5)).await.unwrap();
    let mut foreign = PgConnection::connect(&database.url()).await.unwrap();
    let lock = "BEGIN; LOCK TABLE chatflow_messages IN SHARE MODE";
    sqlx::raw_sql(lock).execute(&mut foreign).await.unwrap();
    let rows = batch("a", 6..=9);
    let (room, latest) = (room("a"), PageQuery::latest(10));
    let (error, page) = tokio::join!(store.commit(&lease, &rows, at(9)), store.page(LOG, &room, &latest));
    let error = error.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("lock"), "{error}");
    assert_eq!(page.unwrap().messages.len(), 5);
    sqlx::raw_sql("ROLLBACK").execute(&mut foreign).await.unwrap();
    assert_eq!(store.commit(&lease, &rows, at(9)).await.unwrap(), []);
    assert!(store.status().await.healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_too_long_is_given_up_and_says_so() {
    needs!(Postgres);
    let database = Database::new().await;
    let store = PostgresStore::open(DatabaseConfig::new(database.url())).await.unwrap();
    let mut foreign = PgConnection::connect(&database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE chatflow_summaries").execute(&mut foreign).await.unwrap();
    let question = || store.analytics().unwrap().active_users(Minutes::default());
    let error = question().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains("too long"), "{error}");
    sqlx::raw_sql("ROLLBACK").execute(&mut foreign).await.unwrap();
    assert_eq!(question().await.unwrap().value, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_killed_is_used_again_by_itself_and_has_what_was_committed() {
    needs!(Postgres);
    let server = Service::start_new(Postgres::new()).await;
    let store = PostgresStore::open(DatabaseConfig::new(server.url())).await.unwrap();
    let lease = store.claim(LOG, &"n".into()).await.unwrap();
    let mut last = 0;
    for round in 1..=3 {
        for _ in 0..20 * round {
            store.commit(&lease, &batch("a", last + 1..=last + 3), at(last + 3)).await.unwrap();
            last += 3;
        }
        server.kill9();
        let rows = batch("a", last + 1..=last + 3);
        assert!(store.commit(&lease, &rows, at(last + 3)).await.unwrap_err().is_transient());
        assert!(!store.status().await.healthy);
        server.start().await;
        let back = Instant::now();
        eventually_async("it is healthy again", BACK, || async { store.status().await.healthy.then_some(()) }).await;
        let commit = || async {
            match store.commit(&lease, &rows, at(last + 3)).await {
                Ok(exceptions) => Some(exceptions),
                Err(error) if error.is_transient() => None,
                Err(error) => panic!("{error}"),
            }
        };
        eventually_async("it commits again", BACK, commit).await;
        assert!(back.elapsed() < BACK, "{:?}", back.elapsed());
        last += 3;
        let page = store.page(LOG, &room("a"), &PageQuery::latest(1_000)).await.unwrap();
        let offsets: Vec<_> = page.messages.iter().map(|row| row.position.offset as u64).collect();
        assert_eq!((offsets, page.through), ((1..=last).collect(), at(last)), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stands_still_fails_calls_in_time() {
    needs!(Postgres);
    let server = Service::start_new(Postgres::new()).await;
    let store = PostgresStore::open(DatabaseConfig::new(server.url())).await.unwrap();
    let lease = store.claim(LOG, &"n".into()).await.unwrap();
    server.freeze();
    let begun = Instant::now();
    let rows = batch("a", 1..=3);
    let (room, latest) = (room("a"), PageQuery::latest(10));
    let (status, commit, page) = tokio::join!(store.status(), store.commit(&lease, &rows, at(3)), store.page(LOG, &room, &latest));
    assert!(!status.healthy);
    assert!(commit.unwrap_err().is_transient() && page.unwrap_err().is_transient());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    server.thaw();
    eventually_async("it is healthy again", BACK, || async { store.status().await.healthy.then_some(()) }).await;
    // What became of the first is not known: it may have been committed once the database went on.
    let exceptions = store.commit(&lease, &rows, at(3)).await.unwrap();
    assert!(exceptions.is_empty() || exceptions.len() == 3, "{exceptions:?}");
}

/// The connection stays and nothing comes any more, in the middle of a commit: as of a node that was stopped, or is cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_falls_asleep_in_a_commit_does_not_hold_its_log_for_ever() {
    needs!(Postgres);
    let database = Database::new().await;
    let one = PostgresStore::open(DatabaseConfig::new(database.url()).with_lease(Duration::from_secs(1))).await.unwrap();
    let lease = one.claim(LOG, &"one".into()).await.unwrap();
    one.commit(&lease, &batch("a", 1..=3), at(3)).await.unwrap();
    // What the writer's own transaction holds.
    let mut asleep = PgConnection::connect(&database.url()).await.unwrap();
    let held = "SET idle_in_transaction_session_timeout = '3s'; BEGIN; SELECT 1 FROM chatflow_logs WHERE log = 3 FOR UPDATE";
    sqlx::raw_sql(held).execute(&mut asleep).await.unwrap();
    let two = PostgresStore::open(DatabaseConfig::new(database.url()).with_lease(Duration::from_secs(1))).await.unwrap();
    let begun = Instant::now();
    let new = eventually_async("it is taken over", Duration::from_secs(15), || async { two.claim(LOG, &"two".into()).await.ok() }).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(new.through, at(3));
    assert_eq!(one.commit(&lease, &batch("a", 4..=5), at(5)).await.unwrap_err().kind(), ErrorKind::Fenced);
    assert!(sqlx::raw_sql("COMMIT").execute(&mut asleep).await.is_err(), "the sleeper was cut off");
}

/// A network that swallows everything: calls end in time, and go on once it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_off_goes_on_by_itself() {
    needs!(Postgres);
    let server = Service::start_new(Postgres::new()).await;
    let proxy = Proxy::start(server.address()).await;
    let store = PostgresStore::open(DatabaseConfig::new(server.url_through(&[proxy.address()]))).await.unwrap();
    let lease = store.claim(LOG, &"n".into()).await.unwrap();
    for round in 0..3 {
        let first = round * 3 + 1;
        proxy.cut().await;
        assert!(store.renew(&lease).await.unwrap_err().is_transient());
        proxy.accept().await;
        let commit = || async { store.commit(&lease, &batch("a", first..=first + 2), at(first + 2)).await.ok() };
        eventually_async("it commits", BACK, commit).await;
    }
    assert_eq!(store.page(LOG, &room("a"), &PageQuery::latest(10)).await.unwrap().messages.len(), 9);
}
