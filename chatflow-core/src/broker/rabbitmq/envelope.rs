//! What an entry of a stream queue holds: who put it there, and messages or a sign.

use bytes::{Buf, Bytes};

const FORM: u8 = 2;
const HEAD: usize = 18;
const LENGTH: usize = 4;

/// Who put an entry there: one life of one broker object, and a number that grows within it. No two entries have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) life: u64,
    pub(super) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Messages,
    /// Says nothing; whoever put it there learns where the log ends.
    Fence,
    /// What comes after it does not count, for anybody: the log goes on in another epoch.
    End,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) mark: Mark,
    pub(super) body: Bytes,
}

impl Envelope {
    /// The bytes of a sign.
    pub(super) fn sign(kind: Kind, mark: Mark) -> Vec<u8> {
        Self::begin(kind, mark, 0)
    }

    /// The bytes of an entry that holds these messages.
    pub(super) fn seal<'a>(mark: Mark, messages: impl Iterator<Item = &'a Bytes> + Clone) -> Vec<u8> {
        let len = messages.clone().map(|message| LENGTH + message.len()).sum();
        let mut out = Self::begin(Kind::Messages, mark, len);
        for message in messages {
            // No message is longer than an entry may be.
            out.extend((message.len() as u32).to_be_bytes());
            out.extend(message);
        }
        out
    }

    fn begin(kind: Kind, mark: Mark, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + len);
        out.extend([FORM, kind as u8]);
        out.extend(mark.life.to_be_bytes());
        out.extend(mark.number.to_be_bytes());
        out
    }

    /// The messages in it, in order; none in a sign.
    pub(super) fn messages(self) -> impl Iterator<Item = Bytes> {
        let mut rest = if self.kind == Kind::Messages { self.body } else { Bytes::new() };
        std::iter::from_fn(move || {
            let length = rest.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)?;
            rest.advance(LENGTH);
            // One that was cut short is nobody's.
            (length <= rest.len()).then(|| rest.split_to(length))
        })
    }

    /// The reverse, sharing the memory; `None` when somebody else put it there.
    pub(super) fn open(bytes: Vec<u8>) -> Option<Self> {
        let kind = match *bytes.get(..2)? {
            [FORM, 0] => Kind::Messages,
            [FORM, 1] => Kind::Fence,
            [FORM, 2] => Kind::End,
            _ => return None,
        };
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let mark = Mark { life: number(2)?, number: number(10)? };
        Some(Self { kind, mark, body: Bytes::from(bytes).slice(HEAD..) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sealed_is_what_is_opened(life: u64, number: u64, messages: Vec<Vec<u8>>) {
            let mark = Mark { life, number };
            let messages: Vec<_> = messages.into_iter().map(Bytes::from).collect();
            let opened = Envelope::open(Envelope::seal(mark, messages.iter())).unwrap();
            prop_assert_eq!((opened.kind, opened.mark), (Kind::Messages, mark));
            prop_assert_eq!(opened.messages().collect::<Vec<_>>(), messages);
            for kind in [Kind::Fence, Kind::End] {
                let opened = Envelope::open(Envelope::sign(kind, mark)).unwrap();
                prop_assert_eq!((opened.kind, opened.mark, opened.messages().count()), (kind, mark, 0));
            }
        }

        #[test]
        fn bytes_from_anywhere_never_panic(bytes: Vec<u8>) {
            let _ = Envelope::open(bytes.clone());
            let body = Bytes::from(bytes);
            let count = Envelope { kind: Kind::Messages, mark: Mark { life: 1, number: 1 }, body }.messages().count();
            prop_assert!(count < 1_000);
        }
    }
}
