//! Members of a room on two servers that share a broker: each knows the other's, and those of one that is killed are gone.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chatflow_testkit::{Cluster, HaProxy, Habit, Member, Options, Program, RabbitMq, Redis, Server, Service, needs};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a node counts as alive after it was last heard of.
const LEASE: Duration = Duration::from_secs(10);

/// The nodes of a room's members, as a server knows them, with how many it counts.
async fn members(server: &Server) -> (BTreeSet<String>, u64) {
    let members = server.get("/api/v1/rooms/7/members").await.json();
    let nodes = members["members"].as_array().unwrap().iter().map(|member| member["node"].as_str().unwrap().to_owned());
    (nodes.collect(), members["count"].as_u64().unwrap())
}

async fn until_members(server: &Server, expected: &[&str]) {
    let expected = (expected.iter().map(|node| (*node).to_owned()).collect(), expected.len() as u64);
    let begun = Instant::now();
    loop {
        let known = members(server).await;
        if known == expected {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "it knows {known:?}, not {expected:?}, and logged {}", server.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn members_are_known_everywhere(program: impl Program) {
    let broker = Service::start_new(program).await;
    let mut cluster = Cluster::start(2, |_| Options::new().store("none").broker(broker.url())).await;
    let addresses = [cluster.servers[0].address, cluster.servers[1].address];
    let _one = Member::spawn(addresses[0], "7", "one", Habit::Stays);
    let _two = Member::spawn(addresses[1], "7", "two", Habit::Stays);
    for server in &cluster.servers {
        until_members(server, &["node1", "node2"]).await;
        let rooms = server.get("/api/v1/rooms").await.json()["rooms"].clone();
        assert_eq!((&rooms[0]["roomId"], &rooms[0]["members"]), (&"7".into(), &2.into()));
        assert_eq!(server.metric("chatflow_members").await, 1, "what is measured is the node's own");
    }
    cluster.servers[0].kill9();
    let begun = Instant::now();
    until_members(&cluster.servers[1], &["node2"]).await;
    let took = begun.elapsed();
    // What it said last may be as old as a heartbeat.
    assert!((LEASE - Duration::from_secs(4)..LEASE + Duration::from_secs(8)).contains(&took), "{took:?}");
    cluster.servers[0].restart();
    for server in &cluster.servers {
        until_members(server, &["node1", "node2"]).await;
    }
    // One that ends says so.
    let begun = Instant::now();
    cluster.servers[0].terminate();
    until_members(&cluster.servers[1], &["node2"]).await;
    assert!(begun.elapsed() < LEASE / 2, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_on_redis_are_known_everywhere() {
    needs!(HaProxy, Redis);
    members_are_known_everywhere(Redis::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_on_rabbitmq_are_known_everywhere() {
    needs!(HaProxy, RabbitMq);
    members_are_known_everywhere(RabbitMq::new()).await;
}
