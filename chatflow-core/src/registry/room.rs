//! A room on this node: a log of ready-made frames, and its members' cursors into it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::{fmt, slice};

use bytes::BytesMut;
use parking_lot::Mutex;

use super::fanout::{Fanout, Work};
use super::helping::Helping;
use super::log::{Block, Place, RoomLog};
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

    /// Messages that a room keeps: the recent ones, and what some may be `behind` with, unless the node is short of memory.
    fn keeps(&self, behind: bool) -> u64 {
        match (self.is_over(), behind) {
            (true, _) => 0,
            (false, true) => self.slow_messages.max(self.recent_messages),
            (false, false) => self.recent_messages,
        }
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
struct State {
    log: RoomLog,
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
                log: RoomLog::new(start, watermark),
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
        let appended = self.state.lock().log.append(entry, watermark, encoder);
        self.shared.bytes.fetch_add(appended.unwrap_or(0), Relaxed);
        appended.is_some()
    }

    /// The history has the log up to `watermark`.
    pub(super) fn settle(&self, watermark: Position) {
        self.state.lock().log.settle(watermark);
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
            Start::Present | Start::Never => Ok((state.log.end(), progress)),
            Start::After(after) if after > progress => Err(NotThere::Ahead { progress }),
            Start::After(after) if after < state.log.start() => Err(NotThere::Behind { memory: state.log.start(), progress }),
            Start::After(after) => Ok((state.log.after(after), after)),
            Start::Last(n) => Ok(state.log.last(n, progress)),
        };
        let was_parked = member.parked.swap(found.is_err(), Relaxed);
        state.parked = state.parked + usize::from(found.is_err()) - usize::from(was_parked);
        let (place, position) = found.inspect_err(|_| *member.home.lock() = Some(Arc::clone(self)))?;
        member.set_cursor(place.offset, place.index);
        *member.home.lock() = Some(Arc::clone(self));
        // Under the lock, so that whatever this leaves in the outlet comes before the first frame.
        joined(position);
        state.roster.insert(member.session, Arc::clone(member));
        state.joined.push(member.session);
        if start != Start::Never {
            state.arrivals.push(Arc::clone(member));
            if place != state.log.end() {
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
            state.left.push(format!("{:x}", member.session));
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
        if !state.joined.contains(&member.session) {
            state.joined.push(member.session);
        }
    }

    /// Who came, changed name or went since the last call.
    pub(super) fn changes(&self) -> (Vec<Arc<Member>>, Vec<String>) {
        let mut state = self.state.lock();
        let joined = std::mem::take(&mut state.joined);
        let joined = joined.iter().filter_map(|session| state.roster.get(session).cloned()).collect();
        (joined, std::mem::take(&mut state.left))
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
            unfinished || !state.late.is_empty() || state.log.has_tail()
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
        let freed = state.log.trim(self.shared.keeps(behind), self.shared.slow_bytes, needed);
        self.shared.bytes.fetch_sub(freed, Relaxed);
        match state.log.seal() {
            Some(block) => (sweep.newest, sweep.next) = (Some(block), 0),
            None if !state.log.has_blocks() => sweep.newest = None,
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
            let helping = Helping::of(&self.state.lock().log, Place { offset, index }, member);
            let Some(helping) = helping else { return self.overflow(sweep, member, served) };
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
            (state.log.position_at(member.cursor().0), state.log.end_of_blocks(), state.log.last_sealed())
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

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("id", &self.id).field("members", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let held = self.state.get_mut().log.bytes();
        self.shared.bytes.fetch_sub(held, Relaxed);
    }
}
