//! SIGTERM under load: nothing acknowledged is lost, everybody is told, and a second signal is obeyed.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_testkit::{
    Frame, History, Ledger, Options, Publisher, Refusals, Server, Socket, eventually, eventually_async, http, text_message,
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);
const MEMBERS: usize = 50;
/// Messages that are accepted and not in the history when the signal comes.
const BACKLOG: u64 = 200;

/// What one member is told at the end: whether it may come back, the last position before, and how it ended.
async fn farewell(mut socket: Socket) -> (Option<u64>, Frame) {
    let mut delay = None;
    loop {
        match socket.next().await {
            Frame::Json(frame) if frame["event"] == "reconnect" => delay = frame["delayMs"].as_u64(),
            Frame::Json(_) => {}
            end => return (delay, end),
        }
    }
}

/// Every status of `/ready` until nobody answers any more.
async fn readiness(server: std::net::SocketAddr) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Ok(answer) = http::get(server, "/ready").await {
        statuses.push(answer.status);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    statuses.dedup();
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_end_under_load_finishes_its_work() {
    let rooms: Vec<_> = (0..4).map(|n| format!("room{n}")).collect();
    let mut server = Server::start(Options::new());
    let (ledger, refusals) = (Arc::new(Ledger::default()), Refusals::default());
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        let mut socket = Socket::connect(server.address, &format!("/chat/{}", rooms[n % rooms.len()])).await.unwrap();
        socket.expect("a welcome", |frame| frame["event"] == "welcome").await;
        members.push(tokio::spawn(farewell(socket)));
    }
    let publishers: Vec<_> = (0..8)
        .map(|n| Publisher::spawn(server.address, &rooms[n % rooms.len()], n, 64, Duration::from_millis(2), &ledger, &refusals))
        .collect();
    eventually("publishers are busy", PATIENCE, || (ledger.counts().1 > 1_000).then_some(())).await;

    // The signal comes while much is accepted that the history can't take just now.
    let lock = server.lock_database();
    let backlog = eventually_async("much waits for the history", PATIENCE, || async {
        let accepted = server.metric("chatflow_messages_accepted_total").await;
        let backlog = accepted - server.metric("chatflow_messages_persisted_total").await;
        (backlog >= BACKLOG).then_some(backlog)
    })
    .await;
    let acknowledged_before = ledger.counts().1;
    let ready = tokio::spawn(readiness(server.address));
    server.terminate();
    let asked = Instant::now();
    eventually("publishers are told that it drains", PATIENCE, || refusals.lock().contains_key("draining").then_some(())).await;
    drop(lock);
    let status = server.ended(PATIENCE).await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(0), "{}", server.log());

    let mut delays = Vec::new();
    for member in members {
        let (delay, end) = member.await.unwrap();
        assert_eq!(end, Frame::Closed(1012));
        delays.push(delay.expect("a reconnect event before the end"));
    }
    publishers.iter().for_each(Publisher::stop);
    drop(publishers);
    let statuses = ready.await.unwrap();
    assert!(statuses.ends_with(&[503]) && statuses.iter().all(|status| [200, 503].contains(status)), "/ready said {statuses:?}");
    let history = History::in_file(&server.database());
    let faults = ledger.faults(&history, &[], false);
    assert!(faults.is_empty(), "{} faults, among them {:#?}", faults.len(), &faults[..faults.len().min(20)]);
    let (sent, acknowledged) = ledger.counts();
    assert!(acknowledged as u64 >= acknowledged_before as u64 + backlog, "what was accepted is finished and answered");
    assert_eq!(acknowledged, history.len(), "nothing is kept that its sender does not know of");
    println!(
        "SIGTERM under load, {backlog} messages waiting for the history: exit 0 after {} ms; {sent} sent, {acknowledged} acknowledged, {} rows, refusals {:?}; {MEMBERS} members told to come \
         back after {} to {} ms and closed with 1012; /ready {statuses:?}",
        took.as_millis(),
        history.len(),
        refusals.lock(),
        delays.iter().min().unwrap(),
        delays.iter().max().unwrap(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once_and_it_says_what_was_lost() {
    let mut server = Server::start(Options::new());
    let mut socket = Socket::connect(server.address, "/chat/7").await.unwrap();
    socket.expect("a welcome", |frame| frame["event"] == "welcome").await;
    let lock = server.lock_database();
    for n in 0..10 {
        socket.send(&text_message("7", Uuid::now_v7(), &format!("number {n}"))).await.unwrap();
    }
    eventually_async("all are accepted", PATIENCE, || async {
        (server.metric("chatflow_messages_accepted_total").await == 10).then_some(())
    })
    .await;
    server.terminate();
    eventually_async("it drains", PATIENCE, || async { (server.get("/ready").await.status == 503).then_some(()) }).await;
    // Its first words are those of the event; until they came, the first signal may not have been seen.
    socket.expect("a reconnect event", |frame| frame["event"] == "reconnect").await;
    server.terminate();
    let asked = Instant::now();
    let status = server.ended(PATIENCE).await;
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(1));
    assert!(took < Duration::from_secs(2), "at once, not after {took:?}");
    let said = "chatflow-server: ended by a second SIGTERM: 10 accepted messages were not yet in the history, 1 connections were cut";
    assert!(server.log().contains(said), "{}", server.log());
    drop(lock);
    assert!(History::in_file(&server.database()).is_empty());
    println!("second SIGTERM: exit 1 after {} ms, 10 messages named as lost", took.as_millis());
}
