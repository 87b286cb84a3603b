//! A server played by the test: it accepts, reads and writes frames one by one, so each misbehaviour is a line of the test.

use std::time::Duration;

use chatflow_client::{Backoff, Client, ClientBuilder, Events, Incoming};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// No step of a test takes longer, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits one step, or says which one did not come.
pub(crate) async fn soon<T>(what: &str, step: impl Future<Output = T>) -> T {
    timeout(PATIENCE, step).await.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

pub(crate) struct FakeServer(TcpListener);

impl FakeServer {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    /// A client of this server that reconnects fast.
    pub(crate) fn client(&self) -> ClientBuilder {
        let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(50));
        Client::builder(self.url()).user("42", "ada").backoff(backoff).answer_timeout(PATIENCE)
    }

    /// The next connection, upgraded and welcomed.
    pub(crate) async fn accept(&self) -> Peer {
        let mut peer = self.upgrade().await;
        peer.send(welcome(None)).await;
        peer
    }

    /// The next connection, upgraded and no more.
    pub(crate) async fn upgrade(&self) -> Peer {
        let mut headers = (String::new(), None);
        let stream = self.tcp().await;
        #[allow(clippy::result_large_err)]
        let check = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            headers.0 = request.uri().to_string();
            headers.1 = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
            assert_eq!(request.headers()["sec-websocket-protocol"], "chatflow.v1");
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chatflow.v1"));
            Ok(response)
        };
        let socket = soon("the upgrade", accept_hdr_async(stream, check)).await.unwrap();
        Peer { socket, uri: headers.0, authorization: headers.1 }
    }

    /// The next connection, answered with a text that is no upgrade.
    pub(crate) async fn refuse(&self, response: &str) {
        let mut stream = self.tcp().await;
        let mut request = [0; 4096];
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
        stream.write_all(response.as_bytes()).await.unwrap();
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        soon("a connection", self.0.accept()).await.unwrap().0
    }

    /// A client in room 7, and the server's side of it, at position 1:0.
    pub(crate) async fn in_room(&self, builder: ClientBuilder) -> (Client, Events, Peer) {
        let client = tokio::spawn(builder.room("7").connect());
        let mut peer = self.accept().await;
        peer.let_in("1:0").await;
        let (client, events) = soon("connect", client).await.unwrap().unwrap();
        (client, events, peer)
    }
}

/// The server's side of one connection. Dropped, it is cut without a close frame.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    pub(crate) uri: String,
    pub(crate) authorization: Option<String>,
}

impl Peer {
    pub(crate) async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The client's next frame.
    pub(crate) async fn receive(&mut self) -> Value {
        loop {
            match soon("a frame of the client", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("a text, not {other:?}"),
            }
        }
    }

    /// Nothing comes for as long as a client that wanted to say something would need.
    pub(crate) async fn is_silent(&mut self) {
        let frame = timeout(Duration::from_millis(50), self.socket.next()).await;
        assert!(frame.is_err(), "{frame:?} came");
    }

    /// Waits for a ping.
    pub(crate) async fn pinged(&mut self) {
        let next = soon("a ping", self.socket.next()).await;
        assert!(matches!(next, Some(Ok(Message::Ping(_)))), "{next:?}");
    }

    /// Reads until the client has closed the connection; its close code.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            match soon("the client's close", self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => return frame.map(|f| f.code.into()),
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) | None => return None,
                Some(Err(_)) => return None,
            }
        }
    }

    /// Reads a join and grants it; returns it.
    pub(crate) async fn let_in(&mut self, position: &str) -> Value {
        self.answer_join(position, true).await
    }

    pub(crate) async fn answer_join(&mut self, position: &str, recovered: bool) -> Value {
        let join = self.receive().await;
        assert_eq!(join["op"], "join", "{join}");
        let mut frame = welcome(Some(position));
        frame["roomId"] = join["roomId"].clone();
        frame["ref"] = join["ref"].clone();
        frame["recovered"] = recovered.into();
        if !recovered {
            frame["reason"] = "position_lost".into();
        }
        self.send(frame).await;
        join
    }

    pub(crate) async fn broadcast(&mut self, position: &str, text: &str) {
        self.broadcast_in("7", position, text).await;
    }

    pub(crate) async fn broadcast_in(&mut self, room: &str, position: &str, text: &str) {
        self.send(json!({
            "messageId": uuid::Uuid::now_v7().to_string(), "roomId": room, "userId": "1", "username": "bob", "message": text,
            "messageType": "TEXT", "timestamp": "2026-11-20T11:02:10Z", "serverTimestamp": "2026-11-20T11:02:10.123Z", "position": position,
        }))
        .await;
    }

    pub(crate) async fn acknowledge(&mut self, publish: &Value, position: &str) {
        self.send(json!({
            "status": "SUCCESS", "messageId": publish["messageId"], "roomId": publish["roomId"], "position": position, "ref": publish["ref"],
            "timestamp": "2026-11-20T11:02:10.123Z", "serverTimestamp": "2026-11-20T11:02:10.123Z", "clientTimestamp": publish["timestamp"],
        }))
        .await;
    }

    pub(crate) async fn refuse(&mut self, asked: &Value, code: &str, retry_after_ms: Option<u64>) {
        self.send(json!({
            "status": "error", "code": code, "errors": [format!("{code}!")], "messageId": asked["messageId"], "ref": asked["ref"],
            "retryable": retry_after_ms.is_some(), "retryAfterMs": retry_after_ms, "timestamp": "2026-11-20T11:02:10.123Z",
        }))
        .await;
    }

    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        let _ = self.socket.close(Some(frame)).await;
        let _ = timeout(Duration::from_secs(1), async { while self.socket.next().await.is_some_and(|m| m.is_ok()) {} }).await;
    }
}

fn welcome(position: Option<&str>) -> Value {
    let mut frame = json!({
        "event": "welcome", "session": "s1", "recovered": true, "durable": true,
        "limits": {"frame": 65_536, "publishRate": 0, "rooms": 8, "inFlight": 1_024},
    });
    if let Some(position) = position {
        frame["position"] = position.into();
    }
    frame
}

/// The next event.
pub(crate) async fn next(events: &mut Events) -> Incoming {
    soon("an event", events.recv()).await.expect("the client is open")
}

/// The texts of the next messages, whatever else happens in between.
pub(crate) async fn texts(events: &mut Events, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        if let Incoming::Message(message) = next(events).await {
            texts.push(message.chat().unwrap().text.into_owned());
        }
    }
    texts
}
