//! Connecting: who is told what, where to go, and when to give up.

use std::time::Duration;

use chatflow_client::{Client, ConnectFailure, Deliver, Error, Incoming};
use serde_json::json;

use crate::fake::{FakeServer, next, soon};

async fn connect_failure(server: &FakeServer) -> tokio::task::JoinHandle<Error> {
    let builder = server.client().room("7").connect_timeout(Duration::from_secs(2));
    tokio::spawn(async move { builder.connect().await.expect_err("no connection") })
}

/// An address where nobody listens.
async fn nobody() -> String {
    FakeServer::start().await.url()
}

#[tokio::test]
async fn the_token_goes_into_the_header_and_options_into_the_query() {
    let server = FakeServer::start().await;
    let client = tokio::spawn(server.client().token("secret").deliver(Deliver::None).connect());
    let peer = server.accept().await;
    assert_eq!(peer.authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(peer.uri, "/chat?ack=accepted&deliver=none");
    soon("connect", client).await.unwrap().unwrap();
    assert!(!format!("{:?}", server.client().token("secret")).contains("secret"));
    assert!(matches!(server.client().token("a\nb").connect().await, Err(Error::BadToken)));
}

#[tokio::test]
async fn nobody_listening_is_said_with_the_address() {
    let url = nobody().await;
    let error = Client::builder(url.as_str()).connect().await.unwrap_err();
    assert_eq!(error.to_string(), format!("{url}: connection refused: nobody listens there"));
}

#[tokio::test]
async fn a_name_without_address_is_said() {
    let error = Client::builder("ws://no-such-host.invalid:1").connect().await.unwrap_err().to_string();
    assert!(error.starts_with("ws://no-such-host.invalid:1: the name \"no-such-host.invalid\" could not be resolved"), "{error}");
}

#[tokio::test]
async fn an_http_status_is_said_with_the_problem() {
    let server = FakeServer::start().await;
    let call = connect_failure(&server).await;
    let body = r#"{"code":"overloaded","detail":"too many connections"}"#;
    let response = format!("HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    server.refuse(&response).await;
    let Error::Unreachable(errors) = call.await.unwrap() else { panic!("unreachable") };
    let ConnectFailure::Status { status: 503, detail, retry_after } = &errors[0].failure else { panic!("{}", errors[0]) };
    assert_eq!((detail.as_str(), *retry_after), ("too many connections", Some(Duration::from_secs(3))));
}

#[tokio::test]
async fn what_is_no_chatflow_server_is_said() {
    let server = FakeServer::start().await;
    let call = connect_failure(&server).await;
    server.refuse("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let error = call.await.unwrap().to_string();
    assert!(error.contains("HTTP 200 instead of upgrading"), "{error}");

    let call = connect_failure(&server).await;
    server.refuse("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    let error = call.await.unwrap().to_string();
    assert!(error.contains("no WebSocket connection"), "{error}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_times_out() {
    let server = FakeServer::start().await;
    let builder = server.client().connect_timeout(Duration::from_millis(100));
    let error = builder.connect().await.unwrap_err().to_string();
    assert!(error.ends_with("no answer within 0.1 s"), "{error}");
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_server_without_tls_is_said() {
    let server = FakeServer::start().await;
    let url = server.url().replace("ws://", "wss://");
    let call = tokio::spawn(async move { Client::builder(url).connect().await.expect_err("no TLS") });
    server.refuse("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let error = call.await.unwrap().to_string();
    assert!(error.contains("TLS failed"), "{error}");
}

#[tokio::test]
async fn a_bad_token_ends_it_before_and_after_the_welcome() {
    let server = FakeServer::start().await;
    let call = connect_failure(&server).await;
    server.upgrade().await.close(3500, "the token has expired").await;
    let error = call.await.unwrap().to_string();
    assert!(error.contains("closed the connection (3500: the token has expired)"), "{error}");

    let (client, mut events, mut peer) = server.in_room(server.client()).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish("7", "x").await }
    });
    peer.receive().await;
    peer.close(3500, "the token has expired").await;
    let error = soon("the failure", waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::ClosedByServer { code: 3500, .. }), "{error}");
    assert!(matches!(client.publish("7", "x").await, Err(Error::ClosedByServer { code: 3500, .. })));
    loop {
        if let Incoming::Disconnected { code, retry_in, .. } = next(&mut events).await {
            assert_eq!((code, retry_in), (Some(3500), None));
            break;
        }
    }
    assert!(events.recv().await.is_none());
}

#[tokio::test]
async fn a_room_that_may_not_be_entered_fails_connect() {
    let server = FakeServer::start().await;
    let call = connect_failure(&server).await;
    let mut peer = server.accept().await;
    let join = peer.receive().await;
    peer.refuse(&join, "bad_room", None).await;
    assert!(matches!(call.await.unwrap(), Error::Refused(frame) if frame.code == "bad_room"));
    assert_eq!(peer.closed().await, Some(1000));
}

#[tokio::test]
async fn a_join_that_is_refused_fails_and_the_client_goes_on() {
    let server = FakeServer::start().await;
    let (client, _events, mut peer) = server.in_room(server.client()).await;
    let join = tokio::spawn({
        let client = client.clone();
        async move { client.join("8").await }
    });
    let asked = peer.receive().await;
    peer.refuse(&asked, "forbidden", None).await;
    assert!(matches!(join.await.unwrap(), Err(Error::Refused(frame)) if frame.code == "forbidden"));
    client.leave("8").await.unwrap();
}

#[tokio::test]
async fn it_goes_to_the_next_server_and_back() {
    let (first, second) = (FakeServer::start().await, FakeServer::start().await);
    let urls = format!("{},{},{}", nobody().await, first.url(), second.url());
    let client = tokio::spawn(Client::builder(urls).user("42", "ada").room("7").connect());
    let mut peer = first.accept().await;
    peer.let_in("1:0").await;
    let (_client, mut events) = soon("connect", client).await.unwrap().unwrap();
    assert!(matches!(next(&mut events).await, Incoming::Disconnected { retry_in: Some(_), .. }));
    assert!(matches!(next(&mut events).await, Incoming::Connected { url, .. } if url == first.url()));
    drop((first, peer));
    assert_eq!(second.accept().await.let_in("1:0").await["after"], "1:0");
}

#[tokio::test]
async fn a_hint_to_reconnect_is_followed_to_the_server_that_it_names() {
    let (first, second) = (FakeServer::start().await, FakeServer::start().await);
    let (_client, mut events, mut peer) = first.in_room(first.client()).await;
    peer.send(json!({"event": "reconnect", "delayMs": 80, "alternates": [second.url()]})).await;
    let told = tokio::time::Instant::now();
    let moved = tokio::join!(second.accept(), peer.closed()).0;
    assert!(told.elapsed() >= Duration::from_millis(80), "not before {:?}", told.elapsed());
    let mut moved = moved;
    assert_eq!(moved.let_in("1:0").await["after"], "1:0");
    loop {
        if let Incoming::Reconnect { delay, alternates } = next(&mut events).await {
            assert_eq!((delay, alternates), (Duration::from_millis(80), vec![second.url()]));
            break;
        }
    }
}

#[tokio::test]
async fn a_restarting_server_is_left_alone_for_as_long_as_it_asked() {
    let server = FakeServer::start().await;
    let (_client, _events, mut peer) = server.in_room(server.client()).await;
    peer.send(json!({"event": "reconnect", "delayMs": 200, "alternates": []})).await;
    let told = tokio::time::Instant::now();
    peer.close(1012, "restarting").await;
    let mut peer = server.accept().await;
    assert!(told.elapsed() >= Duration::from_millis(200), "not after {:?}", told.elapsed());
    peer.let_in("1:0").await;
}

#[tokio::test]
async fn closing_is_told_to_the_server_and_to_those_who_wait() {
    let server = FakeServer::start().await;
    let (client, mut events, mut peer) = server.in_room(server.client()).await;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish("7", "x").await }
    });
    peer.receive().await;
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    assert_eq!(peer.closed().await, Some(1000));
    assert!(matches!(soon("the failure", waiting).await.unwrap(), Err(Error::Closed)));
    soon("the close", closing).await.unwrap();
    assert!(matches!(client.join("8").await, Err(Error::Closed)));
    while soon("the end", events.recv()).await.is_some() {}
}

#[tokio::test]
async fn the_last_handle_and_the_stream_dropped_end_it() {
    let server = FakeServer::start().await;
    let (client, events, mut peer) = server.in_room(server.client()).await;
    drop(client);
    peer.broadcast("1:1", "still listening").await;
    drop(events);
    assert_eq!(peer.closed().await, Some(1000));
}
