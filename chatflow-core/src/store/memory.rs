//! History in memory: the reference, for tests and for servers that need not remember.

mod accounts;
mod analytics;
mod retention;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use async_trait::async_trait;
use parking_lot::RwLock;

use self::accounts::MemoryAccounts;
use super::{Exception, LARGEST_PAGE, Lease, Located, MessageStore, Page, PageQuery, Retention, RoomSummary, StoreStatus, Stored, batch};
use crate::accounts::Accounts;
use crate::broker::Durability;
use crate::{Analytics, LogId, Message, MessageId, NodeId, Position, Result, RoomId, Timestamp};

const ORIGIN: &str = "memory store";

/// A [`MessageStore`] that lives and dies with the process.
#[derive(Debug)]
pub struct MemoryStore {
    identity: String,
    /// `None` once closed. Held for the length of a call, never across an await.
    history: RwLock<Option<History>>,
    messages_per_room: usize,
    accounts: MemoryAccounts,
}

#[derive(Debug, Default)]
struct History {
    rooms: BTreeMap<RoomId, BTreeMap<Position, Message>>,
    /// The last position that was let go of, in rooms where any was.
    trimmed: HashMap<RoomId, Position>,
    /// Where the row of each id stands.
    ids: HashMap<MessageId, (RoomId, Position)>,
    logs: HashMap<LogId, Log>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Log {
    generation: u64,
    held: bool,
    through: Position,
    /// Where the history begins: with the epoch of the first commit, or where it was skipped to.
    began: Option<Position>,
}

impl MemoryStore {
    /// An empty store that keeps everything.
    pub fn new() -> Self {
        Self::keeping(usize::MAX)
    }

    /// An empty store that keeps the newest `messages_per_room` of each room, at least one, and forgets the ids of the others.
    pub fn keeping(messages_per_room: usize) -> Self {
        let identity = uuid::Uuid::new_v4().to_string();
        let history = RwLock::new(Some(History::default()));
        Self { identity, history, messages_per_room: messages_per_room.max(1), accounts: MemoryAccounts::default() }
    }

    fn read<T>(&self, look: impl FnOnce(&History) -> T) -> Result<T> {
        self.history.read().as_ref().map(look).ok_or_else(|| batch::closed(ORIGIN))
    }

    fn write<T>(&self, change: impl FnOnce(&mut History) -> Result<T>) -> Result<T> {
        self.history.write().as_mut().ok_or_else(|| batch::closed(ORIGIN)).and_then(change)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    fn held(&mut self, lease: &Lease) -> Result<&mut Log> {
        let log = self.logs.get_mut(&lease.log);
        log.filter(|log| log.held && log.generation == lease.generation).ok_or_else(|| batch::fenced(ORIGIN))
    }

    fn commit(&mut self, lease: &Lease, entries: &[Stored], through: Position, keep: usize) -> Result<Vec<(usize, Exception)>> {
        let watermark = self.held(lease)?.through;
        batch::follows(ORIGIN, lease, watermark)?;
        batch::check(ORIGIN, entries, through)?;
        // Look at everything before anything is written: all of it or nothing.
        let (mut exceptions, mut fresh) = (Vec::new(), HashMap::new());
        for (index, Stored { position, message }) in entries.iter().enumerate() {
            let first = match self.ids.get(&message.id) {
                Some((room, first)) => Some((*first, &self.rooms[room][first])),
                None => fresh.get(&message.id).map(|&other: &usize| (entries[other].position, &entries[other].message)),
            };
            match first {
                Some((first, kept)) => exceptions.push((index, Exception::of(message, first, kept.room.as_str(), kept.digest))),
                None if *position <= watermark => return Err(batch::behind(ORIGIN, *position)),
                None => drop(fresh.insert(message.id, index)),
            }
        }
        for index in fresh.into_values() {
            let Stored { position, message } = &entries[index];
            self.ids.insert(message.id, (message.room.clone(), *position));
            self.rooms.entry(message.room.clone()).or_default().insert(*position, message.clone());
        }
        for entry in entries {
            self.trim(&entry.message.room, keep);
        }
        let log = self.held(lease)?;
        log.through = log.through.max(through);
        log.began.get_or_insert(Position::new(through.epoch, 0));
        Ok(exceptions)
    }

    fn trim(&mut self, room: &RoomId, keep: usize) {
        let messages = self.rooms.get(room).map_or(0, BTreeMap::len);
        self.forget(room, messages.saturating_sub(keep));
    }

    /// Lets go of the oldest `count` of a room.
    fn forget(&mut self, room: &RoomId, count: usize) {
        let Some(messages) = self.rooms.get_mut(room) else { return };
        for (position, oldest) in std::iter::from_fn(|| messages.pop_first()).take(count) {
            self.ids.remove(&oldest.id);
            self.trimmed.insert(room.clone(), position);
        }
    }

    fn page(&self, log: LogId, room: &RoomId, query: &PageQuery) -> Page {
        let log = self.logs.get(&log).copied().unwrap_or_default();
        let through = log.through;
        let since = log.began.unwrap_or_default().max(self.trimmed.get(room).copied().unwrap_or_default());
        let after = query.after.unwrap_or(Position::ZERO);
        let upper = query.before.filter(|before| *before <= through).map_or(Bound::Included(through), Bound::Excluded);
        let empty = after >= through || query.before.is_some_and(|before| before <= after);
        let Some(messages) = self.rooms.get(room).filter(|_| !empty) else { return Page::new(Vec::new(), false, through, since) };

        let limit = query.limit.clamp(1, LARGEST_PAGE);
        let in_time = |at: Timestamp| query.start.is_none_or(|start| at >= start) && query.end.is_none_or(|end| at < end);
        let range = messages.range((Bound::Excluded(after), upper)).filter(|(_, message)| in_time(message.at));
        let stored = |(position, message): (&Position, &Message)| Stored { position: *position, message: message.clone() };
        let mut found: Vec<_> =
            if query.newest { range.rev().take(limit + 1).map(stored).collect() } else { range.take(limit + 1).map(stored).collect() };
        let more = found.len() > limit;
        found.truncate(limit);
        if query.newest {
            found.reverse();
        }
        Page::new(found, more, through, since)
    }
}

#[async_trait]
impl MessageStore for MemoryStore {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn durability(&self) -> Durability {
        Durability::Volatile
    }

    fn analytics(&self) -> Option<&dyn Analytics> {
        Some(self)
    }

    fn retention(&self) -> Option<&dyn Retention> {
        Some(self)
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        Some(&self.accounts)
    }

    async fn last_epoch(&self) -> Result<u64> {
        self.read(|history| history.logs.values().map(|log| log.through.epoch).max().unwrap_or(0))
    }

    async fn claim(&self, log: LogId, _holder: &NodeId) -> Result<Lease> {
        self.write(|history| {
            let kept = history.logs.entry(log).or_default();
            (kept.generation, kept.held) = (kept.generation + 1, true);
            Ok(Lease::new(log, kept.generation, kept.through))
        })
    }

    async fn renew(&self, lease: &Lease) -> Result<()> {
        self.write(|history| history.held(lease).map(|_| ()))
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.write(|history| history.held(lease).map(|log| log.held = false))
    }

    async fn commit(&self, lease: &Lease, batch: &[Stored], through: Position) -> Result<Vec<(usize, Exception)>> {
        self.write(|history| history.commit(lease, batch, through, self.messages_per_room))
    }

    async fn skip(&self, lease: &Lease, to: Position) -> Result<()> {
        self.write(|history| {
            let log = history.held(lease)?;
            if to > log.through {
                (log.through, log.began) = (to, Some(to));
            }
            Ok(())
        })
    }

    async fn watermark(&self, log: LogId) -> Result<Position> {
        self.read(|history| history.logs.get(&log).map_or(Position::ZERO, |log| log.through))
    }

    async fn locate(&self, ids: &[MessageId]) -> Result<Vec<Option<Located>>> {
        self.read(|history| {
            let located = |id| {
                let (room, position) = history.ids.get(id)?;
                Some(Located::new(*position, room.clone(), history.rooms[room][position].digest))
            };
            ids.iter().map(located).collect()
        })
    }

    async fn page(&self, log: LogId, room: &RoomId, query: &PageQuery) -> Result<Page> {
        self.read(|history| history.page(log, room, query))
    }

    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<RoomSummary>> {
        self.read(|history| {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let rooms = history.rooms.range::<RoomId, _>((from, Bound::Unbounded)).take(limit);
            rooms.filter_map(|(room, kept)| Some(RoomSummary::new(room.clone(), kept.last_key_value()?.1.at))).collect()
        })
    }

    async fn status(&self) -> StoreStatus {
        match self.read(|_| ()) {
            Ok(()) => StoreStatus { healthy: true, detail: "in memory: gone with the process".into() },
            Err(error) => StoreStatus { healthy: false, detail: error.to_string() },
        }
    }

    async fn close(&self) -> Result<()> {
        *self.history.write() = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bounded_store_keeps_the_newest_of_each_room_and_forgets_the_other_ids() {
        let store = MemoryStore::keeping(2);
        let lease = store.claim(LogId(0), &NodeId::from_static("n")).await.unwrap();
        let batch = crate::conformance::store::batch("room", 1..=5);
        store.commit(&lease, &batch, Position::new(1, 5)).await.unwrap();
        let page = store.page(LogId(0), &RoomId::new("room").unwrap(), &PageQuery::latest(10)).await.unwrap();
        assert_eq!(page.messages, batch[3..]);

        let mut again = batch[0].clone();
        again.position = Position::new(1, 6);
        assert_eq!(store.commit(&lease, &[again], Position::new(1, 6)).await.unwrap(), []);
    }
}
