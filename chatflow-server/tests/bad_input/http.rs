//! Requests that break HTTP, or the rules of the API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::health::{unharmed, until_connections};
use crate::process::{Server, request};
use crate::wire::Wire;

const KEY: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn a_handshake_begins_with_a_get_of_http_1_1() {
    let server = Server::start(&[]);
    let shake =
        |line: &str, version: &str| request(server.address, &format!("{line}\r\nHost: x\r\n{KEY}Sec-WebSocket-Version: {version}\r\n\r\n"));
    assert_eq!(shake("GET /chat/7 HTTP/1.1", "13").status, 101);
    assert_eq!(shake("GET /chat/7 HTTP/1.0", "13").problem(400), "invalid");
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let refused = shake(&format!("{method} /chat/7 HTTP/1.1"), "13\r\nConnection: close");
        assert_eq!(refused.problem(405), "method_not_allowed", "{method}");
        assert!(refused.header("allow").contains("GET"));
    }
    assert_eq!(shake("HEAD /chat/7 HTTP/1.1", "13\r\nConnection: close").status, 400);
    for version in ["12", "14", "x", "13, 8", "0013"] {
        let refused = shake("GET /chat/7 HTTP/1.1", &format!("{version}\r\nConnection: close"));
        assert_eq!((refused.problem(426).as_str(), refused.header("sec-websocket-version")), ("invalid", "13"), "{version}");
    }
    let no_key = format!("GET /chat/7 HTTP/1.1\r\nHost: x\r\n{}Sec-WebSocket-Version: 13\r\n", &KEY[..KEY.find("Sec").unwrap()]);
    assert_eq!(request(server.address, &format!("{no_key}Connection: close\r\n\r\n")).problem(400), "invalid");
    until_connections(&server, 0);
    unharmed(&server);
}

#[test]
fn what_is_not_http_is_refused() {
    let server = Server::start(&[]);
    for nonsense in [
        "GET /chat/7\r\n\r\n",
        "GET /chat/a\0b HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /chat/7 HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
        "GET /chat/7 HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ] {
        assert_eq!(request(server.address, nonsense).status, 400, "{nonsense:?}");
    }
    unharmed(&server);
}

#[test]
fn huge_heads_are_refused_with_431() {
    let server = Server::start(&[]);
    let many: String = (0..200).map(|n| format!("X-{n}: x\r\n")).collect();
    for head in [format!("X: {}\r\n", "x".repeat(20_000)), format!("{}: x\r\n", "x".repeat(20_000)), many] {
        assert_eq!(request(server.address, &format!("GET /chat/7 HTTP/1.1\r\nHost: x\r\n{KEY}{head}\r\n")).status, 431);
    }
    let long = request(server.address, &format!("GET /chat/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000)));
    assert!([414, 431].contains(&long.status), "{long:?}");
    unharmed(&server);
}

#[test]
fn a_limit_out_of_range_is_invalid() {
    let server = Server::start(&[]);
    for limit in ["-1", "0", "1001", "1e9", "1000000000", "18446744073709551616", "x", "", "1.0", "%00", "1%27--", "+1%20", "NaN", "0x10"] {
        for path in ["/api/v1/rooms/7/messages", "/api/v1/rooms"] {
            let refused = server.get(&format!("{path}?limit={limit}"));
            assert_eq!(refused.problem(400), "invalid", "{path} {limit}");
            assert_eq!(refused.json()["errors"][0], "limit: must be a whole number from 1 to 1000");
        }
    }
    for limit in ["1", "1000"] {
        assert_eq!(server.get(&format!("/api/v1/rooms/7/messages?limit={limit}")).status, 200);
    }
    for time in ["now", "0", "2026-02-30T00:00:00Z", "2026-11-20T11:02:10", "'--", "99999-01-01T00:00:00Z"] {
        assert_eq!(server.get(&format!("/api/v1/rooms/7/messages?start={time}")).problem(400), "invalid", "{time}");
    }
    unharmed(&server);
}

const PUBLISH: &str = "POST /api/v1/rooms/7/messages HTTP/1.1\r\nHost: 127.0.0.1\r\n";

#[test]
fn a_body_that_is_too_big_is_refused_with_413() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let admin = server.admin.unwrap();
    let big = " ".repeat((64 << 10) + 1);
    let announced = request(admin, &format!("{PUBLISH}Content-Length: {}\r\nConnection: close\r\n\r\n{big}", big.len()));
    assert_eq!(announced.problem(413), "too_big");
    let only_announced = request(admin, &format!("{PUBLISH}Content-Length: 1000000000000\r\n\r\n"));
    assert_eq!(only_announced.problem(413), "too_big", "nothing is waited for");
    let chunked =
        request(admin, &format!("{PUBLISH}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{big}\r\n0\r\n\r\n", big.len()));
    assert_eq!(chunked.problem(413), "too_big");
    unharmed(&server);
}

#[test]
fn a_body_that_is_not_utf_8_is_bad_json() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let mut stream = TcpStream::connect(server.admin.unwrap()).unwrap();
    stream.write_all(format!("{PUBLISH}Content-Length: 4\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(b"{\xff\xfe}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"code\":\"bad_json\""), "{answer}");
}

/// Sends a byte every 50 ms until the server hangs up: what it said, and how long that took.
fn drip(mut stream: TcpStream, byte: &[u8]) -> (String, Duration) {
    let begun = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    loop {
        assert!(begun.elapsed() < Duration::from_secs(15), "it is never cut off");
        let sent = stream.write_all(byte);
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && sent.is_ok() => {}
            Err(_) => break,
        }
    }
    (String::from_utf8(answer).unwrap(), begun.elapsed())
}

#[test]
fn a_head_that_drips_is_cut_off_after_five_seconds_and_so_is_a_body() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let mut head = TcpStream::connect(server.address).unwrap();
    head.write_all(b"GET /chat/7 HTTP/1.1\r\nHost: x\r\nX: ").unwrap();
    let head = std::thread::spawn(move || drip(head, b"x"));
    let mut body = TcpStream::connect(server.admin.unwrap()).unwrap();
    body.write_all(format!("{PUBLISH}Content-Length: 60000\r\n\r\n").as_bytes()).unwrap();
    let body = std::thread::spawn(move || drip(body, b" "));
    let about_five_seconds = Duration::from_millis(4_500)..Duration::from_secs(8);
    let (answer, took) = head.join().unwrap();
    assert!(answer.is_empty() && about_five_seconds.contains(&took), "{took:?} {answer}");
    let (answer, took) = body.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && about_five_seconds.contains(&took), "{took:?} {answer}");
    unharmed(&server);
}

#[test]
fn a_bad_token_is_closed_with_3500_and_not_logged() {
    let server = Server::start(&["--set", "log.level=trace"]);
    for headers in ["Authorization: Bearer s3cr3t\r\n", "Sec-WebSocket-Protocol: chatflow.v1, bearer.s3cr3t\r\n"] {
        assert_eq!(Wire::open_with(&server, "7", headers).end().0, 3500);
    }
    assert!(!server.log().contains("s3cr3t"));
    unharmed(&server);
}
