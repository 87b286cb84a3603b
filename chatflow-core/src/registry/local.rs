//! The registry that comes with the library.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::fanout::{Fanout, Workers};
use super::member::Member;
use super::room::{Room, Shared};
use super::{Changes, Encoder, NotThere, Pressure, RegistryStats, RoomRegistry, Start};
use crate::broker::Delivered;
use crate::protocol::{MemberInfo, close};
use crate::stats::Counter;
use crate::{LogId, Message, Position, RoomId, Settings};

/// The rooms of one node, in memory, served by tasks of the runtime that it was made in.
#[derive(Debug)]
pub struct LocalRegistry {
    /// A log's lock is held while a stretch of it is appended to its rooms, and to join or leave one of them.
    logs: Vec<Mutex<LogRooms>>,
    shared: Arc<Shared>,
    /// Rooms whose members changed since that was asked last.
    changed: Mutex<Vec<Arc<Room>>>,
    /// Whether rooms without members are kept: without a history, memory is all the past there is.
    keep_empty: bool,
    members: Counter,
    broadcasts: Counter,
    _workers: Workers,
}

#[derive(Debug, Default)]
struct LogRooms {
    progress: Position,
    /// Nothing from before this is in `tail`.
    begun: Position,
    watermark: Position,
    rooms: HashMap<RoomId, Arc<Room>, foldhash::fast::RandomState>,
    /// Entries that were shown and that the history does not have yet, for rooms that get their first member.
    tail: VecDeque<Delivered>,
}

impl LocalRegistry {
    /// A registry for `logs` logs. With `keep_empty`, rooms without members are kept within the byte budget.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(logs: u16, settings: &Settings, keep_empty: bool) -> Self {
        let fanout = Fanout::new();
        let workers = fanout.start(tokio::runtime::Handle::current().metrics().num_workers());
        let shared = Shared {
            fanout,
            deliveries: Counter::default(),
            slow: Counter::default(),
            policy: settings.slow_policy,
            slow_bytes: settings.slow_bytes as u64,
            slow_messages: settings.slow_messages as u64,
            recent_messages: settings.recent_messages as u64,
            recent_bytes: settings.recent_bytes,
            bytes: AtomicUsize::new(0),
        };
        Self {
            logs: (0..logs).map(|_| Mutex::default()).collect(),
            shared: Arc::new(shared),
            changed: Mutex::default(),
            keep_empty,
            members: Counter::default(),
            broadcasts: Counter::default(),
            _workers: workers,
        }
    }

    fn log(&self, log: LogId) -> &Mutex<LogRooms> {
        &self.logs[usize::from(log.0)]
    }

    fn note_change(&self, room: &Arc<Room>) {
        if !room.changed.swap(true, Relaxed) {
            self.changed.lock().push(Arc::clone(room));
        }
    }

    fn all_rooms(&self) -> Vec<Arc<Room>> {
        self.logs.iter().flat_map(|log| log.lock().rooms.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// The room as it is now.
    fn room(&self, room: &RoomId) -> Option<Arc<Room>> {
        self.log(LogId::of(room.as_str(), self.logs.len() as u16)).lock().rooms.get(room).cloned()
    }

    /// Too many bytes: rooms without members go, and the others let go of what nobody needs.
    fn save_memory(&self) {
        for log in &self.logs {
            let LogRooms { watermark, rooms, .. } = &mut *log.lock();
            rooms.retain(|_, room| !room.is_empty());
            // Rooms without news have not heard of it, and nothing may be coming because they hold so much.
            rooms.values().for_each(|room| room.settle(*watermark));
        }
        for room in self.all_rooms() {
            room.queue();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl RoomRegistry for LocalRegistry {
    fn begin(&self, log: LogId, progress: Position) {
        let mut rooms = self.log(log).lock();
        let stale = if progress == rooms.progress { Vec::new() } else { rooms.rooms.drain().map(|(_, room)| room).collect() };
        rooms.tail.clear();
        rooms.progress = progress;
        rooms.begun = progress;
        drop(rooms);
        // What these members would see next does not follow on what they saw last: they come back by their positions.
        for member in stale.iter().flat_map(|room| room.roster()) {
            member.outlet.close(close::RESTARTING, "the log was lost: resume from the last position");
        }
    }

    fn advance(
        &self,
        log: LogId,
        entries: &mut dyn Iterator<Item = Delivered>,
        through: Position,
        watermark: Position,
        encoder: &dyn Encoder,
    ) {
        let mut news: Vec<Arc<Room>> = Vec::new();
        let mut shown = 0;
        {
            let mut rooms = self.log(log).lock();
            for entry in entries {
                shown += 1;
                let room = Message::peek(&entry.bytes).and_then(|header| rooms.rooms.get(header.room));
                if let Some(room) = room
                    && room.append(&entry, watermark, encoder)
                    && !news.last().is_some_and(|last| Arc::ptr_eq(last, room))
                {
                    news.push(Arc::clone(room));
                }
                if entry.position > watermark {
                    rooms.tail.push_back(entry);
                }
            }
            rooms.progress = rooms.progress.max(through);
            rooms.watermark = rooms.watermark.max(watermark);
            while rooms.tail.front().is_some_and(|entry| entry.position <= watermark) {
                rooms.tail.pop_front();
            }
        }
        self.broadcasts.add(shown);
        for room in news {
            room.queue();
        }
    }

    fn progress(&self, log: LogId) -> Position {
        self.log(log).lock().progress
    }

    fn join(&self, member: &Arc<Member>, start: Start, encoder: &dyn Encoder, joined: &mut dyn FnMut(Position)) -> Result<(), NotThere> {
        let mut rooms = self.log(member.log).lock();
        let LogRooms { progress, begun, watermark, rooms, tail } = &mut *rooms;
        let room = match rooms.get(&member.room) {
            Some(room) => Arc::clone(room),
            None => {
                // A history that is behind does not have what came before the node began.
                let start = if tail.is_empty() { *progress } else { (*watermark).max(*begun) };
                // A name of its own: the member's may be a slice of a whole frame.
                let id = RoomId::new(member.room.as_str()).unwrap_or_else(|_| member.room.clone());
                let room = Room::new(id.clone(), start, *watermark, Arc::clone(&self.shared));
                let past = tail.iter().filter(|entry| Message::peek(&entry.bytes).is_some_and(|header| header.room == id.as_str()));
                for entry in past {
                    room.append(entry, *watermark, encoder);
                }
                rooms.insert(id, Arc::clone(&room));
                room
            }
        };
        let result = room.join(member, start, *progress, joined);
        if result.is_ok() {
            self.members.add(1);
            self.note_change(&room);
        }
        result
    }

    fn leave(&self, member: &Arc<Member>) {
        let mut rooms = self.log(member.log).lock();
        let Some(room) = member.home.lock().take() else { return };
        let was_member = room.leave(member);
        let current = rooms.rooms.get(&member.room).is_some_and(|now| Arc::ptr_eq(now, &room));
        if current && room.is_empty() && !self.keep_empty {
            rooms.rooms.remove(&member.room);
        }
        if was_member {
            self.members.sub(1);
            self.note_change(&room);
        }
    }

    fn renamed(&self, member: &Arc<Member>) {
        let room = member.home.lock().clone();
        if let Some(room) = room {
            room.renamed(member);
            self.note_change(&room);
        }
    }

    fn members(&self, room: &RoomId) -> Vec<MemberInfo> {
        let mut members: Vec<_> = self.room(room).map(|room| room.roster().iter().map(|m| m.who()).collect()).unwrap_or_default();
        members.sort_by(|a: &MemberInfo, b| a.session.cmp(&b.session));
        members
    }

    fn roster(&self, room: &RoomId, most: usize) -> Option<Vec<Arc<Member>>> {
        self.room(room).filter(|room| (1..=most).contains(&room.len())).map(|room| room.roster())
    }

    fn changes(&self) -> Vec<Changes> {
        let changed = std::mem::take(&mut *self.changed.lock());
        let changes = changed.iter().map(|room| {
            room.changed.store(false, Relaxed);
            let (joined, left) = room.changes();
            // Not of this room if another has taken its place.
            let count = self.room(&room.id).map_or(0, |room| room.len());
            Changes { room: room.id.clone(), count, joined, left }
        });
        changes.filter(|changes| !(changes.joined.is_empty() && changes.left.is_empty())).collect()
    }

    fn rooms(&self) -> Vec<(RoomId, usize)> {
        let mut rooms: Vec<_> = self.all_rooms().iter().map(|room| (room.id.clone(), room.len())).filter(|(_, n)| *n > 0).collect();
        rooms.sort();
        rooms
    }

    fn pressure(&self) -> Pressure {
        let (bytes, budget) = (self.shared.bytes.load(Relaxed), self.shared.recent_bytes);
        // What nobody needs goes beyond the budget. The rest members were not given yet, or a history that is behind does not have.
        if bytes <= budget + budget / 2 {
            Pressure::None
        } else if bytes <= budget * 2 {
            Pressure::High
        } else {
            Pressure::Full
        }
    }

    fn stats(&self) -> RegistryStats {
        RegistryStats {
            rooms: self.all_rooms().iter().filter(|room| room.has_members()).count() as u64,
            members: self.members.get(),
            recent_bytes: self.shared.bytes.load(Relaxed) as u64,
            broadcasts: self.broadcasts.get(),
            deliveries: self.shared.deliveries.get(),
            slow: self.shared.slow.get(),
        }
    }

    fn fanout(&self) -> &Arc<Fanout> {
        &self.shared.fanout
    }

    fn tick(&self) {
        if self.shared.is_over() {
            self.save_memory();
        }
    }
}
