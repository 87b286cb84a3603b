//! What the SQLite store promises beyond the suite: locks, damage, neighbours, and letting go.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_core::analytics::{Analytics, Minutes, UserQuery};
use chatflow_core::conformance::store::{LOG, at, batch, room};
use chatflow_core::store::{PageQuery, SUMMARIES, SqliteConfig, SqliteStore};
use chatflow_core::{Ack, Draft, Engine, ErrorKind, LogId, MessageStore, NodeId, Result, kind};
use rusqlite::Connection;

async fn open(folder: &Path) -> Result<SqliteStore> {
    SqliteStore::open(SqliteConfig::new(folder.join("chatflow.db"))).await
}

/// Another process at the database: it has a connection of its own.
fn neighbour(folder: &Path) -> Connection {
    Connection::open(folder.join("chatflow.db")).unwrap()
}

fn node() -> NodeId {
    NodeId::from_static("node-1")
}

async fn until<T>(what: &str, within: Duration, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_lock_fails_commits_for_the_time_being_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let node = node();
    let lease = store.claim(LOG, &node).await.unwrap();
    let others = futures::future::try_join_all((10..20).map(|log| store.claim(LogId(log), &node))).await.unwrap();
    store.commit(&lease, &batch("a", 1..=5), at(5)).await.unwrap();

    let foreign = neighbour(folder.path());
    foreign.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let locked = Instant::now();
    let next = batch("a", 6..=9);
    while locked.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        let commits = std::iter::once(&lease).chain(&others).map(|lease| store.commit(lease, &next, at(9)));
        let (commits, page) = tokio::join!(futures::future::join_all(commits), async {
            let page = store.page(LOG, &room("a"), &PageQuery::latest(10)).await;
            store.renew(&lease).await.unwrap();
            (page, asked.elapsed())
        });
        for commit in commits {
            let error = commit.unwrap_err();
            assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Unavailable, true), "{error}");
            assert!(error.to_string().contains("lock"), "{error}");
        }
        assert!(asked.elapsed() < Duration::from_millis(2_500), "a commit hung for {:?}", asked.elapsed());
        let (page, took) = page;
        assert_eq!((page.unwrap().messages.len(), took < Duration::from_millis(500)), (5, true), "readers waited {took:?}");
        assert!(!store.status().await.healthy);
    }
    foreign.execute_batch("ROLLBACK").unwrap();

    until("the store is healthy again by itself", Duration::from_secs(2), async || store.status().await.healthy.then_some(())).await;
    store.commit(&lease, &next, at(9)).await.unwrap();
    assert_eq!(store.page(LOG, &room("a"), &PageQuery::latest(10)).await.unwrap().messages.len(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_foreign_lock_is_only_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let lease = store.claim(LOG, &node()).await.unwrap();
    let foreign = neighbour(folder.path());
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let rows = batch("a", 1..=5);
    let commit = store.commit(&lease, &rows, at(5));
    let unlock = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        foreign.execute_batch("COMMIT").unwrap();
    };
    tokio::join!(commit, unlock).0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_commit_does_not_fail_its_neighbours_in_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).await.unwrap());
    let node = node();
    let leases = futures::future::join_all((0..8).map(|log| store.claim(LogId(log), &node))).await;
    let leases: Vec<_> = leases.into_iter().map(Result::unwrap).collect();
    store.claim(LogId(0), &node).await.unwrap();

    // Behind a lock they queue up, so that one group takes them all.
    let foreign = neighbour(folder.path());
    let mut bad = batch("room1", 1..=4);
    bad[3].message.sender = "bad".into();
    let rows_of = |log: u16| if log == 1 { bad.clone() } else { batch(&format!("room{log}"), 1..=4) };
    let no_bad_rows = "CREATE TRIGGER no_bad_rows BEFORE INSERT ON messages WHEN NEW.sender = 'bad' BEGIN SELECT RAISE(ABORT, 'bad'); END";
    foreign.execute_batch(no_bad_rows).unwrap();
    foreign.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commits: Vec<_> = (0..8u16)
        .map(|log| {
            let (store, lease, rows) = (store.clone(), leases[log as usize].clone(), rows_of(log));
            tokio::spawn(async move { store.commit(&lease, &rows, at(4)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    foreign.execute_batch("COMMIT").unwrap();
    for (commit, log) in futures::future::join_all(commits).await.into_iter().zip(0..) {
        let outcome = commit.unwrap();
        let expected = match log {
            0 => Err(ErrorKind::Fenced),
            1 => Err(ErrorKind::Invalid),
            _ => Ok(Vec::new()),
        };
        assert_eq!(outcome.map_err(|error| error.kind()), expected, "log {log}");
        let page = store.page(LogId(log), &room(&format!("room{log}")), &PageQuery::latest(10)).await.unwrap();
        assert_eq!(page.messages.len(), if log < 2 { 0 } else { 4 }, "log {log}");
    }
    // Nothing is left of the bad one, not even where no page would show it.
    assert_eq!(store.commit(&leases[1], &rows_of(1)[..3], at(3)).await.unwrap(), []);
    assert_eq!(store.rooms(None, 10).await.unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_is_turned_away_until_the_first_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await.unwrap();
    let error = open(folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().ends_with("chatflow.db is in use by another process"), "{error}");
    first.close().await.unwrap();
    let second = open(folder.path()).await.unwrap();

    // Without `close`: the threads end by themselves, after what was queued.
    let lease = second.claim(LOG, &node()).await.unwrap();
    let mut commit = Box::pin(async { second.commit(&lease, &batch("a", 1..=500), at(500)).await });
    assert!(futures::poll!(&mut commit).is_pending());
    drop(commit);
    drop(second);
    let third = until("the file is free again", Duration::from_secs(5), async || open(folder.path()).await.ok()).await;
    let rows = third.page(LOG, &room("a"), &PageQuery::latest(1_000)).await.unwrap().messages.len();
    assert!(rows == 0 || rows == 500, "{rows} rows of a dropped commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_writes_what_is_queued_and_leaves_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).await.unwrap());
    let lease = store.claim(LOG, &node()).await.unwrap();
    let commit = tokio::spawn({
        let store = store.clone();
        async move { store.commit(&lease, &batch("a", 1..=2_000), at(2_000)).await }
    });
    store.close().await.unwrap();
    match commit.await.unwrap() {
        Ok(exceptions) => assert_eq!(exceptions, []),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "a commit that came too late is told so"),
    }
    let mut files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["chatflow.db", "chatflow.db.lock"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_history_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chatflow.db");
    std::fs::write(&path, b"these are not the bytes of a database, however long you look at them".repeat(100)).unwrap();
    assert_eq!(open(folder.path()).await.unwrap_err().kind(), ErrorKind::Corrupt);

    std::fs::remove_file(&path).unwrap();
    neighbour(folder.path()).pragma_update(None, "user_version", 999).unwrap();
    let error = open(folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("schema version 999"), "{error}");

    let nowhere = SqliteStore::open(SqliteConfig::new(folder.path().join("no/such/folder/x.db"))).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Config);
    let memory = SqliteStore::open(SqliteConfig::new(folder.path().join("x.db")).with_readers(0)).await.unwrap_err();
    assert_eq!(memory.kind(), ErrorKind::Config);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_bounded_under_readers_that_never_pause() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).await.unwrap());
    let lease = store.claim(LOG, &node()).await.unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                loop {
                    store.page(LOG, &room("a"), &PageQuery::latest(20)).await.unwrap();
                }
            })
        })
        .collect();
    let log = folder.path().join("chatflow.db-wal");
    let mut largest = 0;
    // 200 MB of rows, several times the bound.
    for number in 0..100u64 {
        let mut rows = batch("a", number * 100 + 1..=number * 100 + 100);
        for row in &mut rows {
            row.message.body = vec![b'x'; 20_000].into();
        }
        store.commit(&lease, &rows, rows[99].position).await.unwrap();
        largest = largest.max(std::fs::metadata(&log).map_or(0, |file| file.len()));
    }
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(largest <= 96 << 20, "the write-ahead log grew to {} MiB", largest >> 20);
    futures::future::join_all(readers).await;
    store.close().await.unwrap();
}

/// A file whose rows were given other numbers, as SQLite may do where they are copied, is counted anew by itself; another when it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn summaries_are_counted_anew_when_they_can_not_be_relied_on() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let store = open(folder.path()).await.unwrap();
        let lease = store.claim(LOG, &node()).await.unwrap();
        let first = round * 40 + 1;
        store.commit(&lease, &batch("a", first..=first + 39), at(first + 39)).await.unwrap();
        let top = async || store.top_users(Minutes::default(), 10).await.unwrap();
        assert!(top().await.as_of.is_some());
        let lease = store.claim(SUMMARIES, &node()).await.unwrap();
        while store.projections().unwrap().project(&lease, 7).await.unwrap() {}
        let counted = top().await;
        assert_eq!((counted.as_of, counted.value.iter().map(|(_, n)| n).sum::<u64>()), (None, first + 39), "round {round}");
        let theirs = store.user_messages(&"user3".into(), &UserQuery::latest(1_000)).await.unwrap().messages;
        assert!(theirs.iter().all(|row| row.message.sender == "user3") && theirs.len() as u64 >= (first + 39) / 7, "round {round}");
        store.close().await.unwrap();
        match round {
            0 => neighbour(folder.path()).execute("UPDATE messages SET rowid = rowid + 100000", []).map(|_| ()).unwrap(),
            _ => SqliteStore::rebuild_summaries(SqliteConfig::new(folder.path().join("chatflow.db"))).await.unwrap(),
        }
    }
}

/// The engine counts beside its writing, and goes on where the last one was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_counts_what_it_writes() {
    let folder = tempfile::tempdir().unwrap();
    for life in 1..=2 {
        let engine = Engine::builder().store(Arc::new(open(folder.path()).await.unwrap())).build().await.unwrap();
        for n in 0..5 {
            let (sender, name, text) = ("1".into(), "robot".into(), format!("message {n}").into());
            let draft = Draft { sender, name, kind: kind::TEXT, text, timestamp: "2026-11-20T12:00:00Z".into(), ..Draft::default() };
            engine.publish(&room("a"), draft, Ack::Persisted).await.unwrap();
        }
        let figures = engine.analytics().unwrap();
        let counted = until("it is counted", Duration::from_secs(10), async || {
            let top = figures.top_users(Minutes::default(), 9).await.unwrap();
            top.as_of.is_none().then_some(top.value)
        });
        assert_eq!(counted.await, [("1".into(), 5 * life)]);
        engine.shutdown(Duration::from_secs(5)).await;
    }
}
