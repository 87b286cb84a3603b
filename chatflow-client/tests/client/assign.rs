//! Asking `/api/v1/assign`: where a client begins, and where it goes when its server is gone.

use std::time::{Duration, Instant};

use chatflow_client::{Backoff, Client, ClientBuilder, JoinOptions};
use serde_json::json;

use crate::fake::{FakeServer, next, soon, texts};

/// A client of these servers that asks which is best.
fn client(servers: &[&FakeServer]) -> ClientBuilder {
    let urls: Vec<_> = servers.iter().map(|server| server.url()).collect();
    let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(50));
    Client::builder(urls.join(",")).user("42", "ada").backoff(backoff).assign(true)
}

/// Answers the next request, as one that asks for the best server, with `best`.
async fn assign(server: &FakeServer, best: &str) {
    let body = json!({"node": "n", "url": best.replace("ws", "http"), "ws": best}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    server.refuse(&(head + &body)).await;
}

#[tokio::test]
async fn it_begins_where_it_is_assigned() {
    let (listed, best) = (FakeServer::start().await, FakeServer::start().await);
    let connect = tokio::spawn(client(&[&listed]).token("secret").room("7").connect());
    assign(&listed, &best.url()).await;
    let mut peer = best.accept().await;
    assert_eq!(peer.authorization.as_deref(), Some("Bearer secret"));
    peer.let_in("1:0").await;
    soon("connect", connect).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failover_goes_to_the_assigned_server_to_the_same_place_without_a_gap() {
    let (first, second, best) = (FakeServer::start().await, FakeServer::start().await, FakeServer::start().await);
    let connect = tokio::spawn(client(&[&first, &second]).room_with("7", JoinOptions::default()).connect());
    assign(&first, &first.url()).await;
    let mut peer = first.accept().await;
    peer.let_in("1:0").await;
    let (_client, mut events) = soon("connect", connect).await.unwrap().unwrap();
    for (position, text) in [("1:1", "a"), ("1:4", "b")] {
        peer.broadcast(position, text).await;
    }
    assert_eq!(texts(&mut events, 2).await, ["a", "b"]);

    // The whole server dies, not only the connection.
    drop(first);
    drop(peer);
    assign(&second, &best.url()).await;
    let mut peer = best.accept().await;
    let join = peer.let_in("1:4").await;
    assert_eq!((&join["roomId"], &join["after"]), (&json!("7"), &json!("1:4")));
    for (position, text) in [("1:4", "b"), ("1:5", "c"), ("1:9", "d")] {
        peer.broadcast(position, text).await;
    }
    assert_eq!(texts(&mut events, 2).await, ["c", "d"], "nothing twice, nothing left out");
}

#[tokio::test]
async fn who_is_assigned_to_nobody_that_lives_goes_on_in_turn() {
    let (first, second) = (FakeServer::start().await, FakeServer::start().await);
    let gone = FakeServer::start().await.url();
    let connect = tokio::spawn(client(&[&first, &second]).connect());
    assign(&first, &gone).await;
    first.accept().await;
    soon("connect", connect).await.unwrap().unwrap();
}

#[tokio::test]
async fn servers_that_say_nothing_useful_cost_a_second_at_most() {
    for answer in
        ["HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"ws\":\"eh?\"}", ""]
    {
        let server = FakeServer::start().await;
        let begun = Instant::now();
        let connect = tokio::spawn(client(&[&server]).connect());
        match answer {
            // Taken, and never answered.
            "" => {
                let silent = server.tcp().await;
                server.accept().await;
                assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
                drop(silent);
            }
            answer => {
                server.refuse(answer).await;
                server.accept().await;
            }
        }
        soon("connect", connect).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_silent_server_does_not_keep_the_next_from_being_asked() {
    let (silent, second, best) = (FakeServer::start().await, FakeServer::start().await, FakeServer::start().await);
    let connect = tokio::spawn(client(&[&silent, &second]).connect());
    let _held = silent.tcp().await;
    assign(&second, &best.url()).await;
    best.accept().await;
    soon("connect", connect).await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_is_asked_unless_told_so() {
    let server = FakeServer::start().await;
    let connect = tokio::spawn(server.client().connect());
    assert_eq!(server.accept().await.uri, "/chat?ack=accepted&deliver=all");
    let (_client, mut events) = soon("connect", connect).await.unwrap().unwrap();
    next(&mut events).await;
}
