//! The members that a reader knows against a model of those that there are, whatever happens in between.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::elsewhere::{Bounds, Elsewhere, Wish};
use super::news::{RoomNews, Told, Who};
use super::teller::{Rooms, Teller};
use crate::directory::{EVERY, LEASE};
use crate::protocol::MemberInfo;
use crate::{NodeId, RoomId};

const TICK: Duration = Duration::from_millis(250);
/// Pieces are short, so that everything takes many.
const MOST: usize = 300;

/// What members there are, by room and session, with their names.
type Model = BTreeMap<(String, String), String>;

/// A node that has members.
struct Node {
    teller: Teller,
    boot: u64,
    members: Model,
    joined: BTreeSet<(String, String)>,
    left: Vec<(String, String)>,
}

fn name(room: u8) -> String {
    format!("room-{room}")
}

fn id(room: &str) -> RoomId {
    RoomId::new(room).unwrap()
}

impl Rooms for Model {
    fn rooms(&self) -> Vec<RoomId> {
        self.keys().map(|(room, _)| room).collect::<BTreeSet<_>>().into_iter().map(|room| id(room)).collect()
    }

    fn members(&self, room: &RoomId) -> Vec<MemberInfo> {
        let members = self.iter().filter(|((in_room, _), _)| in_room == room.as_str());
        let member = |((_, session), name): (&(String, String), &String)| MemberInfo {
            session: session.clone(),
            user_id: Some(name.clone()),
            username: Some(name.clone()),
            node: None,
        };
        members.map(member).collect()
    }
}

impl Node {
    fn new(boot: u64) -> Self {
        let teller = Teller::new("other".into(), boot, MOST);
        Self { teller, boot, members: Model::new(), joined: BTreeSet::new(), left: Vec::new() }
    }

    fn joins(&mut self, room: u8, session: u8, as_name: u8) {
        let key = (name(room), session.to_string());
        self.members.insert(key.clone(), format!("name-{as_name}"));
        self.joined.insert(key);
    }

    fn leaves(&mut self, room: u8, session: u8) {
        let key = (name(room), session.to_string());
        if self.members.remove(&key).is_some() {
            self.left.push(key);
        }
    }

    fn changes(&mut self) -> Vec<RoomNews> {
        let (joined, left) = (std::mem::take(&mut self.joined), std::mem::take(&mut self.left));
        let rooms: BTreeSet<_> = joined.iter().chain(&left).map(|(room, _)| room.clone()).collect();
        let news = |room: String| {
            let members = self.members.members(&id(&room));
            let came = |member: &MemberInfo| joined.contains(&(room.clone(), member.session.clone()));
            RoomNews {
                count: members.len(),
                left: left.iter().filter(|(in_room, _)| *in_room == room).map(|(_, session)| session.clone()).collect(),
                joined: members.into_iter().filter(came).map(Who::from).collect(),
                room: id(&room),
            }
        };
        rooms.into_iter().map(news).collect()
    }
}

/// A node that reads what the other tells.
struct Reader {
    me: NodeId,
    elsewhere: Elsewhere,
    /// What its own members believe, from what they were told.
    told: Model,
}

impl Reader {
    fn new(me: &'static str, bounds: Bounds) -> Self {
        Self { me: me.into(), elsewhere: Elsewhere::new(bounds), told: Model::new() }
    }

    fn known(&self) -> Model {
        let rooms = self.elsewhere.rooms(None, usize::MAX);
        let members = rooms.keys().flat_map(|room| self.elsewhere.members(room).into_iter().map(move |member| (room, member)));
        members.map(|(room, member)| ((room.to_string(), member.session.clone()), member.username.clone().unwrap_or_default())).collect()
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        self.elsewhere.rooms(None, usize::MAX).into_iter().map(|(room, count)| (room.to_string(), count)).collect()
    }

    /// Its own members are told.
    fn tells(&mut self) {
        for (room, untold) in self.elsewhere.untold() {
            for (session, member) in untold {
                let key = (room.to_string(), session);
                match member {
                    Some(member) => self.told.insert(key, member.username.clone().unwrap_or_default()),
                    None => self.told.remove(&key),
                };
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Joins {
        room: u8,
        session: u8,
        name: u8,
    },
    Leaves {
        room: u8,
        session: u8,
    },
    /// Time passes, and what there is to tell is told.
    Tick,
    /// The broker goes away, or comes back.
    Away(bool),
    /// A reader misses the next notices.
    Misses {
        reader: usize,
        notices: usize,
    },
    /// The log has the next notice twice.
    Twice,
    /// What was told last did not reach the log, and the teller learns it.
    Failed,
    /// The node is killed and started again.
    Restarts,
    /// A reader is started again.
    Begins {
        reader: usize,
    },
    /// The readers are told that the log lost something.
    Lost,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5u8, 0..12u8, 0..3u8).prop_map(|(room, session, name)| Step::Joins { room, session, name }),
        6 => (0..5u8, 0..12u8).prop_map(|(room, session)| Step::Leaves { room, session }),
        8 => Just(Step::Tick),
        1 => any::<bool>().prop_map(Step::Away),
        2 => (0..2usize, 1..4usize).prop_map(|(reader, notices)| Step::Misses { reader, notices }),
        1 => Just(Step::Twice),
        1 => Just(Step::Failed),
        1 => Just(Step::Restarts),
        1 => (0..2usize).prop_map(|reader| Step::Begins { reader }),
        1 => Just(Step::Lost),
    ];
    prop::collection::vec(step, 1..120)
}

struct World {
    now: Instant,
    node: Node,
    readers: [Reader; 2],
    bounds: Bounds,
    away: bool,
    misses: [usize; 2],
    twice: bool,
    asks: Vec<NodeId>,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let readers = [Reader::new("one", bounds), Reader::new("two", bounds)];
        Self { now: Instant::now(), node: Node::new(1), readers, bounds, away: false, misses: [0; 2], twice: false, asks: Vec::new() }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Joins { room, session, name } => self.node.joins(room, session, name),
            Step::Leaves { room, session } => self.node.leaves(room, session),
            Step::Tick => self.tick(),
            Step::Away(away) => self.away = away,
            Step::Misses { reader, notices } => self.misses[reader] = notices,
            Step::Twice => self.twice = true,
            Step::Failed => self.node.teller.want_all(),
            Step::Restarts => self.node = Node::new(self.node.boot + 1),
            Step::Begins { reader } => {
                self.readers[reader] = Reader::new(["one", "two"][reader], self.bounds);
                self.node.teller.want_all();
            }
            Step::Lost => self.readers.iter_mut().for_each(|reader| reader.elsewhere.lost()),
        }
        for reader in &mut self.readers {
            reader.tells();
            assert_eq!(reader.told, reader.known(), "members believe what their node knows");
        }
    }

    /// A quarter of a second: the node tells, and the readers read it.
    fn tick(&mut self) {
        self.now += TICK;
        let (now, away) = (self.now, self.away);
        let news = self.node.changes();
        self.node.teller.changed(news);
        if std::mem::take(&mut self.asks).contains(&"other".into()) {
            self.node.teller.want_all();
        }
        let mut told: Vec<Told> = Vec::new();
        let Node { teller, members, .. } = &mut self.node;
        teller.turn(now, members, Vec::new(), &mut |notice| {
            told.extend((!away).then_some(notice));
            !away
        });
        if std::mem::take(&mut self.twice) {
            told.extend(told.last().cloned());
        }
        for notice in told {
            for (reader, misses) in self.readers.iter_mut().zip(&mut self.misses) {
                if *misses > 0 {
                    *misses -= 1;
                } else if reader.elsewhere.heard(notice.clone(), &reader.me, now) == Wish::TellAll {
                    // The readers have no members to tell of.
                }
            }
        }
        for reader in &mut self.readers {
            reader.elsewhere.heard_self(now);
            self.asks.extend(reader.elsewhere.tick(now));
        }
    }

    /// Nothing goes wrong any more.
    fn settles(&mut self) {
        (self.away, self.misses, self.twice) = (false, [0; 2], false);
        for _ in 0..80 {
            self.take(Step::Tick);
        }
    }
}

const MANY: Bounds = Bounds { members: 1_000, rooms: 1_000 };

proptest! {
    #[test]
    fn everybody_knows_everybody_whatever_was_missed(steps in steps()) {
        let mut world = World::new(MANY);
        steps.into_iter().for_each(|step| world.take(step));
        world.settles();
        for reader in &world.readers {
            prop_assert_eq!(&reader.known(), &world.node.members);
        }
    }

    #[test]
    fn where_nothing_is_missed_nobody_is_ever_behind(steps in steps()) {
        let mut world = World::new(MANY);
        world.take(Step::Tick);
        for step in steps {
            if !matches!(step, Step::Away(_) | Step::Misses { .. } | Step::Restarts | Step::Begins { .. } | Step::Lost) {
                world.take(step);
            }
        }
        let mut asked = Vec::new();
        for _ in 0..4 {
            world.take(Step::Tick);
            asked.append(&mut world.asks.clone());
        }
        prop_assert_eq!(asked, Vec::<NodeId>::new());
        for reader in &world.readers {
            prop_assert_eq!(&reader.known(), &world.node.members);
        }
    }

    #[test]
    fn whatever_the_bounds_everybody_is_counted(steps in steps(), members in 0..20usize) {
        let mut world = World::new(Bounds { members, rooms: 1_000 });
        steps.into_iter().for_each(|step| world.take(step));
        world.settles();
        let mut counts = BTreeMap::new();
        world.node.members.keys().for_each(|(room, _)| *counts.entry(room.clone()).or_insert(0) += 1);
        for reader in &world.readers {
            prop_assert_eq!(&reader.counts(), &counts);
            let known = reader.known();
            prop_assert!(known.len() <= members);
            prop_assert!(known.iter().all(|(member, name)| world.node.members.get(member) == Some(name)));
        }
    }
}

#[test]
fn a_silent_node_is_gone_after_its_lease_and_back_when_it_speaks() {
    let mut world = World::new(MANY);
    world.take(Step::Joins { room: 1, session: 1, name: 1 });
    world.settles();
    let silent = |world: &mut World, ticks: u32| {
        for _ in 0..ticks {
            world.now += TICK;
            for reader in &mut world.readers {
                reader.elsewhere.heard_self(world.now);
                reader.elsewhere.tick(world.now);
            }
        }
    };
    silent(&mut world, 32);
    assert_eq!(world.readers[0].known().len(), 1, "silent for 8 s");
    silent(&mut world, 20);
    world.readers[0].tells();
    assert!(world.readers[0].known().is_empty() && world.readers[0].told.is_empty());
    world.settles();
    assert_eq!(world.readers[0].known(), world.node.members);
}

#[test]
fn nobody_is_gone_because_the_log_stood_still() {
    let mut world = World::new(MANY);
    world.take(Step::Joins { room: 1, session: 1, name: 1 });
    world.settles();
    let reader = &mut world.readers[0];
    for _ in 0..400 {
        world.now += TICK;
        reader.elsewhere.tick(world.now);
    }
    assert_eq!(reader.known().len(), 1, "it does not hear itself either");
    reader.elsewhere.heard_self(world.now);
    reader.elsewhere.tick(world.now);
    assert_eq!(reader.known().len(), 1, "the lease begins anew");
    for _ in 0..=LEASE.as_millis() / TICK.as_millis() {
        world.now += TICK;
        reader.elsewhere.heard_self(world.now);
        reader.elsewhere.tick(world.now);
    }
    assert!(reader.known().is_empty());
}

#[test]
fn an_earlier_life_is_not_heard_and_a_farewell_is_at_once() {
    let mut world = World::new(MANY);
    let mut zombie = Node::new(1);
    world.node = Node::new(2);
    world.take(Step::Joins { room: 1, session: 1, name: 1 });
    world.settles();
    zombie.joins(2, 2, 2);
    let (reader, now) = (&mut world.readers[0], world.now);
    let mut hears = |notice: Told| {
        reader.elsewhere.heard(notice, &"one".into(), now);
        true
    };
    zombie.teller.turn(now, &zombie.members, Vec::new(), &mut hears);
    zombie.teller.end(now, &mut hears);
    assert_eq!(world.readers[0].known(), world.node.members);
    let reader = &mut world.readers[0];
    world.node.teller.end(now, &mut |notice| {
        reader.elsewhere.heard(notice, &"one".into(), now);
        true
    });
    reader.tells();
    assert!(reader.known().is_empty() && reader.told.is_empty());
}

#[test]
fn whoever_starts_is_told_at_once_and_what_the_log_lost_is_asked_for() {
    let mut world = World::new(MANY);
    let (reader, now) = (&mut world.readers[0], world.now);
    let mut wishes = Vec::new();
    world.node.teller.turn(now, &world.node.members, Vec::new(), &mut |notice| {
        wishes.push(reader.elsewhere.heard(notice, &reader.me, now));
        true
    });
    assert_eq!(wishes.first(), Some(&Wish::TellAll), "its first notice is a hello");
    world.settles();
    let reader = &mut world.readers[0];
    assert!(reader.elsewhere.tick(world.now).is_empty());
    reader.elsewhere.lost();
    assert_eq!(reader.elsewhere.tick(world.now), [NodeId::from("other")]);
}

#[test]
fn a_quiet_node_says_only_that_it_lives() {
    let (mut node, mut told, begun) = (Node::new(1), 0, Instant::now());
    for tick in 0..400 {
        node.teller.turn(begun + TICK * tick, &node.members, Vec::new(), &mut |_| {
            told += 1;
            true
        });
    }
    let beats = TICK.as_millis() * 400 / EVERY.as_millis();
    assert!((told - 2..=told).contains(&beats), "{told} notices in {beats} beats");
}

#[test]
fn a_crowd_is_told_in_a_handful_of_notices() {
    let mut node = Node::new(1);
    node.teller = Teller::new("other".into(), 1, 48 << 10);
    let mut told = HashMap::<&str, usize>::new();
    let mut turn = |node: &mut Node, what, now| {
        let news = node.changes();
        node.teller.changed(news);
        node.teller.turn(now, &node.members, Vec::new(), &mut |_| {
            *told.entry(what).or_default() += 1;
            true
        });
    };
    let now = Instant::now();
    turn(&mut node, "at first", now);
    for session in 0..10_000 {
        let key = (name(1), format!("{:x}", u64::MAX - session));
        node.members.insert(key.clone(), "adalovelace".to_owned());
        node.joined.insert(key);
    }
    for n in 1..8 {
        turn(&mut node, "crowd", now + TICK * n);
    }
    assert!(told["crowd"] <= 16, "{told:?}");
}
