//! Several entries in one SNS message, and their places.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Deserialize;

use crate::Position;

/// The most entries in a message, and the most bytes of them. SNS takes 256 KiB of text; base64 makes four characters of three bytes,
/// and the queue's copy has an envelope around it.
pub(super) const MOST_ENTRIES: usize = 1_000;
pub(super) const MOST_BYTES: usize = 140_000;
/// The largest entry. Alone it still fits.
pub(super) const LARGEST_ENTRY: usize = 128 << 10;

const VERSION: u8 = 1;
const FENCE: u8 = 0;
const ENTRIES: u8 = 1;
/// Low bits of an offset that say which entry of a message it is.
const INDEX_BITS: u32 = 16;

/// Who published a message, and which of theirs it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// A life of a node.
    pub(super) life: u128,
    pub(super) nonce: u64,
}

/// What a message carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Load {
    /// Nothing: what its publisher reads after it is complete.
    Fence,
    /// Entries, at least one.
    Entries(Vec<Bytes>),
}

/// A message out of a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) topic: String,
    pub(super) sequence: u128,
    pub(super) origin: Origin,
    pub(super) load: Load,
}

/// The text that carries `entries`, a fence when there are none. SNS and SQS only take what XML can say, hence base64.
pub(super) fn encode<'a>(origin: Origin, entries: impl Iterator<Item = &'a Bytes> + Clone) -> String {
    let size = entries.clone().map(|entry| 4 + entry.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(26 + size);
    out.put_u8(VERSION);
    out.put_u8(if size == 0 { FENCE } else { ENTRIES });
    out.put_u128(origin.life);
    out.put_u64(origin.nonce);
    for entry in entries {
        // Bounded by `LARGEST_ENTRY`.
        out.put_u32(entry.len() as u32);
        out.put_slice(entry);
    }
    aws_smithy_types::base64::encode(&out)
}

/// What SNS puts around a message for SQS.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    topic_arn: String,
    message: String,
    sequence_number: String,
}

/// `None` when it is nothing that [`encode`] made and SNS delivered.
pub(super) fn decode(body: &str) -> Option<Incoming> {
    let envelope: Envelope = serde_json::from_str(body).ok()?;
    let sequence = envelope.sequence_number.parse().ok()?;
    let mut bytes = Bytes::from(aws_smithy_types::base64::decode(&envelope.message).ok()?);
    if bytes.try_get_u8().ok()? != VERSION {
        return None;
    }
    let what = bytes.try_get_u8().ok()?;
    let origin = Origin { life: bytes.try_get_u128().ok()?, nonce: bytes.try_get_u64().ok()? };
    let mut entries = Vec::new();
    while bytes.has_remaining() {
        let len = bytes.try_get_u32().ok()? as usize;
        if len > bytes.len() {
            return None;
        }
        entries.push(bytes.split_to(len));
    }
    let load = match (what, entries.is_empty()) {
        (FENCE, true) => Load::Fence,
        (ENTRIES, false) => Load::Entries(entries),
        _ => return None,
    };
    Some(Incoming { topic: envelope.topic_arn, sequence, origin, load })
}

/// The place of entry `index` of the message `sequence`. SNS calls its numbers 128 bits wide and gives 20 digits, 67 bits; `None` for
/// one that leaves no room.
pub(super) fn place(epoch: u64, sequence: u128, index: usize) -> Option<Position> {
    let index = u16::try_from(index).ok()?;
    (sequence >> (u128::BITS - INDEX_BITS) == 0).then(|| Position::new(epoch, sequence << INDEX_BITS | u128::from(index)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(message: &str) -> String {
        format!(r#"{{"Type":"Notification","TopicArn":"t","Message":"{message}","SequenceNumber":"10000000000000003000"}}"#)
    }

    #[test]
    fn entries_come_back() {
        let origin = Origin { life: u128::MAX, nonce: 7 };
        for entries in [vec![], vec![Bytes::new()], vec![(0..=255).collect(), Bytes::from_static(b"]]>\0\xff"), Bytes::new()]] {
            let load = if entries.is_empty() { Load::Fence } else { Load::Entries(entries.clone()) };
            let incoming = Incoming { topic: "t".into(), sequence: 10_000_000_000_000_003_000, origin, load };
            assert_eq!(decode(&envelope(&encode(origin, entries.iter()))), Some(incoming));
        }
    }

    #[test]
    fn others_are_told_apart() {
        let origin = Origin { life: 1, nonce: 7 };
        let whole = aws_smithy_types::base64::decode(encode(origin, [Bytes::from_static(b"entry")].iter())).unwrap();
        for length in 0..whole.len() {
            assert_eq!(decode(&envelope(&aws_smithy_types::base64::encode(&whole[..length]))), None, "cut at {length}");
        }
        assert_eq!(decode("hello"), None);
        assert_eq!(decode(&envelope("hello, world")), None);
    }

    #[test]
    fn the_largest_messages_fit() {
        let origin = Origin { life: 1, nonce: 7 };
        let one = vec![Bytes::from(vec![0; LARGEST_ENTRY])];
        let many = vec![Bytes::from(vec![0; MOST_BYTES / MOST_ENTRIES]); MOST_ENTRIES];
        for entries in [one, many] {
            assert!(encode(origin, entries.iter()).len() < 200 << 10);
        }
    }

    #[test]
    fn places_grow_with_message_and_entry() {
        let [a, b, c] = [(5, 0), (5, 999), (6, 0)].map(|(sequence, index)| place(1, sequence, index).unwrap());
        assert!(a < b && b < c);
        assert_eq!(place(1, u128::MAX, 0), None);
        assert!(place(1, 99_999_999_999_999_999_999, 0).is_some());
    }
}
