//! Messages, and the binary form in which a broker carries them.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Error, ErrorKind, Result};

/// The longest room name, in bytes.
pub const MAX_ROOM_NAME: usize = 64;

/// A room's name: 1–64 of `[A-Za-z0-9_-]`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomId(ByteString);

/// The text can't be a room's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a room's name is 1 to 64 of A-Z a-z 0-9 _ -")]
pub struct BadRoomId;

impl RoomId {
    /// The room called `name`, in memory of its own.
    pub fn new(name: &str) -> Result<Self, BadRoomId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if name.is_empty() || name.len() > MAX_ROOM_NAME || !name.bytes().all(allowed) {
            return Err(BadRoomId);
        }
        Ok(Self(ByteString::from(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomId {
    type Err = BadRoomId;

    fn from_str(name: &str) -> Result<Self, BadRoomId> {
        Self::new(name)
    }
}

impl TryFrom<String> for RoomId {
    type Error = BadRoomId;

    fn try_from(name: String) -> Result<Self, BadRoomId> {
        Self::new(&name)
    }
}

impl From<RoomId> for String {
    fn from(room: RoomId) -> String {
        room.as_str().to_owned()
    }
}

impl Borrow<str> for RoomId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RoomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomId({self})")
    }
}

/// A message's own id: the client's UUID, or a UUIDv7 of the server's.
pub type MessageId = Uuid;

/// Who a message is from: any text that the application chooses.
pub type UserId = ByteString;

/// Which running server: `node.id` of its configuration.
pub type NodeId = ByteString;

/// A moment: milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Now, by the system's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_millis() as i64)
    }
}

/// As in `2026-11-20T11:02:10.123Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        write!(f, "{moment:.3}")
    }
}

/// A message that was accepted: what brokers carry, stores keep and members see.
///
/// The body is opaque: the [`Codec`](crate::Codec) that made it can show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its own id, unique in the history as long as it is kept.
    pub id: MessageId,
    /// The room that it was sent to.
    pub room: RoomId,
    /// Who sent it.
    pub sender: UserId,
    /// What kind of message: [`kind::TEXT`], [`kind::JOIN`], [`kind::LEAVE`] or the application's own.
    pub kind: ByteString,
    /// The content, as the codec made it.
    pub body: Bytes,
    /// A hash of what makes two messages the same: the content without times and server fields.
    pub digest: u64,
    /// When the server accepted it.
    pub at: Timestamp,
    /// The node that accepted it.
    pub node: NodeId,
    /// The session on that node that sent it; 0 when none did.
    pub session: u64,
    /// The client's address as the node saw it; empty when unknown.
    pub origin: ByteString,
}

/// The kinds of message that the chat schema knows.
pub mod kind {
    use bytestring::ByteString;

    /// Somebody said something.
    pub const TEXT: ByteString = ByteString::from_static("TEXT");
    /// Somebody announces that they came.
    pub const JOIN: ByteString = ByteString::from_static("JOIN");
    /// Somebody announces that they go.
    pub const LEAVE: ByteString = ByteString::from_static("LEAVE");
}

const FORM: u8 = 1;

impl Message {
    /// The binary form: one version byte, the room (so that a reader can pass over it), fixed fields, texts, body.
    pub fn encode(&self) -> Bytes {
        let texts = self.sender.len() + self.kind.len() + self.node.len() + self.origin.len();
        let mut out = BytesMut::with_capacity(2 + self.room.0.len() + 40 + 8 + texts + self.body.len());
        out.put_u8(FORM);
        out.put_u8(self.room.0.len() as u8);
        out.put_slice(self.room.0.as_bytes());
        out.put_slice(self.id.as_bytes());
        out.put_u64(self.digest);
        out.put_i64(self.at.0);
        out.put_u64(self.session);
        for text in [&self.sender, &self.kind, &self.node, &self.origin] {
            // Longer texts never pass the limits of a session; a back end's are cut here rather than corrupting.
            let text = &text.as_bytes()[..text.len().min(u16::MAX as usize)];
            out.put_u16(text.len() as u16);
            out.put_slice(text);
        }
        out.put_slice(&self.body);
        out.freeze()
    }

    /// The reverse of [`encode`](Self::encode), sharing the memory of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when the bytes are not a message.
    pub fn decode(mut bytes: Bytes) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "message", "the entry is not a message of this version");
        let room = Self::peek(&bytes).ok_or_else(corrupt)?.room;
        let room = RoomId(ByteString::try_from(bytes.slice_ref(room.as_bytes())).map_err(|_| corrupt())?);
        bytes.advance(2 + room.0.len());
        if bytes.len() < 40 {
            return Err(corrupt());
        }
        let mut id = [0; 16];
        bytes.copy_to_slice(&mut id);
        let (digest, at, session) = (bytes.get_u64(), bytes.get_i64(), bytes.get_u64());
        let mut text = || -> Option<ByteString> {
            let len = bytes.try_get_u16().ok()? as usize;
            (bytes.len() >= len).then(|| ByteString::try_from(bytes.split_to(len)).ok())?
        };
        let mut next = || text().ok_or_else(corrupt);
        let (sender, kind, node, origin) = (next()?, next()?, next()?, next()?);
        Ok(Self { id: Uuid::from_bytes(id), room, sender, kind, body: bytes, digest, at: Timestamp(at), node, session, origin })
    }

    /// What can be said of an encoded message without decoding it; `None` when it is none.
    pub fn peek(bytes: &[u8]) -> Option<Header<'_>> {
        let [FORM, len, rest @ ..] = bytes else { return None };
        let (room, rest) = rest.split_at_checked(usize::from(*len))?;
        let (id, rest) = rest.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let (at, _) = rest.split_first_chunk()?;
        Some(Header {
            room: std::str::from_utf8(room).ok()?,
            id: Uuid::from_bytes(*id),
            digest: u64::from_be_bytes(*digest),
            at: Timestamp(i64::from_be_bytes(*at)),
        })
    }
}

/// The beginning of an encoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header<'a> {
    /// See [`Message::room`].
    pub room: &'a str,
    /// See [`Message::id`].
    pub id: MessageId,
    /// See [`Message::digest`].
    pub digest: u64,
    /// See [`Message::at`].
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn room_names_follow_the_rule() {
        let long = "x".repeat(65);
        for bad in ["", "a b", "a/b", "*", "#", ">", "..", "a\r\n", "é", long.as_str()] {
            assert!(RoomId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["1", "room7", "A-b_9", &"x".repeat(64)] {
            assert_eq!(RoomId::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_moment_reads_as_iso_8601() {
        assert_eq!(Timestamp(1_763_636_530_123).to_string(), "2025-11-20T11:02:10.123Z");
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let text = || "\\PC{0,40}".prop_map(ByteString::from);
        (any::<(u128, u64, i64, u64)>(), "[a-z0-9_-]{1,64}", (text(), text(), text(), text()), any::<Vec<u8>>()).prop_map(
            |((id, digest, at, session), room, (sender, kind, node, origin), body)| Message {
                id: Uuid::from_u128(id),
                room: RoomId::new(&room).unwrap(),
                sender,
                kind,
                body: body.into(),
                digest,
                at: Timestamp(at),
                node,
                session,
                origin,
            },
        )
    }

    proptest! {
        #[test]
        fn the_binary_form_gives_it_back(message in any_message()) {
            let bytes = message.encode();
            let header = Message::peek(&bytes).unwrap();
            prop_assert_eq!((header.room, header.id, header.digest, header.at), (message.room.as_str(), message.id, message.digest, message.at));
            prop_assert_eq!(Message::decode(bytes).unwrap(), message);
        }

        #[test]
        fn bytes_from_anywhere_never_panic(bytes: Vec<u8>, message in any_message(), cut in 0usize..400) {
            let _ = Message::decode(bytes.into());
            let whole = message.encode();
            let _ = Message::decode(whole.slice(..cut.min(whole.len())));
        }
    }
}
