//! What an embedded engine does, seen by its clients.

mod support;

use chatflow_core::protocol::close;
use chatflow_core::{Deliver, Engine, MessageId};
use support::{Client, request, text, text_with, v1};

#[tokio::test]
async fn a_message_is_answered_and_reaches_every_member() {
    let engine = Engine::builder().build().await.unwrap();
    let (mut ada, mut bob) = (Client::connect(&engine, request("7")).await, Client::connect(&engine, request("7")).await);
    let mut stranger = Client::connect(&engine, request("8")).await;
    support::eventually("all are members", async || engine.stats().registry.members == 3).await;
    ada.send(text("hello")).await;
    let answer = ada.answer().await;
    assert_eq!(answer["status"], "SUCCESS");
    for client in [&mut bob] {
        let broadcast = client.broadcast().await;
        assert_eq!(broadcast["message"], "hello");
        assert_eq!(broadcast["messageId"], answer["messageId"]);
        assert_eq!(broadcast["position"], answer["position"]);
        assert_eq!(broadcast["roomId"], "7");
    }
    stranger.send(text("elsewhere")).await;
    assert_eq!(stranger.broadcast().await["message"], "elsewhere", "the first that a stranger hears is its own");
}

#[tokio::test]
async fn the_same_id_again_is_answered_with_the_first_position_and_reaches_nobody() {
    let engine = Engine::builder().build().await.unwrap();
    let mut ada = Client::connect(&engine, request("7")).await;
    let mut other = v1(Some("7"));
    other.deliver = Deliver::None;
    let mut bob = Client::connect(&engine, other).await;
    let id = MessageId::now_v7();
    ada.send(text_with("once", id)).await;
    let first = ada.answer().await;
    bob.send(text_with("once", id)).await;
    assert_eq!(bob.answer().await["position"], first["position"]);
    bob.send(text_with("other", id)).await;
    assert_eq!(bob.answer().await["code"], "id_conflict");
    ada.send(text("twice")).await;
    ada.answer().await;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("twice") {
        seen.push(ada.broadcast().await["message"].as_str().unwrap().to_owned());
    }
    assert!(seen == ["once", "twice"] || seen == ["twice"], "{seen:?}");
}

#[tokio::test]
async fn ten_errors_in_a_row_close_the_connection() {
    let engine = Engine::builder().build().await.unwrap();
    let mut client = Client::connect(&engine, request("7")).await;
    for _ in 0..9 {
        client.send_text("{}".into()).await;
    }
    client.send(text("fine")).await;
    for _ in 0..10 {
        client.send_text("[]".into()).await;
    }
    assert_eq!(client.closed().await, close::POLICY);
}

#[tokio::test]
async fn several_rooms_on_one_connection() {
    let engine = Engine::builder().build().await.unwrap();
    let mut client = Client::connect(&engine, v1(None)).await;
    assert_eq!(client.event("welcome").await["durable"], false);
    for room in ["a", "b"] {
        client.send(serde_json::json!({"op": "join", "roomId": room, "ref": room})).await;
        assert_eq!(client.event("welcome").await["ref"], room);
        let mut frame = text(room);
        frame["roomId"] = room.into();
        client.send(frame).await;
        assert_eq!(client.broadcast().await["roomId"], room);
    }
    client.send(serde_json::json!({"op": "leave", "roomId": "a"})).await;
    assert_eq!(client.event("left").await["roomId"], "a");
    let mut frame = text("gone");
    frame["roomId"] = "a".into();
    client.send(frame).await;
    assert_eq!(client.answer().await["code"], "wrong_room");
}

#[tokio::test]
async fn who_comes_back_with_a_position_gets_what_it_missed() {
    let engine = Engine::builder().build().await.unwrap();
    let mut ada = Client::connect(&engine, request("7")).await;
    ada.send(text("1")).await;
    let position = ada.broadcast().await["position"].as_str().unwrap().to_owned();
    for i in 2..100 {
        ada.send(text(&i.to_string())).await;
    }
    let mut back = v1(Some("7"));
    back.after = Some(position.clone());
    let mut bob = Client::connect(&engine, back).await;
    let welcome = bob.event("welcome").await;
    assert_eq!((&welcome["recovered"], &welcome["position"]), (&true.into(), &position.into()));
    for i in 2..100 {
        assert_eq!(bob.broadcast().await["message"], i.to_string());
    }
}
