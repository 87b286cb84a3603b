//! What two people at the page need of the server.

use serde_json::{Value, json};

use crate::process::{Server, eventually};

fn said(name: &str, text: &str) -> Value {
    json!({"userId": 7, "username": name, "message": text, "timestamp": "2026-11-20T11:02:10Z", "messageType": "TEXT"})
}

#[test]
fn what_one_says_both_see_and_the_history_keeps() {
    let server = Server::start(&[]);
    let (mut ada, mut grace) = (server.connect("/chat/7", true), server.connect("/chat/7", false));
    let welcome = ada.next(|frame| frame["event"] == "welcome");
    assert_eq!((&welcome["recovered"], &welcome["durable"]), (&json!(true), &json!(true)));
    grace.send(&said("grace", "hello"));
    let answer = grace.next(|frame| frame["status"] == "SUCCESS");
    let seen = ada.next(|frame| frame["message"] == "hello");
    assert_eq!(seen["messageId"], answer["messageId"]);
    let members = server.get("/api/v1/rooms/7/members").json();
    assert_eq!(members["count"], 2);
    let page = server.get("/api/v1/rooms/7/messages?limit=1").json();
    assert_eq!(page["messages"][0], seen);
}

#[test]
fn after_a_restart_a_member_resumes_where_it_was() {
    let server = Server::start(&[]);
    let mut ada = server.connect("/chat/7", true);
    ada.send(&said("ada", "before"));
    let position = ada.next(|frame| frame["message"] == "before")["position"].as_str().unwrap().to_owned();
    ada.send(&said("ada", "while away"));
    ada.next(|frame| frame["message"] == "while away");
    drop(ada);
    server.signal("KILL");
    let server = Server::start_in(server.into_folder(), &[]);
    let mut ada = server.connect(&format!("/chat/7?after={position}"), true);
    assert_eq!(ada.next(|frame| frame["event"] == "welcome")["recovered"], true);
    assert_eq!(ada.next(|frame| frame.get("position").is_some() && frame.get("event").is_none())["message"], "while away");
}

#[test]
fn an_alias_names_the_same_room_in_a_message() {
    let server = Server::start(&["--set", "rooms.strip_prefix=room"]);
    let mut ada = server.connect("/chat/room7", false);
    let mut message = said("ada", "hello");
    message["roomId"] = json!("room7");
    ada.send(&message);
    assert_eq!(ada.next(|frame| frame["status"] != Value::Null)["roomId"], "7");
}

#[test]
fn an_echo_server_answers_with_the_message_and_broadcasts_nothing() {
    let server = Server::start(&["--set", "engine.delivery=answer-only"]);
    let mut ada = server.connect("/chat/7", false);
    ada.send(&said("ada", "one"));
    assert_eq!(ada.next(|_| true)["message"], "one");
    ada.send(&said("ada", "two"));
    let second = ada.next(|_| true);
    assert_eq!((&second["message"], &second["status"]), (&json!("two"), &json!("SUCCESS")));
}

/// A cache may be away, at the start as later; a wrong URL is a fault all the same.
#[test]
fn the_page_after_an_answer_has_the_message_and_none_is_read_twice() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = cfg!(feature = "redis").then(|| format!("redis://{nobody}"));
    for cache in std::iter::once("memory:".to_owned()).chain(away) {
        let server = Server::start(&["--cache", &cache]);
        let mut ada = server.connect("/chat/7?ack=persisted", false);
        for n in 1..=20 {
            ada.send(&said("ada", &n.to_string()));
            ada.next(|frame| frame["status"] == "SUCCESS");
            let page = server.get("/api/v1/rooms/7/messages?limit=1").json();
            assert_eq!(page["messages"][0]["message"], n.to_string());
        }
        for _ in 0..3 {
            assert_eq!(server.get("/api/v1/rooms/7/messages").json()["messages"].as_array().unwrap().len(), 20);
        }
        let figures = server.get("/metrics").body;
        // Each length is read once, and grows by what is said.
        for line in ["chatflow_cache_page_hits_total 21\n", "chatflow_cache_page_misses_total 2\n", "chatflow_cache_second_hits_total 0\n"]
        {
            assert!(figures.contains(line), "{line} in {figures}");
        }
    }
}

#[test]
fn figures_follow_what_happens_and_no_text_is_logged() {
    let server = Server::start(&["--set", "log.level=trace"]);
    let mut ada = server.connect("/chat/7", false);
    ada.send(&said("ada", "unmistakable"));
    ada.next(|frame| frame["status"] == "SUCCESS");
    let text = eventually("the row is counted", || {
        let text = server.get("/metrics").body;
        text.contains("\nchatflow_messages_persisted_total 1\n").then_some(text)
    });
    for line in ["chatflow_connections 1\n", "chatflow_messages_accepted_total 1\n", "chatflow_messages_acknowledged_total 1\n"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!server.log().contains("unmistakable"));
}
