//! What a log is called in Redis.

use crate::LogId;

/// The keys and the channel of one log. All have the log's number as hash tag, so a cluster keeps them in one slot.
#[derive(Debug)]
pub(super) struct Keys {
    /// A hash: what there is to know about the log.
    pub(super) head: String,
    /// A stream: the entries, in batches. An entry's id is its batch's epoch and last offset.
    pub(super) log: String,
    /// A hash: how far each history is, and when it was heard of.
    pub(super) histories: String,
    /// Never made: what a user may do is tried on it.
    pub(super) probe: String,
    /// Where each batch is told as it comes.
    pub(super) channel: String,
    /// The cluster's slot of all of them.
    pub(super) slot: u16,
}

impl Keys {
    /// The names of `log` under `prefix`, in the database of that number.
    pub(super) fn new(prefix: &str, log: LogId, database: i64) -> Self {
        let key = |name: &str| format!("{prefix}:{{{log}}}:{name}");
        // Channels know no databases.
        let channel = if database == 0 { key("live") } else { key(&format!("live:{database}")) };
        let slot = crc16(tag(&key("log")).as_bytes()) % 16_384;
        Self { head: key("head"), log: key("log"), histories: key("histories"), probe: key("probe"), channel, slot }
    }
}

/// What of a key decides its slot: what stands between the first brace and the next closing one, if anything does. A prefix may have
/// braces of its own.
fn tag(key: &str) -> &str {
    let inner = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    inner.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// CRC-16/XMODEM, as the cluster specification has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_the_specifications() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(tag("{user1000}.following"), "user1000");
        assert_eq!(tag("foo{}{bar}"), "foo{}{bar}");
        assert_eq!(tag("foo{{bar}}zap"), "{bar");
        let keys = Keys::new("chat", LogId(3), 0);
        assert_eq!((keys.log.as_str(), keys.channel.as_str(), keys.slot), ("chat:{3}:log", "chat:{3}:live", crc16(b"3") % 16_384));
        assert_ne!(Keys::new("chat", LogId(3), 1).channel, keys.channel);
    }
}
