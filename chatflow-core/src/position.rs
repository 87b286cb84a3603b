//! Where a message stands in its log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A message's place in its room's log: the same on every node and in the history.
///
/// Offsets only grow within an epoch and need not be dense for a room (a log carries many rooms). A new, greater
/// epoch begins when a log was lost, so positions order by epoch first. On the wire it is `"<epoch>:<offset>"`,
/// which clients treat as opaque; in a store it is [24 big-endian bytes](Position::to_bytes), which sort alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Which life of the log.
    pub epoch: u64,
    /// Which entry within that life; 0 stands before the first.
    pub offset: u128,
}

impl Position {
    /// Before everything.
    pub const ZERO: Position = Position::new(0, 0);
    /// After everything.
    pub const MAX: Position = Position::new(u64::MAX, u128::MAX);

    /// The entry `offset` of `epoch`.
    pub const fn new(epoch: u64, offset: u128) -> Self {
        Self { epoch, offset }
    }

    /// The entry after this one, in its epoch.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { epoch: self.epoch, offset: self.offset.saturating_add(1) }
    }

    /// The last position before this one, whether anything stands there or not; `None` before zero.
    #[cfg(any(test, feature = "cache", feature = "sqlite", feature = "postgres", feature = "mysql"))]
    pub(crate) const fn previous(self) -> Option<Self> {
        match (self.epoch, self.offset) {
            (0, 0) => None,
            (epoch, 0) => Some(Self::new(epoch - 1, u128::MAX)),
            (epoch, offset) => Some(Self::new(epoch, offset - 1)),
        }
    }

    /// 24 bytes that sort as positions do.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// The reverse of [`to_bytes`](Self::to_bytes); `None` unless there are exactly 24.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (epoch, offset) = bytes.split_at_checked(8)?;
        Some(Self { epoch: u64::from_be_bytes(epoch.try_into().ok()?), offset: u128::from_be_bytes(offset.try_into().ok()?) })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// The text is not `"<epoch>:<offset>"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position is written \"<epoch>:<offset>\"")]
pub struct BadPosition;

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        // `parse` alone would take a leading `+`, and two texts for one position are one too many.
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let (epoch, offset) = text.split_once(':').ok_or(BadPosition)?;
        if !digits(epoch) || !digits(offset) {
            return Err(BadPosition);
        }
        Ok(Self { epoch: epoch.parse().map_err(|_| BadPosition)?, offset: offset.parse().map_err(|_| BadPosition)? })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_bytes_give_it_back_and_bytes_sort_alike(a: (u64, u128), b: (u64, u128)) {
            let (a, b) = (Position::new(a.0, a.1), Position::new(b.0, b.1));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(Position::from_bytes(&a.to_bytes()), Some(a));
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", ":", "1", "1:", ":1", "+1:2", "1:+2", " 1:2", "1:2:3", "-1:2", "18446744073709551616:0", "é:1"] {
            assert_eq!(text.parse::<Position>(), Err(BadPosition), "{text:?}");
        }
    }
}
