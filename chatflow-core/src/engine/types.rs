//! What goes into an engine and what comes out of it.

use serde::Serialize;

use crate::auth::{Credentials, Identity};
use crate::protocol::Dialect;
use crate::{Error, MessageId, Position, Timestamp, UserId, Violation};

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
    /// What was found out about that already, by [`Engine::authenticate`](crate::Engine::authenticate); `None`: the engine asks.
    pub authentication: Option<Authentication>,
}

/// What came of finding out who connects: asked once, for a ticket is good for one connection only.
#[derive(Debug, Clone)]
pub struct Authentication(pub(super) Result<Identity, (u16, &'static str)>);

impl Authentication {
    /// The authenticated user; `None` when the client is anonymous, or will be told to go.
    pub fn user(&self) -> Option<&UserId> {
        self.0.as_ref().ok()?.user.as_ref()
    }
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
