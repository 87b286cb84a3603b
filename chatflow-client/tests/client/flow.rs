//! Bounds: a slow application stops the socket, and nothing piles up.

use std::time::Duration;

use chatflow_client::Incoming;
use futures::StreamExt;

use crate::fake::{FakeServer, next, soon, texts};

#[tokio::test]
async fn a_full_stream_stops_the_reading_and_nothing_is_lost() {
    let server = FakeServer::start().await;
    let (client, mut events, mut peer) = server.in_room(server.client().event_buffer(4)).await;
    let mut flood = tokio::spawn(async move {
        // Far more than the buffers of two sockets hold, so this waits until the application reads.
        let text = "x".repeat(50_000);
        for n in 1..=400u32 {
            peer.broadcast(&format!("1:{n}"), &format!("{n} {text}")).await;
        }
        peer
    });
    // Callers are served while the application does not receive.
    let early = soon("a local failure", client.publish("elsewhere", "x")).await;
    assert!(early.is_err());
    let swallowed = tokio::time::timeout(Duration::from_millis(1_500), &mut flood).await;
    assert!(swallowed.is_err(), "the server must not get rid of 20 MB that nobody receives");
    for n in 1..=400u32 {
        let text = texts(&mut events, 1).await.remove(0);
        assert_eq!(text.split(' ').next(), Some(&*n.to_string()));
    }
    soon("the flood", flood).await.unwrap();
}

#[tokio::test]
async fn history_larger_than_the_buffer_does_not_hold_connect_up() {
    let server = FakeServer::start().await;
    let client = tokio::spawn(server.client().event_buffer(3).room("7").room("8").connect());
    let mut peer = server.accept().await;
    let first = peer.let_in("1:0").await["roomId"].as_str().unwrap().to_owned();
    for n in 1..=10 {
        peer.broadcast_in(&first, &format!("1:{n}"), "old").await;
    }
    peer.let_in("1:0").await;
    let (_client, mut events) = soon("connect", client).await.unwrap().unwrap();
    let mut welcomes = 0;
    while welcomes < 2 {
        welcomes += usize::from(matches!(next(&mut events).await, Incoming::Welcome { .. }));
    }
}

#[tokio::test]
async fn without_the_stream_publishing_goes_on() {
    let server = FakeServer::start().await;
    let (client, events, mut peer) = server.in_room(server.client().event_buffer(1)).await;
    drop(events);
    for n in 1..=50 {
        peer.broadcast(&format!("1:{n}"), "unheard").await;
    }
    let call = tokio::spawn(async move { client.publish("7", "x").await });
    let frame = peer.receive().await;
    peer.acknowledge(&frame, "1:51").await;
    soon("the answer", call).await.unwrap().unwrap();
}

#[tokio::test]
async fn frames_of_a_later_version_are_passed_over_and_nonsense_reconnects() {
    let server = FakeServer::start().await;
    let (_client, mut events, mut peer) = server.in_room(server.client()).await;
    peer.text(r#"{"event":"typing","roomId":"7","who":["ada"]}"#).await;
    peer.broadcast("1:1", "a").await;
    assert_eq!(texts(&mut events, 1).await, ["a"]);
    peer.text("nonsense").await;
    let mut peer = server.accept().await;
    assert_eq!(peer.let_in("1:1").await["after"], "1:1");
    let reason = loop {
        if let Some(Incoming::Disconnected { reason, .. }) = soon("an event", events.next()).await {
            break reason;
        }
    };
    assert!(reason.contains("a frame that is none"), "{reason}");
}
