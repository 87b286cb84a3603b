//! Rooms full of members whose sockets take everything, and something to say to them: what the benches of the fan-out share.

#![allow(dead_code, reason = "no bench needs all of it")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use chatflow_core::broker::Delivered;
use chatflow_core::protocol::{Dialect, MemberInfo, put_text_frame};
use chatflow_core::registry::{Encoder, LocalRegistry, Member, Outlet, RoomRegistry, Start};
use chatflow_core::{ChatCodec, Codec, Draft, LogId, Message, MessageId, Position, RoomId, Settings, Timestamp, kind};
use tokio::io::AsyncWrite;

/// The one log that everything here is in.
pub(crate) const LOG: LogId = LogId(0);

/// A message as a client sends it: about 200 bytes, as in the `sockets` bench.
pub(crate) fn frame() -> String {
    let text = "a text of the length that people write, give or take a few words";
    format!(
        r#"{{"messageId":"{}","userId":"4711","username":"benchmark","message":"{text}","timestamp":"2026-11-20T11:02:10.123Z","messageType":"TEXT"}}"#,
        MessageId::from_u128(0x0193_4b6e_7a21_7c3d_8e4f_5a6b_7c8d_9e0f)
    )
}

/// The message that the server makes of a draft.
pub(crate) fn accept(draft: &Draft, room: &RoomId) -> Message {
    Message {
        id: draft.id.unwrap_or_default(),
        room: room.clone(),
        sender: draft.sender.clone(),
        kind: kind::TEXT,
        body: ChatCodec.body(draft),
        digest: ChatCodec.digest(draft),
        at: Timestamp(1_795_172_530_123),
        node: "node-1".into(),
        session: 1,
        origin: "127.0.0.1".into(),
    }
}

pub(crate) fn room(i: usize) -> RoomId {
    RoomId::new(&format!("room-{i}")).expect("a valid name")
}

pub(crate) fn draft() -> Draft {
    ChatCodec.decode(&frame().into()).expect("a good frame")
}

/// Makes the frame that members see, as the engine does, and counts the bytes.
#[derive(Debug, Default)]
pub(crate) struct Frames(AtomicU64);

impl Encoder for Frames {
    fn encode(&self, entry: &Delivered, out: &mut BytesMut) -> Option<u64> {
        let message = Message::decode(entry.bytes.clone()).ok()?;
        let before = out.len();
        put_text_frame(out, |out| ChatCodec.broadcast(&message, entry.position, out));
        self.0.fetch_add((out.len() - before) as u64, Relaxed);
        Some(message.session)
    }
}

/// A socket that takes everything at once, and counts it.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<AtomicU64>);

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.fetch_add(bytes.len() as u64, Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A registry with members in rooms, and the log that they hear. Made inside a runtime.
pub(crate) struct Crowd {
    pub(crate) registry: LocalRegistry,
    frames: Frames,
    taken: Sink,
    members: Vec<Arc<Member>>,
    /// An encoded message to each room.
    entries: Vec<Bytes>,
    per_room: u64,
    offset: u128,
}

impl Crowd {
    /// `rooms` rooms of `members` members each, all of them with a connection of their own.
    pub(crate) fn new(rooms: usize, members: usize) -> Self {
        let mut settings = Settings::default();
        settings.presence_members = 0;
        let registry = LocalRegistry::new(1, &settings, false);
        let (frames, taken, draft) = (Frames::default(), Sink::default(), draft());
        let entries = (0..rooms).map(|i| accept(&draft, &room(i)).encode()).collect();
        let mut crowd = Self { registry, frames, taken, members: Vec::new(), entries, per_room: members as u64, offset: 0 };
        crowd.registry.begin(LOG, Position::new(1, 0));
        for i in 0..rooms * members {
            let outlet = crowd.outlet(i as u64 + 2);
            let member = crowd.join(&room(i % rooms), &outlet);
            crowd.members.push(member);
        }
        crowd
    }

    pub(crate) fn outlet(&self, session: u64) -> Arc<Outlet> {
        Outlet::new(session, Dialect::Plain, Box::new(self.taken.clone()), Arc::clone(self.registry.fanout()))
    }

    pub(crate) fn join(&self, room: &RoomId, outlet: &Arc<Outlet>) -> Arc<Member> {
        let who = MemberInfo { session: String::new(), user_id: None, username: None, node: None };
        let member = Member::new(room.clone(), LOG, Arc::clone(outlet), Dialect::Plain, false, who);
        self.registry.join(&member, Start::Present, &self.frames, &mut |_| ()).expect("the present is always there");
        member
    }

    /// Gives the registry `window` messages to each of the first `rooms` rooms.
    pub(crate) fn say(&mut self, rooms: usize, window: usize) {
        let mut offset = self.offset;
        let mut entries = (0..window).flat_map(|_| &self.entries[..rooms]).map(|bytes| {
            offset += 1;
            Delivered { position: Position::new(1, offset), bytes: bytes.clone() }
        });
        self.offset += (rooms * window) as u128;
        self.registry.advance(LOG, &mut entries, Position::new(1, self.offset), Position::MAX, &self.frames);
    }

    /// Lets the registry's workers run until every member has been given everything.
    pub(crate) async fn heard(&self) {
        while self.taken.0.load(Relaxed) < self.frames.0.load(Relaxed) * self.per_room {
            tokio::task::yield_now().await;
        }
    }
}
