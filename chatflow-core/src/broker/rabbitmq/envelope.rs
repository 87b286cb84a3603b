//! What an entry of a stream queue holds: who put it there, and a message or a sign.

use bytes::Bytes;

const FORM: u8 = 1;
const HEAD: usize = 18;

/// Who put an entry there: one life of one broker object, and a number that grows within it. No two entries have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) life: u64,
    pub(super) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
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
    /// The bytes of an entry.
    pub(super) fn seal(kind: Kind, mark: Mark, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + body.len());
        out.extend([FORM, kind as u8]);
        out.extend(mark.life.to_be_bytes());
        out.extend(mark.number.to_be_bytes());
        out.extend(body);
        out
    }

    /// The reverse, sharing the memory; `None` when somebody else put it there.
    pub(super) fn open(bytes: Vec<u8>) -> Option<Self> {
        let kind = match *bytes.get(..2)? {
            [FORM, 0] => Kind::Message,
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
        fn what_was_sealed_is_what_is_opened(kind in 0..3, life: u64, number: u64, body: Vec<u8>) {
            let kind = [Kind::Message, Kind::Fence, Kind::End][kind as usize];
            let mark = Mark { life, number };
            let opened = Envelope::open(Envelope::seal(kind, mark, &body));
            prop_assert_eq!(opened, Some(Envelope { kind, mark, body: body.into() }));
        }

        #[test]
        fn bytes_from_anywhere_never_panic(bytes: Vec<u8>) {
            let _ = Envelope::open(bytes);
        }
    }
}
