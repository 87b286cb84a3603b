//! Who is in which room on other nodes, as far as they have told.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::news::{News, RoomNews, Told};
use crate::directory::LEASE;
use crate::protocol::MemberInfo;
use crate::{NodeId, RoomId};

/// How long a node that was asked for its members may take to begin with them.
const PATIENCE: Duration = Duration::from_secs(3);

/// A node that has not heard itself for so long can't tell who else is silent: the log stands still.
const DEAF: Duration = Duration::from_secs(LEASE.as_secs() / 2);

/// How much is known of others at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Members by name, over all rooms and nodes. Beyond that they are only counted.
    pub(super) members: usize,
    /// Rooms, over all nodes. Beyond that nothing is known of a room.
    pub(super) rooms: usize,
}

/// What became of a room's members since it was last asked: whoever is there, or came, by session, and who went (`None`).
pub(super) type Untold = HashMap<String, Option<Arc<MemberInfo>>>;

/// The members that other nodes have. Knows no log and no clock: it is told what was read, and when.
#[derive(Debug)]
pub(super) struct Elsewhere {
    bounds: Bounds,
    nodes: HashMap<NodeId, Node>,
    known: Known,
    /// When this node last read a notice of its own; before that nobody's silence means anything.
    heard_self: Option<Instant>,
}

#[derive(Debug, Default)]
struct Known {
    members: usize,
    rooms: usize,
    /// Whether it was said that there are more.
    over: bool,
    untold: HashMap<RoomId, Untold>,
}

#[derive(Debug)]
struct Node {
    boot: u64,
    /// The last piece of its news that was read.
    seq: u64,
    stage: Stage,
    heard: Instant,
    asked: Option<Instant>,
    /// Grows whenever it begins to tell everything: what is not mentioned until it ends is gone.
    telling: u32,
    rooms: BTreeMap<RoomId, Room>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Something was missed: what is known may be old, and it has to be asked.
    Behind,
    /// It is telling everything.
    Reading,
    /// Everything is known.
    Whole,
}

#[derive(Debug, Default)]
struct Room {
    count: usize,
    mentioned: u32,
    members: HashMap<String, (Arc<MemberInfo>, u32)>,
}

/// What has to be done about what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Somebody does not know this node's members.
    TellAll,
}

impl Elsewhere {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, nodes: HashMap::new(), known: Known::default(), heard_self: None }
    }

    /// A notice of this node itself came back: the log goes on. Others are silent from now on only, if it did not for a while.
    pub(super) fn heard_self(&mut self, now: Instant) {
        if self.heard_self.is_none_or(|before| now.duration_since(before) > DEAF) {
            self.nodes.values_mut().for_each(|node| node.heard = now);
        }
        self.heard_self = Some(now);
    }

    /// Another node told something; `me` is this one.
    pub(super) fn heard(&mut self, told: Told, me: &NodeId, now: Instant) -> Wish {
        let Told { node: name, boot, seq, news } = told;
        match self.nodes.get(&name) {
            // An earlier life, or another node of the name that was started before.
            Some(node) if node.boot > boot => return Wish::Nothing,
            Some(node) if node.boot < boot => self.remove(&name),
            _ => {}
        }
        if matches!(news, News::Bye) {
            self.remove(&name);
            return Wish::Nothing;
        }
        let Self { nodes, known, bounds, .. } = self;
        let node = nodes.entry(name.clone()).or_insert_with(|| Node::new(boot, seq, now));
        node.heard = now;
        match news {
            News::Hello => {
                node.forget(known);
                (node.seq, node.stage) = (seq, Stage::Whole);
                return Wish::TellAll;
            }
            News::Alive => node.stands_at(seq),
            News::Ask(whom) => {
                node.stands_at(seq);
                if whom == *me {
                    return Wish::TellAll;
                }
            }
            News::Changed(rooms) => {
                if node.follows(seq) {
                    rooms.into_iter().for_each(|room| node.take(&name, room, known, *bounds));
                }
            }
            News::All { first, last, rooms } => {
                let begins = first && (node.stage == Stage::Behind || seq > node.seq);
                if begins {
                    node.telling += 1;
                    (node.seq, node.stage) = (seq, Stage::Reading);
                }
                if begins || node.follows(seq) {
                    rooms.into_iter().for_each(|room| node.take(&name, room, known, *bounds));
                    if last && node.stage == Stage::Reading {
                        node.sweep(known);
                        node.stage = Stage::Whole;
                    }
                }
            }
            News::Bye => {}
        }
        Wish::Nothing
    }

    /// The log lost something, nobody knows what.
    pub(super) fn lost(&mut self) {
        self.nodes.values_mut().for_each(Node::is_behind);
    }

    /// Nodes that have been silent for their lease are gone, as long as this one hears itself. Answers with whom to ask.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<NodeId> {
        if self.heard_self.is_some_and(|heard| now.duration_since(heard) <= DEAF) {
            let gone = self.nodes.iter().filter(|(_, node)| now.duration_since(node.heard) > LEASE);
            for name in gone.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
                tracing::warn!(node = %name, "a node has been silent for its lease: its members are gone");
                self.remove(&name);
            }
        }
        let due = |node: &Node| node.stage == Stage::Behind && node.asked.is_none_or(|asked| now.duration_since(asked) > PATIENCE);
        let mut asked = Vec::new();
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| due(node)) {
            node.asked = Some(now);
            asked.push(name.clone());
        }
        asked
    }

    /// What changed in rooms since this was asked.
    pub(super) fn untold(&mut self) -> HashMap<RoomId, Untold> {
        std::mem::take(&mut self.known.untold)
    }

    /// Members of a room.
    pub(super) fn count(&self, room: &RoomId) -> usize {
        self.nodes.values().filter_map(|node| node.rooms.get(room)).map(|room| room.count).sum()
    }

    /// Those that are known by name.
    pub(super) fn members(&self, room: &RoomId) -> Vec<Arc<MemberInfo>> {
        let rooms = self.nodes.values().filter_map(|node| node.rooms.get(room));
        rooms.flat_map(|room| room.members.values().map(|(member, _)| Arc::clone(member))).collect()
    }

    /// The first `limit` rooms after `after`, and maybe more, with how many members each has.
    pub(super) fn rooms(&self, after: Option<&RoomId>, limit: usize) -> BTreeMap<RoomId, usize> {
        let mut rooms = BTreeMap::new();
        for node in self.nodes.values() {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            for (room, Room { count, .. }) in node.rooms.range::<RoomId, _>((from, Bound::Unbounded)).take(limit) {
                *rooms.entry(room.clone()).or_default() += count;
            }
        }
        rooms
    }

    fn remove(&mut self, name: &NodeId) {
        if let Some(mut node) = self.nodes.remove(name) {
            node.forget(&mut self.known);
        }
    }
}

impl Node {
    /// One that this node has not heard of before: it may be about to tell everything, so it is not asked at once.
    fn new(boot: u64, seq: u64, now: Instant) -> Self {
        Self { boot, seq, stage: Stage::Behind, heard: now, asked: Some(now), telling: 0, rooms: BTreeMap::new() }
    }

    fn is_behind(&mut self) {
        if self.stage != Stage::Behind {
            (self.stage, self.asked) = (Stage::Behind, None);
        }
    }

    /// It says how many pieces of news there were.
    fn stands_at(&mut self, seq: u64) {
        if seq > self.seq {
            self.is_behind();
        }
    }

    /// Whether this piece of news is the next one; one that was read before is passed over.
    fn follows(&mut self, seq: u64) -> bool {
        if self.stage != Stage::Behind && seq == self.seq + 1 {
            self.seq = seq;
            return true;
        }
        self.stands_at(seq);
        false
    }

    fn take(&mut self, name: &NodeId, news: RoomNews, known: &mut Known, bounds: Bounds) {
        let RoomNews { room: id, count, left, joined } = news;
        if !self.rooms.contains_key(&id) {
            if known.rooms >= bounds.rooms {
                return known.is_over();
            }
            known.rooms += 1;
        }
        let telling = self.telling;
        let room = self.rooms.entry(id.clone()).or_default();
        (room.count, room.mentioned) = (count, telling);
        for session in left {
            if room.members.remove(&session).is_some() {
                known.members -= 1;
                known.tell(&id, session, None);
            }
        }
        for who in joined {
            let is_known = match room.members.get_mut(&who.0) {
                Some((member, mentioned)) => {
                    *mentioned = telling;
                    if member.user_id == who.1 && member.username == who.2 {
                        continue;
                    }
                    true
                }
                None => false,
            };
            if !is_known && known.members >= bounds.members {
                known.is_over();
                continue;
            }
            known.members += usize::from(!is_known);
            let member = Arc::new(who.at(name));
            known.tell(&id, member.session.clone(), Some(Arc::clone(&member)));
            room.members.insert(member.session.clone(), (member, telling));
        }
        if room.count == 0 && room.members.is_empty() {
            self.rooms.remove(&id);
            known.rooms -= 1;
        }
    }

    /// It has told everything: what it did not mention is gone.
    fn sweep(&mut self, known: &mut Known) {
        let telling = self.telling;
        self.rooms.retain(|id, room| {
            let gone = room.members.extract_if(|_, (_, mentioned)| *mentioned != telling);
            gone.for_each(|(session, _)| known.forget(id, session));
            known.rooms -= usize::from(room.mentioned != telling);
            room.mentioned == telling
        });
    }

    fn forget(&mut self, known: &mut Known) {
        known.rooms -= self.rooms.len();
        for (id, room) in std::mem::take(&mut self.rooms) {
            room.members.into_keys().for_each(|session| known.forget(&id, session));
        }
    }
}

impl Known {
    fn forget(&mut self, room: &RoomId, session: String) {
        self.members -= 1;
        self.tell(room, session, None);
    }

    fn tell(&mut self, room: &RoomId, session: String, what: Option<Arc<MemberInfo>>) {
        match self.untold.get_mut(room) {
            Some(untold) => untold.insert(session, what),
            None => self.untold.entry(room.clone()).or_default().insert(session, what),
        };
    }

    fn is_over(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            tracing::warn!(
                members = self.members,
                rooms = self.rooms,
                "other nodes have more members or rooms than this one keeps by name: the rest is only counted"
            );
        }
    }
}
