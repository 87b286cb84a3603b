//! The face for embedding: an engine of rooms.

mod builder;
mod identify;
mod inner;
mod letters;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answers::{Call, Reply};
use crate::pipeline::Removal;
use crate::protocol::{Event, MemberInfo, close};
use crate::registry::{Outlet, put_event};
use crate::session::Session;
use crate::stats::Stats;
use crate::{
    Analytics, BadFrame, Draft, Error, ErrorKind, LogId, Message, NodeId, Page, PageQuery, Result, RoomId, Stored, Timestamp, websocket,
};

pub use builder::EngineBuilder;
pub(crate) use inner::Inner;
pub use types::{Ack, Authentication, Component, ConnectRequest, Deliver, Health, PublishError, Published, QueueDepth, ShutdownReport};

/// An engine of rooms: everything between a client's socket and the history. Cheap to clone; all clones are the same
/// engine, which ends when the last one is dropped ([`shutdown`](Self::shutdown) is the friendly way).
///
/// ```
/// # async fn run() -> chatflow_core::Result<()> {
/// use chatflow_core::{Ack, Draft, Engine, RoomId, kind};
///
/// let engine = Engine::builder().build().await?;
/// let room = RoomId::new("lobby").expect("a valid name");
/// let draft = Draft {
///     sender: "1".into(),
///     name: "robot".into(),
///     kind: kind::TEXT,
///     text: "hello".into(),
///     timestamp: "2026-11-20T12:00:00Z".into(),
///     ..Draft::default()
/// };
/// let published = engine.publish(&room, draft, Ack::Accepted).await.expect("published");
/// assert!(published.position.is_some());
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
/// ```
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    tasks: Arc<Mutex<Tasks>>,
}

/// What becomes of a message; an error when the engine ends first.
pub(crate) type Answered = oneshot::Receiver<Result<Published, PublishError>>;

/// The error for a message whose engine ended.
pub(crate) fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "engine", "the engine ended before the message was safe")
}

/// The engine's own tasks; they end with it.
#[derive(Default)]
struct Tasks {
    relays: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<()>>,
    ticker: Option<JoinHandle<()>>,
    /// Looks how far other nodes are with a history that nodes share.
    marks: Option<JoinHandle<()>>,
    /// Moves dead letters into the history's database.
    mover: Option<JoinHandle<()>>,
    /// Counts the summaries of the history, until it is told to stop.
    projection: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// Removes what the history is not to keep any longer.
    removal: Option<Removal>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self
            .relays
            .iter()
            .chain(&self.writers)
            .chain(&self.ticker)
            .chain(&self.marks)
            .chain(&self.mover)
            .chain(self.projection.as_ref().map(|(_, task)| task))
        {
            task.abort();
        }
    }
}

impl Engine {
    /// An engine with the in-memory broker and no history, to be changed.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// Serves one WebSocket connection, whose upgrade was answered, until it ends. What goes wrong is told to the client.
    ///
    /// # Cancel safety
    /// Dropping the future cuts the connection; what it submitted is published all the same.
    pub async fn connect<S>(&self, stream: S, request: ConnectRequest)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        self.connect_halves(reader, writer, request).await;
    }

    /// The same for a stream that comes in halves: reading and writing then never wait for each other.
    ///
    /// The future is most of what an idle connection costs, so it is kept small: the start is a future of its own.
    pub fn connect_halves<R, W>(&self, reader: R, writer: W, request: ConnectRequest) -> impl Future<Output = ()> + Send
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let inner = &self.inner;
        let outlet = Outlet::new(inner.connections.next_session(), request.dialect, Box::new(writer), Arc::clone(inner.registry.fanout()));
        let open = Open::new(inner, Arc::clone(&outlet));
        let begin = Box::pin(self.begin(outlet, request));
        async move {
            let open = open;
            let session = begin.await;
            websocket::serve(reader, session, Arc::clone(&open.outlet), Arc::clone(open.inner)).await;
        }
    }

    /// Finds out who connects, and joins the room that they ask for.
    async fn begin(&self, outlet: Arc<Outlet>, request: ConnectRequest) -> Session {
        outlet.heard.store(self.inner.ticks(), Relaxed);
        let who = self.identify(&outlet, &request).await;
        let goes_on = who.is_some();
        let mut session = Session::new(Arc::clone(&self.inner), outlet, who.unwrap_or_default(), &request);
        if goes_on {
            session.open(&request);
        }
        session
    }

    /// Publishes from the application, without a connection, and waits for the answer that `ack` asks for. The validator,
    /// the hooks and the bounds count as for a client; authorization and publish rates don't.
    ///
    /// # Cancel safety
    /// When dropped, the message may or may not be published; publishing it again under the same id is safe.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, room: &RoomId, draft: Draft, ack: Ack) -> Result<Published, PublishError> {
        let message = self.message(room, &draft)?;
        let (done, answer) = oneshot::channel();
        if let Err(error) = self.inner.give(message, &draft, ack, Reply::Call(Call { placed: None, done }), || ()) {
            return Err(error.into());
        }
        answer.await.unwrap_or_else(|_| Err(ended().into()))
    }

    /// The message that [`publish`](Self::publish) would publish of `draft`, which is not published: for an
    /// [outbox](crate::outbox). Its id is fixed by now.
    ///
    /// # Errors
    /// [`PublishError::Invalid`]: the validator or a hook refuses it.
    pub fn message(&self, room: &RoomId, draft: &Draft) -> Result<Message, PublishError> {
        let inner = &self.inner;
        inner.validator.validate(draft).map_err(PublishError::Invalid)?;
        let message = inner.message(draft, room.clone(), Timestamp::now(), 0, Default::default());
        inner.hooks.on_message(&message).map_err(PublishError::Invalid)?;
        Ok(message)
    }

    /// Publishes a message that [`message`](Self::message) made, perhaps long ago and on another node, under its id, here and now. The
    /// first of the answers is told once the message has its place in the log, unless the second is told at once: what became of it, as
    /// of a [`publish`](Self::publish) with [`Ack::Persisted`].
    ///
    /// # Errors
    /// The engine is draining.
    pub(crate) fn submit(&self, message: Message) -> Result<(oneshot::Receiver<()>, Answered)> {
        let (placed, is_placed) = oneshot::channel();
        let (done, answer) = oneshot::channel();
        let message = Message { at: Timestamp::now(), node: self.inner.node.clone(), ..message };
        let call = Call { placed: Some(placed), done };
        self.inner.give(message, &Draft::default(), Ack::Persisted, Reply::Call(call), || ())?;
        Ok((is_placed, answer))
    }

    /// Whether other nodes may use the same history.
    pub fn shares_history(&self) -> bool {
        self.inner.store.as_ref().is_some_and(|store| store.shared().is_some())
    }

    /// The largest encoded message that the broker takes, in bytes.
    #[allow(dead_code, reason = "only outboxes behind features use it")]
    pub(crate) fn largest_entry(&self) -> usize {
        self.inner.broker.profile().largest_entry
    }

    /// Reads a client's frame with this engine's codec, to be published from the application.
    ///
    /// # Errors
    /// It is not a message.
    pub fn decode(&self, frame: &str) -> Result<Draft, BadFrame> {
        self.inner.codec.decode(&frame.into())
    }

    /// The JSON object that members see of a stored message.
    pub fn show(&self, stored: &Stored) -> Bytes {
        let mut out = BytesMut::new();
        self.show_in(stored, &mut out);
        out.freeze()
    }

    /// The same behind what is in `out`.
    pub fn show_in(&self, stored: &Stored, out: &mut BytesMut) {
        self.inner.codec.broadcast(&stored.message, stored.position, out);
    }

    /// A page of a room's history.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no history; otherwise the store's.
    pub async fn history(&self, room: &RoomId, query: &PageQuery) -> Result<Page> {
        let no_history = || Error::new(ErrorKind::NotFound, "engine", "no history is kept");
        let store = self.inner.store.as_ref().ok_or_else(no_history)?;
        store.page(self.log_of(room), room, query).await
    }

    /// The history as one that can be asked about users and numbers; `None` when there is none, or it can't be.
    pub fn analytics(&self) -> Option<&dyn Analytics> {
        self.inner.store.as_ref()?.analytics()
    }

    /// Rooms with members or with messages in the history, by name, after `after`, at most `limit`: how many members each has, on all
    /// nodes that share the broker, and when its last message was accepted.
    ///
    /// # Errors
    /// The store's.
    pub async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> Result<Vec<(RoomId, usize, Option<Timestamp>)>> {
        let mut rooms: BTreeMap<RoomId, (usize, Option<Timestamp>)> = BTreeMap::new();
        if let Some(store) = &self.inner.store {
            for summary in store.rooms(after, limit).await? {
                rooms.entry(summary.room).or_default().1 = Some(summary.last);
            }
        }
        for (room, members) in self.inner.presence.rooms(after, limit) {
            rooms.entry(room).or_default().0 = members;
        }
        Ok(rooms.into_iter().take(limit).map(|(room, (members, last))| (room, members, last)).collect())
    }

    /// Who is in a room, on all nodes that share the broker, by session: as far as other nodes have told, a moment ago, and up to
    /// 100,000 of their members by name.
    pub fn members(&self, room: &RoomId) -> Vec<MemberInfo> {
        self.inner.presence.members(room)
    }

    /// How many members a room has, on all nodes: those that are not known by name, too.
    pub fn member_count(&self, room: &RoomId) -> usize {
        self.inner.presence.count(room)
    }

    /// What of a room is on its way into the history.
    pub async fn queue(&self, room: &RoomId) -> QueueDepth {
        let depths = self.inner.broker.status().await.depths;
        let log = self.log_of(room);
        self.depth(room, self.inner.answers.waiting_in(log, room), &depths)
    }

    /// The same for every room with members here or with something on its way.
    pub async fn queues(&self) -> Vec<(RoomId, QueueDepth)> {
        let depths = self.inner.broker.status().await.depths;
        let mut waiting = self.inner.answers.waiting_rooms();
        for (room, _) in self.inner.registry.rooms() {
            waiting.entry(room).or_default();
        }
        let mut queues: Vec<_> = waiting.into_iter().map(|(room, n)| (room.clone(), self.depth(&room, n, &depths))).collect();
        queues.sort_by(|a, b| a.0.cmp(&b.0));
        queues
    }

    fn depth(&self, room: &RoomId, waiting: u64, depths: &[u64]) -> QueueDepth {
        let log = usize::from(self.log_of(room).0);
        let writing = self.inner.writers.get(log).map_or(0, |writer| writer.writing(room));
        QueueDepth { waiting, writing, log: depths.get(log).copied().unwrap_or_default() }
    }

    pub(crate) fn log_of(&self, room: &RoomId) -> LogId {
        self.inner.broker.profile().log_of(room)
    }

    /// Whether the parts work. Answers within a second.
    pub async fn health(&self) -> Health {
        let inner = &self.inner;
        let broker = inner.broker.status().await;
        let mut components = vec![Component { name: "broker", healthy: broker.healthy, detail: broker.detail }];
        if let Some(store) = &inner.store {
            let store_is_shared = store.shared().is_some();
            let store = timeout(Duration::from_millis(900), store.status()).await;
            components.push(match store {
                Ok(store) => Component { name: "store", healthy: store.healthy, detail: store.detail },
                Err(_) => Component { name: "store", healthy: false, detail: "no answer within 0.9 s".into() },
            });
            let trouble = inner.writers.iter().find_map(|writer| writer.trouble());
            let written = inner.writers.iter().filter(|writer| writer.writes()).count();
            let writing = if store_is_shared { format!("writing {written} of {} logs", inner.writers.len()) } else { "writing".into() };
            let detail = trouble.clone().unwrap_or(writing);
            components.push(Component { name: "pipeline", healthy: trouble.is_none(), detail });
        }
        let draining = self.is_draining();
        let ready = !draining && components.iter().all(|component| component.healthy);
        Health { ready, draining, durable: inner.is_durable(), components }
    }

    /// Counters since the start, and gauges.
    pub fn stats(&self) -> Stats {
        let registry = &self.inner.registry;
        self.inner.counters.snapshot(registry.fanout().bytes_out(), registry.stats())
    }

    /// Whether this node writes the log into the history just now.
    pub fn writes(&self, log: LogId) -> bool {
        self.inner.writers.get(usize::from(log.0)).is_some_and(|writer| writer.writes())
    }

    /// This node's name.
    pub fn node(&self) -> &NodeId {
        &self.inner.node
    }

    /// The room that a name means; `None` when there is no such room.
    pub fn allows_room(&self, room: &str) -> Option<RoomId> {
        self.inner.allows_room(room)
    }

    /// Whether `shutdown` was called.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Relaxed)
    }

    /// The `ws://` or `wss://` URLs of other nodes, which clients of `chatflow.v1` are told when this engine shuts down: each begins
    /// with another one. None unless set; the client library takes the first 16.
    pub fn set_alternates(&self, urls: Vec<String>) {
        self.inner.connections.set_alternates(urls);
    }

    /// Ends the engine: nothing new is taken, what was taken is written and answered, v1 clients are told to reconnect, all
    /// connections are closed with 1012 in slices, leases are given back, store and broker are closed.
    ///
    /// # Cancel safety
    /// When dropped, what was done is done; call it again to go on.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let inner = &self.inner;
        let until = Instant::now() + deadline;
        inner.draining.store(true, SeqCst);
        self.announce();
        inner.presence.end();
        if let Err(error) = inner.broker.close().await {
            tracing::error!(%error, "the broker did not close");
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        if let Some(removal) = tasks.removal.take() {
            removal.end(until).await;
        }
        let projection = tasks.projection.take().map(|(_, task)| task);
        for task in tasks.relays.iter().chain(&tasks.writers).chain(&projection) {
            while !task.is_finished() && Instant::now() < until {
                sleep(Duration::from_millis(5)).await;
            }
        }
        let unanswered = inner.answers.give_up();
        self.close_connections(until).await;
        if let Some(store) = &inner.store {
            match timeout_at(until + Duration::from_secs(1), store.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the store did not close"),
                Err(_) => tracing::error!("the store did not close in time"),
            }
        }
        ShutdownReport { unanswered, connections: inner.connections.len() }
    }

    /// Tells v1 clients to come back, each after another while, so that they don't all come at once.
    fn announce(&self) {
        let (outlets, alternates) = (self.inner.connections.all(), self.inner.connections.alternates());
        for (i, outlet) in outlets.iter().enumerate().filter(|(_, outlet)| outlet.speaks_v1()) {
            let delay_ms = 100 + (i as u64 * 7_919) % (1_000 + outlets.len() as u64);
            // Whoever comes first in the list gets the most of them.
            let mut alternates = alternates.clone();
            let first = i % alternates.len().max(1);
            alternates.rotate_left(first);
            let event = Event::Reconnect { delay_ms, alternates };
            outlet.push_text(|out| put_event(out, &event));
        }
    }

    /// Closes all connections in twenty slices, and waits for them.
    async fn close_connections(&self, until: Instant) {
        let outlets = self.inner.connections.all();
        let slice = outlets.len().div_ceil(20).max(1);
        for outlets in outlets.chunks(slice) {
            outlets.iter().for_each(|outlet| outlet.close(close::RESTARTING, "the server is shutting down"));
            sleep(Duration::from_millis(if outlets.len() < 10 { 1 } else { 25 })).await;
        }
        while self.inner.connections.len() > 0 && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

/// A connection among the engine's, as long as its future lives.
struct Open<'a> {
    inner: &'a Arc<Inner>,
    outlet: Arc<Outlet>,
}

impl<'a> Open<'a> {
    fn new(inner: &'a Arc<Inner>, outlet: Arc<Outlet>) -> Self {
        inner.counters.connections.add(1);
        inner.counters.connections_total.add(1);
        inner.connections.insert(Arc::clone(&outlet));
        Self { inner, outlet }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.outlet.cut();
        self.inner.connections.remove(self.outlet.session());
        self.inner.counters.connections.sub(1);
    }
}
