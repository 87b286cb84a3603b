//! Whether a server took harm.

use crate::process::{Server, eventually};
use crate::wire::{Wire, said};

/// Asserts that two strangers can chat, and read it back; that the server is healthy, and that nothing panicked.
#[track_caller]
pub(crate) fn unharmed(server: &Server) {
    let (mut ada, mut grace) = (Wire::open(server, "unharmed"), Wire::open_v1(server, "unharmed"));
    grace.next_json(|frame| frame["event"] == "welcome");
    ada.json(&said("still there?"));
    let answer = ada.answer();
    assert_eq!(answer["status"], "SUCCESS", "{answer}");
    let heard = grace.next_json(|frame| frame["message"] == "still there?");
    assert_eq!(heard["messageId"], answer["messageId"]);
    let page = server.get("/api/v1/rooms/unharmed/messages?limit=1").json();
    assert_eq!(page["messages"][0], heard);
    assert_eq!(server.get("/health").json()["status"], "healthy");
    assert_eq!(server.get("/ready").status, 200);
    let log = server.log();
    assert!(!log.contains("panic"), "{log}");
}

/// One figure of `/metrics`.
pub(crate) fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get("/metrics").body;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// Resident memory of the server, in bytes.
pub(crate) fn resident(server: &Server) -> u64 {
    metric(server, "process_resident_memory_bytes")
}

/// Waits until the server holds exactly so many WebSocket connections.
#[track_caller]
pub(crate) fn until_connections(server: &Server, count: u64) {
    eventually(&format!("{count} connections"), || (metric(server, "chatflow_connections") == count).then_some(()));
}
