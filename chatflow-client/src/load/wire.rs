//! Connections: where to, and frames in and out, many at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::str::FromStr;
use std::task::Poll;
use std::time::Duration;

use futures::{Sink, Stream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// How long a connection may take to stand.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The most frames that are taken from a socket at a time.
const BATCH: usize = 512;

/// A server: `ws://host[:port][/path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    authority: String,
    base: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|e| format!("{e}; write ws://host:port"))?;
        if uri.scheme_str() != Some("ws") {
            return Err("write ws://host:port (the load speaks plain TCP only)".into());
        }
        let host = uri.host().filter(|h| !h.is_empty()).ok_or("no host; write ws://host:port")?;
        if uri.query().is_some() {
            return Err("a query is not allowed here".into());
        }
        let authority = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        Ok(Self { authority, base: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ws://{}{}", self.authority, self.base)
    }
}

impl Target {
    /// The address of an HTTP resource of this server.
    pub(super) fn http(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.authority, self.base)
    }

    /// Connects to `path` of this server.
    ///
    /// # Errors
    /// Why not, for a person.
    pub(super) async fn connect(&self, path: &str, subprotocol: Option<&'static str>) -> Result<Socket, String> {
        let attempt = async {
            let tcp = TcpStream::connect(&self.authority).await.map_err(|e| e.to_string())?;
            tcp.set_nodelay(true).map_err(|e| e.to_string())?;
            let mut request = format!("{self}{path}").into_client_request().map_err(|e| e.to_string())?;
            if let Some(name) = subprotocol {
                request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(name));
            }
            // Frames are written together, by one flush; how many there are is bounded by what is in flight.
            let config = WebSocketConfig::default().read_buffer_size(128 << 10).write_buffer_size(256 << 10);
            let (stream, _) = tokio_tungstenite::client_async_with_config(request, tcp, Some(config)).await.map_err(|e| e.to_string())?;
            Ok(Socket { stream, unflushed: false, ended: None })
        };
        let result = tokio::time::timeout(HANDSHAKE, attempt).await;
        result.unwrap_or_else(|_| Err("no handshake within 5 s".into())).map_err(|why: String| format!("{self}{path}: {why}"))
    }
}

/// A connection has ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// The close code, if the server said one.
    pub(super) code: Option<u16>,
    /// Why, for a person.
    pub(super) reason: String,
}

impl Ended {
    /// A short name of what happened: `close_3008`, or `disconnected` without a code.
    pub(super) fn name(&self) -> String {
        self.code.map_or_else(|| "disconnected".into(), |code| format!("close_{code}"))
    }
}

/// A WebSocket connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: WebSocketStream<TcpStream>,
    unflushed: bool,
    ended: Option<Ended>,
}

impl Socket {
    /// Writes a frame, which goes out with the next [`read`](Self::read).
    pub(super) fn write(&mut self, frame: String) -> Result<(), Ended> {
        self.unflushed = true;
        // Without `poll_ready`: tungstenite buffers what can't be written now, and waiting here without reading could
        // wait for a server that waits for this side to read.
        Pin::new(&mut self.stream).start_send(Message::text(frame)).map_err(|e| Ended { code: None, reason: e.to_string() })
    }

    /// Flushes what was written and waits for frames; adds all that are there, up to some hundred, to `frames`.
    ///
    /// # Cancel safety
    /// Cancelled, nothing is lost.
    pub(super) async fn read(&mut self, frames: &mut Vec<Utf8Bytes>) -> Result<(), Ended> {
        poll_fn(|cx| {
            if let Some(ended) = self.ended.take() {
                return Poll::Ready(Err(ended));
            }
            if self.unflushed {
                match Pin::new(&mut self.stream).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(Ended { code: None, reason: e.to_string() })),
                    Poll::Pending => {}
                }
            }
            while frames.len() < BATCH {
                let ended = match Pin::new(&mut self.stream).poll_next(cx) {
                    Poll::Ready(Some(Ok(Message::Text(text)))) => {
                        frames.push(text);
                        continue;
                    }
                    Poll::Ready(Some(Ok(Message::Close(Some(close))))) => {
                        Ended { code: Some(close.code.into()), reason: close.reason.to_string() }
                    }
                    Poll::Ready(Some(Ok(Message::Close(None)))) => Ended { code: None, reason: "closed without a code".into() },
                    // Pings are answered by the library.
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(e))) => Ended { code: None, reason: e.to_string() },
                    Poll::Ready(None) => Ended { code: None, reason: "end of stream".into() },
                    Poll::Pending => break,
                };
                if frames.is_empty() {
                    return Poll::Ready(Err(ended));
                }
                self.ended = Some(ended);
                break;
            }
            if frames.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await
    }

    /// Says good-bye and waits a moment for the other side to do so.
    pub(super) async fn close(mut self) {
        let good_bye = async {
            let _ = self.stream.close(None).await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), good_bye).await;
    }
}
