//! Reading what a server sends.

use std::borrow::Cow;

use chatflow_core::Position;
use serde::Deserialize;
use twox_hash::XxHash3_128;
use uuid::Uuid;

/// A text of a frame. (A bare `Option<Cow<str>>` would copy it.)
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Any frame: an answer or error has `status`, an event has `event`, a broadcast neither.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Frame<'a> {
    #[serde(borrow)]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) event: Option<Text<'a>>,
    pub(super) message_id: Option<Uuid>,
    #[serde(borrow)]
    pub(super) room_id: Option<Text<'a>>,
    pub(super) position: Option<Position>,
    #[serde(borrow)]
    pub(super) user_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) username: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) message: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) message_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) server_timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) code: Option<Text<'a>>,
    pub(super) errors: Vec<String>,
    pub(super) retryable: bool,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) recovered: Option<bool>,
}

impl<'a> Frame<'a> {
    /// Reads `text`, or says why it is no frame.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("{error}: {}", shortened(text)))
    }

    /// The text of a field, empty if it is not there.
    pub(super) fn text<'f>(field: &'f Option<Text<'a>>) -> &'f str {
        field.as_ref().map_or("", |text| &text.0)
    }

    /// Whether this is an answer or an error.
    pub(super) fn is_answer(&self) -> bool {
        self.status.is_some()
    }

    /// Whether it says that the message is safe. Some of the older servers write it in small letters.
    pub(super) fn is_success(&self) -> bool {
        Self::text(&self.status).eq_ignore_ascii_case("success")
    }

    /// A hash of all that members see of a message, its position apart.
    pub(super) fn content_hash(&self, scratch: &mut Vec<u8>) -> u128 {
        scratch.clear();
        let fields =
            [&self.room_id, &self.user_id, &self.username, &self.message, &self.timestamp, &self.message_type, &self.server_timestamp];
        scratch.extend_from_slice(self.message_id.unwrap_or_default().as_bytes());
        for field in fields {
            let text = Self::text(field);
            scratch.extend_from_slice(&(text.len() as u64).to_le_bytes());
            scratch.extend_from_slice(text.as_bytes());
        }
        XxHash3_128::oneshot(scratch)
    }
}

/// A hash of a frame as it came.
pub(super) fn frame_hash(text: &str) -> u128 {
    XxHash3_128::oneshot(text.as_bytes())
}

/// Whether `text` begins as answers and errors do. Only a hint: a server may order its fields otherwise.
pub(super) fn looks_like_answer(text: &str) -> bool {
    text.starts_with(r#"{"status":"#)
}

/// The room that a broadcast names, without reading the frame as a whole. Only a hint, and only where it stands near
/// the beginning; a text can't fake it, since quotes in texts are escaped.
pub(super) fn room_hint(text: &str) -> Option<&str> {
    const KEY: &[u8] = br#""roomId":""#;
    let bytes = text.as_bytes();
    // After `{"messageId":"<uuid>",`: where ChatFlow has it.
    let from = match bytes.get(51..51 + KEY.len()) == Some(KEY) {
        true => 51 + KEY.len(),
        false => bytes[..bytes.len().min(256)].windows(KEY.len()).position(|w| w == KEY)? + KEY.len(),
    };
    let length = bytes[from..].iter().take(65).position(|b| *b == b'"')?;
    text.get(from..from + length)
}

/// The beginning of a frame, for a message to a person.
pub(super) fn shortened(text: &str) -> &str {
    text.char_indices().nth(300).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROADCAST: &str = r#"{"messageId":"01890000-0000-7000-8000-000000000000","roomId":"7","userId":"1","username":"user1","message":"a \"roomId\":\"9\"","messageType":"TEXT","timestamp":"t","serverTimestamp":"s","position":"1:2"}"#;

    #[test]
    fn broadcasts_answers_and_events_are_told_apart() {
        let broadcast = Frame::parse(BROADCAST).unwrap();
        assert!(!broadcast.is_answer() && broadcast.event.is_none());
        assert_eq!(broadcast.position, Some(Position::new(1, 2)));
        let answer = Frame::parse(r#"{"position":"1:2","status":"SUCCESS"}"#).unwrap();
        assert!(answer.is_answer() && answer.is_success());
        let error = Frame::parse(r#"{"status":"error","code":"overloaded","errors":["x"],"retryable":true,"retryAfterMs":5}"#).unwrap();
        assert!(error.is_answer() && !error.is_success() && error.retryable);
        assert!(Frame::parse(r#"{"event":"welcome","limits":{"rooms":1}}"#).unwrap().event.is_some());
        assert!(Frame::parse("hello").is_err());
    }

    #[test]
    fn the_room_is_found_wherever_it_stands_and_never_in_a_text() {
        assert_eq!(room_hint(BROADCAST), Some("7"));
        assert_eq!(room_hint(r#"{"roomId":"abc"}"#), Some("abc"));
        assert_eq!(room_hint(r#"{"message":"\"roomId\":\"9\"","x":1}"#), None);
        assert_eq!(room_hint(r#"{"roomId":"abc"#), None);
        assert_eq!(room_hint(""), None);
    }

    #[test]
    fn the_content_is_every_field_but_the_position() {
        let hash = |text: &str| Frame::parse(text).unwrap().content_hash(&mut Vec::new());
        assert_eq!(hash(BROADCAST), hash(&BROADCAST.replace("1:2", "1:3")));
        for (from, to) in [
            ("\"7\"", "\"8\""),
            ("user1", "user2"),
            ("TEXT", "JOIN"),
            (":\"t\"", ":\"u\""),
            (":\"s\"", ":\"u\""),
            ("a ", "b "),
            ("\"1\"", "\"2\""),
        ] {
            assert_ne!(hash(BROADCAST), hash(&BROADCAST.replace(from, to)), "{from}");
        }
    }
}
