//! The face for embedding: an engine of rooms.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::auth::{Authenticator, Authorizer, Credentials};
use crate::protocol::{Dialect, MemberInfo};
use crate::store::RoomSummary;
use crate::{
    Broker, Codec, DeadLetters, Draft, Error, Hooks, MessageId, MessageStore, MessageValidator, NodeId, Page, PageQuery, Position, Result,
    RoomId, Settings, Stored, Timestamp, Violation,
};

/// When a publisher is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ack {
    /// Once the broker holds the message durably; where it can't, as `Persisted`.
    #[default]
    Accepted,
    /// Once the store has committed it.
    Persisted,
}

/// What a member is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deliver {
    /// Everything, its own messages too.
    #[default]
    All,
    /// Everything but its own messages.
    Others,
    /// Nothing: it only publishes.
    None,
}

/// How a client wants to be connected, as it asked: nothing in it needs to be valid.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// Which dialect it speaks.
    pub dialect: Dialect,
    /// The room it joins at once.
    pub room: Option<String>,
    /// The position it resumes from.
    pub after: Option<String>,
    /// How many of the last messages it wants first.
    pub history: Option<usize>,
    /// When it is answered.
    pub ack: Ack,
    /// What it is sent.
    pub deliver: Deliver,
    /// Who it says it is.
    pub credentials: Credentials,
}

/// A message that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// Its id.
    pub id: MessageId,
    /// Its position, if it is known by now.
    pub position: Option<Position>,
    /// When it was accepted.
    pub at: Timestamp,
}

/// Why a message was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The message breaks rules.
    #[error("the message is not valid")]
    Invalid(Vec<Violation>),
    /// The id was used for another message.
    #[error("the id was used for another message")]
    IdConflict,
    /// The engine or a backend could not take it.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// How far the logs of a room are, for `/queue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct QueueDepth {
    /// Accepted in the room and not in the history yet.
    pub waiting: u64,
    /// Of these, in a batch that is being written.
    pub writing: u64,
    /// What the broker holds in the room's log.
    pub log: u64,
}

/// The state of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Its name: `broker`, `store`, `pipeline`.
    pub name: &'static str,
    /// Whether it works.
    pub healthy: bool,
    /// What is wrong, or how it is set up.
    pub detail: String,
}

/// The state of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether it takes messages: every component works and it is not draining.
    pub ready: bool,
    /// Whether it is shutting down.
    pub draining: bool,
    /// Whether an acknowledged message survives this process.
    pub durable: bool,
    /// The parts.
    pub components: Vec<Component>,
}

/// What a shutdown left undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Messages that were submitted and not answered: their senders were told to send them again.
    pub unanswered: usize,
    /// Connections that did not close in time.
    pub connections: usize,
}

/// Builds an [`Engine`].
#[derive(Default)]
pub struct EngineBuilder {
    _x: (),
}

/// An engine of rooms. Cheap to clone; all clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<()>);

impl EngineBuilder {
    /// The broker; in-memory unless another is given.
    #[must_use]
    pub fn broker(self, _broker: Arc<dyn Broker>) -> Self {
        unimplemented!()
    }
    /// The history; none unless one is given.
    #[must_use]
    pub fn store(self, _store: Arc<dyn MessageStore>) -> Self {
        unimplemented!()
    }
    /// Where poison goes; in memory unless one is given.
    #[must_use]
    pub fn dead_letters(self, _letters: Arc<dyn DeadLetters>) -> Self {
        unimplemented!()
    }
    /// The validator; [`ChatValidator`](crate::ChatValidator) unless another is given.
    #[must_use]
    pub fn validator(self, _validator: impl MessageValidator) -> Self {
        unimplemented!()
    }
    /// The codec; [`ChatCodec`](crate::ChatCodec) unless another is given.
    #[must_use]
    pub fn codec(self, _codec: impl Codec) -> Self {
        unimplemented!()
    }
    /// Who is there; everybody is anonymous unless one is given.
    #[must_use]
    pub fn authenticator(self, _authenticator: impl Authenticator) -> Self {
        unimplemented!()
    }
    /// What they may do; everything unless one is given.
    #[must_use]
    pub fn authorizer(self, _authorizer: impl Authorizer) -> Self {
        unimplemented!()
    }
    /// Hooks.
    #[must_use]
    pub fn hooks(self, _hooks: impl Hooks) -> Self {
        unimplemented!()
    }
    /// Bounds and time-outs.
    #[must_use]
    pub fn settings(self, _settings: Settings) -> Self {
        unimplemented!()
    }
    /// This node's name; a random one unless given.
    #[must_use]
    pub fn node(self, _node: impl Into<NodeId>) -> Self {
        unimplemented!()
    }
    /// Which rooms there are, beyond the rule for names; all unless given.
    #[must_use]
    pub fn rooms(self, _allow: impl Fn(&RoomId) -> bool + Send + Sync + 'static) -> Self {
        unimplemented!()
    }
    /// Opens broker and store and starts.
    ///
    /// # Errors
    /// A backend can't be reached or is set up in a way that breaks the guarantees.
    pub async fn build(self) -> Result<Engine> {
        unimplemented!()
    }
}

impl Engine {
    /// An engine with the in-memory broker and no store.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }
    /// Serves one upgraded WebSocket connection until it ends. Never fails: what goes wrong is told to the client.
    ///
    /// # Cancel safety
    /// Dropping the future cuts the connection; what it submitted is still published.
    pub async fn connect<S>(&self, _stream: S, _request: ConnectRequest)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        unimplemented!()
    }
    /// Publishes from the application, without a connection. Answers as `ack` says.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, _room: &RoomId, _draft: Draft, _ack: Ack) -> Result<Published, PublishError> {
        unimplemented!()
    }
    /// Reads a client's frame with this engine's codec (for publishing over HTTP).
    ///
    /// # Errors
    /// It is not a message.
    pub fn decode(&self, _frame: &str) -> Result<Draft, crate::BadFrame> {
        unimplemented!()
    }
    /// The JSON in which members see a stored message.
    pub fn show(&self, _stored: &Stored) -> Bytes {
        unimplemented!()
    }
    /// A page of a room's history; without a store, of what is still in memory.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn history(&self, _room: &RoomId, _query: &PageQuery) -> Result<Page> {
        unimplemented!()
    }
    /// Rooms with members or messages, by name, after `after`, at most `limit`: with the number of members on this node.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn rooms(&self, _after: Option<&RoomId>, _limit: usize) -> Result<Vec<(RoomId, usize, Option<Timestamp>)>> {
        unimplemented!()
    }
    /// Who is in a room on this node.
    pub fn members(&self, _room: &RoomId) -> Vec<MemberInfo> {
        unimplemented!()
    }
    /// Depths for `/queue/{room}`.
    pub async fn queue(&self, _room: &RoomId) -> QueueDepth {
        unimplemented!()
    }
    /// Depths of every room with something waiting or with members.
    pub async fn queues(&self) -> Vec<(RoomId, QueueDepth)> {
        unimplemented!()
    }
    /// Whether the parts work. Answers within a second.
    pub async fn health(&self) -> Health {
        unimplemented!()
    }
    /// Counters and gauges since the start.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
    /// This node's name.
    pub fn node(&self) -> &NodeId {
        unimplemented!()
    }
    /// Whether `room` is allowed by name and by the builder's rule.
    pub fn allows_room(&self, _room: &str) -> Option<RoomId> {
        unimplemented!()
    }
    /// Stops taking messages and connections; what was taken is finished. Members of the v1 dialect are told to reconnect,
    /// connections are closed with 1012 in slices, the log is flushed into the store, leases are given back.
    pub async fn shutdown(&self, _deadline: Duration) -> ShutdownReport {
        unimplemented!()
    }
    /// Whether `shutdown` was called.
    pub fn is_draining(&self) -> bool {
        unimplemented!()
    }
}

/// Counters (they only grow) and gauges of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Connections now.
    pub connections: u64,
    /// Connections since the start.
    pub connections_total: u64,
    /// Members now, over all rooms.
    pub members: u64,
    /// Rooms with members now.
    pub rooms: u64,
    /// Messages that passed validation and were taken by the broker.
    pub accepted: u64,
    /// Messages that were refused for what they are (invalid, forbidden, wrong room).
    pub rejected: u64,
    /// Messages that were refused for the state that the server is in (full, unavailable, draining, rate).
    pub refused: u64,
    /// Messages answered with `SUCCESS`.
    pub acknowledged: u64,
    /// Messages that came again under the same id.
    pub repeats: u64,
    /// Messages whose id was used for another message.
    pub conflicts: u64,
    /// Rows committed to the store.
    pub persisted: u64,
    /// Commits to the store.
    pub commits: u64,
    /// Commits that failed and were tried again.
    pub commit_failures: u64,
    /// Messages that became dead letters.
    pub dead_letters: u64,
    /// Messages that were given to rooms with members.
    pub broadcasts: u64,
    /// Frames of broadcasts written to members.
    pub deliveries: u64,
    /// Bytes written to clients.
    pub bytes_out: u64,
    /// Bytes read from clients.
    pub bytes_in: u64,
    /// Members that were too slow.
    pub slow: u64,
    /// Messages read from the store for members that came back.
    pub caught_up: u64,
    /// Bytes of room logs in memory.
    pub recent_bytes: u64,
}
