//! Out of a store, page by page.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::ORIGIN;
use super::line::{Line, Row, VERSION};
use crate::store::{LARGEST_PAGE, Stored};
use crate::{Error, ErrorKind, LogId, MessageStore, PageQuery, Position, Result, RoomId, Timestamp};

/// Messages that are held at a time, those of all rooms of a log together: with many rooms, pages are small.
const HELD: usize = 4_096;

/// What is given at a time, in bytes; the last message may go beyond it.
const CHUNK: usize = 256 << 10;

/// Rooms that are asked for at a time.
const ROOMS: usize = 1_000;

/// Takes the history out of a store while others write to it: each log as far as it was at the beginning. Holds 4,096 messages at a time,
/// and the names of all rooms.
#[derive(Debug)]
pub struct Export {
    store: Arc<dyn MessageStore>,
    /// Whether it is of all rooms, and says where logs begin and end.
    whole: bool,
    /// What is still to be walked, the last first: how far each log is, and its rooms.
    logs: Vec<(LogId, Position, Vec<RoomId>)>,
    walk: Option<Walk>,
    first: Option<String>,
    messages: u64,
}

/// One log.
#[derive(Debug)]
struct Walk {
    log: LogId,
    through: Position,
    /// Where the history begins, until it was said.
    begins: Option<Position>,
    /// Where it was last known to begin; `None` where that is not said.
    since: Option<Position>,
    /// The last position that was given.
    given: Position,
    page: usize,
    rooms: Vec<Room>,
    /// The next position of each room that has one.
    next: BinaryHeap<Reverse<(Position, usize)>>,
}

#[derive(Debug)]
struct Room {
    room: RoomId,
    held: VecDeque<Stored>,
    after: Position,
    more: bool,
}

impl Export {
    /// Looks how far everything is. `logs` is how many logs rooms are spread over: the broker's.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin(store: Arc<dyn MessageStore>, logs: u16) -> Result<Self> {
        Self::of(store, logs, None).await
    }

    /// The same of one room. Put into a store, it can't be completed with the other rooms of its log.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin_room(store: Arc<dyn MessageStore>, logs: u16, room: RoomId) -> Result<Self> {
        Self::of(store, logs, Some(room)).await
    }

    async fn of(store: Arc<dyn MessageStore>, count: u16, only: Option<RoomId>) -> Result<Self> {
        let (count, mut logs) = (count.max(1), Vec::new());
        // Before the rooms: of every log that is found here, all rooms that have something up to here are found then.
        for log in (0..count).map(LogId) {
            logs.push((log, store.watermark(log).await?, Vec::new()));
        }
        let whole = only.is_none();
        if let Some(room) = only {
            logs[usize::from(LogId::of(room.as_str(), count).0)].2.push(room);
        } else {
            let mut after = None;
            loop {
                let rooms = store.rooms(after.as_ref(), ROOMS).await?;
                let Some(last) = rooms.last() else { break };
                after = Some(last.room.clone());
                for summary in rooms {
                    logs[usize::from(LogId::of(summary.room.as_str(), count).0)].2.push(summary.room);
                }
            }
        }
        logs.retain(|(_, through, rooms)| *through > Position::ZERO && (whole || !rooms.is_empty()));
        logs.reverse();
        let header = Line::Archive { version: VERSION, logs: count, at: Timestamp::now().to_string().into() };
        let mut first = String::new();
        put(&mut first, &header)?;
        Ok(Self { store, whole, logs, walk: None, first: Some(first), messages: 0 })
    }

    /// How many messages were given so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The next lines, each with its end, some 256 KiB at a time; `None` once everything was given.
    ///
    /// # Cancel safety
    /// When dropped, begin anew.
    ///
    /// # Errors
    /// The store's; [`ErrorKind::Unavailable`] when a replica is not as far as the store was at the beginning.
    pub async fn next(&mut self) -> Result<Option<String>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let mut out = String::new();
        while out.len() < CHUNK {
            let Some(walk) = &mut self.walk else {
                let Some((log, through, rooms)) = self.logs.pop() else { break };
                self.walk = Some(Walk::begin(&*self.store, log, through, rooms, self.whole).await?);
                continue;
            };
            match walk.next(&*self.store).await? {
                Some(stored) => {
                    walk.begun(stored.position, &mut out)?;
                    put(&mut out, &Line::Message(Box::new(Row::of(walk.log, &stored))))?;
                    self.messages += 1;
                }
                None => {
                    walk.begun(Position::MAX, &mut out)?;
                    if self.whole {
                        put(&mut out, &Line::End { log: walk.log, through: walk.through })?;
                    }
                    self.walk = None;
                }
            }
        }
        Ok(Some(out).filter(|out| !out.is_empty()))
    }
}

impl Walk {
    async fn begin(store: &dyn MessageStore, log: LogId, through: Position, rooms: Vec<RoomId>, whole: bool) -> Result<Self> {
        // Where a log begins is said with any page of it, that of a room without messages too.
        let nobody = RoomId::new("-").map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "no such room").with_source(error))?;
        let since = if whole { Some(store.page(log, &nobody, &PageQuery::latest(1)).await?.since) } else { None };
        let page = (HELD / rooms.len().max(1)).clamp(1, LARGEST_PAGE);
        let rooms = rooms.into_iter().map(|room| Room { room, held: VecDeque::new(), after: Position::ZERO, more: true }).collect();
        let (begins, given) = (since, Position::ZERO);
        let mut walk = Self { log, through, begins, since, given, page, rooms, next: BinaryHeap::new() };
        for index in 0..walk.rooms.len() {
            walk.refill(store, index).await?;
        }
        Ok(walk)
    }

    /// The next message of the log, whichever room has it.
    async fn next(&mut self, store: &dyn MessageStore) -> Result<Option<Stored>> {
        let Some(Reverse((_, index))) = self.next.pop() else { return Ok(None) };
        let stored = self.rooms[index].held.pop_front();
        self.given = stored.as_ref().map_or(self.given, |stored| stored.position);
        self.refill(store, index).await?;
        Ok(stored)
    }

    /// Sees to it that the room's next message is held, and known to be the next.
    async fn refill(&mut self, store: &dyn MessageStore, index: usize) -> Result<()> {
        let room = &mut self.rooms[index];
        if room.held.is_empty() && room.more {
            let mut query = PageQuery::after(room.after, self.page);
            query.before = Some(self.through.next());
            let page = store.page(self.log, &room.room, &query).await?;
            if page.through < self.through {
                return Err(Error::new(ErrorKind::Unavailable, ORIGIN, "the database that is read is behind the one that is written"));
            }
            if self.since.is_some_and(|since| since < page.since) {
                // What is old was removed from this room, perhaps only now: whoever has seen no more than was given so far misses it.
                self.since = Some(page.since);
                self.begins = Some(page.since.max(self.given));
            }
            room.more = page.more;
            room.after = page.messages.last().map_or(room.after, |last| last.position);
            room.held = page.messages.into();
        }
        if let Some(stored) = room.held.front() {
            self.next.push(Reverse((stored.position, index)));
        }
        Ok(())
    }

    /// Says where the log begins, unless that is at or behind `next`, or was said.
    fn begun(&mut self, next: Position, out: &mut String) -> Result<()> {
        if let Some(begins) = self.begins.take_if(|begins| *begins < next) {
            put(out, &Line::Begin { log: self.log, begins })?;
        }
        Ok(())
    }
}

fn put(out: &mut String, line: &Line<'_>) -> Result<()> {
    let text = serde_json::to_string(line)
        .map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "a line can't be written").with_source(error))?;
    out.push_str(&text);
    out.push('\n');
    Ok(())
}
