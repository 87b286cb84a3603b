//! The server is killed again and again in the middle of its work: G3, G3b, G4, G5 and G6 hold all the same.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use chatflow_client::{Backoff, Client, Draft, Events, Incoming, MessageId};
use chatflow_testkit::{Habit, History, Ledger, Member, Options, Row, Seen, Sent, Server, between, eventually};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use uuid::Uuid;

const ROUNDS: usize = 20;
const PUBLISHERS: usize = 4;
const LISTENERS: usize = 2;
/// Messages of one publisher that wait for their answer.
const IN_FLIGHT: usize = 16;
/// Between two messages of one publisher.
const PAUSE: Duration = Duration::from_millis(4);
/// How long clients may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(30);

type Notes = Arc<Mutex<BTreeMap<String, Seen>>>;

/// A client of the library in all rooms, and what it was shown.
async fn connect(server: &Server, number: usize, rooms: &[String]) -> (Client, Notes) {
    let name = format!("client{number}");
    let mut builder = Client::builder(server.url())
        .user((number + 1).to_string(), &name)
        .backoff(Backoff::new(Duration::from_millis(20), Duration::from_millis(200)))
        .answer_timeout(PATIENCE)
        .in_flight(IN_FLIGHT);
    for room in rooms {
        builder = builder.room(room);
    }
    let (client, events) = builder.connect().await.unwrap();
    let notes = rooms.iter().map(|room| (room.clone(), Seen { name: name.clone(), room: room.clone(), ..Seen::default() })).collect();
    let notes = Arc::new(Mutex::new(notes));
    tokio::spawn(write_down(events, Arc::clone(&notes)));
    (client, notes)
}

async fn write_down(mut events: Events, notes: Notes) {
    while let Some(event) = events.recv().await {
        let mut notes = notes.lock();
        match event {
            Incoming::Message(message) => {
                let text = message.chat().unwrap().text.into_owned();
                let row = Row { position: message.position().unwrap(), id: message.id().to_string().parse().unwrap(), text };
                notes.get_mut(message.room().as_str()).unwrap().rows.push(row);
            }
            Incoming::Welcome { room, position, recovered, reason, .. } => {
                let seen = notes.get_mut(room.as_str()).unwrap();
                match seen.start {
                    None => seen.start = position,
                    Some(_) => seen.reconnects += 1,
                }
                if !recovered {
                    seen.losses.push(format!("not recovered: {reason:?}"));
                }
            }
            Incoming::Gap { room, .. } => notes.get_mut(room.as_str()).unwrap().losses.push("a gap".into()),
            Incoming::Refused { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
}

/// Publishes until it is told to stop, then waits for every answer.
async fn publish(client: Client, number: usize, room: String, ledger: Arc<Ledger>, stop: Arc<AtomicBool>) {
    let mut answers = FuturesUnordered::new();
    for n in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let (id, text) = (Uuid::now_v7(), format!("{n} of {number}"));
        ledger.sent(id, Sent { room: room.clone(), sender: number, text: text.clone() });
        let draft = Draft::new(text).id(id.to_string().parse::<MessageId>().unwrap());
        let answer = client.enqueue(&room, draft).await.unwrap();
        let ledger = Arc::clone(&ledger);
        answers.push(async move {
            let published = answer.await.unwrap();
            assert_eq!(published.message_id.to_string(), id.to_string());
            ledger.acknowledged(id, published.position);
        });
        let pause = tokio::time::sleep(PAUSE);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(()) = answers.next() => {}
            }
        }
    }
    while answers.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_twenty_times_it_loses_doubles_and_reorders_nothing() {
    let begun = Instant::now();
    let rooms: Vec<_> = (0..3).map(|n| format!("room{n}")).collect();
    let mut server = Server::start(Options::new());
    let mut clients = Vec::new();
    for number in 0..PUBLISHERS + LISTENERS {
        clients.push(connect(&server, number, &rooms).await);
    }
    let members: Vec<_> = rooms.iter().map(|room| Member::spawn(server.address, room, "raw", Habit::Stays)).collect();
    eventually("all are in", PATIENCE, || members.iter().all(Member::has_entered).then_some(())).await;

    let (ledger, stop) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
    let publishing: Vec<_> = (0..PUBLISHERS)
        .map(|n| tokio::spawn(publish(clients[n].0.clone(), n, rooms[n % rooms.len()].clone(), Arc::clone(&ledger), Arc::clone(&stop))))
        .collect();
    let mut away = Duration::ZERO;
    for round in 0..ROUNDS {
        let before = ledger.counts().1;
        eventually(&format!("round {round}: publishers go on"), PATIENCE, || (ledger.counts().1 > before).then_some(())).await;
        // Not synchronisation: the crash is to come at any moment.
        tokio::time::sleep(between(Duration::ZERO, Duration::from_millis(600))).await;
        server.kill9();
        let killed = Instant::now();
        server.restart();
        away += killed.elapsed();
    }
    stop.store(true, Relaxed);
    for publisher in publishing {
        publisher.await.unwrap();
    }

    let (sent, acknowledged) = ledger.counts();
    let history = History::over_http(server.address, &rooms, 1_000).await;
    let ends: BTreeMap<_, _> = history.0.iter().map(|(room, rows)| (room.clone(), rows.last().map(|row| row.position))).collect();
    let seen = || {
        let of_library = clients.iter().flat_map(|(_, notes)| notes.lock().values().cloned().collect::<Vec<_>>());
        of_library.chain(members.iter().map(Member::seen)).collect::<Vec<_>>()
    };
    let all = eventually("all have seen the last message", PATIENCE, || {
        let seen = seen();
        seen.iter().all(|seen| seen.last() >= ends[&seen.room]).then_some(seen)
    })
    .await;
    assert_eq!(history, History::in_file(&server.database()), "the API tells what stands in the file");
    let faults = ledger.faults(&history, &all, true);
    assert!(faults.is_empty(), "{} faults, among them {:#?}", faults.len(), &faults[..faults.len().min(20)]);
    assert_eq!((sent, sent), (acknowledged, history.len()), "whoever waits gets an answer");
    assert!(all.iter().all(|seen| seen.reconnects >= ROUNDS / 2), "everybody came back again and again");
    println!(
        "kill -9: {ROUNDS} times in {:.1} s, away {:.0} ms each; {sent} sent, {acknowledged} acknowledged, {} rows, {} seen by {} members, \
         {} resumptions, 0 faults",
        begun.elapsed().as_secs_f64(),
        away.as_secs_f64() * 1e3 / ROUNDS as f64,
        history.len(),
        all.iter().map(|seen| seen.rows.len()).sum::<usize>(),
        all.len(),
        all.iter().map(|seen| seen.reconnects).sum::<usize>(),
    );
}
