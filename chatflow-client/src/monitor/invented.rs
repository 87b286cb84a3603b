//! Answers of servers that there aren't, for tests.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::sample::{Figures, Node, Queues, Readiness, Sample};
use super::server::Server;

/// A server nobody has asked yet.
pub(super) fn server(now: Instant) -> Server {
    Server::new("ws://127.0.0.1:8080".to_owned(), now)
}

/// What a server says, in the making.
pub(super) struct Invented {
    at: Instant,
    figures: Map<String, Value>,
    parts: Vec<Value>,
    ready: bool,
    rooms: Vec<Value>,
    nodes: Vec<Value>,
}

impl Invented {
    /// Of a server that is up for so many seconds.
    pub(super) fn at(at: Instant, uptime: u64) -> Self {
        let figures = json!({
            "node": "node-1", "version": "0.1.0", "uptimeSeconds": uptime, "residentBytes": 183_000_000, "recentBytes": 1_200_000,
            "connections": 64, "members": 1_280, "rooms": 20,
        });
        let Value::Object(figures) = figures else { unreachable!("it is written as one") };
        let broker = json!({"name": "broker", "healthy": true, "detail": "in memory, not durable"});
        Self { at, figures, parts: vec![broker], ready: true, rooms: Vec::new(), nodes: Vec::new() }
    }

    /// With a figure of `/metrics`.
    pub(super) fn figure(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(name.to_owned(), value.into());
        self
    }

    /// With messages accepted.
    pub(super) fn accepted(self, n: u64) -> Self {
        self.figure("messagesAccepted", n)
    }

    /// With rows in so many commits, that took so long.
    pub(super) fn persisted(self, rows: u64, commits: u64, micros: u64) -> Self {
        self.figure("messagesPersisted", rows).figure("storeCommits", commits).figure("storeCommitMicroseconds", micros)
    }

    /// With a room in which so much waits.
    pub(super) fn waiting(self, n: u64) -> Self {
        let room = format!("room-{}", self.rooms.len());
        self.room(&room, n)
    }

    /// With a room of that name.
    pub(super) fn room(mut self, name: &str, n: u64) -> Self {
        self.rooms.push(json!({"roomId": name, "approximateMessages": n, "approximateNotVisible": n / 2, "brokerDepth": n + 256}));
        self
    }

    /// With a part that does not work.
    pub(super) fn broken(mut self, name: &str, detail: &str) -> Self {
        self.parts.push(json!({"name": name, "healthy": false, "detail": detail}));
        self.ready = false;
        self
    }

    /// With a node in the directory.
    pub(super) fn node(mut self, name: &str) -> Self {
        let first = self.nodes.is_empty();
        self.nodes.push(json!({
            "node": name, "url": format!("http://{name}:8080"), "roles": ["gateway", "history", "api"], "connections": 64, "rate": 310,
            "draining": !first, "version": "0.1.0", "self": first,
        }));
        self
    }

    /// What it says.
    pub(super) fn sample(self) -> Sample {
        let status = if self.ready { "ready" } else { "unavailable" };
        let waiting: u64 = self.rooms.iter().filter_map(|room| room["approximateMessages"].as_u64()).sum();
        let total = json!({"approximateMessages": waiting, "approximateNotVisible": waiting / 2});
        Sample {
            at: self.at,
            took: Duration::ZERO,
            figures: Figures::read(&self.figures.into()).unwrap(),
            readiness: Ok(Readiness::read(&json!({"status": status, "components": self.parts})).unwrap()),
            queues: Ok(Queues::read(&json!({"queues": self.rooms, "total": total})).unwrap()),
            nodes: Ok(Node::read_list(&json!({"nodes": self.nodes})).unwrap()),
        }
    }
}
