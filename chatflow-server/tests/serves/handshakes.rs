//! From HTTP to WebSocket: RFC 6455 section 4, origins, limits, and what a connection may ask for.

use crate::process::{Response, Server, request};

const GOOD: [(&str, &str); 5] = [
    ("Host", "HOST"),
    ("Upgrade", "websocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// A handshake at `path` with one header changed (or left out, when it is empty) and more added.
fn shake(server: &Server, path: &str, changed: (&str, &str), more: &str) -> Response {
    let host = server.address.to_string();
    let headers = GOOD.iter().map(|(name, value)| (*name, if *name == changed.0 { changed.1 } else { *value }));
    let headers =
        headers.filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("{name}: {}\r\n", value.replace("HOST", &host)));
    request(server.address, &format!("GET {path} HTTP/1.1\r\n{}{more}\r\n", headers.collect::<String>()))
}

const SAME: (&str, &str) = ("", "");

#[test]
fn a_good_handshake_is_answered_as_the_standard_says() {
    let server = Server::start(&[]);
    for path in ["/chat", "/chat/7", "/chat/7?history=5&ack=persisted&deliver=others&after=1:2"] {
        let answer = shake(&server, path, SAME, "");
        assert_eq!(answer.status, 101, "{answer:?}");
        // The key and its answer are the example of RFC 6455, section 1.3.
        assert_eq!(answer.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((answer.header("upgrade"), answer.header("sec-websocket-protocol")), ("websocket", ""));
    }
}

#[test]
fn only_the_dialect_is_selected_never_a_token() {
    let server = Server::start(&[]);
    for (offered, selected) in
        [("chatflow.v1", "chatflow.v1"), ("soap, chatflow.v1, bearer.abc", "chatflow.v1"), ("bearer.abc", ""), ("soap", "")]
    {
        let answer = shake(&server, "/chat/7", SAME, &format!("Sec-WebSocket-Protocol: {offered}\r\n"));
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, selected));
    }
    assert!(!server.log().contains("abc"), "no token is logged");
}

#[test]
fn what_is_no_handshake_is_refused_before_the_upgrade() {
    let server = Server::start(&[]);
    for (changed, status) in [
        (("Upgrade", ""), 426),
        (("Upgrade", "h2c"), 426),
        (("Connection", "keep-alive"), 426),
        (("Sec-WebSocket-Version", ""), 426),
        (("Sec-WebSocket-Version", "8"), 426),
        (("Sec-WebSocket-Key", ""), 400),
        (("Sec-WebSocket-Key", "short"), 400),
    ] {
        let answer = shake(&server, "/chat/7", changed, "Connection: close\r\n");
        assert_eq!(answer.problem(status), "invalid", "{changed:?}");
        if changed.0 == "Sec-WebSocket-Version" {
            assert_eq!(answer.header("sec-websocket-version"), "13");
        }
    }
    assert_eq!(shake(&server, "/chat/7", SAME, "Content-Length: 3\r\nConnection: close\r\n\r\nabc").status, 400);
}

#[test]
fn a_query_that_breaks_rules_is_refused_before_the_upgrade() {
    let server = Server::start(&[]);
    for query in ["history=-1", "history=many", "ack=soon", "deliver=some", "ack=accepted&ack=persisted"] {
        let answer = shake(&server, &format!("/chat/7?{query}"), SAME, "Connection: close\r\n");
        assert_eq!(answer.problem(400), "invalid", "{query}");
    }
    let all = shake(&server, "/chat/7?history=-1&ack=x&deliver=y", SAME, "Connection: close\r\n");
    assert_eq!(all.json()["errors"].as_array().unwrap().len(), 3);
}

#[test]
fn only_pages_of_this_origin_and_of_the_list_connect() {
    let server = Server::start(&["--set", "server.origins=https://friend.example"]);
    let own = format!("http://{}", server.address);
    for (origin, status) in [(own.as_str(), 101), ("https://friend.example", 101), ("https://evil.example", 403), ("null", 403)] {
        assert_eq!(shake(&server, "/chat/7", SAME, &format!("Origin: {origin}\r\nConnection: close\r\n")).status, status, "{origin}");
    }
}

#[test]
fn beyond_the_limit_a_connection_is_told_to_come_back_later() {
    let server = Server::start(&["--set", "limits.connections=1"]);
    let first = server.connect("/chat/7", false);
    let refused = shake(&server, "/chat/7", SAME, "Connection: close\r\n");
    assert_eq!(refused.problem(503), "overloaded");
    assert_eq!((refused.header("retry-after"), refused.json()["retryAfterMs"].as_u64()), ("5", Some(5000)));
    assert_eq!(server.get("/health").status, 200, "liveness doesn't depend on there being room");
    drop(first);
    crate::process::eventually("the place is free again", || {
        (shake(&server, "/chat/7", SAME, "Connection: close\r\n").status == 101).then_some(())
    });
}

#[test]
fn a_bad_room_is_told_by_a_close_code() {
    let server = Server::start(&["--set", "rooms.allow=1..20", "--set", "rooms.strip_prefix=room"]);
    for path in ["/chat/21", "/chat/", "/chat/a%20b", "/chat/%23", "/chat/a/b", "/chat/..%2f", "/chat/room"] {
        assert_eq!(server.connect(path, false).close_code(), 1003, "{path}");
    }
    let mut alias = server.connect("/chat/room7", true);
    assert_eq!(alias.next(|frame| frame["event"] == "welcome")["roomId"], "7");
}

#[test]
fn a_token_is_refused_by_a_server_without_accounts() {
    let server = Server::start(&[]);
    let mut socket = server.connect_with("/chat/7", &[("Authorization", "Bearer abc")]);
    assert_eq!(socket.close_code(), 3500);
}

#[test]
fn a_slow_handshake_is_cut_off() {
    use std::io::{Read, Write};
    let server = Server::start(&["--set", "limits.handshake=200ms"]);
    let mut slow = std::net::TcpStream::connect(server.address).unwrap();
    slow.write_all(b"GET /chat/7 HTTP/1.1\r\nHost: x\r\n").unwrap();
    let mut silent = std::net::TcpStream::connect(server.address).unwrap();
    let mut idle = std::net::TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    for stream in [&mut slow, &mut silent, &mut idle] {
        stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
}

#[test]
fn what_a_client_sends_before_it_is_answered_is_not_lost() {
    use std::io::{Read, Write};
    let server = Server::start(&[]);
    let mut hasty = std::net::TcpStream::connect(server.address).unwrap();
    let headers: String = GOOD.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut bytes = format!("GET /chat/7 HTTP/1.1\r\n{headers}\r\n").into_bytes();
    // A masked close frame, code 1000, with the mask 0.
    bytes.extend_from_slice(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]);
    hasty.write_all(&bytes).unwrap();
    hasty.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut answer = Vec::new();
    hasty.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101") && answer.ends_with(&[0x88, 2, 0x03, 0xe8]), "{:?}", String::from_utf8_lossy(&answer));
}
