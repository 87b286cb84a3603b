//! One WebSocket connection in the dialect `chatflow.v1`, on a socket whose buffers are known.

use std::net::SocketAddr;
use std::time::Duration;

use chatflow_core::protocol::SUBPROTOCOL;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

/// How long connecting may take.
const OPENING: Duration = Duration::from_secs(10);

/// A chat message as a client sends it.
pub fn text_message(room: &str, id: Uuid, text: &str) -> Value {
    json!({
        "messageId": id, "roomId": room, "userId": 7, "username": "publisher", "message": text,
        "timestamp": "2026-11-20T11:02:10Z", "messageType": "TEXT",
    })
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// A frame of JSON.
    Json(Value),
    /// The server closes, with this code.
    Closed(u16),
    /// The connection is gone without a word.
    Cut,
}

/// A connection.
#[derive(Debug)]
pub struct Socket(pub WebSocketStream<TcpStream>);

impl Socket {
    /// Connects to `path`, such as `/chat/7?after=1:2`. With `receive_buffer`, the kernel takes no more than about that many bytes
    /// for us.
    ///
    /// # Errors
    /// Nobody listens, or the server says no.
    pub async fn connect(address: SocketAddr, path: &str, receive_buffer: Option<u32>) -> Result<Self, Error> {
        let opening = async {
            let socket = TcpSocket::new_v4()?;
            if let Some(bytes) = receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            let mut request = format!("ws://{address}{path}").into_client_request()?;
            request.headers_mut().insert("Sec-WebSocket-Protocol", SUBPROTOCOL.parse()?);
            let config = WebSocketConfig::default().read_buffer_size(8 << 10);
            Ok(Self(tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?.0))
        };
        timeout(OPENING, opening).await.map_err(|_| Error::Io(std::io::ErrorKind::TimedOut.into()))?
    }

    /// Sends a frame of JSON.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, frame: &Value) -> Result<(), Error> {
        self.0.send(Message::text(frame.to_string())).await
    }

    /// What comes next. Cancel safe.
    pub async fn next(&mut self) -> Frame {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Frame::Json(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(close))) => {
                    // The server waits for its close frame to come back.
                    let _ = self.0.flush().await;
                    return Frame::Closed(close.map_or(1005, |close| close.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Frame::Cut,
            }
        }
    }

    /// The next frame of JSON that `wanted` wants.
    ///
    /// # Panics
    /// It does not come within 10 s, or the connection ends.
    pub async fn expect(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                match self.next().await {
                    Frame::Json(frame) if wanted(&frame) => return frame,
                    Frame::Json(_) => {}
                    end => panic!("waiting for {what}: {end:?}"),
                }
            }
        };
        timeout(OPENING, waiting).await.unwrap_or_else(|_| panic!("never came: {what}"))
    }
}
