//! Publishing: acknowledged once, whatever happens to the answer.

use std::time::Duration;

use chatflow_client::{Draft, Error, MessageId, kind};
use serde_json::json;

use crate::fake::{FakeServer, soon};

#[tokio::test]
async fn a_publish_resolves_with_its_own_answer() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let (first, second) = (client.clone(), client);
    let first = tokio::spawn(async move { first.publish("7", "one").await });
    let one = peer.receive().await;
    let second = tokio::spawn(async move { second.publish_draft("7", Draft::new("two").kind(kind::JOIN)).await });
    let two = peer.receive().await;

    assert_eq!((&one["userId"], &one["username"], &one["message"]), (&json!("42"), &json!("ada"), &json!("one")));
    assert_eq!((&one["roomId"], &one["messageType"], &two["messageType"]), (&json!("7"), &json!("TEXT"), &json!("JOIN")));
    let id: MessageId = one["messageId"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);

    peer.acknowledge(&two, "1:2").await;
    peer.acknowledge(&one, "1:1").await;
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!((first.message_id, first.position), (id, Some("1:1".parse().unwrap())));
    assert_eq!(second.position, Some("1:2".parse().unwrap()));
    assert_eq!(first.server_timestamp, "2026-11-20T11:02:10.123Z");
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_repeats_the_same_frames_in_order() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let mut calls = Vec::new();
    let mut sent = Vec::new();
    for n in 0..5 {
        let client = client.clone();
        calls.push(tokio::spawn(async move { client.publish("7", format!("message {n}")).await }));
        sent.push(peer.receive().await);
    }
    peer.acknowledge(&sent[1], "1:2").await;
    soon("the answer", calls.remove(1)).await.unwrap().unwrap();
    let answered = sent.remove(1);
    drop(peer);

    let mut peer = server.accept().await;
    peer.let_in("1:2").await;
    for (frame, position) in sent.iter().zip(["1:1", "1:3", "1:4", "1:5"]) {
        let again = peer.receive().await;
        assert_eq!(again, *frame, "the same id, text and time, and never {answered}");
        peer.acknowledge(&again, position).await;
    }
    for call in calls {
        soon("the answer", call).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_is_refused_for_now_is_tried_again_after_the_time_asked_for() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let call = tokio::spawn(async move { client.publish("7", "hi").await });
    let frame = peer.receive().await;
    let refused = tokio::time::Instant::now();
    peer.refuse(&frame, "rate_limited", Some(120)).await;
    assert_eq!(peer.receive().await, frame);
    assert!(refused.elapsed() >= Duration::from_millis(120), "{:?}", refused.elapsed());
    peer.acknowledge(&frame, "1:1").await;
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_refused_for_good_fails_with_every_reason() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let call = tokio::spawn(async move { client.publish("7", "hi").await });
    let frame = peer.receive().await;
    peer.refuse(&frame, "id_conflict", None).await;
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(&error, Error::Refused(frame) if frame.code == "id_conflict"), "{error}");
    assert_eq!(error.to_string(), "the server refused (id_conflict): id_conflict!");
}

#[tokio::test]
async fn a_server_that_never_answers_leaves_the_outcome_unknown() {
    let server = FakeServer::start().await;
    let builder = server.client().answer_timeout(Duration::from_millis(300));
    let (client, _events, mut peer) = server.in_room(builder).await;
    let draft = Draft::new("hi");
    let id = draft.message_id();
    let call = tokio::spawn(async move { client.publish_draft("7", draft).await });
    peer.receive().await;
    let error = soon("the deadline", call).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unanswered { id: unanswered, .. } if unanswered == id), "{error}");
}

#[tokio::test]
async fn only_so_many_are_in_flight_and_a_dropped_future_gives_its_place_back() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client().in_flight(2)).await;
    let publish = |text: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.publish("7", text).await })
    };
    let (first, second) = (publish("a"), publish("b"));
    let (a, b) = (peer.receive().await, peer.receive().await);
    let third = publish("c");
    peer.is_silent().await;
    second.abort();
    peer.acknowledge(&b, "1:2").await;
    let c = peer.receive().await;
    assert_eq!(c["message"], "c");
    peer.acknowledge(&a, "1:1").await;
    peer.acknowledge(&c, "1:3").await;
    let third = soon("the third", third).await.unwrap().unwrap();
    assert_eq!(third.position, Some("1:3".parse().unwrap()));
    let _ = first.await;
}

#[tokio::test]
async fn what_one_task_enqueues_goes_out_in_that_order() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let mut acknowledgements = Vec::new();
    for n in 0..100 {
        acknowledgements.push(client.enqueue("7", Draft::new(n.to_string())).await.unwrap());
    }
    for (n, acknowledgement) in acknowledgements.into_iter().enumerate() {
        let frame = peer.receive().await;
        assert_eq!(frame["message"], n.to_string());
        peer.acknowledge(&frame, &format!("1:{}", n + 1)).await;
        soon("the answer", acknowledgement).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_future_is_not_sent_again() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let dropped = tokio::spawn({
        let client = client.clone();
        async move { client.publish("7", "dropped").await }
    });
    peer.receive().await;
    dropped.abort();
    let _ = dropped.await;
    drop(peer);
    let mut peer = server.accept().await;
    peer.let_in("1:0").await;
    let kept = tokio::spawn(async move { client.publish("7", "kept").await });
    let frame = peer.receive().await;
    assert_eq!(frame["message"], "kept");
    peer.acknowledge(&frame, "1:1").await;
    kept.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_can_only_fail_is_not_sent() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    // A frame over the limit would close the connection with 1009, for good.
    let error = client.publish("7", "x".repeat(65_536)).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 65_536, .. }), "{error}");
    assert!(matches!(client.publish("8", "x").await, Err(Error::NotJoined(room)) if room == "8"));
    assert!(matches!(client.publish("no room", "x").await, Err(Error::BadRoom(_))));
    let call = tokio::spawn(async move { client.publish("7", "fine").await });
    let frame = peer.receive().await;
    assert_eq!(frame["message"], "fine");
    peer.acknowledge(&frame, "1:1").await;
    call.await.unwrap().unwrap();
}

#[tokio::test]
async fn messages_of_the_applications_own_form_keep_their_fields() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let id = "0190a3f0-0000-7000-8000-000000000001";
    let serde_json::Value::Object(fields) = json!({"price": 3, "roomId": "forged", "messageId": id}) else { unreachable!() };
    let call = tokio::spawn(async move { client.publish_json("7", fields).await });
    let frame = peer.receive().await;
    assert_eq!((&frame["price"], &frame["roomId"], &frame["messageId"]), (&json!(3), &json!("7"), &json!(id)));
    peer.acknowledge(&frame, "1:1").await;
    assert_eq!(call.await.unwrap().unwrap().message_id.to_string(), id);
}
