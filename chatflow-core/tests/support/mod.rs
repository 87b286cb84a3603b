//! A client of an engine in the same process, for tests: plain frames over an in-memory stream.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;

use chatflow_core::protocol::Dialect;
use chatflow_core::{ConnectRequest, Engine, MessageId};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// Long enough for a busy machine; nothing waits this long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub socket: WebSocketStream<DuplexStream>,
}

pub fn request(room: &str) -> ConnectRequest {
    let mut request = ConnectRequest::default();
    request.room = Some(room.to_owned());
    request
}

pub fn v1(room: Option<&str>) -> ConnectRequest {
    let mut request = ConnectRequest::default();
    request.room = room.map(str::to_owned);
    request.dialect = Dialect::V1;
    request
}

pub fn text(message: &str) -> Value {
    json!({"userId": "7", "username": "ada", "message": message, "timestamp": "2026-11-20T11:02:10Z", "messageType": "TEXT"})
}

pub fn text_with(message: &str, id: MessageId) -> Value {
    let mut frame = text(message);
    frame["messageId"] = id.to_string().into();
    frame
}

impl Client {
    pub async fn connect(engine: &Engine, request: ConnectRequest) -> Self {
        Self::with_buffer(engine, request, 64 << 10).await
    }

    /// `buffer` is what the "network" takes before a client that does not read blocks the server.
    pub async fn with_buffer(engine: &Engine, request: ConnectRequest, buffer: usize) -> Self {
        let (near, far) = tokio::io::duplex(buffer);
        let engine = engine.clone();
        tokio::spawn(async move { engine.connect(far, request).await });
        Self { socket: WebSocketStream::from_raw_socket(near, Role::Client, None).await }
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    /// The next frame, whatever it is.
    pub async fn frame(&mut self) -> Message {
        let next = timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
        next.expect("the connection goes on").expect("a good frame")
    }

    /// The next JSON frame.
    pub async fn json(&mut self) -> Value {
        loop {
            match self.frame().await {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("not a text frame: {other:?}"),
            }
        }
    }

    /// The next JSON frame that `wanted` accepts; others are passed over.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.json().await;
            if wanted(&frame) {
                return frame;
            }
        }
    }

    pub async fn answer(&mut self) -> Value {
        self.until(|frame| frame.get("status").is_some()).await
    }

    pub async fn broadcast(&mut self) -> Value {
        self.until(|frame| frame.get("status").is_none() && frame.get("event").is_none()).await
    }

    pub async fn event(&mut self, name: &str) -> Value {
        self.until(|frame| frame["event"] == name).await
    }

    /// The code of the close frame; other frames are passed over.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match timeout(PATIENCE, self.socket.next()).await.expect("a close in time") {
                Some(Ok(Message::Close(Some(close)))) => return close.code.into(),
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
