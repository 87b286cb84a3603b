//! The disk of the history is full for a while: publishers are refused, reads go on, nothing that was acknowledged is lost, and all is
//! whole within five seconds of there being room again.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_testkit::{Disk, Habit, History, Ledger, MariaDb, Member, Options, Postgres, Publisher, Refusals, Server, Service};
use chatflow_testkit::{eventually, eventually_async, http, needs};

const ROOMS: usize = 3;
const ENTRIES: usize = 64;
const WINDOW: usize = 100;
const PAUSE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(30);
const TIMES: usize = 3;
/// What G8 promises.
const WHOLE_AGAIN: Duration = Duration::from_secs(5);
/// What MariaDB says (10.11) before it ends itself, where not even taking back what it could not write finds room.
const GAVE_UP: &str = "Out of disk space) in rollback";

/// A disk of so many MiB; `None` where there can't be one.
fn disk(mib: u32) -> Option<Disk> {
    match Disk::missing() {
        Some(missing) => {
            eprintln!("SKIPPED, {missing}");
            None
        }
        None => Some(Disk::of(mib)),
    }
}

/// A folder on it, for a database that is another user.
fn folder(disk: &Disk) -> PathBuf {
    let folder = disk.path().join("tables");
    fs::create_dir(&folder).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_sqlite_refuses_publishers_and_loses_nothing() {
    let Some(disk) = disk(64) else { return };
    is_full_for_a_while(&disk, &format!("sqlite:{}", disk.path().join("history.db").display()), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_postgres_refuses_publishers_and_loses_nothing() {
    needs!(Postgres);
    let Some(disk) = disk(64) else { return };
    let database = Service::start_new(Postgres::new().tables_in(folder(&disk))).await;
    is_full_for_a_while(&disk, &database.url(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_mariadb_refuses_publishers_and_loses_nothing() {
    needs!(MariaDb);
    let Some(disk) = disk(64) else { return };
    let database = Service::start_new(MariaDb::new().tables_in(folder(&disk))).await;
    is_full_for_a_while(&disk, &database.url(), Some(&database)).await;
}

/// Of a `mortal` database it is known that it may give up: then nobody can read, and it is started again once there is room, as its
/// service manager does.
async fn is_full_for_a_while(disk: &Disk, store: &str, mortal: Option<&Service>) {
    let rooms: Vec<_> = (0..ROOMS).map(|n| format!("room{n}")).collect();
    let mut server = Server::start(Options::new().store(store).set("broker.entries", ENTRIES).set("store.lease", "2s"));
    let (ledger, refusals) = (Arc::new(Ledger::default()), Refusals::default());
    let members: Vec<_> =
        (0..2 * ROOMS).map(|n| Member::spawn(server.address, &rooms[n % ROOMS], &format!("member{n}"), Habit::Stays)).collect();
    eventually("all are in", PATIENCE, || members.iter().all(Member::has_entered).then_some(())).await;
    let publishers: Vec<_> =
        (0..2 * ROOMS).map(|n| Publisher::spawn(server.address, &rooms[n % ROOMS], n, WINDOW, PAUSE, &ledger, &refusals)).collect();
    let (mut slowest, mut lives, mut said) = (Duration::ZERO, 1, 0);
    for time in 0..TIMES {
        let before = ledger.counts().1;
        eventually("publishers go on", PATIENCE, || (ledger.counts().1 > before + 500).then_some(())).await;
        // What the database has set aside takes some messages more, and a trial that the server makes.
        eventually_async("the server says that it is not ready", PATIENCE, || async {
            disk.fill();
            (server.get("/ready").await.status == 503).then_some(())
        })
        .await;
        refusals.lock().clear();
        eventually("publishers are refused", PATIENCE, || {
            disk.fill();
            refusals.lock().contains_key("overloaded").then_some(())
        })
        .await;
        let acknowledged = ledger.counts().1;
        match History::if_readable(server.address, &rooms, 1_000).await {
            Ok(read) => assert!(read.len() >= acknowledged, "what was acknowledged is read: {} of {acknowledged}", read.len()),
            Err(refusal) => assert!(mortal.is_some_and(|database| database.log()[said..].contains(GAVE_UP)), "{refusal}"),
        }
        assert_eq!(http::get(server.address, "/health").await.unwrap().status, 200);
        if time == TIMES - 1 {
            // And killed in the midst of it: what was acknowledged is there all the same.
            server.kill9();
        }
        let waiting = ledger.unanswered();
        disk.free();
        if let Some(database) = mortal.filter(|database| database.log()[said..].contains(GAVE_UP)) {
            eventually("it has ended", PATIENCE, || database.processes().is_empty().then_some(())).await;
            database.restart().await;
            (lives, said) = (lives + 1, database.log().len());
        }
        let freed = Instant::now();
        if time == TIMES - 1 {
            server.restart();
        }
        eventually("what waited is acknowledged", PATIENCE, || {
            let unanswered = ledger.unanswered();
            waiting.iter().all(|id| !unanswered.contains(id)).then_some(())
        })
        .await;
        eventually_async("the server says that it is ready", WHOLE_AGAIN, || async {
            (server.get("/ready").await.status == 200).then_some(())
        })
        .await;
        if time < TIMES - 1 {
            slowest = slowest.max(freed.elapsed());
        }
        // Whoever could not be asked while the disk was full is asked now.
        let read = History::over_http(server.address, &rooms, 1_000).await;
        assert!(read.len() >= acknowledged, "what was acknowledged is still there: {} of {acknowledged}", read.len());
    }
    assert!(slowest <= WHOLE_AGAIN, "whole again only after {slowest:?}");
    publishers.iter().for_each(Publisher::stop);
    eventually("all publishers have their answers", PATIENCE, || publishers.iter().all(Publisher::is_done).then_some(())).await;
    let history = History::over_http(server.address, &rooms, 1_000).await;
    let all = eventually("all have seen the last message", PATIENCE, || {
        let seen: Vec<_> = members.iter().map(Member::seen).collect();
        seen.iter().all(|seen| seen.last() >= history.0[&seen.room].last().map(|row| row.position)).then_some(seen)
    })
    .await;
    let faults = ledger.faults(&history, &all, false);
    assert!(faults.is_empty(), "{} faults, among them {:#?}", faults.len(), &faults[..faults.len().min(20)]);
    let (sent, acknowledged) = ledger.counts();
    assert_eq!((sent, sent), (acknowledged, history.len()));
    assert_eq!(server.metric("chatflow_dead_letters_total").await, 0, "a full disk is no message's fault");
    println!(
        "full {TIMES} times: whole {} ms after there was room; {sent} sent, acknowledged and in the history once; lives of the database: {lives}",
        slowest.as_millis()
    );
}
