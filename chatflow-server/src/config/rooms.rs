//! Which rooms there are.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chatflow_core::RoomId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Names and ranges of numbers, such as `"1..20, lobby"`; empty means that any name is a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RoomRule {
    ranges: Vec<RangeInclusive<u64>>,
    names: BTreeSet<String>,
}

impl RoomRule {
    /// Whether any name is a room.
    pub(crate) fn is_open(&self) -> bool {
        self.ranges.is_empty() && self.names.is_empty()
    }

    /// Whether `room` is one of them.
    pub(crate) fn allows(&self, room: &RoomId) -> bool {
        let name = room.as_str();
        // `07` and `7` are two names, and only the second is a number's.
        let number = || name.parse::<u64>().ok().filter(|n| n.to_string() == name);
        self.is_open() || self.names.contains(name) || number().is_some_and(|n| self.ranges.iter().any(|range| range.contains(&n)))
    }
}

impl FromStr for RoomRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut rule = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            if item.contains("..") {
                rule.ranges.push(super::range::parse(item)?);
            } else {
                RoomId::new(item).map_err(|_| "not a room's name")?;
                rule.names.insert(item.to_owned());
            }
        }
        Ok(rule)
    }
}

impl fmt::Display for RoomRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges.iter().map(|range| format!("{}..{}", range.start(), range.end()));
        f.write_str(&ranges.chain(self.names.iter().cloned()).collect::<Vec<_>>().join(", "))
    }
}

impl Serialize for RoomRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RoomRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(rule: &str, name: &str) -> bool {
        rule.parse::<RoomRule>().unwrap().allows(&RoomId::new(name).unwrap())
    }

    #[test]
    fn any_name_is_a_room_unless_the_rule_says_otherwise() {
        assert!(allowed("", "anything"));
        assert!(allowed(" , ", "anything"));
        assert!(!allowed("lobby", "anything"));
    }

    #[test]
    fn ranges_hold_both_ends_and_numbers_only() {
        for (name, is_room) in [("1", true), ("20", true), ("0", false), ("21", false), ("07", false), ("lobby", true), ("room7", false)] {
            assert_eq!(allowed("1..20, lobby", name), is_room, "{name}");
        }
    }

    #[test]
    fn nonsense_is_refused_and_sense_reads_back() {
        for bad in ["20..1", "1..", "..", "a..b", "a b", "#"] {
            assert!(bad.parse::<RoomRule>().is_err(), "{bad}");
        }
        let rule: RoomRule = "lobby,1..20 , 30..40".parse().unwrap();
        assert_eq!(rule.to_string(), "1..20, 30..40, lobby");
        assert_eq!(rule.to_string().parse(), Ok(rule));
    }
}
