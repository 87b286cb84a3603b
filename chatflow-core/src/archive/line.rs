//! What one line says.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ORIGIN;
use crate::store::{Stored, hex_bytes};
use crate::{Error, ErrorKind, LogId, Message, MessageId, Position, Result, RoomId, Timestamp};

/// The form of the lines; a later one that older programs can't read has a greater number.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Line<'a> {
    /// What it is: the first line.
    Archive { version: u32, logs: u16, at: Cow<'a, str> },
    /// Where the history of the log begins: see [`Page::since`](crate::Page::since).
    Begin { log: LogId, begins: Position },
    #[serde(borrow)]
    Message(Box<Row<'a>>),
    /// How far the log is.
    End { log: LogId, through: Position },
}

/// A message. Numbers that other programs would round are texts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row<'a> {
    pub(super) log: LogId,
    position: Position,
    message_id: MessageId,
    room_id: RoomId,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    at: i64,
    #[serde(borrow)]
    node: Cow<'a, str>,
    session: String,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    digest: String,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_hex: Option<Hex>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hex(#[serde(with = "hex_bytes")] Bytes);

impl<'a> Row<'a> {
    pub(super) fn of(log: LogId, Stored { position, message }: &'a Stored) -> Self {
        let Message { id, room, sender, kind, body, digest, at, node, session, origin } = message;
        let text = std::str::from_utf8(body).ok();
        Self {
            log,
            position: *position,
            message_id: *id,
            room_id: room.clone(),
            sender: Cow::Borrowed(sender),
            kind: Cow::Borrowed(kind),
            at: at.0,
            node: Cow::Borrowed(node),
            session: format!("{session:x}"),
            origin: Cow::Borrowed(origin),
            digest: format!("{digest:016x}"),
            body: text.map(Cow::Borrowed),
            body_hex: if text.is_none() { Some(Hex(body.clone())) } else { None },
        }
    }

    /// What the store kept.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: a field can't be what it says.
    pub(super) fn stored(self) -> Result<Stored> {
        let invalid = |text: &'static str| Error::new(ErrorKind::Invalid, ORIGIN, text);
        let number = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| invalid("session and digest are hexadecimal"));
        let body = match (self.body, self.body_hex) {
            (Some(text), None) => Bytes::from(text.into_owned()),
            (None, Some(Hex(bytes))) => bytes,
            _ => return Err(invalid("a message has either body or bodyHex")),
        };
        let message = Message {
            id: self.message_id,
            room: self.room_id,
            sender: self.sender.into_owned().into(),
            kind: self.kind.into_owned().into(),
            body,
            digest: number(&self.digest)?,
            at: Timestamp(self.at),
            node: self.node.into_owned().into(),
            session: number(&self.session)?,
            origin: self.origin.into_owned().into(),
        };
        Ok(Stored { position: self.position, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_message_comes_back_from_one_line(
            (id, digest, at, session, epoch, offset) in any::<(u128, u64, i64, u64, u64, u128)>(),
            texts in proptest::collection::vec("[\\\\\"\0\n\u{2028}a漢]{0,12}", 4),
            body in any::<Vec<u8>>(),
        ) {
            let text = |n: usize| texts[n].as_str().into();
            let message = Message {
                id: MessageId::from_u128(id), room: RoomId::new("a-b_9").unwrap(), sender: text(0), kind: text(1), body: body.into(), digest,
                at: Timestamp(at), node: text(2), session, origin: text(3),
            };
            let stored = Stored { position: Position::new(epoch, offset), message };
            let line = serde_json::to_string(&Line::Message(Box::new(Row::of(LogId(3), &stored)))).unwrap();
            prop_assert!(!line.contains('\n'));
            let Line::Message(row) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
            prop_assert_eq!(row.log, LogId(3));
            prop_assert_eq!(row.stored().unwrap(), stored);
        }
    }
}
