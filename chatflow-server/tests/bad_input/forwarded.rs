//! `X-Forwarded-For`: whose it is believed, and what of it.

use crate::health::unharmed;
use crate::process::{Response, Server, request};
use crate::wire::{Wire, said};

const SHAKE: &str =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn shake(server: &Server, forwarded: &str) -> Response {
    request(server.address, &format!("GET /chat/7 HTTP/1.1\r\nHost: x\r\n{SHAKE}X-Forwarded-For: {forwarded}\r\n\r\n"))
}

/// A WebSocket that stays, for a client at this address.
fn member(server: &Server, forwarded: &str) -> Wire {
    Wire::open_with(server, "7", &format!("X-Forwarded-For: {forwarded}\r\n"))
}

const ONE_EACH: [&str; 2] = ["--set", "limits.connections_per_address=1"];
const BEHIND_A_PROXY: [&str; 4] = ["--set", "limits.connections_per_address=1", "--set", "limits.trusted_proxies=127.0.0.1,10.0.0.0/8"];

#[test]
fn a_strangers_header_is_nobodys_address() {
    let server = Server::start(&ONE_EACH);
    // Loopback is exempt, whatever it says that it is.
    let members: Vec<_> = (0..4).map(|_| member(&server, "192.0.2.1")).collect();
    assert_eq!(shake(&server, "192.0.2.1").status, 101);
    drop(members);
    unharmed(&server);
}

#[test]
fn a_client_behind_a_proxy_can_not_pass_for_another() {
    let server = Server::start(&BEHIND_A_PROXY);
    let _first = member(&server, "192.0.2.1");
    for forwarded in ["192.0.2.1", "203.0.113.5, 192.0.2.1", "127.0.0.1, 192.0.2.1", "unknown, 192.0.2.1, 10.9.9.9", "'--, 192.0.2.1:80"] {
        assert_eq!(shake(&server, forwarded).problem(503), "overloaded", "{forwarded}");
    }
    let two = format!("203.0.113.5\r\nX-Forwarded-For: {}", "192.0.2.1");
    assert_eq!(shake(&server, &two).problem(503), "overloaded", "the last header's last");
    assert_eq!(shake(&server, "192.0.2.1, 203.0.113.5").status, 101);
}

#[test]
fn nonsense_from_a_proxy_counts_for_the_proxy() {
    let server = Server::start(&BEHIND_A_PROXY);
    let long = "1.1.1.1,".repeat(1_000);
    for forwarded in ["", ",", "unknown", "192.0.2", "192.0.2.1.1", "[::1", "1e9", "\"192.0.2.1\"", "192.0.2.1\tx", &long] {
        assert_eq!(shake(&server, forwarded).status, 101, "{forwarded:?}");
    }
    unharmed(&server);
}

#[test]
fn the_forwarded_address_is_kept_with_the_message() {
    for (options, kept) in [(&BEHIND_A_PROXY[..], true), (&ONE_EACH[..], false)] {
        let server = Server::start(options);
        let mut member = member(&server, "203.0.113.5, 198.51.100.77");
        member.json(&said("where am I"));
        assert_eq!(member.answer()["status"], "SUCCESS");
        let folder = server.into_folder();
        let files = ["chatflow.db", "chatflow.db-wal"].map(|name| std::fs::read(folder.path().join(name)).unwrap_or_default());
        let has = |text: &[u8]| files.iter().any(|file| file.windows(text.len()).any(|part| part == text));
        assert!(has(b"where am I"));
        assert_eq!((has(b"198.51.100.77"), has(b"203.0.113.5")), (kept, false));
    }
}
