//! One WebSocket connection in the dialect `chatflow.v1`, on a socket whose buffers are known.

use std::net::SocketAddr;
use std::time::Duration;

use chatflow_core::protocol::SUBPROTOCOL;
use futures::{SinkExt, StreamExt};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, TcpMaxSeg};
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
    /// Connects to `path`, such as `/chat/7?after=1:2`.
    ///
    /// # Errors
    /// Nobody listens, or the server says no.
    pub async fn connect(address: SocketAddr, path: &str) -> Result<Self, Error> {
        Self::over(TcpSocket::new_v4()?, address, path).await
    }

    /// The same as over a thin line: kernels hold some ten KiB on the way, where on a loopback they hold megabytes, so that the
    /// server soon notices when this client does not read.
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub async fn connect_thinly(address: SocketAddr, path: &str) -> Result<Self, Error> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 << 10)?;
        // The server's send buffer is sized by the segments that we take.
        setsockopt(&socket, TcpMaxSeg, &536).map_err(std::io::Error::from)?;
        Self::over(socket, address, path).await
    }

    /// Makes a thin line wide again: reading megabytes through a window of a few KiB takes minutes.
    ///
    /// # Panics
    /// The system does not let us.
    pub fn widen(&self) {
        setsockopt(self.0.get_ref(), RcvBuf, &(4 << 20)).unwrap();
    }

    async fn over(socket: TcpSocket, address: SocketAddr, path: &str) -> Result<Self, Error> {
        let opening = async {
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
