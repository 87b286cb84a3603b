//! Coming back: to the same place, with nothing missing and nothing twice.

use std::time::Duration;

use chatflow_client::{Incoming, JoinOptions};
use serde_json::json;

use crate::fake::{FakeServer, next, soon, texts};

#[tokio::test]
async fn it_resumes_after_the_last_broadcast_seen_and_drops_what_comes_again() {
    let server = FakeServer::start().await;
    let (_client, mut events, mut peer) = server.in_room(server.client()).await;
    peer.broadcast("1:1", "a").await;
    peer.broadcast("1:4", "b").await;
    assert_eq!(texts(&mut events, 2).await, ["a", "b"]);
    drop(peer);

    let mut peer = server.accept().await;
    let join = peer.let_in("1:4").await;
    assert_eq!((&join["roomId"], &join["after"]), (&json!("7"), &json!("1:4")));
    for (position, text) in [("1:1", "a"), ("1:4", "b"), ("1:5", "c"), ("1:5", "c"), ("1:9", "d")] {
        peer.broadcast(position, text).await;
    }
    assert_eq!(texts(&mut events, 2).await, ["c", "d"]);
}

#[tokio::test]
async fn an_answer_that_overtakes_broadcasts_does_not_move_the_place() {
    let server = FakeServer::start().await;
    let (client, mut events, mut peer) = server.in_room(server.client()).await;
    peer.broadcast("1:7", "seen").await;
    assert_eq!(texts(&mut events, 1).await, ["seen"]);
    let call = tokio::spawn(async move { client.publish("7", "mine").await.map(|_| client) });
    let frame = peer.receive().await;
    peer.acknowledge(&frame, "1:10").await;
    let _client = soon("the answer", call).await.unwrap().unwrap();
    drop(peer);

    let mut peer = server.accept().await;
    assert_eq!(peer.let_in("1:7").await["after"], "1:7");
    for (position, text) in [("1:8", "theirs"), ("1:9", "theirs too"), ("1:10", "mine")] {
        peer.broadcast(position, text).await;
    }
    assert_eq!(texts(&mut events, 3).await, ["theirs", "theirs too", "mine"]);
}

#[tokio::test]
async fn the_welcomes_position_is_the_place_of_a_room_where_nothing_was_said() {
    let server = FakeServer::start().await;
    let (_client, _events, peer) = server.in_room(server.client()).await;
    drop(peer);
    assert_eq!(server.accept().await.let_in("1:0").await["after"], "1:0");
}

#[tokio::test]
async fn a_first_join_that_was_cut_is_asked_for_again_as_it_was() {
    let server = FakeServer::start().await;
    let options = JoinOptions { after: Some("3:9".parse().unwrap()), history: None };
    let client = tokio::spawn(server.client().room_with("7", options).connect());
    let mut peer = server.accept().await;
    assert_eq!(peer.receive().await["after"], "3:9");
    drop(peer);
    assert_eq!(server.accept().await.let_in("3:9").await["after"], "3:9");
    soon("connect", client).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lost_position_is_told_and_the_new_epoch_is_read_from_its_begin() {
    let server = FakeServer::start().await;
    let (_client, mut events, mut peer) = server.in_room(server.client()).await;
    peer.broadcast("5:100", "before").await;
    assert_eq!(texts(&mut events, 1).await, ["before"]);
    peer.close(3010, "position lost").await;

    let mut peer = server.accept().await;
    // Even a place in an older epoch, as after a restored backup, is taken.
    peer.answer_join("4:2", false).await;
    peer.broadcast("4:3", "after").await;
    loop {
        match next(&mut events).await {
            Incoming::Welcome { recovered, reason, position, .. } => {
                assert_eq!((recovered, reason.as_deref(), position), (false, Some("position_lost"), Some("4:2".parse().unwrap())));
                break;
            }
            Incoming::Message(message) => panic!("{message:?} before the welcome"),
            _ => {}
        }
    }
    assert_eq!(texts(&mut events, 1).await, ["after"]);
}

#[tokio::test]
async fn a_gap_is_told_and_resuming_goes_on_behind_it() {
    let server = FakeServer::start().await;
    let (_client, mut events, mut peer) = server.in_room(server.client()).await;
    peer.send(json!({"event": "gap", "roomId": "7", "after": "1:0", "position": "1:50"})).await;
    while !matches!(next(&mut events).await, Incoming::Gap { .. }) {}
    drop(peer);
    assert_eq!(server.accept().await.let_in("1:50").await["after"], "1:50");
}

#[tokio::test]
async fn every_close_code_that_says_come_back_is_followed() {
    let server = FakeServer::start().await;
    let (_client, mut events, mut peer) = server.in_room(server.client()).await;
    for code in [1001, 1011, 1012, 1013, 3000, 3008] {
        peer.close(code, "try again").await;
        loop {
            if let Incoming::Disconnected { code: told, reason, retry_in } = next(&mut events).await {
                assert_eq!((told, reason.as_str(), retry_in.is_some()), (Some(code), "try again", true));
                break;
            }
        }
        peer = server.accept().await;
        peer.let_in("1:0").await;
    }
}

#[tokio::test]
async fn several_rooms_share_a_connection_and_come_back_each_to_its_place() {
    let server = FakeServer::start().await;
    let (client, mut events, mut peer) = server.in_room(server.client()).await;
    let join = tokio::spawn(async move { client.join("8").await.map(|joined| (client, joined)) });
    assert_eq!(peer.let_in("2:5").await["roomId"], "8");
    let (client, joined) = soon("the join", join).await.unwrap().unwrap();
    assert_eq!((joined.position, joined.recovered), (Some("2:5".parse().unwrap()), true));
    peer.broadcast_in("7", "1:1", "in seven").await;
    peer.broadcast_in("8", "2:6", "in eight").await;
    assert_eq!(texts(&mut events, 2).await, ["in seven", "in eight"]);
    drop(peer);

    let mut peer = server.accept().await;
    let mut joins = [peer.let_in("1:1").await, peer.let_in("2:6").await].map(|j| (j["roomId"].to_string(), j["after"].to_string()));
    joins.sort();
    assert_eq!(joins, [("\"7\"".into(), "\"1:1\"".into()), ("\"8\"".into(), "\"2:6\"".into())]);

    let leave = tokio::spawn(async move { client.leave("7").await.map(|()| client) });
    let left = peer.receive().await;
    assert_eq!((&left["op"], &left["roomId"]), (&json!("leave"), &json!("7")));
    peer.broadcast_in("7", "1:2", "too late").await;
    peer.send(json!({"event": "left", "roomId": "7", "ref": left["ref"]})).await;
    let _client = soon("the leave", leave).await.unwrap().unwrap();
    peer.broadcast_in("8", "2:7", "still here").await;
    assert_eq!(texts(&mut events, 1).await, ["still here"]);
    drop(peer);
    assert_eq!(server.accept().await.let_in("2:7").await["roomId"], "8", "a room that was left is not entered again");
}

#[tokio::test]
async fn a_room_that_can_not_be_entered_again_is_told() {
    let server = FakeServer::start().await;
    let (client, mut events, peer) = server.in_room(server.client()).await;
    drop(peer);
    let mut peer = server.accept().await;
    let join = peer.receive().await;
    peer.refuse(&join, "unavailable", Some(1)).await;
    let join = peer.receive().await;
    assert_eq!(join["after"], "1:0", "refused for now: asked again");
    peer.refuse(&join, "forbidden", None).await;
    loop {
        if let Incoming::Refused { room, error } = next(&mut events).await {
            assert_eq!((room.unwrap().as_str(), error.code.as_str()), ("7", "forbidden"));
            break;
        }
    }
    assert!(client.publish("7", "x").await.is_err());
}

#[tokio::test]
async fn a_silent_server_is_pinged_and_then_given_up() {
    let server = FakeServer::start().await;
    let (_client, mut events, peer) = server.in_room(server.client().idle_timeout(Duration::from_millis(200))).await;
    // The fake answers a ping only while it reads; it does not.
    loop {
        if let Incoming::Disconnected { reason, .. } = next(&mut events).await {
            assert!(reason.contains("silent"), "{reason}");
            break;
        }
    }
    drop(peer);
    let mut peer = server.accept().await;
    peer.let_in("1:0").await;
    peer.pinged().await;
}
