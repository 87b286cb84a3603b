//! The cache that nodes share, and the form in which a page lies in it.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::store::{LARGEST_PAGE, Page, Stored};
use crate::{Message, Position, RoomId};

/// A cache behind the process: what one node has read, another finds there.
///
/// It is never in the way: it has no errors. What can't be had in a moment is not there; what can't be put is not put.
///
/// # Guarantees
/// 1. **What was put.** `get` answers with exactly the bytes of a `put` under the same name, or with nothing.
/// 2. **Soon.** Both end within 100 ms, whatever has become of the cache; one that fails is left alone for a while.
#[async_trait]
pub trait SecondLevel: Debug + Send + Sync + 'static {
    /// What lies under `name`.
    async fn get(&self, name: &str) -> Option<Bytes>;

    /// Puts `value` under `name`, for a while.
    async fn put(&self, name: &str, value: Bytes);
}

const FORM: u8 = 1;

/// One version byte, the page's marks, then each message with its position.
pub(super) fn encode(page: &Page) -> Bytes {
    let mut out = BytesMut::with_capacity(64 + page.messages.iter().map(|stored| stored.message.body.len() + 160).sum::<usize>());
    out.put_u8(FORM);
    out.put_u8(page.more.into());
    out.put_slice(&page.through.to_bytes());
    out.put_slice(&page.since.to_bytes());
    for Stored { position, message } in &page.messages {
        let message = message.encode();
        out.put_slice(&position.to_bytes());
        // A message has a broker's entry at the most, which is far below 4 GiB.
        out.put_u32(message.len() as u32);
        out.put_slice(&message);
    }
    out.freeze()
}

/// The page of `room` that was encoded; `None` if it is none, of another form perhaps, or of another room.
pub(super) fn decode(room: &RoomId, mut bytes: Bytes) -> Option<Page> {
    let position = |bytes: &mut Bytes| Position::from_bytes(&take(bytes, 24)?);
    if bytes.try_get_u8().ok()? != FORM {
        return None;
    }
    let more = bytes.try_get_u8().ok()? == 1;
    let (through, since) = (position(&mut bytes)?, position(&mut bytes)?);
    let mut messages = Vec::new();
    while bytes.has_remaining() && messages.len() < LARGEST_PAGE {
        let position = position(&mut bytes)?;
        let length = bytes.try_get_u32().ok()?;
        let message = Message::decode(take(&mut bytes, length as usize)?).ok().filter(|message| message.room == *room)?;
        messages.push(Stored { position, message });
    }
    (!bytes.has_remaining()).then(|| Page::new(messages, more, through, since))
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::store::{at, batch, room};

    #[test]
    fn a_page_comes_back_as_it_was_and_nothing_else_is_one() {
        let page = Page::new(batch("a", 3..=9), true, at(12), at(1));
        let bytes = encode(&page);
        assert_eq!(decode(&room("a"), bytes.clone()), Some(page));
        assert_eq!(decode(&room("b"), bytes.clone()), None, "of another room");
        let empty = Page::new(Vec::new(), false, at(12), at(1));
        assert_eq!(decode(&room("a"), encode(&empty)), Some(empty));
        for cut in (0..bytes.len()).filter(|cut| *cut < 50 || cut % 7 == 0) {
            let left = decode(&room("a"), bytes.slice(..cut));
            assert!(left.is_none_or(|page| page.messages.len() < 7), "{cut}");
        }
    }
}
