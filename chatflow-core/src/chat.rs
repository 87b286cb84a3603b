//! The chat schema: the codec that comes with the library.

mod parse;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::protocol::{put_json, put_position, put_timestamp, put_uuid};
use crate::{BadFrame, Codec, Draft, Message, Position};

/// Chat messages as JSON: `userId`, `username`, `message`, `timestamp`, `messageType`.
///
/// The body that is kept is those five fields as `"name":value` pairs, `timestamp` last, so that a broadcast is the
/// body between two halves of server fields, and no text is escaped twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChatCodec;

const TIMESTAMP: &[u8] = br#","timestamp":"#;

impl Codec for ChatCodec {
    fn decode(&self, frame: &ByteString) -> Result<Draft, BadFrame> {
        parse::draft(frame)
    }

    fn body(&self, draft: &Draft) -> Bytes {
        let texts = [&draft.sender, &draft.name, &draft.text, &draft.kind, &draft.timestamp];
        let mut out = BytesMut::with_capacity(72 + texts.iter().map(|t| t.len()).sum::<usize>());
        for (name, text) in [r#""userId":"#, r#","username":"#, r#","message":"#, r#","messageType":"#].into_iter().zip(texts) {
            out.put_slice(name.as_bytes());
            put_json(&mut out, text);
        }
        out.put_slice(TIMESTAMP);
        put_json(&mut out, &draft.timestamp);
        out.freeze()
    }

    fn digest(&self, draft: &Draft) -> u64 {
        use std::hash::Hasher;
        let mut hash = twox_hash::XxHash3_64::new();
        for text in [&draft.sender, &draft.name, &draft.kind, &draft.text] {
            hash.write(&(text.len() as u64).to_le_bytes());
            hash.write(text.as_bytes());
        }
        hash.finish()
    }

    fn broadcast(&self, message: &Message, position: Position, out: &mut BytesMut) {
        out.reserve(200 + message.body.len());
        out.put_slice(br#"{"messageId":""#);
        put_uuid(out, message.id);
        out.put_slice(br#"","roomId":""#);
        out.put_slice(message.room.as_str().as_bytes());
        out.put_slice(br#"","#);
        out.put_slice(&message.body);
        out.put_slice(br#","serverTimestamp":""#);
        put_timestamp(out, message.at);
        out.put_slice(br#"","position":""#);
        put_position(out, position);
        out.put_slice(br#""}"#);
    }

    fn echo(&self, message: &Message, out: &mut BytesMut) {
        // A quote inside a JSON string is escaped, so the last match is the field itself.
        let end = message.body.windows(TIMESTAMP.len()).rposition(|w| w == TIMESTAMP);
        out.put_u8(b',');
        out.put_slice(&message.body[..end.unwrap_or(message.body.len())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageId, RoomId, Timestamp};
    use proptest::prelude::*;
    use serde_json::Value;

    fn message(draft: &Draft) -> Message {
        Message {
            id: MessageId::from_u128(9),
            room: RoomId::new("7").unwrap(),
            sender: draft.sender.clone(),
            kind: draft.kind.clone(),
            body: ChatCodec.body(draft),
            digest: ChatCodec.digest(draft),
            at: Timestamp(0),
            node: "n".into(),
            session: 1,
            origin: "".into(),
        }
    }

    proptest! {
        #[test]
        fn what_was_said_comes_out_whatever_the_texts(texts in proptest::array::uniform5("\\PC{0,30}|[\"\\\\\u{0}-\u{1f}a-z,:]{0,30}")) {
            let [sender, name, text, kind, timestamp] = texts.map(ByteString::from);
            let draft = Draft { sender, name, text, kind, timestamp, ..Draft::default() };
            let message = message(&draft);

            let mut out = BytesMut::new();
            ChatCodec.broadcast(&message, Position::new(1, 2), &mut out);
            let json: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(json["userId"].as_str(), Some(&*draft.sender));
            prop_assert_eq!(json["username"].as_str(), Some(&*draft.name));
            prop_assert_eq!(json["message"].as_str(), Some(&*draft.text));
            prop_assert_eq!(json["messageType"].as_str(), Some(&*draft.kind));
            prop_assert_eq!(json["timestamp"].as_str(), Some(&*draft.timestamp));
            prop_assert_eq!(json["position"].as_str(), Some("1:2"));
            prop_assert!(json.get("status").is_none());

            let mut echo = BytesMut::from(&b"{\"x\":1"[..]);
            ChatCodec.echo(&message, &mut echo);
            echo.put_u8(b'}');
            let json: Value = serde_json::from_slice(&echo).unwrap();
            prop_assert_eq!(json["message"].as_str(), Some(&*draft.text));
            prop_assert!(json.get("timestamp").is_none());

            let again = parse::draft(&ByteString::try_from(out.freeze()).unwrap()).unwrap();
            prop_assert_eq!(ChatCodec.digest(&again), message.digest);
            let later = Draft { timestamp: "x".into(), ..draft.clone() };
            prop_assert_eq!(ChatCodec.digest(&later), message.digest);
            let other = Draft { text: format!("{}!", draft.text).into(), ..draft };
            prop_assert_ne!(ChatCodec.digest(&other), message.digest);
        }
    }
}
