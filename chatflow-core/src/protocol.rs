//! The wire protocol: close codes, error codes, and the frames that are not messages. `docs/protocol.md` shows each.

mod op;
mod write;

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};

use self::write::Within;
use crate::{MessageId, NodeId, Position, Timestamp, Violation};

pub use op::Op;
pub use write::{close_frame, put_json, put_text_frame};
pub(crate) use write::{put_position, put_timestamp, put_uuid};

/// The WebSocket subprotocol of the full dialect.
pub const SUBPROTOCOL: &str = "chatflow.v1";

/// How many errors in a row end a connection, with [`close::POLICY`].
pub const ERRORS_IN_A_ROW: u32 = 10;

/// How deep a frame from a client may nest.
pub(crate) const DEEPEST: usize = 32;
pub(crate) const TOO_DEEP: &str = "nested deeper than 32";

/// Which of the two dialects a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// No subprotocol: message frames in; answers, errors and broadcasts out, nothing else.
    #[default]
    Plain,
    /// [`SUBPROTOCOL`]: events, operations, and several rooms on one connection besides.
    V1,
}

/// WebSocket close codes. 3000–3499: come back; 3500–3999: don't.
pub mod close {
    /// Done.
    pub const NORMAL: u16 = 1000;
    /// The other side goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// The frames break RFC 6455.
    pub const PROTOCOL: u16 = 1002;
    /// A binary frame, or no such room.
    pub const UNACCEPTABLE: u16 = 1003;
    /// A text frame that is not UTF-8.
    pub const NOT_UTF8: u16 = 1007;
    /// Ten errors in a row, or another breach of what is allowed.
    pub const POLICY: u16 = 1008;
    /// A frame or message larger than `limits.frame`.
    pub const TOO_BIG: u16 = 1009;
    /// A fault of the server.
    pub const INTERNAL: u16 = 1011;
    /// The server restarts: come back after the `delayMs` of the `reconnect` event.
    pub const RESTARTING: u16 = 1012;
    /// The server has too much to do: come back later, or elsewhere.
    pub const OVERLOADED: u16 = 1013;
    /// No sign of life within the ping interval and pong time-out.
    pub const SILENT: u16 = 3000;
    /// Read too slowly; resume from the last position.
    pub const TOO_SLOW: u16 = 3008;
    /// What follows the position can't be had any more; join afresh.
    pub const POSITION_LOST: u16 = 3010;
    /// The token is not valid.
    pub const BAD_TOKEN: u16 = 3500;
    /// The user may not do this.
    pub const FORBIDDEN: u16 = 3501;

    /// Whether a client should connect again after this code.
    pub fn comes_back(code: u16) -> bool {
        !matches!(code, NORMAL | PROTOCOL | UNACCEPTABLE | NOT_UTF8 | POLICY | TOO_BIG | 3500..=3999)
    }
}

/// Stable codes of `error` frames and HTTP problems.
pub mod code {
    /// Not a JSON object, a duplicate key, or a text that is not Unicode.
    pub const BAD_JSON: &str = "bad_json";
    /// Nested deeper than 32.
    pub const TOO_DEEP: &str = "too_deep";
    /// Fields are missing, of the wrong type, or break a limit: `errors` names each.
    pub const INVALID: &str = "invalid";
    /// The frame's `roomId` is not the connection's room, or the session is not a member of it.
    pub const WRONG_ROOM: &str = "wrong_room";
    /// No such room, or not a room's name.
    pub const BAD_ROOM: &str = "bad_room";
    /// The `messageId` was used for another message.
    pub const ID_CONFLICT: &str = "id_conflict";
    /// Not allowed, or `userId`/`username` of somebody else.
    pub const FORBIDDEN: &str = "forbidden";
    /// More messages than the publish rate.
    pub const RATE_LIMITED: &str = "rate_limited";
    /// The log or a queue is full; the message was not taken.
    pub const OVERLOADED: &str = "overloaded";
    /// The broker or store is away; the message was not taken, or its outcome is not known: send it again under its id.
    pub const UNAVAILABLE: &str = "unavailable";
    /// The server is shutting down; the message was not taken.
    pub const DRAINING: &str = "draining";
    /// The entry is larger than the broker takes.
    pub const TOO_BIG: &str = "too_big";
    /// A position that is not written `"<epoch>:<offset>"`.
    pub const BAD_POSITION: &str = "bad_position";
    /// An `op` that there isn't, or with wrong fields.
    pub const BAD_OP: &str = "bad_op";
    /// A fault of the server.
    pub const INTERNAL: &str = "internal";
}

/// Somebody connected to a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberInfo {
    /// The session.
    pub session: String,
    /// The user: authenticated, or as claimed in the last message; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The name, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The node that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
}

/// An event frame of the v1 dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// First on a connection without a room, and first after joining a room.
    #[serde(rename_all = "camelCase")]
    Welcome {
        /// This connection's session.
        session: String,
        /// The room joined; absent on a connection without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room_id: Option<String>,
        /// Where the member stands: the next broadcasts follow this position. Absent without a room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
        /// Whether everything after the asked position follows; true when none was asked.
        recovered: bool,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Whether acknowledged messages survive the server.
        durable: bool,
        /// What the server allows.
        limits: WelcomeLimits,
        /// The `ref` of the join.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// Left a room.
    #[serde(rename_all = "camelCase")]
    Left {
        /// The room.
        room_id: String,
        /// The `ref` of the leave.
        #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<String>,
    },
    /// Messages were passed over: the member was too slow and its room skips.
    #[serde(rename_all = "camelCase")]
    Gap {
        /// The room.
        room_id: String,
        /// The last position before the gap; ask the history from here.
        after: Position,
        /// The next broadcasts follow this position.
        position: Position,
    },
    /// The server will close soon: connect again.
    #[serde(rename_all = "camelCase")]
    Reconnect {
        /// Wait so many milliseconds first.
        delay_ms: u64,
        /// Other servers to try.
        alternates: Vec<String>,
    },
    /// Who came and went. The first one after a `welcome` names everybody, unless the room is large.
    #[serde(rename_all = "camelCase")]
    Presence {
        /// The room.
        room_id: String,
        /// How many members it has, on all nodes.
        count: usize,
        /// Who came, or changed name.
        joined: Vec<MemberInfo>,
        /// The sessions that went.
        left: Vec<String>,
    },
}

/// The limits that a `welcome` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WelcomeLimits {
    /// The largest frame, bytes.
    pub frame: usize,
    /// Messages per second that this identity may publish; 0 = as many as it likes.
    pub publish_rate: u32,
    /// Rooms on one connection.
    pub rooms: usize,
    /// Unanswered messages on one connection, beyond which the server stops reading.
    pub in_flight: usize,
}

/// The fields of a `SUCCESS` answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The message.
    pub id: MessageId,
    /// Its room.
    pub room: &'a str,
    /// Its position, if it is known.
    pub position: Option<Position>,
    /// When the server accepted it.
    pub at: Timestamp,
    /// The client's own timestamp.
    pub client_timestamp: &'a str,
    /// The client's reference.
    pub reference: Option<&'a str>,
    /// More `,"name":value` pairs.
    pub echo: &'a [u8],
}

impl Answer<'_> {
    /// Appends the JSON object.
    pub fn write(&self, out: &mut BytesMut) {
        out.put_slice(br#"{"status":"SUCCESS","messageId":""#);
        put_uuid(out, self.id);
        out.put_slice(br#"","roomId":""#);
        out.put_slice(self.room.as_bytes());
        if let Some(position) = self.position {
            out.put_slice(br#"","position":""#);
            put_position(out, position);
        }
        out.put_slice(br#"","timestamp":""#);
        let from = out.len();
        put_timestamp(out, self.at);
        let until = out.len();
        out.put_slice(br#"","serverTimestamp":""#);
        out.extend_from_within_range(from, until);
        out.put_slice(br#"","clientTimestamp":"#);
        put_json(out, self.client_timestamp);
        if let Some(reference) = self.reference {
            out.put_slice(br#","ref":"#);
            put_json(out, reference);
        }
        out.put_slice(self.echo);
        out.put_u8(b'}');
    }
}

/// An `error` frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorFrame {
    /// Always `"error"`.
    pub status: String,
    /// One of [`code`].
    pub code: String,
    /// What is wrong, one text each, beginning with the field's name where there is one.
    pub errors: Vec<String>,
    /// The message, if its id is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The room, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<String>,
    /// The client's reference.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Whether sending the same again may succeed.
    pub retryable: bool,
    /// Wait so many milliseconds before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Server time.
    pub timestamp: String,
}

impl ErrorFrame {
    /// An error of this code that is not worth trying again.
    pub fn new(code: &str, errors: Vec<String>) -> Self {
        Self {
            status: "error".into(),
            code: code.into(),
            errors,
            message_id: None,
            room_id: None,
            reference: None,
            retryable: false,
            retry_after_ms: None,
            timestamp: Timestamp::now().to_string(),
        }
    }

    /// The same for a list of violations.
    pub fn violations(code: &str, violations: &[Violation]) -> Self {
        Self::new(code, violations.iter().map(ToString::to_string).collect())
    }

    /// The same, worth trying again after `ms` milliseconds.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retryable = true;
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same, about this message or operation.
    #[must_use]
    pub fn about(mut self, id: Option<String>, reference: Option<ByteString>) -> Self {
        self.message_id = id;
        self.reference = reference.map(|r| r.to_string());
        self
    }
}
