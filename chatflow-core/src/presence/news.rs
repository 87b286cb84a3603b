//! What nodes tell each other of their members, cut into pieces that a broker takes.

use serde::{Deserialize, Serialize};

use crate::protocol::MemberInfo;
use crate::{NodeId, RoomId};

/// What a node tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Who tells.
    pub(super) node: NodeId,
    /// Grows with each start of the node.
    pub(super) boot: u64,
    /// How many pieces of news of its members it has told, this one included if it is one.
    pub(super) seq: u64,
    pub(super) news: News,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum News {
    /// It has just started: it has no members yet, and knows nobody's.
    Hello,
    /// It lives.
    Alive,
    /// It ends, and so do its members.
    Bye,
    /// It does not know the members of that node.
    Ask(NodeId),
    /// Who came, went or changed name. Counts as a piece of news.
    Changed(Vec<RoomNews>),
    /// All members, room by room, from the `first` piece to the `last`; what changed in between is told in between, and what a room's
    /// part says is as of its place among that. Each piece counts as news.
    All { first: bool, last: bool, rooms: Vec<RoomNews> },
}

/// News of one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RoomNews {
    pub(super) room: RoomId,
    /// How many members it has at that node.
    pub(super) count: usize,
    /// Sessions that went, before the others came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left: Vec<String>,
    /// Who came or changed name, or simply is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) joined: Vec<Who>,
}

/// A member: session, user and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who(pub(super) String, pub(super) Option<String>, pub(super) Option<String>);

impl Told {
    pub(super) fn is_of(&self, node: &NodeId) -> bool {
        self.node == *node
    }

    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    pub(super) fn counts(&self) -> bool {
        self.news.counts()
    }
}

impl News {
    /// Whether it is a piece of news of members, which must not be missed.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::Changed(_) | Self::All { .. })
    }
}

impl From<MemberInfo> for Who {
    fn from(MemberInfo { session, user_id, username, .. }: MemberInfo) -> Self {
        Self(session, user_id, username)
    }
}

impl Who {
    /// As a member of `node`.
    pub(super) fn at(self, node: &NodeId) -> MemberInfo {
        MemberInfo { session: self.0, user_id: self.1, username: self.2, node: Some(node.clone()) }
    }
}

/// What stands around a room, and around a member, at most.
const AROUND: usize = 64;
const BRACKETS: usize = 16;

/// Cuts news into pieces whose JSON has at most about `most` bytes each. A member whose name alone is too long goes without.
pub(super) fn pieces(news: impl IntoIterator<Item = RoomNews>, most: usize) -> Vec<Vec<RoomNews>> {
    let mut pieces = Pieces { most, done: Vec::new(), open: Vec::new(), bytes: 0 };
    for RoomNews { room, count, left, joined } in news {
        pieces.begin(&room, count);
        for session in left {
            let bytes = width(&session);
            pieces.last(&room, count, bytes).left.push(session);
        }
        for mut who in joined {
            let named =
                |who: &Who| BRACKETS + width(&who.0) + [&who.1, &who.2].into_iter().flatten().map(|text| width(text)).sum::<usize>();
            if named(&who) > most / 2 {
                (who.1, who.2) = (None, None);
            }
            let bytes = named(&who);
            pieces.last(&room, count, bytes).joined.push(who);
        }
    }
    pieces.finish()
}

struct Pieces {
    most: usize,
    done: Vec<Vec<RoomNews>>,
    open: Vec<RoomNews>,
    bytes: usize,
}

impl Pieces {
    fn begin(&mut self, room: &RoomId, count: usize) {
        let bytes = AROUND + room.as_str().len();
        if self.bytes + bytes > self.most && !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.open.push(RoomNews { room: room.clone(), count, left: Vec::new(), joined: Vec::new() });
    }

    /// Where `bytes` more of `room` go.
    fn last(&mut self, room: &RoomId, count: usize, bytes: usize) -> &mut RoomNews {
        let is_empty = self.open.last().is_none_or(|news| news.left.is_empty() && news.joined.is_empty());
        if self.bytes + bytes > self.most && !(self.open.len() == 1 && is_empty) {
            if is_empty {
                self.open.pop();
            }
            self.done.push(std::mem::take(&mut self.open));
            self.bytes = 0;
            self.begin(room, count);
        }
        self.bytes += bytes;
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    fn finish(mut self) -> Vec<Vec<RoomNews>> {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        self.done
    }
}

/// How long a text is in JSON, with its quotes and a comma.
fn width(text: &str) -> usize {
    3 + text.bytes().map(|byte| if byte < 0x20 || byte == 0x7f { 6 } else { 1 + usize::from(matches!(byte, b'"' | b'\\')) }).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Notice;

    fn news(room: &str, joined: Vec<Who>) -> RoomNews {
        RoomNews { room: RoomId::new(room).unwrap(), count: joined.len(), left: Vec::new(), joined }
    }

    fn bytes(rooms: Vec<RoomNews>) -> usize {
        let news = News::All { first: true, last: true, rooms };
        Notice::Members(Told { node: "n".repeat(64).into(), boot: u64::MAX, seq: u64::MAX, news }).encode().len()
    }

    #[test]
    fn ten_thousand_members_are_a_handful_of_notices_and_none_is_missing() {
        let who = |n: u64| Who(format!("{:x}", u64::MAX - n), Some(n.to_string()), Some("adalovelace".into()));
        let rooms = vec![news("small", vec![who(0)]), news("large", (1..10_000).map(who).collect())];
        let pieces = pieces(rooms.clone(), 64 << 10);
        assert!(pieces.len() <= 10, "{}", pieces.len());
        assert!(pieces.iter().all(|piece| bytes(piece.clone()) <= (64 << 10) + 512));
        let all: Vec<_> = pieces.into_iter().flatten().flat_map(|room| room.joined).collect();
        assert_eq!(all, rooms.into_iter().flat_map(|room| room.joined).collect::<Vec<_>>());
    }

    #[test]
    fn no_piece_is_too_long_whatever_names_hold() {
        let long = Who("1".into(), Some("\u{1}\"\\".repeat(400)), Some("\n".repeat(4_000)));
        let short = Who("2".into(), Some("\u{1}".repeat(100)), None);
        let many = (0..2_000).map(|n| news(&format!("room-{n}"), vec![long.clone(), short.clone()]));
        let pieces = pieces(many, 4 << 10);
        assert!(pieces.iter().all(|piece| bytes(piece.clone()) <= (4 << 10) + 512));
        let all: Vec<_> = pieces.into_iter().flatten().flat_map(|room| room.joined).collect();
        assert_eq!(all.len(), 4_000);
        assert!(all.contains(&Who("1".into(), None, None)) && all.contains(&short));
    }

    #[test]
    fn many_small_rooms_share_a_piece() {
        let pieces = pieces((0..500).map(|n| news(&n.to_string(), Vec::new())), 64 << 10);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [500]);
    }
}
