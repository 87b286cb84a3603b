//! The writing side of one connection.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use bytes::{Buf, Bytes, BytesMut};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use super::fanout::{Fanout, Work};
use super::member::Member;
use crate::protocol::{self, Dialect};

type Io = Box<dyn AsyncWrite + Send + Unpin>;

/// Memory that an outlet with nothing to write keeps, in bytes.
const KEPT: usize = 1 << 10;

/// The writing side of one connection, shared by its session and the rooms that it is in.
///
/// Whoever has something for the client either leaves whole frames here ([`push`](Self::push)) or, as the holder of
/// a room's turn, writes them to the socket at once. A socket that is full is left alone until it takes more; what was
/// begun of a frame is finished before anything else.
pub struct Outlet {
    session: u64,
    v1: bool,
    state: Mutex<State>,
    /// The socket is full: looked at without the lock.
    blocked: AtomicBool,
    over: AtomicBool,
    /// Wakes the reading side when the connection is over, or when it may read again.
    reader: AtomicWaker,
    /// Told when all that waited was written, and at the end.
    drained: Notify,
    /// Who may leave the next page of the past here.
    page: Semaphore,
    /// Bytes that wait, and messages whose answer is due: the reading side pauses beyond its bounds.
    waiting: AtomicUsize,
    unanswered: AtomicUsize,
    /// When the client was last heard, and whether and when the connection began to close, in ticks of the engine.
    pub(crate) heard: AtomicU32,
    /// What `heard` was, and 1, when the client was last pinged.
    pinged: AtomicU32,
    closing_since: AtomicU32,
    fanout: Arc<Fanout>,
}

struct State {
    /// `None` once the connection is over.
    io: Option<Io>,
    waker: Waker,
    /// Whole frames, or the rest of one and whole frames; written before anything else.
    pending: BytesMut,
    queued: bool,
    /// A close frame is the last thing in `pending`.
    closing: bool,
    /// Members to be served once the socket takes more.
    members: Vec<Arc<Member>>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything.
    All,
    /// So many bytes; the frame that the next one belongs to will be finished. The member will be served again.
    Part(usize),
    /// Nothing: the socket is full. The member will be served again.
    Blocked,
    /// The connection is over.
    Over,
}

struct Writable(Weak<Outlet>);

impl Wake for Writable {
    fn wake(self: Arc<Self>) {
        if let Some(outlet) = self.0.upgrade() {
            outlet.queue();
        }
    }
}

impl Outlet {
    /// The writing side of `session`'s connection, served by `fanout`.
    pub fn new(session: u64, dialect: Dialect, io: Box<dyn AsyncWrite + Send + Unpin>, fanout: Arc<Fanout>) -> Arc<Self> {
        Arc::new_cyclic(|outlet| Self {
            session,
            v1: dialect == Dialect::V1,
            state: Mutex::new(State {
                io: Some(io),
                waker: Waker::from(Arc::new(Writable(outlet.clone()))),
                pending: BytesMut::new(),
                queued: false,
                closing: false,
                members: Vec::new(),
            }),
            blocked: AtomicBool::new(false),
            over: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            drained: Notify::new(),
            page: Semaphore::const_new(1),
            waiting: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            heard: AtomicU32::new(0),
            pinged: AtomicU32::new(0),
            closing_since: AtomicU32::new(u32::MAX),
            fanout,
        })
    }

    /// The session that it belongs to.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Whether nothing will be written any more.
    pub fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// Leaves what `write` appends, whole frames, to be written next. Nothing is appended once it is closing.
    pub fn push(self: &Arc<Self>, write: impl FnOnce(&mut BytesMut)) {
        let mut state = self.state.lock();
        if state.io.is_none() || state.closing {
            return;
        }
        write(&mut state.pending);
        self.enqueue(&mut state);
    }

    /// The same for one JSON text frame.
    pub fn push_text(self: &Arc<Self>, write: impl FnOnce(&mut BytesMut)) {
        self.push(|out| protocol::put_text_frame(out, write));
    }

    /// Writes a close frame after what is pending, and nothing more. The first reason counts.
    pub fn close(self: &Arc<Self>, code: u16, reason: &str) {
        let mut state = self.state.lock();
        if state.io.is_none() || state.closing {
            return;
        }
        state.closing = true;
        state.pending.extend_from_slice(&protocol::close_frame(code, reason));
        self.enqueue(&mut state);
        drop(state);
        self.reader.wake();
    }

    /// Like [`close`](Self::close) with a frame that is made already (the echo of the client's own).
    pub(crate) fn close_with(self: &Arc<Self>, frame: &[u8]) {
        let mut state = self.state.lock();
        if state.io.is_some() && !state.closing {
            state.closing = true;
            state.pending.extend_from_slice(frame);
            self.enqueue(&mut state);
        }
    }

    /// Whether a close frame was left.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// Ends the connection here and now.
    pub fn cut(&self) {
        let mut state = self.state.lock();
        self.end(&mut state);
    }

    /// Once a second: a connection that was silent for `ping` seconds is pinged, and closed after `silent`; one that was told to
    /// close is cut when that takes longer than `write`. One that `waits` for so many answers is not read, so it isn't silent.
    pub(crate) fn tick(self: &Arc<Self>, now: u32, ping: u32, silent: u32, write: u32, waits: usize) {
        if self.unanswered() >= waits {
            self.heard.store(now, Relaxed);
        }
        let heard = self.heard.load(Relaxed);
        let quiet = now.saturating_sub(heard);
        if quiet >= silent {
            self.close(protocol::close::SILENT, "no sign of life");
        } else if quiet >= ping && self.pinged.swap(heard + 1, Relaxed) != heard + 1 {
            self.push(|out| out.extend_from_slice(&[0x89, 0]));
        }
        let mut state = self.state.lock();
        if state.closing && state.io.is_some() {
            let since = self.closing_since.fetch_min(now, Relaxed).min(now);
            if now - since > write {
                self.end(&mut state);
            }
        }
    }

    /// Whether the client understands events.
    pub(crate) fn speaks_v1(&self) -> bool {
        self.v1
    }

    /// One more message whose answer is due.
    pub(crate) fn expect_answer(&self) {
        self.unanswered.fetch_add(1, Relaxed);
    }

    /// Leaves the answer of one message.
    pub(crate) fn answer(self: &Arc<Self>, write: impl FnOnce(&mut BytesMut)) {
        self.push_text(write);
        self.unanswered.fetch_sub(1, SeqCst);
        // The reading side pauses only at its bound, and a wake that finds nobody costs one load.
        self.reader.wake();
    }

    /// Messages whose answer is due.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(SeqCst)
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Waits until no more than `bytes` wait to be written, or the connection is over.
    pub(crate) async fn room_below(&self, bytes: usize) {
        loop {
            let mut drained = pin!(self.drained.notified());
            drained.as_mut().enable();
            if self.waiting() <= bytes || self.is_over() {
                return;
            }
            drained.await;
        }
    }

    /// Waits until a page of the past may be read for this connection: no more than `bytes` wait to be written, and no other page
    /// is on its way, in whichever room. So a client that asks for the past of a thousand rooms and does not read it costs one
    /// page. `None` once the connection is over.
    pub(crate) async fn place_for_a_page(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let place = self.page.acquire().await.ok()?;
        self.room_below(bytes).await;
        (!self.is_over()).then_some(place)
    }

    /// The reading side wants to be woken when the connection is over or one of its bounds has room again.
    pub(crate) fn wake_reader(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
    }

    fn queue(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.queued && state.io.is_some() {
            state.queued = true;
            self.fanout.push(Work::Outlet(Arc::clone(self)));
        }
    }

    fn enqueue(self: &Arc<Self>, state: &mut State) {
        self.waiting.store(state.pending.len(), SeqCst);
        if !state.queued && !self.blocked.load(Relaxed) {
            state.queued = true;
            self.fanout.push(Work::Outlet(Arc::clone(self)));
        }
    }

    /// Writes what is pending; then whoever waited for the socket stands in line again. Answers with the writes it took.
    pub(super) fn flush(self: &Arc<Self>) -> usize {
        let mut state = self.state.lock();
        state.queued = false;
        self.blocked.store(false, Relaxed);
        if !state.pending.is_empty() {
            let done = self.write(&mut state, &[], 0);
            if done != Written::All {
                return 1;
            }
        }
        if state.closing {
            self.shut(&mut state);
            return 1;
        }
        let members = std::mem::take(&mut state.members);
        drop(state);
        for member in members {
            member.waits.store(false, Relaxed);
            let room = member.home.lock().clone();
            if let Some(room) = room {
                room.serve_late(member);
            }
        }
        1
    }

    /// Writes `parts`, `total` bytes of whole frames for `member`, as far as the socket takes them. When it takes a part,
    /// `finish` says, for a number of bytes, what is left of the frame that is under way.
    pub(super) fn deliver(&self, member: &Arc<Member>, parts: &[Bytes], total: usize, finish: impl FnOnce(usize) -> Bytes) -> Written {
        let mut state = self.state.lock();
        if state.io.is_none() || state.closing {
            return Written::Over;
        }
        let written = if self.blocked.load(Relaxed) { Written::Blocked } else { self.write(&mut state, parts, total) };
        if let Written::Part(n) = written {
            let rest = finish(n);
            state.pending.extend_from_slice(&rest);
            self.waiting.store(state.pending.len(), SeqCst);
        }
        if matches!(written, Written::Part(_) | Written::Blocked) && !member.waits.swap(true, Relaxed) {
            state.members.push(Arc::clone(member));
        }
        written
    }

    /// Writes what is pending, then `parts`, until the socket is full.
    fn write(&self, state: &mut State, parts: &[Bytes], total: usize) -> Written {
        let State { io, waker, pending, .. } = state;
        let Some(io) = io else { return Written::Over };
        let mut cx = Context::from_waker(waker);
        let (first, all) = (pending.len(), pending.len() + total);
        let mut done = 0;
        let full = loop {
            if done == all {
                break false;
            }
            match poll_write(Pin::new(io), &mut cx, pending, parts, done) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                    self.end(state);
                    return Written::Over;
                }
                Poll::Ready(Ok(n)) => done += n,
                Poll::Pending => break true,
            }
        };
        self.fanout.bytes_out.add(done as u64);
        if done < first {
            pending.advance(done);
        } else if pending.capacity() > KEPT {
            *pending = BytesMut::new();
        } else {
            pending.clear();
        }
        let left = pending.len();
        self.waiting.store(left, SeqCst);
        if first > left {
            self.reader.wake();
        }
        if first > 0 && left == 0 {
            self.drained.notify_waiters();
        }
        if !full {
            return Written::All;
        }
        self.blocked.store(true, Relaxed);
        if done > first { Written::Part(done - first) } else { Written::Blocked }
    }

    /// Everything was said: no more will come.
    fn shut(&self, state: &mut State) {
        let State { io: Some(io), waker, .. } = state else { return };
        // A shutdown that can't finish now (a TLS farewell) is not waited for: the client closes, or is cut.
        let _ = Pin::new(io).poll_shutdown(&mut Context::from_waker(waker));
    }

    fn end(&self, state: &mut State) {
        state.io = None;
        state.pending = BytesMut::new();
        state.members = Vec::new();
        self.over.store(true, SeqCst);
        self.reader.wake();
        self.drained.notify_waiters();
    }
}

/// One write of what comes after the first `done` bytes of `pending` and `parts`.
fn poll_write(io: Pin<&mut Io>, cx: &mut Context<'_>, pending: &[u8], parts: &[Bytes], done: usize) -> Poll<io::Result<usize>> {
    if let (true, [one]) = (done >= pending.len(), parts) {
        return io.poll_write(cx, &one[done - pending.len()..]);
    }
    if parts.is_empty() {
        return io.poll_write(cx, &pending[done..]);
    }
    let mut skip = done;
    let mut slices = [IoSlice::new(&[]); 64];
    let mut used = 0;
    for part in std::iter::once(pending).chain(parts.iter().map(|p| &p[..])) {
        if skip >= part.len() {
            skip -= part.len();
        } else if used < slices.len() {
            slices[used] = IoSlice::new(&part[skip..]);
            (skip, used) = (0, used + 1);
        }
    }
    io.poll_write_vectored(cx, &slices[..used])
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("session", &self.session).field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}
