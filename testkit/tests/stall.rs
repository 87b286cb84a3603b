//! The history can't be written for a while: publishers are refused, everybody else goes on, and nothing is shown that is not safe.
//!
//! `CHATFLOW_STALL_SECONDS` sets how long (30 for a file, 20 for a table of a database).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chatflow_core::Position;
use chatflow_testkit::{
    DatabaseLock, Habit, History, Ledger, MariaDb, Member, MySql, Options, Postgres, Publisher, Refusals, Server, Service,
};
use chatflow_testkit::{eventually, eventually_async, http, needs};

const ROOMS: usize = 4;
const MEMBERS: usize = 64;
const PAGERS: usize = 8;
/// Messages of one log that may wait for the history.
const ENTRIES: usize = 64;
/// Messages of one publisher without a `SUCCESS`; there are two in each room, so that they want more than the bound.
const WINDOW: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);
/// What G8 promises.
const WHOLE_AGAIN: Duration = Duration::from_secs(5);

/// Somebody who walks through a room's history again and again.
struct Pager {
    walks: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(Duration, History)>,
}

impl Pager {
    fn spawn(server: &Server, room: &str) -> Self {
        let (walks, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (address, rooms, counted, stopped) = (server.address, [room.to_owned()], Arc::clone(&walks), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let (mut slowest, mut last) = (Duration::ZERO, History::default());
            while !stopped.load(Relaxed) {
                let begun = Instant::now();
                let history = History::over_http(address, &rooms, 100).await;
                slowest = slowest.max(begun.elapsed());
                let (before, now) = (last.0.get(&rooms[0]).map_or(0, Vec::len), &history.0[&rooms[0]]);
                assert!(now.len() >= before && now[..before] == last.0.get(&rooms[0]).cloned().unwrap_or_default(), "a page changed");
                last = history;
                counted.fetch_add(1, Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
            (slowest, last)
        });
        Self { walks, stop, task }
    }

    /// Its slowest walk, and what it read last.
    async fn finish(self) -> (Duration, History) {
        self.stop.store(true, Relaxed);
        self.task.await.unwrap()
    }
}

/// The last position of each room.
fn ends(history: &History) -> BTreeMap<String, Position> {
    history.0.iter().filter_map(|(room, rows)| Some((room.clone(), rows.last()?.position))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nothing_can_be_written_reading_goes_on_and_nobody_is_lied_to() {
    stalls(30, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_table_of_postgres_is_locked_the_same_holds() {
    needs!(Postgres);
    stalls(20, Some(Service::start_new(Postgres::new()).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_table_of_mariadb_is_locked_the_same_holds() {
    needs!(MariaDb);
    stalls(20, Some(Service::start_new(MariaDb::new()).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_table_of_mysql_is_locked_the_same_holds() {
    needs!(MySql);
    stalls(20, Some(Service::start_new(MySql::new()).await)).await;
}

/// With a history in a database, or in the server's own file.
async fn stalls(seconds: u64, database: Option<Service>) {
    let stall = Duration::from_secs(std::env::var("CHATFLOW_STALL_SECONDS").map_or(seconds, |seconds| seconds.parse().unwrap()));
    let rooms: Vec<_> = (0..ROOMS).map(|n| format!("room{n}")).collect();
    let options = Options::new().set("broker.entries", ENTRIES);
    let server = Server::start(database.iter().fold(options, |options, database| options.store(database.url())));
    // Past all of the server's code where that can be.
    let rows = async || match &database {
        None => History::in_file(&server.database()),
        Some(_) => History::over_http(server.address, &rooms, 1_000).await,
    };
    let (ledger, refusals) = (Arc::new(Ledger::default()), Refusals::default());
    // Half of them stay, half come and go.
    let habit = |n| if n % 2 == 0 { Habit::Stays } else { Habit::ComesAndGoes(Duration::from_secs(2)) };
    let members: Vec<_> =
        (0..MEMBERS).map(|n| Member::spawn(server.address, &rooms[n / 2 % ROOMS], &format!("member{n}"), habit(n))).collect();
    eventually("all were in once", PATIENCE, || members.iter().all(Member::has_entered).then_some(())).await;
    let publishers: Vec<_> =
        (0..2 * ROOMS).map(|n| Publisher::spawn(server.address, &rooms[n % ROOMS], n, WINDOW, PAUSE, &ledger, &refusals)).collect();
    eventually("there is a history", PATIENCE, || (ledger.counts().1 > 1_000).then_some(())).await;
    let pagers: Vec<_> = (0..PAGERS).map(|n| Pager::spawn(&server, &rooms[n % ROOMS])).collect();

    let lock = match &database {
        None => server.lock_database(),
        Some(database) => DatabaseLock::of(database).await,
    };
    let locked = Instant::now();
    let committed = rows().await;
    eventually_async("the server says that it is not ready", WHOLE_AGAIN, || async {
        (server.get("/ready").await.status == 503).then_some(())
    })
    .await;
    let not_ready = locked.elapsed();
    eventually("publishers are refused", WHOLE_AGAIN, || refusals.lock().contains_key("overloaded").then_some(())).await;
    let refused = locked.elapsed();
    let walks = || pagers.iter().map(|pager| pager.walks.load(Relaxed)).min().unwrap();
    let walked = walks();
    tokio::time::sleep(stall.saturating_sub(locked.elapsed())).await;

    let faults = ledger.faults(&committed, &[], false);
    assert!(faults.is_empty(), "acknowledged while nothing could be written: {:#?}", &faults[..faults.len().min(20)]);
    let ends_before = ends(&committed);
    for member in &members {
        let seen = member.seen();
        assert!(seen.last().unwrap() <= ends_before[&seen.room], "{} saw what is not committed", seen.name);
    }
    let walks_meanwhile = walks() - walked;
    assert!(walks_meanwhile >= 3, "a pager walked through its room only {walks_meanwhile} times");
    assert_eq!(http::get(server.address, "/health").await.unwrap().status, 200);
    assert_eq!(rows().await, committed, "the lock holds");

    let waiting = ledger.unanswered();
    lock.free().await;
    let freed = Instant::now();
    eventually("what waited is acknowledged", WHOLE_AGAIN, || {
        let unanswered = ledger.unanswered();
        waiting.iter().all(|id| !unanswered.contains(id)).then_some(())
    })
    .await;
    let answered_after = freed.elapsed();
    eventually_async("the server says that it is ready", WHOLE_AGAIN, || async {
        (server.get("/ready").await.status == 200).then_some(())
    })
    .await;
    let whole = freed.elapsed();
    assert!(whole <= WHOLE_AGAIN, "whole again only after {whole:?}");

    publishers.iter().for_each(Publisher::stop);
    members.iter().for_each(Member::stay);
    eventually("all publishers have their answers", PATIENCE, || publishers.iter().all(Publisher::is_done).then_some(())).await;
    let mut slowest = Duration::ZERO;
    let history = History::over_http(server.address, &rooms, 1_000).await;
    for pager in pagers {
        let (duration, last) = pager.finish().await;
        slowest = slowest.max(duration);
        let (room, rows) = last.0.iter().next().unwrap();
        assert_eq!(rows[..], history.0[room][..rows.len()]);
    }
    let ends = ends(&history);
    let all = eventually("all have seen the last message", PATIENCE, || {
        let seen: Vec<_> = members.iter().map(Member::seen).collect();
        seen.iter().all(|seen| seen.last() >= Some(ends[&seen.room])).then_some(seen)
    })
    .await;
    assert_eq!(history, rows().await);
    // Refused ones come again behind others: G2 speaks of the order in which they were accepted.
    let faults = ledger.faults(&history, &all, false);
    assert!(faults.is_empty(), "{} faults, among them {:#?}", faults.len(), &faults[..faults.len().min(20)]);
    let (sent, acknowledged) = ledger.counts();
    assert_eq!((sent, sent), (acknowledged, history.len()));
    println!(
        "writer stopped for {:.0} s: not ready after {} ms, overloaded after {} ms, refusals {:?}; {walks_meanwhile} walks or more of each of {PAGERS} \
         pagers meanwhile, the slowest {} ms; whole {} ms after (answers {} ms); {sent} sent, {} rows, {} seen by {MEMBERS} members who came back {} times, 0 faults",
        stall.as_secs_f64(),
        not_ready.as_millis(),
        refused.as_millis(),
        refusals.lock(),
        slowest.as_millis(),
        whole.as_millis(),
        answered_after.as_millis(),
        history.len(),
        all.iter().map(|seen| seen.rows.len()).sum::<usize>(),
        all.iter().map(|seen| seen.reconnects).sum::<usize>(),
    );
}
