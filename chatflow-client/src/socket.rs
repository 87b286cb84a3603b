//! One WebSocket connection: frames out, texts in, and whether the other side is still there.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chatflow_core::protocol::close;
use futures::{Sink, SinkExt, StreamExt};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use crate::transport::Transport;

/// How long the last frames of a connection may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The close code, if the other side sent one.
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Lost {
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self { code: None, reason: reason.into() }
    }

    /// Whether to connect again.
    pub(crate) fn comes_back(&self) -> bool {
        self.code.is_none_or(close::comes_back)
    }
}

#[derive(Debug)]
pub(crate) struct Socket {
    stream: WebSocketStream<Transport>,
    queue: VecDeque<Message>,
    unflushed: bool,
    idle: Duration,
    heard: Instant,
    pinged: bool,
}

impl Socket {
    /// `idle`: how long the other side may be silent.
    pub(crate) fn new(stream: WebSocketStream<Transport>, idle: Duration) -> Self {
        Self { stream, queue: VecDeque::new(), unflushed: false, idle, heard: Instant::now(), pinged: false }
    }

    /// Will send `frames` as [`next`](Self::next) is awaited. Bounded by what the callers may have unanswered.
    pub(crate) fn queue(&mut self, frames: impl Iterator<Item = Utf8Bytes>) {
        self.queue.extend(frames.map(Message::Text));
    }

    /// The next text; meanwhile sends what is queued. Without `read` it only sends, and waits for ever.
    ///
    /// # Cancel safety
    /// Dropping the future loses no frame in either direction.
    pub(crate) async fn next(&mut self, read: bool) -> Result<Utf8Bytes, Lost> {
        if !read {
            // Who does not listen can't say that the other side is silent.
            (self.heard, self.pinged) = (Instant::now(), false);
        }
        loop {
            let patience = self.heard + if self.pinged { self.idle } else { self.idle / 2 };
            let message = tokio::select! {
                message = poll_fn(|cx| self.poll(cx, read)) => message?,
                () = sleep_until(patience), if read => {
                    if self.pinged {
                        return Err(Lost::because(format!("the server was silent for {} s", self.idle.as_secs_f32())));
                    }
                    self.pinged = true;
                    self.queue.push_back(Message::Ping(Default::default()));
                    continue;
                }
            };
            (self.heard, self.pinged) = (Instant::now(), false);
            match message {
                Message::Text(text) => return Ok(text),
                Message::Close(frame) => return Err(self.closed(frame).await),
                Message::Binary(_) => return Err(Lost::because("the server sent a binary frame")),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Closes it in order, if the other side takes part.
    pub(crate) async fn close(mut self) {
        let frame = CloseFrame { code: close::NORMAL.into(), reason: Default::default() };
        let _ = timeout(GOODBYE, async {
            while let Some(message) = self.queue.pop_front() {
                self.stream.feed(message).await?;
            }
            self.stream.close(Some(frame)).await?;
            while self.stream.next().await.transpose()?.is_some() {}
            Ok::<_, tungstenite::Error>(())
        })
        .await;
    }

    async fn closed(&mut self, frame: Option<CloseFrame>) -> Lost {
        // The reply to the close frame is a courtesy: no reconnect waits for it.
        let _ = timeout(Duration::from_millis(50), self.stream.flush()).await;
        match frame {
            Some(frame) => Lost { code: Some(frame.code.into()), reason: frame.reason.to_string() },
            None => Lost::because("the server closed the connection without a reason"),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<Message, Lost>> {
        self.poll_send(cx).map_err(|e| lost(&e))?;
        if !read {
            return Poll::Pending;
        }
        match ready!(self.stream.poll_next_unpin(cx)) {
            Some(Ok(message)) => Poll::Ready(Ok(message)),
            Some(Err(error)) => Poll::Ready(Err(lost(&error))),
            None => Poll::Ready(Err(Lost::because("the connection ended"))),
        }
    }

    /// Hands over what is queued and flushes once: many messages that wait share a write.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<(), tungstenite::Error> {
        let mut stream = std::pin::Pin::new(&mut self.stream);
        while !self.queue.is_empty() {
            match stream.as_mut().poll_ready(cx)? {
                Poll::Pending => return Ok(()),
                Poll::Ready(()) => {
                    let Some(message) = self.queue.pop_front() else { break };
                    self.unflushed = true;
                    stream.as_mut().start_send(message)?;
                }
            }
        }
        if self.unflushed && stream.as_mut().poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }
}

fn lost(error: &tungstenite::Error) -> Lost {
    use tungstenite::Error::{AlreadyClosed, ConnectionClosed, Io, Protocol};
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        ConnectionClosed | AlreadyClosed | Protocol(ResetWithoutClosingHandshake) => Lost::because("the connection was cut"),
        Io(error) => Lost::because(format!("the connection was cut ({error})")),
        other => Lost::because(other.to_string()),
    }
}
