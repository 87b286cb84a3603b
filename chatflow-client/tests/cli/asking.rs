//! The commands that ask the HTTP API: what they ask, what they make of the answers.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use crate::tiny::PATIENCE;

/// A server that gives one answer after the other, the last of them for ever, and notes what it is asked.
struct Script {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(answers: Vec<(u16, Value)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &answers, &noted).await;
            }
        });
        Self { url, asked }
    }

    /// The lines of the requests so far.
    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn answer(mut stream: TcpStream, answers: &[(u16, Value)], noted: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let place = {
        let mut noted = noted.lock();
        noted.push(head.split(" HTTP/").next().unwrap().to_owned());
        noted.len() - 1
    };
    let (status, body) = &answers[place.min(answers.len() - 1)];
    let body = body.to_string();
    let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
}

/// Exit code, standard output and standard error.
async fn client(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatflow-client"));
    command.args(arguments).env_remove("CHATFLOW_TOKEN").kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn message(n: u64) -> Value {
    json!({
        "messageId": "018f2f6e-7c1b-7c5e-9b0e-3a4d5c6b7a89", "roomId": "7", "userId": "42", "username": "ada", "message": format!("m{n}"),
        "messageType": "TEXT", "timestamp": "2026-11-20T12:00:00Z", "serverTimestamp": "2026-11-20T12:00:00.000Z", "position": format!("1:{n}"),
    })
}

fn page(from: u64, to: u64, next: Value, previous: Value) -> (u16, Value) {
    (200, json!({"messages": (from..to).map(message).collect::<Vec<_>>(), "next": next, "previous": previous}))
}

#[tokio::test]
async fn the_newest_messages_are_a_table_and_the_way_on_is_told() {
    let server = Script::start(vec![page(8, 10, json!(null), json!("1:8"))]).await;
    let (code, out, told) = client(&["history", &server.url, "--room", "7", "--limit", "2", "--start", "2026-11-20T12:00:00+01:00"]).await;
    assert_eq!(code, 0, "{told}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines[0], "POSITION  TIME                      USER  NAME  TYPE  MESSAGE");
    assert_eq!(lines[1], "1:8       2026-11-20T12:00:00.000Z  42    ada   TEXT  m8");
    assert_eq!((lines.len(), told.as_str()), (3, "more: --before 1:8\n"));
    assert_eq!(server.asked(), ["GET /api/v1/rooms/7/messages?limit=2&start=2026-11-20T12%3A00%3A00%2B01%3A00"]);
}

#[tokio::test]
async fn more_than_a_page_is_walked_for_from_the_newest_back() {
    let pages = vec![page(1_100, 2_100, json!(null), json!("1:1100")), page(900, 1_100, json!(null), json!("1:900"))];
    let server = Script::start(pages).await;
    let (code, out, told) = client(&["history", &server.url, "--room", "7", "--limit", "1200", "--json"]).await;
    assert_eq!((code, told.as_str()), (0, "more: --before 1:900\n"));
    let positions: Vec<_> = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].clone()).collect();
    assert_eq!(positions, (900..2_100).map(|n| json!(format!("1:{n}"))).collect::<Vec<_>>());
    let path = "GET /api/v1/rooms/7/messages";
    assert_eq!(server.asked(), [format!("{path}?limit=1000"), format!("{path}?before=1%3A1100&limit=200")]);
}

#[tokio::test]
async fn everything_is_a_line_each_from_the_oldest_on() {
    let server = Script::start(vec![page(1, 3, json!("1:2"), json!(null)), page(3, 4, json!(null), json!(null))]).await;
    let (code, out, told) = client(&["users", "messages", &server.url, "a/b", "--all"]).await;
    assert_eq!((code, told.as_str()), (0, ""));
    let line = |n| format!("2026-11-20T12:00:00.000Z\t7\t1:{n}\tada\tTEXT\tm{n}\n");
    assert_eq!(out, [line(1), line(2), line(3)].concat());
    let path = "GET /api/v1/users/a%2Fb/messages";
    let first = format!("{path}?after=0.00000000-0000-0000-0000-000000000000&limit=1000");
    assert_eq!(server.asked(), [first, format!("{path}?after=1%3A2&limit=1000")]);
}

#[tokio::test]
async fn a_users_rooms_are_read_by_name() {
    let room = |name| json!({"roomId": name, "lastActivity": "2026-11-20T12:00:00.000Z"});
    let server = Script::start(vec![(200, json!({"rooms": [room("a"), room("b")], "next": "b"}))]).await;
    let (code, out, told) = client(&["users", "rooms", &server.url, "42", "--limit", "2"]).await;
    assert_eq!((code, told.as_str()), (0, "more: --after b\n"));
    assert_eq!(out.lines().next(), Some("ROOM  LAST"));
    assert_eq!(server.asked(), ["GET /api/v1/users/42/rooms?limit=2"]);
}

#[tokio::test]
async fn numbers_are_tables_with_the_range_beside_them() {
    let about = |mut body: Value| {
        let range = json!({"start": "2026-11-20T11:00:00.000Z", "end": null, "asOf": "2026-11-20T12:00:00.000Z"});
        body.as_object_mut().unwrap().extend(range.as_object().unwrap().clone());
        vec![(200, body)]
    };
    let told_range = "from 2026-11-20T11:00:00.000Z to now; what was accepted before 2026-11-20T12:00:00.000Z is counted\n";
    let pairs = json!({
        "users": 3, "rooms": 2, "pairs": 4, "usersPerRoom": 2.0, "roomsPerUser": 1.3333, "fullestRooms": [{"roomId": "7", "users": 3}],
        "busiestUsers": [{"userId": "x\u{1b}[2J", "rooms": 2}],
    });
    for (question, body, expected, asked) in [
        ("active-users", json!({"users": 3}), "USERS\n    3\n", ""),
        ("top-users", json!({"users": [{"userId": "42", "messages": 7}]}), "USER  MESSAGES\n42           7\n", "&limit=20"),
        ("top-rooms", json!({"rooms": [{"roomId": "7", "messages": 7}]}), "ROOM  MESSAGES\n7            7\n", "&limit=20"),
        ("message-rate", json!({"steps": [{"at": "t", "messages": 7}]}), "FROM  MESSAGES\nt            7\n", "&limit=60&step=minute"),
        (
            "participation",
            pairs,
            "USERS  ROOMS  PAIRS  USERS/ROOM  ROOMS/USER\n    3      2      4        2.00        1.33\n\nROOM  USERS\n7         3\n\n\
             USER        ROOMS\nx\\u{1b}[2J      2\n",
            "&limit=20",
        ),
    ] {
        let server = Script::start(about(body.clone())).await;
        let (code, out, told) = client(&["analytics", question, &server.url, "--start", "2026-11-20T11:00:00Z"]).await;
        assert_eq!((code, out.as_str(), told.as_str()), (0, expected, told_range), "{question}");
        assert_eq!(server.asked(), [format!("GET /api/v1/analytics/{question}?start=2026-11-20T11%3A00%3A00Z{asked}")]);
        let (code, out, _) = client(&["analytics", question, &server.url, "--json"]).await;
        assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()), (0, about(body)[0].1.clone()), "{question}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_full_and_nobody_else_is_asked() {
    let problem =
        json!({"title": "Bad Request", "detail": "see errors", "code": "invalid", "errors": ["start: must be a time", "end: \u{1b}[2J"]});
    let (server, other) = (Script::start(vec![(400, problem)]).await, Script::start(vec![page(1, 2, json!(null), json!(null))]).await);
    let (code, out, told) = client(&["history", &format!("{},{}", server.url, other.url), "--room", "7", "--start", "x"]).await;
    assert_eq!((code, out.as_str(), told.lines().count()), (1, "", 1), "{told}");
    assert!(told.ends_with("HTTP 400: start: must be a time; end: \\u{1b}[2J\n"), "{told}");
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn a_server_that_fails_is_left_for_the_next_also_between_pages() {
    let away = (503, json!({"detail": "a part of the server is away"}));
    let (first, second) = (
        Script::start(vec![page(1, 2, json!("1:1"), json!(null)), away]).await,
        Script::start(vec![page(2, 3, json!(null), json!(null))]).await,
    );
    let (code, out, told) = client(&["history", &format!("{},{}", first.url, second.url), "--room", "7", "--all", "--json"]).await;
    assert_eq!((code, out.lines().count()), (0, 2), "{told}");
    assert!(told.contains("HTTP 503: a part of the server is away"), "{told}");
}

#[tokio::test]
async fn what_the_command_line_gets_wrong_is_usage() {
    for arguments in [
        &["history", "ws://127.0.0.1:1"][..],
        &["history", "ftp://x", "--room", "7"],
        &["history", "ws://127.0.0.1:1", "--room", "7", "--limit", "0"],
        &["history", "ws://127.0.0.1:1", "--room", "7", "--limit", "100001"],
        &["history", "ws://127.0.0.1:1", "--room", "7", "--limit", "5", "--all"],
        &["users", "messages", "ws://127.0.0.1:1"],
        &["analytics", "top-users", "ws://127.0.0.1:1", "--limit", "1001"],
        &["analytics", "message-rate", "ws://127.0.0.1:1", "--step", "week"],
        &["dead-letters", "replay", "ws://127.0.0.1:1"],
        &["dead-letters", "replay", "ws://127.0.0.1:1", "x", "--all"],
        &["dead-letters", "discard", "ws://127.0.0.1:1"],
    ] {
        assert_eq!(client(arguments).await.0, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn dead_letters_are_listed_with_what_is_missing() {
    let letter = json!({"id": "3/1:11", "at": "t", "roomId": null, "messageId": null, "bytes": 17, "node": "n2", "reason": "no message"});
    let missing = json!([{"part": "node", "name": "n3", "reason": "no answer within 2 s"}]);
    let server = Script::start(vec![(200, json!({"deadLetters": [letter], "next": null, "missing": missing}))]).await;
    let (code, out, told) = client(&["dead-letters", "list", &server.url]).await;
    assert_eq!((code, told.as_str()), (1, "error: node n3 is missing: no answer within 2 s\n"));
    assert_eq!(out, "ID      TIME  ROOM  MESSAGE ID  BYTES  NODE  REASON\n3/1:11  t     -     -              17  n2    no message\n");
    assert_eq!(server.asked(), ["GET /api/v1/dead-letters?limit=100"]);
}

#[tokio::test]
async fn letters_are_replayed_until_none_is_left_to_try() {
    let failed = json!([{"id": "5/1:2", "code": "invalid", "reason": "no message"}]);
    let answers = vec![
        (200, json!({"replayed": 999, "failed": failed, "next": "5/1:2", "missing": []})),
        (200, json!({"replayed": 3, "failed": [], "next": null, "missing": []})),
    ];
    let server = Script::start(answers).await;
    let (code, out, told) = client(&["dead-letters", "replay", &server.url, "--all"]).await;
    assert_eq!((code, told.as_str()), (1, ""), "one failed");
    assert_eq!(out, "ID     CODE     REASON\n5/1:2  invalid  no message\n1002 replayed, 1 failed\n");
    let path = "POST /api/v1/dead-letters/replay";
    assert_eq!(server.asked(), [format!("{path}?limit=1000"), format!("{path}?limit=1000&after=5%2F1%3A2")]);

    let one = Script::start(vec![(200, json!({"replayed": 1, "failed": [], "next": null, "missing": []}))]).await;
    let (code, out, _) = client(&["dead-letters", "replay", &one.url, "3/1:11"]).await;
    assert_eq!((code, out.as_str()), (0, "1 replayed, 0 failed\n"));
    assert_eq!(one.asked(), [format!("{path}?id=3%2F1%3A11")]);
}

#[tokio::test]
async fn a_letter_is_discarded_by_its_id() {
    let server = Script::start(vec![(200, json!({"discarded": 1, "missing": []})), (404, json!({"detail": "no such letter"}))]).await;
    let (code, out, _) = client(&["dead-letters", "discard", &server.url, "3/1:11"]).await;
    assert_eq!((code, out.as_str()), (0, "1 discarded\n"));
    assert_eq!(server.asked(), ["DELETE /api/v1/dead-letters?id=3%2F1%3A11"]);
    let (code, _, told) = client(&["dead-letters", "discard", &server.url, "3/1:11"]).await;
    assert_eq!(code, 1);
    assert!(told.contains("HTTP 404: no such letter"), "{told}");
}
