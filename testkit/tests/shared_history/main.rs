//! Two servers on one broker, whichever it is, that both keep their history in one database: one writes each log, both answer for it.
//!
//! `CHATFLOW_FAULT_ROUNDS` sets how often a writer or the database is lost in one run (8).

#![allow(clippy::unwrap_used)]

mod nodes;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatflow_client::{Ack, Client, ClientBuilder, Draft, Incoming, MessageId, Published};
use chatflow_testkit::{
    DatabaseLock, Habit, Ledger, MariaDb, Member, MySql, Options, Postgres, Program, Publisher, RabbitMq, Redis, Refusals,
};
use chatflow_testkit::{Server, Service, Socket, Sqs, eventually, eventually_async, needs};

use nodes::{Nodes, is_postgres};

const LEASE: Duration = Duration::from_secs(2);
const WINDOW: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(30);

fn client(server: &Server) -> ClientBuilder {
    Client::builder(server.url()).user("1", "ada").room("room0").ack(Ack::Persisted).answer_timeout(PATIENCE)
}

async fn say(client: &Client, draft: Draft) -> Result<Published, chatflow_client::Error> {
    client.enqueue("room0", draft).await?.await
}

/// What is lost in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The writer is killed in the midst of it: between a commit and its settling as anywhere.
    Killed,
    /// The writer stands still until its lease is another's, and goes on then.
    Asleep,
    /// The database is killed, and started again.
    Database,
    /// Both are killed at once, and contend for the leases when they come back.
    Both,
}

/// Killed, or stopped past its lease, in turn, and the database too; whoever is left goes on meanwhile.
async fn whoever_writes_may_die_or_fall_asleep_and_the_other_goes_on(database: impl Program, broker: impl Program) {
    let begun = Instant::now();
    let mut nodes = Nodes::start(database, broker).await;
    let rooms: Vec<_> = (0..3).map(|n| format!("room{n}")).collect();
    let (ledger, refusals) = (Arc::new(Ledger::default()), Refusals::default());
    let everywhere = |n: usize| (nodes.servers[n % 2].address, &rooms[n / 2]);
    let members: Vec<_> = (0..6)
        .map(|n| {
            let (address, room) = everywhere(n);
            Member::spawn(address, room, &format!("member{n}"), Habit::Stays)
        })
        .collect();
    eventually("all are in", PATIENCE, || members.iter().all(Member::has_entered).then_some(())).await;
    let publishers: Vec<_> = (0..6)
        .map(|n| {
            let (address, room) = everywhere(n);
            Publisher::spawn(address, room, n, WINDOW, PAUSE, &ledger, &refusals)
        })
        .collect();
    let rounds = std::env::var("CHATFLOW_FAULT_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    let mut writer = 0;
    for round in 0..rounds {
        let other = 1 - writer;
        let loss = [Loss::Killed, Loss::Database, Loss::Asleep, Loss::Both][round % 4];
        let before = ledger.counts().1;
        eventually("publishers go on", PATIENCE, || (ledger.counts().1 > before + 100).then_some(())).await;
        match loss {
            Loss::Killed => {
                nodes.servers[writer].kill9();
                nodes.has_taken_over(other).await;
                nodes.servers[writer].restart();
            }
            Loss::Asleep => {
                nodes.servers[writer].freeze();
                nodes.has_taken_over(other).await;
                nodes.servers[writer].thaw();
            }
            Loss::Database => {
                nodes.database.kill9();
                nodes.database.start().await;
            }
            Loss::Both => {
                nodes.servers.iter_mut().for_each(Server::kill9);
                nodes.servers.iter_mut().for_each(Server::restart);
            }
        }
        writer = nodes.who_writes(&format!("round {round}, {loss:?}")).await;
    }
    publishers.iter().for_each(Publisher::stop);
    eventually("everything is answered", PATIENCE, || publishers.iter().all(Publisher::is_done).then_some(())).await;
    let sent = ledger.counts().0;
    let persisted = || async { (nodes.rows("").await >= sent).then_some(()) };
    eventually_async("everything is in the history", PATIENCE, persisted).await;

    let histories = nodes.histories(&rooms).await;
    assert_eq!(histories[0], histories[1]);
    let all = eventually("all have seen the last message", PATIENCE, || {
        let seen: Vec<_> = members.iter().map(Member::seen).collect();
        seen.iter().all(|seen| seen.last() >= histories[0].0[&seen.room].last().map(|row| row.position)).then_some(seen)
    })
    .await;
    let faults = ledger.faults(&histories[0], &all, false);
    assert!(faults.is_empty(), "{} faults, among them {:#?}", faults.len(), &faults[..faults.len().min(20)]);
    assert_eq!((ledger.counts(), nodes.rows("").await), ((sent, sent), sent));
    println!(
        "{rounds} times a writer or the database lost in {:.1} s: {sent} sent, acknowledged and in the history once, 0 faults",
        begun.elapsed().as_secs_f64()
    );
}

/// What the node that does not write knows of the history: when a message is in it, that it has another one of the id, and nothing
/// sooner.
async fn what_is_persisted_is_told_on_the_node_that_does_not_write(database: impl Program, broker: impl Program) {
    let nodes = Nodes::start(database, broker).await;
    let (writer, _events) = client(&nodes.servers[0]).connect().await.unwrap();
    let (other, mut shown) = client(&nodes.servers[1]).connect().await.unwrap();
    for n in 0..20 {
        let id: MessageId = uuid::Uuid::now_v7().to_string().parse().unwrap();
        let draft = |text: &str| Draft::new(text.to_owned()).id(id);
        let published = say(&other, draft(&format!("message {n}"))).await.unwrap();
        let id = if is_postgres(&nodes.database) { format!("'{id}'") } else { format!("x'{}'", id.to_string().replace('-', "")) };
        assert_eq!(nodes.rows(&format!("WHERE id = {id}")).await, 1, "it is there when its sender is told");
        for client in [&writer, &other] {
            let again = say(client, draft(&format!("message {n}"))).await.unwrap();
            assert_eq!(again.position, published.position);
            let error = say(client, draft("something else")).await.unwrap_err().to_string();
            assert!(error.contains("id_conflict") || error.contains("used for another message"), "{error}");
        }
    }
    while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(50), shown.recv()).await {}

    // Nobody can write: what is shown comes from the log all the same, on the node that is told of the history as well.
    let lock = DatabaseLock::of(&nodes.database).await;
    let mut waiting = Vec::new();
    for n in 0..20 {
        waiting.push(other.enqueue("room0", Draft::new(format!("late {n}"))).await.unwrap());
    }
    let mut seen = 0;
    while seen < 20 {
        let event = tokio::time::timeout(PATIENCE, shown.recv()).await.unwrap().unwrap();
        if matches!(&event, Incoming::Message(message) if message.chat().unwrap().text.starts_with("late")) {
            seen += 1;
        }
    }
    assert_eq!(nodes.rows("").await, 20);
    lock.free().await;
    let unlocked = Instant::now();
    for answer in waiting {
        answer.await.unwrap();
    }
    assert!(unlocked.elapsed() < Duration::from_secs(5), "{:?}", unlocked.elapsed());
    assert_eq!(nodes.rows("").await, 40);
}

/// With a broker that keeps nothing, a message is shown once it is in the history: each once, none that repeats or contradicts
/// another, in one order, whether the node writes or not.
async fn where_the_history_decides_what_is_shown_it_decides_on_every_node(database: impl Program, broker: Redis) {
    let nodes = Nodes::start(database, broker.set("appendonly", "no")).await;
    let (writer, mut shown_there) = client(&nodes.servers[0]).connect().await.unwrap();
    let (other, mut shown_here) = client(&nodes.servers[1]).connect().await.unwrap();
    for n in 0..20 {
        let id: MessageId = uuid::Uuid::now_v7().to_string().parse().unwrap();
        let (first, second) = if n % 2 == 0 { (&writer, &other) } else { (&other, &writer) };
        let draft = |text: &str| Draft::new(text.to_owned()).id(id);
        let (published, at_once) = tokio::join!(say(first, draft(&n.to_string())), say(second, draft(&n.to_string())));
        assert_eq!(published.unwrap().position, at_once.unwrap().position);
        let error = say(second, draft("something else")).await.unwrap_err().to_string();
        assert!(error.contains("id_conflict") || error.contains("used for another message"), "{error}");
    }
    say(&writer, Draft::new("the end".to_owned())).await.unwrap();
    let histories = nodes.histories(&["room0".to_owned()]).await;
    assert_eq!((histories[0].len(), &histories[0]), (21, &histories[1]));
    let texts: Vec<_> = histories[0].0["room0"].iter().map(|row| row.text.clone()).collect();
    for shown in [&mut shown_there, &mut shown_here] {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|text| text != "the end") {
            let event = tokio::time::timeout(PATIENCE, shown.recv()).await.unwrap().unwrap();
            if let Incoming::Message(message) = event {
                seen.push(message.chat().unwrap().text.into_owned());
            }
        }
        assert_eq!(seen, texts);
    }
}

/// The load generator is the judge: every message once, in one order for everybody, and in the history of both.
async fn a_load_on_both_is_seen_alike_and_stored_once(database: impl Program, broker: impl Program) {
    let mut nodes = Nodes::start(database, broker).await;
    let urls = format!("{},{}", nodes.servers[0].url(), nodes.servers[1].url());
    let mut load = Command::new(program("chatflow-client"));
    load.args(["load", &urls, "--messages", "20000", "--warmup", "0x0", "--connections", "16", "--listeners", "4", "--timeout", "10s"]);
    let output = tokio::task::spawn_blocking(move || load.output().unwrap()).await.unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert_eq!(nodes.rows("").await, 20_000);
    let rooms: Vec<_> = (1..=20).map(|n| n.to_string()).collect();
    let histories = nodes.histories(&rooms).await;
    assert_eq!((histories[0].len(), &histories[0]), (20_000, &histories[1]));

    // In order: the other writes at once, without waiting for a lease.
    nodes.servers[0].terminate();
    assert!(nodes.servers[0].ended(PATIENCE).await.success());
    let gone = Instant::now();
    nodes.has_taken_over(1).await;
    assert!(gone.elapsed() < LEASE, "{:?}", gone.elapsed());
}

/// What is too old goes once, by whoever writes, and members of both nodes are told that they have missed it.
async fn what_is_too_old_goes_by_whoever_writes(database: impl Program, broker: impl Program) {
    // Nor may a node know it from its memory.
    let brief = |options: Options| options.set("engine.dedup_window", "1s").set("engine.recent_messages", 0).set("store.retention", "2s");
    let mut nodes = Nodes::start_with(database, broker, brief).await;
    let (other, _events) = client(&nodes.servers[1]).connect().await.unwrap();
    let mut gone = None;
    for killed in [false, true] {
        if killed {
            nodes.servers[0].kill9();
            nodes.has_taken_over(1).await;
        }
        let mut last = None;
        for n in 0..50 {
            last = say(&other, Draft::new(n.to_string())).await.unwrap().position;
            gone = gone.or(last);
        }
        let removed = || async { (nodes.rows("").await == 1).then_some(()) };
        eventually_async("only the newest is left", PATIENCE, removed).await;
        let counts = async |n: usize| nodes.servers[n].metric("chatflow_messages_removed_total").await;
        if killed {
            assert_eq!(counts(1).await, 50, "the one that was left as well");
            nodes.servers[0].restart();
        } else {
            assert_eq!((counts(0).await, counts(1).await), (49, 0));
        }
        for server in &nodes.servers {
            let page = server.get("/api/v1/rooms/room0/messages").await.json();
            let left: Vec<_> = page["messages"].as_array().unwrap().iter().map(|message| message["position"].clone()).collect();
            assert_eq!(left, [last.unwrap().to_string()]);
            let mut late = Socket::connect(server.address, &format!("/chat/room0?after={}", gone.unwrap())).await.unwrap();
            let welcome = late.expect("a welcome", |frame| frame["event"] == "welcome").await;
            assert_eq!((&welcome["recovered"], &welcome["reason"]), (&false.into(), &"not_kept".into()), "{welcome}");
        }
    }
}

/// A node that is not to write the history answers for it all the same.
async fn who_has_not_the_role_never_writes(database: impl Program, broker: impl Program) {
    let (database, broker) = (Service::start_new(database).await, Service::start_new(broker).await);
    let options = |n: usize| Options::new().node(format!("node{n}")).broker(broker.url()).store(database.url());
    let gateway = Server::start(options(1).set("node.roles", "gateway,api"));
    let (client, _events) = client(&gateway).connect().await.unwrap();
    let waiting = client.enqueue("room0", Draft::new("hello".to_owned())).await.unwrap();
    let taken = || async { (gateway.metric("chatflow_messages_accepted_total").await == 1).then_some(()) };
    eventually_async("the message is taken", PATIENCE, taken).await;
    let writer = Server::start(options(2));
    waiting.await.unwrap();
    let nodes = Nodes { servers: vec![gateway, writer], database, _broker: broker };
    assert_eq!((nodes.writes(0).await, nodes.writes(1).await), (Some(0), Some(16)));
    let histories = nodes.histories(&["room0".to_owned()]).await;
    assert_eq!((histories[0].len(), &histories[0]), (1, &histories[1]));
}

/// Logs of their own would be two histories in one place.
async fn nodes_with_brokers_of_their_own_do_not_share_a_history(database: impl Program) {
    let database = Service::start_new(database).await;
    let one = Server::start(Options::new().node("node1").store(database.url()));
    let (code, line) = Server::refused(&Options::new().node("node2").store(database.url()));
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("is written by node1") && line.contains("a broker that they share"), "{line}");
    assert_eq!(one.get("/ready").await.status, 200);
}

async fn a_database_that_cant_be_used_is_told_in_one_line_without_the_password(database: impl Program) {
    let database = Service::start_new(database).await;
    let url = database.url();
    for (url, why) in [
        (format!("{}://ada:s3cret@127.0.0.1:1/x", url.split_once(':').unwrap().0), "can't be reached"),
        (url.replace(":secret@", ":s3cret@"), "does not let this user in"),
        (format!("{}/elsewhere", url.rsplit_once('/').unwrap().0), "no such database"),
        (url.replace("127.0.0.1:", "127.0.0.1:x"), "can't be used"),
    ] {
        let (code, line) = Server::refused(&Options::new().store(&url));
        assert_eq!((code, line.trim_end().lines().count()), (Some(2), 1), "{line}");
        assert!(line.starts_with("chatflow-server: store.url = ") && line.contains(why), "{line}");
        assert!(!line.contains("s3cret") && !line.contains(":secret@"), "{line}");
    }
}

/// A program that was built with this one.
fn program(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is not there: build it with `cargo build -p {name}`", path.display());
    path
}

/// Cases of a history in a database, behind a broker or without one.
macro_rules! on {
    ($name:ident, $services:tt: $($case:ident)+) => {
        mod $name {
            use super::*;

            $(on!(@ $services: $case);)+
        }
    };
    (@ ($database:ident $(, $broker:ident)?): $case:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            needs!($database $(, $broker)?);
            super::$case($database::new() $(, $broker::new())?).await;
        }
    };
}

on!(postgres, (Postgres, Redis):
    whoever_writes_may_die_or_fall_asleep_and_the_other_goes_on
    what_is_persisted_is_told_on_the_node_that_does_not_write
    where_the_history_decides_what_is_shown_it_decides_on_every_node
    a_load_on_both_is_seen_alike_and_stored_once
    what_is_too_old_goes_by_whoever_writes
    who_has_not_the_role_never_writes
);
on!(mariadb, (MariaDb, Redis):
    whoever_writes_may_die_or_fall_asleep_and_the_other_goes_on
    what_is_persisted_is_told_on_the_node_that_does_not_write
    where_the_history_decides_what_is_shown_it_decides_on_every_node
    a_load_on_both_is_seen_alike_and_stored_once
    what_is_too_old_goes_by_whoever_writes
    who_has_not_the_role_never_writes
);
on!(mysql, (MySql, Redis):
    whoever_writes_may_die_or_fall_asleep_and_the_other_goes_on
    what_is_persisted_is_told_on_the_node_that_does_not_write
    where_the_history_decides_what_is_shown_it_decides_on_every_node
    a_load_on_both_is_seen_alike_and_stored_once
    what_is_too_old_goes_by_whoever_writes
    who_has_not_the_role_never_writes
);
on!(rabbitmq, (Postgres, RabbitMq):
    whoever_writes_may_die_or_fall_asleep_and_the_other_goes_on
    what_is_persisted_is_told_on_the_node_that_does_not_write
    a_load_on_both_is_seen_alike_and_stored_once
    who_has_not_the_role_never_writes
);
on!(sqs, (Postgres, Sqs):
    whoever_writes_may_die_or_fall_asleep_and_the_other_goes_on
    what_is_persisted_is_told_on_the_node_that_does_not_write
    a_load_on_both_is_seen_alike_and_stored_once
    who_has_not_the_role_never_writes
);
on!(postgres_alone, (Postgres):
    nodes_with_brokers_of_their_own_do_not_share_a_history
    a_database_that_cant_be_used_is_told_in_one_line_without_the_password
);
on!(mariadb_alone, (MariaDb):
    nodes_with_brokers_of_their_own_do_not_share_a_history
    a_database_that_cant_be_used_is_told_in_one_line_without_the_password
);
on!(mysql_alone, (MySql):
    nodes_with_brokers_of_their_own_do_not_share_a_history
    a_database_that_cant_be_used_is_told_in_one_line_without_the_password
);
