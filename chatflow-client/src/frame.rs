//! Frames: those that a client writes, and what a server's frame turns out to be.

use std::borrow::Cow;

use chatflow_core::protocol::{ErrorFrame, Event};
use chatflow_core::{MessageId, Position};
use serde::{Deserialize, Serialize};

use crate::Error;

/// A chat message as a client sends it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatFrame<'a> {
    pub(crate) message_id: MessageId,
    pub(crate) room_id: &'a str,
    #[serde(rename = "ref")]
    pub(crate) reference: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) username: &'a str,
    pub(crate) message: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) message_type: &'a str,
}

/// A `SUCCESS` answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) reference: Option<String>,
    pub(crate) id: Option<MessageId>,
    pub(crate) position: Option<Position>,
    pub(crate) server_timestamp: String,
}

/// What a server's frame is.
#[derive(Debug)]
pub(crate) enum Received<'a> {
    Answer(Answer),
    Error(ErrorFrame),
    Event(Event),
    Broadcast {
        room: Text<'a>,
        id: MessageId,
        position: Option<Position>,
    },
    /// Of a later version of the protocol: passed over.
    Unknown,
}

/// A text that is borrowed from the frame where nothing in it is escaped.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The fields that mean the same in every codec. Others may be of any type and are not looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    status: Option<Text<'a>>,
    event: Option<Text<'a>>,
    message_id: Option<Text<'a>>,
    room_id: Option<Text<'a>>,
    #[serde(rename = "ref")]
    reference: Option<Text<'a>>,
    position: Option<Position>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerTime {
    #[serde(default)]
    server_timestamp: String,
}

/// Tells what `frame` is.
///
/// # Errors
/// It is not a JSON object, or one of the fields that mean something has the wrong type.
pub(crate) fn read(frame: &str) -> Result<Received<'_>, serde_json::Error> {
    let head: Head<'_> = serde_json::from_str(frame)?;
    let id = head.message_id.and_then(|id| MessageId::try_parse(&id.0).ok());
    match (head.status, head.event, head.room_id) {
        (Some(status), ..) if status.0.eq_ignore_ascii_case("success") => {
            let AnswerTime { server_timestamp } = serde_json::from_str(frame)?;
            let reference = head.reference.map(|text| text.0.into_owned());
            Ok(Received::Answer(Answer { reference, id, position: head.position, server_timestamp }))
        }
        (Some(status), ..) if status.0.eq_ignore_ascii_case("error") => serde_json::from_str(frame).map(Received::Error),
        (Some(_), ..) => Ok(Received::Unknown),
        // A new event, or a known one with more to it than this version can read, is none of our business.
        (None, Some(_), _) => Ok(serde_json::from_str(frame).map_or(Received::Unknown, Received::Event)),
        (None, None, Some(room)) if id.is_some() => Ok(Received::Broadcast { room, id: id.unwrap_or_default(), position: head.position }),
        (None, None, _) => Ok(Received::Unknown),
    }
}

/// The id of a message of an application's own form: the one that it has, or a new one.
///
/// # Errors
/// `messageId` is there and no UUID.
pub(crate) fn own_id(fields: &serde_json::Map<String, serde_json::Value>) -> Result<MessageId, Error> {
    match fields.get("messageId") {
        None | Some(serde_json::Value::Null) => Ok(MessageId::now_v7()),
        Some(given) => given.as_str().and_then(|text| MessageId::try_parse(text).ok()).ok_or(Error::BadMessageId),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190a3f0-0000-7000-8000-000000000001";

    #[test]
    fn every_kind_of_frame_is_told_apart() {
        let answer = format!(r#"{{"status":"SUCCESS","messageId":"{ID}","roomId":"7","position":"1:2","ref":"p1","serverTimestamp":"t"}}"#);
        let Ok(Received::Answer(answer)) = read(&answer) else { panic!("an answer") };
        assert_eq!((answer.reference.as_deref(), answer.position), (Some("p1"), Some(Position::new(1, 2))));
        assert_eq!(answer.server_timestamp, "t");

        let error = r#"{"status":"error","code":"invalid","errors":[],"retryable":false,"timestamp":"t"}"#;
        assert!(matches!(read(error), Ok(Received::Error(frame)) if frame.code == "invalid"));
        assert!(matches!(read(r#"{"event":"left","roomId":"7"}"#), Ok(Received::Event(Event::Left { .. }))));

        let broadcast = format!(r#"{{"messageId":"{ID}","roomId":"7","position":"1:3","message":{{"any":["thing"]}}}}"#);
        let Ok(Received::Broadcast { room, position, .. }) = read(&broadcast) else { panic!("a broadcast") };
        assert_eq!((&*room.0, position), ("7", Some(Position::new(1, 3))));
    }

    #[test]
    fn frames_of_a_later_version_are_passed_over_and_what_is_no_json_is_an_error() {
        for later in [r#"{"event":"typing","roomId":"7"}"#, r#"{"status":"MAYBE"}"#, "{}"] {
            assert!(matches!(read(later), Ok(Received::Unknown)), "{later}");
        }
        for bad in ["", "hello", "[]", r#"{"position":"x"}"#, r#"{"status":1}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn own_messages_keep_a_given_id() {
        let with = |id: serde_json::Value| serde_json::Map::from_iter([("messageId".to_owned(), id)]);
        assert_eq!(own_id(&with(ID.into())).unwrap().to_string(), ID);
        assert_eq!(own_id(&serde_json::Map::new()).unwrap().get_version_num(), 7);
        assert!(matches!(own_id(&with(7.into())), Err(Error::BadMessageId)));
    }
}
