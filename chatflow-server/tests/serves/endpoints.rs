//! The HTTP API.

use serde_json::json;

use crate::process::{Response, Server, request};

#[test]
fn health_says_that_the_process_lives() {
    let server = Server::start(&["--node-id", "n1"]);
    let health = server.get("/health");
    assert_eq!((health.status, health.header("content-type")), (200, "application/json"));
    assert_eq!(health.header("cache-control"), "no-store");
    let json = health.json();
    assert_eq!((&json["status"], &json["node"], &json["durable"]), (&json!("healthy"), &json!("n1"), &json!(true)));
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["uptimeSeconds"].is_u64());
}

#[test]
fn without_a_store_health_says_that_nothing_is_durable() {
    let server = Server::start(&["--store", "none"]);
    assert_eq!(server.get("/health").json()["durable"], false);
    assert_eq!(server.get("/api/v1/rooms/7/messages").problem(404), "not_found");
}

#[test]
fn a_history_in_memory_is_not_called_durable() {
    let server = Server::start(&["--store", "memory:"]);
    assert_eq!(server.get("/health").json()["durable"], false);
    assert_eq!(server.get("/ready").json()["durable"], false);
    let welcome = server.connect("/chat/7", true).next(|frame| frame["event"] == "welcome");
    assert_eq!(welcome["durable"], false);
}

#[test]
fn ready_names_the_parts() {
    let ready = Server::start(&[]).get("/ready");
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("ready")));
    assert!(ready.json()["components"].as_array().unwrap().iter().all(|part| part["healthy"] == true && part["name"].is_string()));
}

#[test]
fn metrics_come_as_text_and_as_json() {
    let server = Server::start(&[]);
    let text = server.get("/metrics");
    assert!(text.header("content-type").starts_with("text/plain; version=0.0.4"));
    for line in [
        "# TYPE chatflow_connections gauge\n",
        "# TYPE chatflow_messages_accepted_total counter\n",
        "\nchatflow_messages_accepted_total 0\n",
    ] {
        assert!(text.body.contains(line), "{line} in {}", text.body);
    }
    let host = server.address;
    let json =
        request(host, &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n")).json();
    assert_eq!(json["messagesAccepted"], 0);
    assert!(json["residentBytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
}

#[test]
fn the_page_is_served_with_a_strict_policy_and_only_once() {
    let server = Server::start(&[]);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/connection.js", "text/javascript; charset=utf-8"),
        ("/conversation.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let page = server.get(path);
        assert_eq!((page.status, page.header("content-type")), (200, kind));
        let policy = page.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'") && !policy.contains("unsafe")
        );
        assert_eq!((page.header("x-content-type-options"), page.header("referrer-policy")), ("nosniff", "no-referrer"));
        let (host, tag) = (server.address, page.header("etag"));
        let again =
            request(host, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nIf-None-Match: W/\"x\", {tag}\r\nConnection: close\r\n\r\n"));
        assert_eq!((again.status, &*again.body), (304, ""));
    }
    assert!(!server.get("/").body.contains("<script>"), "no inline code");
}

#[test]
fn what_there_is_not_is_a_problem_with_a_code() {
    let server = Server::start(&["--set", "rooms.allow=1..20"]);
    let host = server.address;
    assert_eq!(server.get("/nothing").problem(404), "not_found");
    let wrong = request(host, &format!("DELETE /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    assert_eq!((wrong.problem(405).as_str(), wrong.header("allow").contains("GET")), ("method_not_allowed", true));
    for room in ["21", "a%20b", "..", "%ff", &"x".repeat(65)] {
        for path in ["/queue/{}", "/api/v1/rooms/{}/messages", "/api/v1/rooms/{}/members"] {
            let code = server.get(&path.replace("{}", room)).problem(400);
            assert!(code == "bad_room" || room == "%ff", "{room}: {code}");
        }
    }
    assert_eq!(server.get("/queue/20").status, 200);
    let huge = request(host, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {}\r\n\r\n", "x".repeat(20_000)));
    assert_eq!(huge.status, 431);
}

#[test]
fn a_query_that_breaks_rules_is_told_everything() {
    let server = Server::start(&[]);
    let bad = server.get("/api/v1/rooms/1/messages?limit=1e9&after=x&start=now");
    assert_eq!(bad.problem(400), "invalid");
    assert_eq!(bad.json()["errors"].as_array().unwrap().len(), 3);
    for query in ["limit=0", "limit=-1", "limit=1001", "limit=1&limit=2", "before=1:x"] {
        assert_eq!(server.get(&format!("/api/v1/rooms/1/messages?{query}")).problem(400), "invalid", "{query}");
    }
    assert_eq!(server.get("/api/v1/rooms?limit=0").problem(400), "invalid");
    assert_eq!(server.get("/api/v1/rooms?after=a%20b").problem(400), "invalid");
}

fn post(address: std::net::SocketAddr, headers: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!(
        "POST /api/v1/rooms/7/messages HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    );
    request(address, &(head + body))
}

fn message(text: &str) -> String {
    json!({"userId": 7, "username": "backend", "message": text, "timestamp": "2026-11-20T11:02:10Z", "messageType": "TEXT"}).to_string()
}

const TOKEN: &str = "correct-horse-battery";

#[test]
fn a_back_end_publishes_with_the_token_and_reads_it_back_as_it_was_broadcast() {
    let set = format!("admin.token={TOKEN}");
    let server = Server::start(&["--set", &set]);
    let mut member = server.connect("/chat/7", false);
    let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
    let answer = post(server.address, &authorized, &message("one"));
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("SUCCESS")), "{}", answer.body);
    let broadcast = member.next(|frame| frame.get("status").is_none());
    assert_eq!(broadcast["messageId"], answer.json()["messageId"]);
    let page = server.get("/api/v1/rooms/7/messages").json();
    assert_eq!(page["messages"], json!([broadcast]));
    assert_eq!((&page["next"], &page["previous"]), (&json!(null), &json!(null)));
}

#[test]
fn pages_lead_to_each_other_without_a_gap_or_a_repeat() {
    let set = format!("admin.token={TOKEN}");
    let server = Server::start(&["--set", &set]);
    for n in 0..5 {
        assert_eq!(post(server.address, &format!("Authorization: Bearer {TOKEN}\r\n"), &message(&format!("m{n}"))).status, 200);
    }
    let texts = |page: &serde_json::Value| -> Vec<String> {
        page["messages"].as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect()
    };
    let mut seen = Vec::new();
    let mut path = "/api/v1/rooms/7/messages?limit=2".to_owned();
    loop {
        let page = server.get(&path).json();
        seen.splice(0..0, texts(&page));
        let Some(previous) = page["previous"].as_str() else { break };
        path = format!("/api/v1/rooms/7/messages?limit=2&before={previous}");
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
    let mut seen = Vec::new();
    let mut path = "/api/v1/rooms/7/messages?limit=2&after=0:0".to_owned();
    loop {
        let page = server.get(&path).json();
        seen.extend(texts(&page));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/v1/rooms/7/messages?limit=2&after={next}");
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
    let rooms = server.get("/api/v1/rooms").json();
    assert_eq!((&rooms["rooms"][0]["roomId"], &rooms["next"]), (&json!("7"), &json!(null)));
    assert!(rooms["rooms"][0]["lastActivity"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn nobody_else_publishes_over_http() {
    let set = format!("admin.token={TOKEN}");
    let server = Server::start(&["--set", &set]);
    assert_eq!(post(server.address, "", &message("x")).problem(401), "unauthenticated");
    assert_eq!(post(server.address, "Authorization: Bearer correct-horse-batterx\r\n", &message("x")).problem(401), "unauthenticated");
    let closed = Server::start(&[]);
    assert_eq!(post(closed.address, "Authorization: Bearer \r\n", &message("x")).problem(403), "forbidden");
}

#[test]
fn the_loopback_admin_listener_needs_no_token_and_takes_no_foreign_page() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let admin = server.admin.unwrap();
    assert_eq!(post(admin, "", &message("x")).status, 200);
    assert_eq!(post(server.address, "", &message("x")).problem(403), "forbidden");
    assert_eq!(post(admin, "Origin: http://evil.example\r\n", &message("x")).problem(403), "forbidden");
    let rebound = "POST /api/v1/rooms/7/messages HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(request(admin, rebound).problem(403), "forbidden");
}

#[test]
fn a_bad_publish_is_told_what_is_wrong() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let admin = server.admin.unwrap();
    let publish = |body: &str| post(admin, "", body);
    let invalid = publish(r#"{"message":""}"#);
    assert_eq!(invalid.problem(400), "invalid");
    assert_eq!(invalid.json()["errors"].as_array().unwrap().len(), 5);
    assert_eq!(publish("{").problem(400), "bad_json");
    assert_eq!(publish(&format!("{{\"x\":{}1{}}}", "[".repeat(40), "]".repeat(40))).problem(400), "too_deep");
    assert_eq!(publish(&message("x").replace("{", r#"{"roomId":"8","#)).problem(400), "wrong_room");
    assert_eq!(publish(&" ".repeat(70_000)).problem(413), "too_big");
    let id = "0190a3f0-0000-7000-8000-000000000001";
    let with_id = |text: &str| message(text).replace("{", &format!(r#"{{"messageId":"{id}","#));
    let (first, again) = (publish(&with_id("x")).json(), publish(&with_id("x")).json());
    assert_eq!((&first["messageId"], &first["status"], &again["status"]), (&json!(id), &json!("SUCCESS"), &json!("SUCCESS")));
    assert_eq!(publish(&with_id("y")).problem(409), "id_conflict");
}

#[test]
fn queues_speak_the_words_that_operators_know() {
    let server = Server::start(&[]);
    let queue = server.get("/queue/7").json();
    assert_eq!(
        queue,
        json!({"roomId": "7", "approximateMessages": 0, "approximateNotVisible": 0, "approximateDelayed": 0, "brokerDepth": 0})
    );
    let all = server.get("/queue/all").json();
    assert_eq!(all["total"]["approximateMessages"], 0);
}
