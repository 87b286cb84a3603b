//! A room on this node: a log of ready-made frames, and its members' cursors into it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::{fmt, slice};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::fanout::{Fanout, Work};
use super::member::Member;
use super::outlet::Written;
use super::{Encoder, NotThere, Start};
use crate::broker::Delivered;
use crate::protocol::{Dialect, Event, close};
use crate::stats::Counter;
use crate::{Position, RoomId, SlowPolicy};

/// What all rooms of a registry share.
pub(super) struct Shared {
    pub(super) fanout: Arc<Fanout>,
    pub(super) deliveries: Counter,
    pub(super) slow: Counter,
    pub(super) presence: bool,
    pub(super) policy: SlowPolicy,
    pub(super) slow_bytes: u64,
    pub(super) slow_messages: u64,
    pub(super) recent_messages: u64,
    pub(super) recent_bytes: usize,
    pub(super) bytes: AtomicUsize,
}

impl Shared {
    /// Whether the frames in memory are more than the node's budget.
    pub(super) fn is_over(&self) -> bool {
        self.bytes.load(Relaxed) > self.recent_bytes
    }
}

/// One room with members (or that had some a moment ago).
///
/// Frames are appended to `tail`. Once a pass over the members has given everybody the last block, the tail is sealed into the
/// next: everything that came meanwhile is one slice, and one write for each member that keeps up.
pub(crate) struct Room {
    pub(super) id: RoomId,
    pub(super) shared: Arc<Shared>,
    /// Held for a few instructions: appending a frame, sealing the tail, joining.
    state: Mutex<State>,
    /// Held through a turn, by the one worker that has it.
    sweep: Mutex<Sweep>,
    phase: AtomicU8,
    /// Whether it stands among the rooms whose members changed.
    pub(super) changed: AtomicBool,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
/// Running, and there is news that this turn may not have seen.
const AGAIN: u8 = 3;

/// Members that one turn serves at most; the room then goes to the back of the queue.
const TURN: usize = 256;
/// Bytes that one member is written at most in a turn.
const BITE: u64 = 512 << 10;

/// A place between two frames, counted since the room began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    offset: u64,
    index: u64,
}

/// Where a frame ends, which position it has, and which session of this node sent it (0: none).
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: u64,
    position: Position,
    session: u64,
}

/// Frames that were sealed together: one contiguous slice.
struct Block {
    from: Place,
    bytes: Bytes,
    marks: Vec<Mark>,
}

impl Block {
    fn end(&self) -> Place {
        Place { offset: self.from.offset + self.bytes.len() as u64, index: self.from.index + self.marks.len() as u64 }
    }

    fn slice(&self, from: u64, until: u64) -> Bytes {
        self.bytes.slice((from - self.from.offset) as usize..(until - self.from.offset) as usize)
    }

    /// The end of the frame that holds the byte before `offset`.
    fn boundary(&self, offset: u64) -> Place {
        let i = self.marks.partition_point(|mark| mark.end < offset);
        Place { offset: self.marks[i].end, index: self.from.index + i as u64 + 1 }
    }
}

struct State {
    /// Everything after this position is in `blocks` and `tail`.
    start: Position,
    blocks: VecDeque<Arc<Block>>,
    tail: BytesMut,
    marks: Vec<Mark>,
    end: Place,
    /// Up to here the history has the log; what is past it is not let go.
    watermark: Position,
    roster: HashMap<u64, Arc<Member>, foldhash::fast::RandomState>,
    arrivals: Vec<Arc<Member>>,
    late: Vec<Arc<Member>>,
    gone: usize,
    /// Members that read the past before they can be joined.
    parked: usize,
    joined: Vec<u64>,
    left: Vec<String>,
}

struct Sweep {
    members: Vec<Arc<Member>>,
    /// Those before `next` were given `newest`; the others are about to be.
    next: usize,
    /// How many stand behind because their socket is full.
    lagging: usize,
    newest: Option<Arc<Block>>,
}

impl Sweep {
    fn pass_is_over(&self) -> bool {
        self.next >= self.members.len()
    }
}

impl Room {
    pub(super) fn new(id: RoomId, start: Position, watermark: Position, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            id,
            shared,
            state: Mutex::new(State {
                start,
                blocks: VecDeque::new(),
                tail: BytesMut::new(),
                marks: Vec::new(),
                end: Place::default(),
                watermark,
                roster: HashMap::default(),
                arrivals: Vec::new(),
                late: Vec::new(),
                gone: 0,
                parked: 0,
                joined: Vec::new(),
                left: Vec::new(),
            }),
            sweep: Mutex::new(Sweep { members: Vec::new(), next: 0, lagging: 0, newest: None }),
            phase: AtomicU8::new(IDLE),
            changed: AtomicBool::new(false),
        })
    }

    /// Appends an entry's frame; whether there was one. The caller queues the room.
    pub(super) fn append(&self, entry: &Delivered, watermark: Position, encoder: &dyn Encoder) -> bool {
        let mut state = self.state.lock();
        let State { tail, marks, end, .. } = &mut *state;
        let before = tail.len();
        let Some(session) = encoder.encode(entry, tail) else { return false };
        let len = tail.len() - before;
        end.offset += len as u64;
        end.index += 1;
        marks.push(Mark { end: end.offset, position: entry.position, session });
        state.watermark = watermark;
        self.shared.bytes.fetch_add(len, Relaxed);
        true
    }

    /// Makes `member` a member, or parks it and says why it can't start there: until it joins or leaves, the room keeps what it
    /// has, as far as the bounds allow. `progress` is how far the node has seen the log.
    pub(super) fn join(
        self: &Arc<Self>,
        member: &Arc<Member>,
        start: Start,
        progress: Position,
        joined: &mut dyn FnMut(Position),
    ) -> Result<(), NotThere> {
        let mut state = self.state.lock();
        if member.is_gone() {
            return Err(NotThere::Ahead { progress });
        }
        let found = match start {
            Start::Present | Start::Never => Ok((state.end, progress)),
            Start::After(after) if after > progress => Err(NotThere::Ahead { progress }),
            Start::After(after) if after < state.start => Err(NotThere::Behind { memory: state.start, progress }),
            Start::After(after) => Ok((state.after(after), after)),
            Start::Last(n) => Ok(state.last(n, progress)),
        };
        let was_parked = member.parked.swap(found.is_err(), Relaxed);
        state.parked = state.parked + usize::from(found.is_err()) - usize::from(was_parked);
        let (place, position) = found.inspect_err(|_| *member.home.lock() = Some(Arc::clone(self)))?;
        member.set_cursor(place.offset, place.index);
        *member.home.lock() = Some(Arc::clone(self));
        // Under the lock, so that whatever this leaves in the outlet comes before the first frame.
        joined(position);
        state.roster.insert(member.session, Arc::clone(member));
        if self.shared.presence {
            state.joined.push(member.session);
        }
        if start != Start::Never {
            state.arrivals.push(Arc::clone(member));
            if place != state.end {
                drop(state);
                self.queue();
            }
        }
        Ok(())
    }

    /// Ends a membership; whether it was one, and not only parked.
    pub(super) fn leave(self: &Arc<Self>, member: &Arc<Member>) -> bool {
        let mut state = self.state.lock();
        if !member.go() {
            return false;
        }
        if member.parked.swap(false, Relaxed) {
            state.parked -= 1;
            return false;
        }
        // The session may have come back under a new membership by now.
        if state.roster.get(&member.session).is_some_and(|m| Arc::ptr_eq(m, member)) {
            state.roster.remove(&member.session);
            if self.shared.presence {
                state.left.push(format!("{:x}", member.session));
            }
        }
        state.gone += 1;
        // A room without news must not keep those who left for ever.
        let crowded = state.gone > 32 + state.roster.len() / 2;
        drop(state);
        if crowded {
            self.queue();
        }
        true
    }

    /// Whether nobody is in it, nor about to be.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.roster.is_empty() && state.parked == 0
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().roster.len()
    }

    pub(super) fn has_members(&self) -> bool {
        !self.state.lock().roster.is_empty()
    }

    pub(super) fn roster(&self) -> Vec<Arc<Member>> {
        self.state.lock().roster.values().cloned().collect()
    }

    pub(super) fn renamed(&self, member: &Member) {
        let mut state = self.state.lock();
        if self.shared.presence && !state.joined.contains(&member.session) {
            state.joined.push(member.session);
        }
    }

    /// Who came, changed name or went since the last call, and everybody.
    pub(super) fn changes(&self) -> (Vec<Arc<Member>>, Vec<String>, Vec<Arc<Member>>) {
        let mut state = self.state.lock();
        let joined = std::mem::take(&mut state.joined);
        let joined = joined.iter().filter_map(|session| state.roster.get(session).cloned()).collect();
        let left = std::mem::take(&mut state.left);
        (joined, left, state.roster.values().cloned().collect())
    }

    /// Stands in the queue for a turn, once.
    pub(super) fn queue(self: &Arc<Self>) {
        let mut phase = self.phase.load(SeqCst);
        loop {
            let next = match phase {
                IDLE => QUEUED,
                RUNNING => AGAIN,
                _ => return,
            };
            match self.phase.compare_exchange_weak(phase, next, SeqCst, SeqCst) {
                Ok(_) => break,
                Err(now) => phase = now,
            }
        }
        if phase == IDLE {
            self.shared.fanout.push(Work::Room(Arc::clone(self)));
        }
    }

    /// A member's socket takes more again.
    pub(super) fn serve_late(self: &Arc<Self>, member: Arc<Member>) {
        self.state.lock().late.push(member);
        self.queue();
    }

    /// One turn: the next members in line get what was sealed last. Answers with the writes it took.
    pub(super) fn turn(self: &Arc<Self>) -> usize {
        self.phase.store(RUNNING, SeqCst);
        let mut sweep = self.sweep.lock();
        let late = self.prepare(&mut sweep);
        let mut served = Served::default();
        let newest = sweep.newest.clone();
        for member in &late {
            self.serve(&mut sweep, newest.as_ref(), member, &mut served);
        }
        for _ in 0..TURN {
            let next = sweep.next;
            let Some(member) = sweep.members.get(next).cloned() else { break };
            if member.is_gone() {
                // The last one takes its place in line.
                sweep.members.swap_remove(next);
                if member.lagging.swap(false, Relaxed) {
                    sweep.lagging -= 1;
                }
            } else {
                self.serve(&mut sweep, newest.as_ref(), &member, &mut served);
                sweep.next += 1;
            }
        }
        self.shared.deliveries.add(served.frames);
        let unfinished = !sweep.pass_is_over();
        drop(sweep);
        let again = {
            let mut state = self.state.lock();
            // Whoever is still behind, because one bite was not all, is late for the next turn.
            state.late.append(&mut served.hungry);
            unfinished || !state.late.is_empty() || !state.marks.is_empty()
        };
        let idle = !again && self.phase.compare_exchange(RUNNING, IDLE, SeqCst, SeqCst).is_ok();
        if !idle {
            self.phase.store(QUEUED, SeqCst);
            self.shared.fanout.push(Work::Room(Arc::clone(self)));
        }
        served.writes.max(1)
    }

    /// Takes in who arrived and, once the last pass has served everybody, seals the tail for the next and lets go of what nobody
    /// needs. Answers with who is to be served besides.
    fn prepare(&self, sweep: &mut Sweep) -> Vec<Arc<Member>> {
        let mut state = self.state.lock();
        let mut late = std::mem::take(&mut state.late);
        late.append(&mut state.arrivals.clone());
        sweep.members.append(&mut state.arrivals);
        if !sweep.pass_is_over() {
            return late;
        }
        if state.gone > 32 + sweep.members.len() / 2 {
            sweep.members.retain(|member| !member.is_gone());
            sweep.lagging = sweep.members.iter().filter(|m| m.lagging.load(Relaxed)).count();
            state.gone = 0;
        }
        // Whoever keeps up stands at the end of the last block, or past it.
        let needed = late.iter().map(|member| member.cursor().0).min().unwrap_or(u64::MAX);
        let behind = sweep.lagging + state.parked > 0;
        let freed = state.trim(&self.shared, needed, behind);
        self.shared.bytes.fetch_sub(freed, Relaxed);
        match state.seal() {
            Some(block) => (sweep.newest, sweep.next) = (Some(block), 0),
            None if state.blocks.is_empty() => sweep.newest = None,
            None => {}
        }
        late
    }

    fn serve(&self, sweep: &mut Sweep, newest: Option<&Arc<Block>>, member: &Arc<Member>, served: &mut Served) {
        let Some(newest) = newest else { return };
        let (offset, index) = member.cursor();
        let end = newest.end();
        if offset >= end.offset || member.is_gone() {
            return;
        }
        let (written, stop) = if offset == newest.from.offset && !member.others_only {
            served.writes += 1;
            // The common case: a member that keeps up gets the newest block as it is.
            let mut stop = end;
            let written = member.outlet.deliver(member, slice::from_ref(&newest.bytes), newest.bytes.len(), |n| {
                stop = newest.boundary(offset + n as u64);
                newest.slice(offset + n as u64, stop.offset)
            });
            (written, stop)
        } else {
            let Some(helping) = self.help(offset, index, member) else { return self.overflow(sweep, member, served) };
            served.writes += 1;
            helping.deliver(member)
        };
        match written {
            Written::All | Written::Part(_) => {
                served.frames += stop.index - index;
                member.set_cursor(stop.offset, stop.index);
            }
            Written::Blocked | Written::Over => {}
        }
        let behind = matches!(written, Written::Part(_) | Written::Blocked);
        if member.lagging.swap(behind, Relaxed) != behind {
            sweep.lagging = if behind { sweep.lagging + 1 } else { sweep.lagging - 1 };
        }
        if written == Written::All && stop.offset < end.offset {
            served.hungry.push(Arc::clone(member));
        }
        if written == Written::Blocked && (end.offset - offset > self.shared.slow_bytes || end.index - index > self.shared.slow_messages) {
            self.overflow(sweep, member, served);
        }
    }

    /// What a member that stands at `offset` gets next, without its own messages if it wants none; `None` when it is gone.
    fn help(&self, offset: u64, index: u64, member: &Member) -> Option<Helping> {
        let state = self.state.lock();
        let first = state.blocks.partition_point(|block| block.end().offset <= offset);
        let oldest = state.blocks.front()?.from.offset;
        if offset < oldest {
            return None;
        }
        let mut helping = Helping { parts: Vec::new(), from: Vec::new(), end: Place { offset, index } };
        let mut left = BITE;
        for block in state.blocks.iter().skip(first) {
            if left == 0 || helping.parts.len() >= 48 {
                break;
            }
            let until = match block.end().offset - helping.end.offset {
                len if len <= left => block.end(),
                _ => block.boundary(helping.end.offset + left),
            };
            left = left.saturating_sub(until.offset - helping.end.offset);
            helping.take(block, until, member.others_only.then_some(member.session));
        }
        Some(helping)
    }

    /// A member that waits for more than it may, or whose place was let go.
    fn overflow(&self, sweep: &mut Sweep, member: &Arc<Member>, served: &mut Served) {
        if member.outlet.is_closing() {
            return;
        }
        self.shared.slow.add(1);
        if self.shared.policy == SlowPolicy::Disconnect || member.dialect == Dialect::Plain {
            tracing::debug!(session = member.session, room = %self.id, "too slow");
            member.outlet.close(close::TOO_SLOW, "too slow: resume from the last position");
            return;
        }
        let (after, end, position) = {
            let state = self.state.lock();
            (state.position_at(member.cursor().0), state.end_of_blocks(), state.last_sealed())
        };
        member.set_cursor(end.offset, end.index);
        let gap = Event::Gap { room_id: self.id.to_string(), after, position };
        member.outlet.push_text(|out| put_event(out, &gap));
        if member.lagging.swap(false, Relaxed) {
            sweep.lagging -= 1;
        }
        served.writes += 1;
    }
}

/// Appends an event as JSON.
pub(crate) fn put_event(out: &mut BytesMut, event: &Event) {
    use bytes::BufMut;
    // Writing into memory can't fail, and events hold nothing that JSON can't.
    let _ = serde_json::to_writer(out.writer(), event);
}

#[derive(Default)]
struct Served {
    writes: usize,
    frames: u64,
    hungry: Vec<Arc<Member>>,
}

/// What one member gets in one turn.
struct Helping {
    parts: Vec<Bytes>,
    /// For each part, its block and where in the room it begins.
    from: Vec<(Arc<Block>, u64)>,
    end: Place,
}

impl Helping {
    /// Gives it to its member; how that went, and where the member stands then.
    fn deliver(&self, member: &Arc<Member>) -> (Written, Place) {
        let total: usize = self.parts.iter().map(Bytes::len).sum();
        let mut stop = self.end;
        let written = match total {
            0 => Written::All,
            _ => member.outlet.deliver(member, &self.parts, total, |n| {
                let (place, rest) = self.finish(n as u64);
                stop = place;
                rest
            }),
        };
        (written, stop)
    }

    /// Takes `block` up to `until`, passing over frames of the session `not_from`.
    fn take(&mut self, block: &Arc<Block>, until: Place, not_from: Option<u64>) {
        let start = self.end.offset.max(block.from.offset);
        let mut from = start;
        if let Some(session) = not_from {
            let mut begin = block.from.offset;
            for mark in block.marks.iter().filter(|mark| mark.end <= until.offset) {
                if mark.session == session && mark.end > start {
                    self.add(block, from, begin.max(from));
                    from = mark.end;
                }
                begin = mark.end;
            }
        }
        self.add(block, from, until.offset);
        self.end = until;
    }

    fn add(&mut self, block: &Arc<Block>, from: u64, until: u64) {
        if until > from {
            self.parts.push(block.slice(from, until));
            self.from.push((Arc::clone(block), from));
        }
    }

    /// After `n` bytes were written: where the frame that is under way ends, and what is left of it.
    fn finish(&self, n: u64) -> (Place, Bytes) {
        let mut before = 0;
        for (part, (block, from)) in self.parts.iter().zip(&self.from) {
            let len = part.len() as u64;
            if n <= before + len {
                let at = from + (n - before);
                let place = block.boundary(at);
                return (place, block.slice(at, place.offset));
            }
            before += len;
        }
        (self.end, Bytes::new())
    }
}

impl State {
    /// Makes the tail a block.
    fn seal(&mut self) -> Option<Arc<Block>> {
        if self.marks.is_empty() {
            return None;
        }
        let bytes = self.tail.split().freeze();
        let from = Place { offset: self.end.offset - bytes.len() as u64, index: self.end.index - self.marks.len() as u64 };
        let block = Arc::new(Block { from, bytes, marks: std::mem::take(&mut self.marks) });
        self.blocks.push_back(Arc::clone(&block));
        Some(block)
    }

    /// Lets go of the oldest blocks as far as nobody needs them: what comes after `needed` stays, and what some are `behind` with
    /// stays within the bounds for slow members, unless the node is short of memory. Answers with the bytes that were freed.
    fn trim(&mut self, shared: &Shared, needed: u64, behind: bool) -> usize {
        let messages = match (shared.is_over(), behind) {
            (true, _) => 0,
            (false, true) => shared.slow_messages.max(shared.recent_messages),
            (false, false) => shared.recent_messages,
        };
        let mut freed = 0;
        while let Some(block) = self.blocks.front() {
            let end = block.end();
            let enough = self.end.index - end.index >= messages || self.end.offset - end.offset >= shared.slow_bytes;
            let last = block.marks.last().map_or(Position::ZERO, |mark| mark.position);
            if !enough || end.offset > needed || last > self.watermark {
                break;
            }
            freed += block.bytes.len();
            self.start = last;
            self.blocks.pop_front();
        }
        freed
    }

    fn marks_with_starts(&self) -> impl DoubleEndedIterator<Item = (Place, &Mark)> {
        let sealed = self.blocks.iter().flat_map(|block| place_marks(block.from, &block.marks));
        let tail = Place { offset: self.end.offset - self.tail.len() as u64, index: self.end.index - self.marks.len() as u64 };
        sealed.chain(place_marks(tail, &self.marks))
    }

    /// The place of the first frame after `position`.
    fn after(&self, position: Position) -> Place {
        let later = self.marks_with_starts().rev().take_while(|(_, mark)| mark.position > position);
        later.last().map_or(self.end, |(place, _)| place)
    }

    /// The place of the last `n` frames, and the position before them.
    fn last(&self, n: usize, progress: Position) -> (Place, Position) {
        let Some((place, first)) = self.marks_with_starts().rev().take(n).last() else { return (self.end, progress) };
        let before = self.marks_with_starts().rev().find(|(_, mark)| mark.position < first.position);
        (place, before.map_or(self.start, |(_, mark)| mark.position))
    }

    fn end_of_blocks(&self) -> Place {
        self.blocks.back().map_or(self.end, |block| block.end())
    }

    fn last_sealed(&self) -> Position {
        self.blocks.back().and_then(|block| block.marks.last()).map_or(self.start, |mark| mark.position)
    }

    /// The position of the frame that ends at `offset`, or where memory begins.
    fn position_at(&self, offset: u64) -> Position {
        let sealed = self.blocks.iter().flat_map(|block| &block.marks);
        sealed.take_while(|mark| mark.end <= offset).last().map_or(self.start, |mark| mark.position)
    }
}

fn place_marks(from: Place, marks: &[Mark]) -> impl DoubleEndedIterator<Item = (Place, &Mark)> {
    (0..marks.len()).map(move |i| {
        let offset = if i == 0 { from.offset } else { marks[i - 1].end };
        (Place { offset, index: from.index + i as u64 }, &marks[i])
    })
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("id", &self.id).field("members", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let held = state.tail.len() + state.blocks.iter().map(|block| block.bytes.len()).sum::<usize>();
        self.shared.bytes.fetch_sub(held, Relaxed);
    }
}
