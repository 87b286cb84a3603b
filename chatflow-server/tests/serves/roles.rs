//! Nodes that do a part of it only.

use serde_json::json;

use crate::process::{Server, request, run};

const SHAKE: &str =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn upgrade(server: &Server) -> crate::process::Response {
    request(server.address, &format!("GET /chat/7 HTTP/1.1\r\nHost: x\r\n{SHAKE}\r\n"))
}

#[test]
fn a_node_that_is_no_gateway_sends_sockets_elsewhere() {
    let server = Server::start(&["--set", "node.roles=history,api"]);
    let refused = upgrade(&server);
    assert_eq!((refused.problem(503).as_str(), refused.header("retry-after")), ("unavailable", "1"));
    assert_eq!(server.get("/api/v1/rooms").status, 200);
    assert_eq!(server.get("/api/v1/assign").problem(503), "unavailable", "it does not send clients to itself");
    assert_eq!(server.get("/ready").status, 200);
}

#[test]
fn a_node_without_the_api_answers_only_who_is_there() {
    let server = Server::start(&["--set", "node.roles=gateway,history"]);
    for path in ["/api/v1/rooms", "/api/v1/rooms/7/messages", "/api/v1/rooms/7/members", "/api/v1/nonsense"] {
        assert_eq!(server.get(path).problem(503), "unavailable", "{path}");
    }
    assert_eq!(server.get("/api/v1/nodes").json()["nodes"][0]["roles"], json!(["gateway", "history"]));
    assert_eq!(server.get("/api/v1/assign").status, 200);
    assert_eq!((server.get("/health").status, upgrade(&server).status), (200, 101));
}

#[test]
fn a_node_that_writes_no_history_must_not_keep_one_of_its_own() {
    for store in ["sqlite:chatflow.db", "memory:"] {
        let output = run(&["--listen", "127.0.0.1:0", "--store", store, "--set", "node.roles=gateway,api"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("node.roles without history needs a store and a broker that several nodes share, or --store none"), "{said}");
    }
    let server = Server::start(&["--store", "none", "--set", "node.roles=gateway"]);
    assert_eq!(upgrade(&server).status, 101);
}
