//! What a client tells its application.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use chatflow_core::protocol::{ErrorFrame, MemberInfo};
use chatflow_core::{MessageId, Position, RoomId};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The stream of what happens: messages of all rooms, and the state of the connection.
///
/// It holds a bounded number of events. While it is full the client does not read its socket, so **neither do answers
/// arrive**: receive in a task of its own, or drop this stream if only publishing matters (then events are thrown
/// away). An application that stalls for longer than the server's ping time-out is disconnected and resumes where it
/// stopped.
#[derive(Debug)]
pub struct Events(pub(crate) mpsc::Receiver<Incoming>);

impl Events {
    /// The next event; `None` once the client is closed and everything was received.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }

    /// The next event if there is one at hand.
    pub fn try_recv(&mut self) -> Option<Incoming> {
        self.0.try_recv().ok()
    }
}

impl futures::Stream for Events {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.0.poll_recv(cx)
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Incoming {
    /// A message in a room, in position order, each once.
    Message(Message),
    /// The connection stands.
    Connected {
        /// The server.
        url: String,
        /// The server's name for this connection.
        session: String,
        /// Whether acknowledged messages survive the server.
        durable: bool,
    },
    /// The connection was lost, or an attempt to get it back failed.
    Disconnected {
        /// The WebSocket close code, if there was one.
        code: Option<u16>,
        /// What happened; may hold untrusted text of the server's.
        reason: String,
        /// When the next attempt begins; `None`: there will be none, the client is closed.
        retry_in: Option<Duration>,
    },
    /// A room was entered, or entered again after a reconnect.
    Welcome {
        /// The room.
        room: RoomId,
        /// Its messages follow this position.
        position: Option<Position>,
        /// Whether nothing is missing since the position that was resumed from; true on a first join.
        recovered: bool,
        /// Why not.
        reason: Option<String>,
        /// Whether acknowledged messages survive the server.
        durable: bool,
    },
    /// A room was left.
    Left {
        /// The room.
        room: RoomId,
    },
    /// The server passed messages over because this member was too slow; ask the history for them.
    Gap {
        /// The room.
        room: RoomId,
        /// The last position before the gap.
        after: Position,
        /// The next messages follow this position.
        position: Position,
    },
    /// Who came and went. The first one after a welcome names everybody, unless the room is large.
    Presence {
        /// The room.
        room: RoomId,
        /// How many members it has on this node.
        count: usize,
        /// Who came, or changed name.
        joined: Vec<MemberInfo>,
        /// The sessions that went.
        left: Vec<String>,
    },
    /// The server will close soon; the client moves by itself.
    Reconnect {
        /// The wait that the server asks for.
        delay: Duration,
        /// Other servers that it names.
        alternates: Vec<String>,
    },
    /// A room could not be entered again, or an error came that belongs to no call.
    Refused {
        /// The room, if it is about one; the client is no member of it any more.
        room: Option<RoomId>,
        /// What the server says.
        error: ErrorFrame,
    },
}

/// A message that was broadcast in a room.
#[derive(Clone)]
pub struct Message {
    pub(crate) raw: Utf8Bytes,
    pub(crate) room: RoomId,
    pub(crate) id: MessageId,
    pub(crate) position: Option<Position>,
}

impl Message {
    /// Its own id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Its room.
    pub fn room(&self) -> &RoomId {
        &self.room
    }

    /// Its place in the room's log.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// The JSON object as the server sent it.
    pub fn raw(&self) -> &str {
        self.raw.as_str()
    }

    /// Reads it as a chat message. Its texts are what somebody typed: escape them before a terminal or a page sees them.
    ///
    /// # Errors
    /// It is of another form: see [`json`](Self::json).
    pub fn chat(&self) -> Result<Chat<'_>, serde_json::Error> {
        self.json()
    }

    /// Reads it in the application's own form.
    ///
    /// ```no_run
    /// #[derive(serde::Deserialize)]
    /// struct Tick<'a> {
    ///     symbol: &'a str,
    ///     price: f64,
    /// }
    /// # fn show(message: chatflow_client::Message) -> serde_json::Result<()> {
    /// let Tick { symbol, price } = message.json()?;
    /// println!("{symbol} {price}");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// It is not of that form.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.raw())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).field("room", &self.room).field("position", &self.position).finish_non_exhaustive()
    }
}

/// The fields of a chat message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Chat<'a> {
    /// Who said it.
    #[serde(borrow)]
    pub user_id: Cow<'a, str>,
    /// The name that they gave.
    #[serde(borrow)]
    pub username: Cow<'a, str>,
    /// What they said.
    #[serde(borrow, rename = "message")]
    pub text: Cow<'a, str>,
    /// When they say that they said it.
    #[serde(borrow)]
    pub timestamp: Cow<'a, str>,
    /// `TEXT`, `JOIN`, `LEAVE` or the application's own.
    #[serde(borrow, rename = "messageType")]
    pub kind: Cow<'a, str>,
    /// When the server accepted it.
    #[serde(borrow)]
    pub server_timestamp: Cow<'a, str>,
}
