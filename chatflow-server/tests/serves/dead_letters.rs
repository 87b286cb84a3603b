//! Dead letters: listed, replayed and discarded, wherever they are.

use std::net::SocketAddr;

use chatflow_core::store::FileDeadLetters;
use chatflow_core::{DeadLetter, DeadLetters, Draft, Engine, LogId, MessageId, Position, RoomId, Timestamp, kind};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Response, Server, eventually, request};

const TOKEN: &str = "correct-horse-battery";

/// A folder with a file of letters in it, as an earlier life of a server left it: one for each text, empty for what is no message.
fn folder(epoch: u64, texts: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::builder().build().await.unwrap();
        let room = RoomId::new("lobby").unwrap();
        let letter = |(index, text): (usize, &&str)| {
            let (sender, name, kind, timestamp) = ("1".into(), "ada".into(), kind::TEXT, "2026-11-20T12:00:00Z".into());
            let draft = Draft { sender, name, kind, timestamp, text: (*text).into(), ..Draft::default() };
            let message = engine.message(&room, &draft).ok();
            let (id, entry) = message.map_or((MessageId::nil(), "garbage".into()), |message| (message.id, message.encode()));
            let (log, position) = (LogId(3), Position::new(epoch, index as u128 + 1));
            let room = (!id.is_nil()).then(|| room.clone());
            DeadLetter { log, position, id, room, at: Timestamp(0), reason: "it was Tuesday".into(), entry }
        };
        let letters: Vec<_> = texts.iter().enumerate().map(letter).collect();
        FileDeadLetters::open(folder.path().join("chatflow.db.dead-letters")).await.unwrap().put(&letters).await.unwrap();
    });
    folder
}

fn call(address: SocketAddr, method: &str, rest: &str) -> Response {
    let path = format!("/api/v1/dead-letters{rest}");
    request(address, &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"))
}

fn list(server: &Server, rest: &str) -> Value {
    let answer = call(server.address, "GET", rest);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn ids(page: &Value) -> Vec<String> {
    page["deadLetters"].as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap().to_owned()).collect()
}

fn history(server: &Server) -> Vec<String> {
    let page = server.get("/api/v1/rooms/lobby/messages?limit=1000").json();
    page["messages"].as_array().unwrap().iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn dead_letters_are_listed_replayed_and_discarded() {
    let server = Server::start_in(folder(7, &["one", "two", "", "four"]), &["--node-id", "a", "--set", &format!("admin.token={TOKEN}")]);
    let page = list(&server, "?limit=3");
    assert_eq!(
        (ids(&page), &page["next"], &page["missing"]),
        (vec!["3/7:1".into(), "3/7:2".into(), "3/7:3".into()], &json!("3/7:3"), &json!([]))
    );
    let first = &page["deadLetters"][0];
    assert_eq!(
        (&first["node"], &first["roomId"], &first["reason"], &first["log"]),
        (&json!("a"), &json!("lobby"), &json!("it was Tuesday"), &json!(3))
    );
    assert_eq!((&first["message"]["message"], &first["message"]["messageId"]), (&json!("one"), &first["messageId"]));
    let garbage = &page["deadLetters"][2];
    assert_eq!((&garbage["messageId"], &garbage["message"], &garbage["bytes"]), (&Value::Null, &Value::Null, &json!(7)));
    let rest = list(&server, "?limit=3&after=3/7:3");
    assert_eq!((ids(&rest), &rest["next"]), (vec!["3/7:4".into()], &Value::Null));

    let one = call(server.address, "POST", "/replay?id=3/7:2").json();
    assert_eq!(one, json!({"replayed": 1, "failed": [], "next": null, "missing": []}));
    assert_eq!(history(&server), ["two"]);
    assert_eq!(call(server.address, "POST", "/replay?id=3/7:2").problem(404), "not_found");
    let all = call(server.address, "POST", "/replay").json();
    assert_eq!((&all["replayed"], &all["failed"][0]["id"], &all["failed"][0]["code"]), (&json!(2), &json!("3/7:3"), &json!("invalid")));
    assert_eq!(history(&server), ["two", "one", "four"]);
    assert_eq!(ids(&list(&server, "")), ["3/7:3"]);
    assert_eq!(call(server.address, "DELETE", "?id=3/7:3").json(), json!({"discarded": 1, "missing": []}));
    assert_eq!(call(server.address, "DELETE", "?id=3/7:3").problem(404), "not_found");
    assert!(ids(&list(&server, "")).is_empty());
}

#[test]
fn dead_letters_are_for_admins_and_queries_are_checked() {
    let server = Server::start(&["--set", &format!("admin.token={TOKEN}")]);
    assert_eq!(server.get("/api/v1/dead-letters").problem(401), "unauthenticated");
    for (method, rest) in [("POST", "/replay"), ("DELETE", "?id=3/7:1")] {
        let path = format!("/api/v1/dead-letters{rest}");
        let answer = request(server.address, &format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.problem(401), "unauthenticated");
    }
    for rest in ["?limit=0", "?limit=1001", "?after=7", "?after=x/1:2", "?scope=all", "?id=7:1"] {
        assert_eq!(call(server.address, "GET", rest).problem(400), "invalid", "{rest}");
    }
    assert_eq!(call(server.address, "DELETE", "").problem(400), "invalid");
    assert_eq!(call(server.address, "GET", "?scope=node&node=somebody").problem(421), "unavailable");
    let closed = Server::start(&[]);
    assert_eq!(closed.get("/api/v1/dead-letters").problem(403), "forbidden");
}

#[test]
fn letters_outlive_the_server_in_its_database() {
    let arguments = ["--set".to_owned(), format!("admin.token={TOKEN}")];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut server = Server::start_in(folder(7, &["one", "two"]), &arguments);
    let file = server.folder.path().join("chatflow.db.dead-letters");
    // Two lines of letters, then one for each that was moved.
    eventually("they are moved", || (std::fs::read_to_string(&file).unwrap().lines().count() == 4).then_some(()));
    assert_eq!(ids(&list(&server, "")), ["3/7:1", "3/7:2"]);
    server.signal("KILL");
    server.ended();
    let server = Server::start_in(server.into_folder(), &arguments);
    assert_eq!(std::fs::metadata(server.folder.path().join("chatflow.db.dead-letters")).unwrap().len(), 0);
    assert_eq!(ids(&list(&server, "")), ["3/7:1", "3/7:2"]);
}

#[cfg(feature = "redis")]
#[test]
fn every_node_is_asked_and_whoever_does_not_answer_is_named() {
    let redis = crate::redis::Redis::start(&[]);
    let (url, token) = (redis.url(), format!("admin.token={TOKEN}"));
    let arguments = |name| ["--node-id", name, "--directory", &*url, "--set", &*token];
    let a = Server::start_in(folder(7, &["of a"]), &arguments("a"));
    let b = Server::start_in(folder(5, &["of b", "of b, too"]), &arguments("b"));
    let stranger = Server::start(&["--node-id", "c", "--directory", &url, "--set", "admin.token=another-horse-battery"]);
    for server in [&a, &b] {
        eventually("they know each other", || (server.get("/api/v1/nodes").json()["nodes"].as_array().unwrap().len() == 3).then_some(()));
        let page = list(server, "");
        assert_eq!(ids(&page), ["3/5:1", "3/5:2", "3/7:1"]);
        let nodes: Vec<_> = page["deadLetters"].as_array().unwrap().iter().map(|letter| letter["node"].clone()).collect();
        assert_eq!(nodes, ["b", "b", "a"]);
        assert_eq!(page["missing"], json!([{"part": "node", "name": "c", "reason": "it has another admin.token"}]));
        let page = list(server, "?limit=2");
        assert_eq!((ids(&page), &page["next"]), (vec!["3/5:1".into(), "3/5:2".into()], &json!("3/5:2")));
    }
    assert_eq!(call(a.address, "DELETE", "?id=3/9:9").problem(503), "unavailable");
    drop(stranger);
    eventually("c is gone", || (a.get("/api/v1/nodes").json()["nodes"].as_array().unwrap().len() == 2).then_some(()));

    let one = call(a.address, "POST", "/replay?id=3/5:2").json();
    assert_eq!((&one["replayed"], &one["missing"]), (&json!(1), &json!([])));
    assert_eq!((history(&a), history(&b)), (vec![], vec!["of b, too".into()]), "each has its own broker here");
    b.signal("STOP");
    let page = list(&a, "");
    assert_eq!(
        (ids(&page), &page["missing"][0]["name"], &page["missing"][0]["reason"]),
        (vec!["3/7:1".into()], &json!("b"), &json!("no answer within 2 s"))
    );
    b.signal("CONT");
    let all = call(a.address, "POST", "/replay").json();
    assert_eq!((&all["replayed"], &all["missing"]), (&json!(2), &json!([])), "{all}");
    assert_eq!((history(&a), history(&b)), (vec!["of a".into()], vec!["of b, too".into(), "of b".into()]));
    assert_eq!(call(a.address, "DELETE", "?id=3/5:1").problem(404), "not_found");
}
