//! What this node tells the others of its members, and when.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::news::{News, RoomNews, Told, Who, pieces};
use crate::directory::EVERY;
use crate::protocol::MemberInfo;
use crate::registry::RoomRegistry;
use crate::{NodeId, RoomId};

/// The most notices in one turn, and so four times a second.
const TURN: usize = 8;
/// Changes that may wait for their turn, in pieces; when there are more, everything is told anew instead.
const WAITING: usize = 256;
/// How long after a refusal the next try is made, and after telling everything, the same again.
const PAUSE: Duration = Duration::from_secs(1);

/// This node's rooms, for who does not know them.
pub(super) trait Rooms {
    fn rooms(&self) -> Vec<RoomId>;
    fn members(&self, room: &RoomId) -> Vec<MemberInfo>;
}

impl Rooms for dyn RoomRegistry {
    fn rooms(&self) -> Vec<RoomId> {
        RoomRegistry::rooms(self).into_iter().map(|(room, _)| room).collect()
    }

    fn members(&self, room: &RoomId) -> Vec<MemberInfo> {
        RoomRegistry::members(self, room)
    }
}

/// Puts what there is to tell in an order in which whoever reads it knows at each point what this node knew at that point.
#[derive(Debug)]
pub(super) struct Teller {
    node: NodeId,
    boot: u64,
    seq: u64,
    /// How long a piece may be.
    most: usize,
    greeted: bool,
    ended: bool,
    waiting: VecDeque<News>,
    /// The rooms that are still to be told, the next one last; while everything is being told.
    all: Option<Vec<RoomId>>,
    begins: bool,
    /// Everything has to be told: somebody does not know it.
    wanted: bool,
    /// … and what changes until then need not be.
    behind: bool,
    told_all: Option<Instant>,
    told: Option<Instant>,
    refused: Option<Instant>,
}

impl Teller {
    pub(super) fn new(node: NodeId, boot: u64, most: usize) -> Self {
        Self {
            node,
            boot,
            seq: 0,
            most,
            greeted: false,
            ended: false,
            waiting: VecDeque::new(),
            all: None,
            begins: false,
            wanted: false,
            behind: false,
            told_all: None,
            told: None,
            refused: None,
        }
    }

    /// Somebody does not know this node's members.
    pub(super) fn want_all(&mut self) {
        self.wanted = true;
    }

    /// What changed here since this was called before.
    pub(super) fn changed(&mut self, news: Vec<RoomNews>) {
        if self.behind || self.ended || !self.greeted {
            return;
        }
        self.waiting.extend(pieces(news, self.most).into_iter().map(News::Changed));
        if self.waiting.iter().filter(|news| matches!(news, News::Changed(_))).count() > WAITING {
            self.falls_behind();
        }
    }

    /// Tells what there is to tell, as much as goes into one turn, and asks those nodes for their members. `publish` answers
    /// whether the broker took it.
    pub(super) fn turn(&mut self, now: Instant, rooms: &(impl Rooms + ?Sized), asks: Vec<NodeId>, publish: &mut dyn FnMut(Told) -> bool) {
        if self.ended || self.refused.is_some_and(|refused| now.duration_since(refused) < PAUSE) {
            return;
        }
        self.refused = None;
        if !self.greeted {
            self.greeted = self.tell(News::Hello, now, publish);
            // Whoever came before this was told has to be told of.
            (self.wanted, self.behind) = (self.greeted, self.greeted);
            self.all = None;
        }
        for _ in 0..TURN {
            if self.waiting.is_empty() {
                self.gather(now, rooms);
            }
            let Some(news) = self.waiting.pop_front() else { break };
            if !self.tell(news, now, publish) {
                return self.falls_behind();
            }
        }
        let asked = asks.into_iter().all(|node| self.tell(News::Ask(node), now, publish));
        let is_due = self.told.is_none_or(|told| now.duration_since(told) >= EVERY);
        if asked && is_due {
            self.tell(News::Alive, now, publish);
        }
    }

    /// This node ends: nothing is told after this.
    pub(super) fn end(&mut self, now: Instant, publish: &mut dyn FnMut(Told) -> bool) {
        if !std::mem::replace(&mut self.ended, true) && self.greeted {
            self.tell(News::Bye, now, publish);
        }
    }

    fn tell(&mut self, news: News, now: Instant, publish: &mut dyn FnMut(Told) -> bool) -> bool {
        let counts = u64::from(news.counts());
        let taken = publish(Told { node: self.node.clone(), boot: self.boot, seq: self.seq + counts, news });
        if taken {
            (self.seq, self.told) = (self.seq + counts, Some(now));
        } else {
            self.refused = Some(now);
        }
        taken
    }

    fn falls_behind(&mut self) {
        self.waiting.clear();
        (self.all, self.wanted, self.behind) = (None, true, true);
    }

    /// The next rooms of everything, if that is being told or has to be.
    fn gather(&mut self, now: Instant, rooms: &(impl Rooms + ?Sized)) {
        let rested = self.told_all.is_none_or(|told| now.duration_since(told) >= PAUSE);
        if self.all.is_none() && self.wanted && rested {
            let mut names = rooms.rooms();
            names.reverse();
            (self.all, self.begins, self.wanted, self.behind) = (Some(names), true, false, false);
        }
        let Some(left) = &mut self.all else { return };
        let (mut news, mut bytes) = (Vec::new(), 0);
        while bytes < self.most
            && let Some(room) = left.pop()
        {
            let joined: Vec<Who> = rooms.members(&room).into_iter().map(Who::from).collect();
            // About a piece at a time: what a member takes is guessed.
            bytes += 32 * (1 + joined.len());
            if !joined.is_empty() {
                news.push(RoomNews { room, count: joined.len(), left: Vec::new(), joined });
            }
        }
        let is_last = left.is_empty();
        let mut pieces = pieces(news, self.most);
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        let count = pieces.len();
        for (i, rooms) in pieces.into_iter().enumerate() {
            let first = std::mem::take(&mut self.begins);
            self.waiting.push_back(News::All { first, last: is_last && i + 1 == count, rooms });
        }
        if is_last {
            (self.all, self.told_all) = (None, Some(now));
        }
    }
}
