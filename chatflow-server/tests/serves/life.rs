//! Start and end.

use serde_json::json;

use crate::process::{Server, Socket, eventually, request};

#[test]
fn a_signal_drains_and_ends_with_0() {
    for name in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let mut member = server.connect("/chat/7", true);
        member.next(|frame| frame["event"] == "welcome");
        server.signal(name);
        assert_eq!(member.close_code(), 1012);
        drop(member);
        assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    }
}

/// A server that is draining, and a member that keeps it from being done because it never answers the close.
fn draining() -> (Server, Socket) {
    let server = Server::start(&[]);
    let mut member = server.connect("/chat/7", true);
    member.next(|frame| frame["event"] == "welcome");
    server.signal("TERM");
    eventually("it drains", || (server.get("/ready").status == 503).then_some(()));
    (server, member)
}

#[test]
fn while_it_drains_it_says_so_and_takes_nobody_new() {
    let (server, _member) = draining();
    let ready = server.get("/ready").json();
    assert_eq!((&ready["status"], &ready["draining"]), (&json!("draining"), &json!(true)));
    assert_eq!(server.get("/health").status, 200);
    let host = server.address;
    let head = format!(
        "GET /chat/7 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n"
    );
    let refused = request(host, &(head + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
    assert_eq!((refused.problem(503).as_str(), refused.header("retry-after")), ("draining", "1"));
}

#[test]
fn a_second_signal_ends_at_once_and_says_what_was_not_flushed() {
    let (mut server, _member) = draining();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(1));
    let said = "chatflow-server: ended by a second SIGTERM: 0 accepted messages were not yet in the history, 1 connections were cut";
    assert!(server.log().contains(said), "{}", server.log());
}

#[test]
fn the_one_line_on_stdout_is_all_that_a_script_needs() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    assert!(server.admin.is_some_and(|admin| admin != server.address));
    assert!(server.log().lines().all(|line| line.starts_with('{')), "not on a terminal, each line of the log is JSON");
}
