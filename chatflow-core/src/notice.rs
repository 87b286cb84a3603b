//! What nodes tell each other through the logs: entries that are no messages. They have positions like any entry, are shown to nobody
//! and never become rows.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::broker::{Broker, Entry, Receipt};
use crate::presence::Told;
use crate::{LogId, MessageId, NodeId, RoomId};

/// The log in which nodes tell each other of themselves and of their members.
pub(crate) const LOG: LogId = LogId(0);

/// The first byte of a notice; a message has another.
const FORM: u8 = 2;

/// A notice from one node to all that read the log, itself included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "lowercase")]
pub(crate) enum Notice {
    /// Whoever published it has read everything that came before it once it comes back.
    Fence {
        /// Who that is.
        node: NodeId,
        /// Which of its fences.
        token: u64,
    },
    /// Who comes and goes at a node.
    Members(Told),
    /// What a later version says.
    #[serde(other)]
    Unknown,
}

impl Notice {
    /// Whether an entry is a notice, of whichever version.
    pub(crate) fn is(entry: &[u8]) -> bool {
        entry.first() == Some(&FORM)
    }

    /// The notice in an entry; `None` when it is a message.
    pub(crate) fn decode(entry: &[u8]) -> Option<Self> {
        let json = entry.strip_prefix(&[FORM])?;
        Some(serde_json::from_slice(json).unwrap_or(Self::Unknown))
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORM);
        // Writing into memory can't fail, and a notice holds nothing that JSON can't.
        let _ = serde_json::to_writer((&mut out).writer(), self);
        out.freeze()
    }

    /// Publishes it, once: a notice that is lost is followed by another. Whether the broker took it.
    pub(crate) fn publish(&self, broker: &dyn Broker, log: LogId, receipt: Receipt) -> bool {
        let Ok(room) = RoomId::new("-") else { return false };
        let entry = Entry { log, room, id: MessageId::now_v7(), digest: 0, bytes: self.encode() };
        // What was not taken comes back with its receipt, whose owner learns it from the answer.
        broker.submit(entry, receipt).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    #[test]
    fn a_notice_is_no_message_and_one_of_a_later_version_is_passed_over() {
        let notice = Notice::Fence { node: "a".into(), token: 7 };
        let entry = notice.encode();
        assert_eq!(Notice::decode(&entry), Some(notice));
        assert!(Notice::is(&entry) && Message::peek(&entry).is_none() && Message::decode(entry).is_err());
        assert_eq!(Notice::decode(b"\x02{\"notice\":\"rain\"}"), Some(Notice::Unknown));
        assert_eq!(Notice::decode(b"\x02not even JSON"), Some(Notice::Unknown));
        assert_eq!(Notice::decode(b"\x01a message"), None);
    }
}
