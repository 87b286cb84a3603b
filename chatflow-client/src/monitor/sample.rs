//! What a server said of itself at one moment, made harmless and bounded: whatever else it says is not kept.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::rates::Counters;
use crate::terminal::harmless;

/// The most rooms of which the queues are kept: those in which most waits.
pub(super) const MOST_ROOMS: usize = 100;
/// The most nodes that are kept.
pub(super) const MOST_NODES: usize = 256;
/// The most parts of a server that are kept.
const MOST_PARTS: usize = 16;
/// The most characters of a name or an explanation that are kept.
const LONGEST: usize = 200;

/// One round of questions, answered. What is `Err` has not been, for this reason.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// When the figures came.
    pub(super) at: Instant,
    /// How long they were on their way: they are so much older at the most.
    pub(super) took: Duration,
    pub(super) figures: Figures,
    pub(super) readiness: Result<Readiness, String>,
    pub(super) queues: Result<Queues, String>,
    pub(super) nodes: Result<Vec<Node>, String>,
}

/// `/metrics`.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) node: String,
    pub(super) version: String,
    /// By the server's own monotonic clock.
    pub(super) uptime: Duration,
    pub(super) resident_bytes: Option<u64>,
    pub(super) recent_bytes: Option<u64>,
    pub(super) connections: Option<u64>,
    pub(super) members: Option<u64>,
    pub(super) rooms: Option<u64>,
    pub(super) counters: Counters,
}

/// `/ready`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) draining: bool,
    pub(super) parts: Vec<Part>,
}

/// A part that a server depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) healthy: bool,
    pub(super) detail: String,
}

/// `/queue/all`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Queues {
    /// Accepted by this node and not in the history yet, messages, all rooms together.
    pub(super) waiting: u64,
    /// Of these, in a batch that is being written.
    pub(super) writing: u64,
    /// How many rooms there are, kept here or not.
    pub(super) rooms: usize,
    /// Those in which most waits, the fullest first.
    pub(super) fullest: Vec<Queue>,
}

/// What waits in a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Queue {
    pub(super) room: String,
    pub(super) waiting: u64,
    pub(super) writing: u64,
    /// Entries that the broker holds in the room's log.
    pub(super) log: u64,
}

/// A node of `/api/v1/nodes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) roles: String,
    pub(super) connections: Option<u64>,
    pub(super) rate: Option<u64>,
    pub(super) draining: bool,
    pub(super) version: String,
    /// Whether it is the one that was asked.
    pub(super) asked: bool,
}

impl Figures {
    /// Reads them; `None` when they are not a ChatFlow server's.
    pub(super) fn read(body: &Value) -> Option<Self> {
        let uptime = Duration::try_from_secs_f64(body.get("uptimeSeconds")?.as_f64()?).ok()?;
        let figure = |name| body.get(name).and_then(Value::as_u64);
        Some(Self {
            node: text(body, "node"),
            version: text(body, "version"),
            uptime,
            resident_bytes: figure("residentBytes"),
            recent_bytes: figure("recentBytes"),
            connections: figure("connections"),
            members: figure("members"),
            rooms: figure("rooms"),
            counters: Counters::read(body),
        })
    }
}

impl Readiness {
    /// Reads it, whatever the status that it came with; `None` when it is none.
    pub(super) fn read(body: &Value) -> Option<Self> {
        let part = |part: &Value| Part {
            name: text(part, "name"),
            healthy: part.get("healthy").and_then(Value::as_bool).unwrap_or_default(),
            detail: text(part, "detail"),
        };
        let status = body.get("status")?.as_str()?;
        let parts = body.get("components")?.as_array()?.iter().take(MOST_PARTS).map(part).collect();
        Some(Self { ready: status == "ready", draining: status == "draining", parts })
    }

    /// What is missing, for a person; empty when nothing is.
    pub(super) fn missing(&self) -> String {
        let missing = self.parts.iter().filter(|part| !part.healthy);
        let told = missing.map(|part| if part.detail.is_empty() { part.name.clone() } else { format!("{}: {}", part.name, part.detail) });
        told.collect::<Vec<_>>().join("; ")
    }
}

impl Queues {
    /// Reads them; `None` when they are none.
    pub(super) fn read(body: &Value) -> Option<Self> {
        let list = body.get("queues")?.as_array()?;
        let mut fullest: Vec<_> =
            list.iter().map(|queue| (Reverse((count(queue, "approximateMessages"), count(queue, "brokerDepth"))), queue)).collect();
        fullest.sort_by_key(|(depth, _)| *depth);
        let kept = |queue: &Value| Queue {
            room: text(queue, "roomId"),
            waiting: count(queue, "approximateMessages"),
            writing: count(queue, "approximateNotVisible"),
            log: count(queue, "brokerDepth"),
        };
        let total = body.get("total")?;
        Some(Self {
            waiting: count(total, "approximateMessages"),
            writing: count(total, "approximateNotVisible"),
            rooms: list.len(),
            fullest: fullest.into_iter().take(MOST_ROOMS).map(|(_, queue)| kept(queue)).collect(),
        })
    }
}

impl Node {
    /// Reads the list; `None` when there is none.
    pub(super) fn read_list(body: &Value) -> Option<Vec<Self>> {
        Some(body.get("nodes")?.as_array()?.iter().take(MOST_NODES).map(Self::read).collect())
    }

    fn read(body: &Value) -> Self {
        let figure = |name| body.get(name).and_then(Value::as_u64);
        let is = |name| body.get(name).and_then(Value::as_bool).unwrap_or_default();
        let roles = body.get("roles").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        Self {
            name: text(body, "node"),
            url: text(body, "url"),
            roles: short(&roles.take(MOST_PARTS).collect::<Vec<_>>().join(",")),
            connections: figure("connections"),
            rate: figure("rate"),
            draining: is("draining"),
            version: text(body, "version"),
            asked: is("self"),
        }
    }

    /// `up` or `draining`.
    pub(super) fn state(&self) -> &'static str {
        if self.draining { "draining" } else { "up" }
    }
}

/// A text of a server on one line, harmless, and not endless.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => harmless(&text[..end]) + "…",
        None => harmless(text),
    }
}

fn text(of: &Value, name: &str) -> String {
    short(of.get(name).and_then(Value::as_str).unwrap_or_default())
}

fn count(of: &Value, name: &str) -> u64 {
    of.get(name).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fullest_rooms_are_kept_and_all_are_counted() {
        let queue = |n: u64| json!({"roomId": n.to_string(), "approximateMessages": n % 150, "approximateNotVisible": 1, "brokerDepth": n});
        let total = json!({"approximateMessages": 9_000, "approximateNotVisible": 7});
        let queues = Queues::read(&json!({"queues": (0..1_000).map(queue).collect::<Vec<_>>(), "total": total})).unwrap();
        assert_eq!((queues.waiting, queues.writing, queues.rooms, queues.fullest.len()), (9_000, 7, 1_000, MOST_ROOMS));
        let first = &queues.fullest[0];
        assert_eq!((first.room.as_str(), first.waiting, first.log), ("899", 149, 899), "of those equally full, the deepest log");
        assert!(queues.fullest.is_sorted_by_key(|queue| Reverse(queue.waiting)));
    }

    #[test]
    fn what_is_missing_is_told_with_its_reason() {
        let part = |name: &str, healthy: bool, detail: &str| json!({"name": name, "healthy": healthy, "detail": detail});
        let parts = [part("broker", true, "in memory"), part("store", false, "locked\x1b[2J"), part("x", false, "")];
        let read = |status: &str| Readiness::read(&json!({"status": status, "components": parts})).unwrap();
        assert_eq!(read("unavailable").missing(), r"store: locked\u{1b}[2J; x");
        assert!(read("ready").ready && read("draining").draining && !read("unavailable").ready);
    }

    #[test]
    fn nothing_that_a_server_says_is_obeyed_or_endless() {
        let body =
            json!({"uptimeSeconds": 1.5, "node": "n\x1b]0;x\x07\u{202e}", "version": "9".repeat(100_000), "rooms": -1, "members": "7"});
        let figures = Figures::read(&body).unwrap();
        assert_eq!(figures.node, r"n\u{1b}]0;x\u{7}\u{202e}");
        assert_eq!(figures.version.chars().count(), LONGEST + 1);
        assert_eq!((figures.rooms, figures.members, figures.uptime), (None, None, Duration::from_millis(1_500)));
        let nodes = Node::read_list(&json!({"nodes": vec![json!({"node": "a\nb", "roles": ["x\x1b", 7]}); 1_000]})).unwrap();
        assert_eq!((nodes.len(), nodes[0].name.as_str(), nodes[0].roles.as_str()), (MOST_NODES, "a⏎b", r"x\u{1b}"));
    }

    #[test]
    fn what_is_no_answer_of_a_server_is_none() {
        for body in [json!(null), json!([]), json!("x"), json!({}), json!({"uptimeSeconds": -1}), json!({"uptimeSeconds": 1e300})] {
            assert!(Figures::read(&body).is_none(), "{body}");
            assert!(Readiness::read(&body).is_none() && Queues::read(&body).is_none() && Node::read_list(&body).is_none());
        }
    }
}
