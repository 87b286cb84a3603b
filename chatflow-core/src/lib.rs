//! Room broadcast that any application can embed: every member of a room sees the same messages in the same order, each once, and
//! what was acknowledged is in the history.
//!
//! An [`Engine`] is everything between a client's socket and the history. Each of its parts has a default and can be replaced: a
//! [`Broker`] gives messages their order, a [`MessageStore`] keeps them, a [`MessageValidator`] says what may be said, a [`Codec`]
//! what it looks like, an [`Authenticator`] and an [`Authorizer`] who may say it.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use chatflow_core::store::MemoryStore;
//! use chatflow_core::{Ack, ChatValidator, Draft, Engine, MessageValidator, PageQuery, PublishError, RoomId, Violation, kind};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // The rules that come with it, and one of our own.
//! let usual = ChatValidator::default();
//! let quiet = move |draft: &Draft| {
//!     usual.validate(draft)?;
//!     match draft.text.ends_with('!') {
//!         true => Err(vec![Violation::new("message", "must not shout")]),
//!         false => Ok(()),
//!     }
//! };
//! let engine = Engine::builder().store(Arc::new(MemoryStore::new())).validator(quiet).build().await?;
//!
//! // A back end publishes; `Engine::connect` makes members of WebSockets whose upgrade was answered.
//! let library = RoomId::new("library")?;
//! let say = |text: &'static str| Draft {
//!     sender: "1".into(),
//!     name: "robot".into(),
//!     kind: kind::TEXT,
//!     text: text.into(),
//!     timestamp: "2026-11-20T12:00:00Z".into(),
//!     ..Draft::default()
//! };
//! engine.publish(&library, say("we close at eight"), Ack::Persisted).await?;
//! let refused = engine.publish(&library, say("we close!"), Ack::Persisted).await;
//! assert!(matches!(refused, Err(PublishError::Invalid(_))));
//!
//! let page = engine.history(&library, &PageQuery::latest(10)).await?;
//! assert_eq!(page.messages.len(), 1);
//! engine.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
//!
//! # What is promised
//! Each trait numbers its guarantees, and a public suite holds a backend against them (feature `conformance`). What the whole
//! promises, and what is lost when a process is killed or a disk goes, is in `docs/guarantees.md` of the project, a test behind
//! every line; `docs/architecture.md` has the picture, `docs/protocol.md` the frames.
//!
//! # Features
//! Nothing is on by default: the in-memory [broker](broker::memory::InMemoryBroker) and [store](store::MemoryStore) are always there.
//! - `sqlite`: `store::SqliteStore`, a history in one file that survives a power cut.
//! - `postgres`: `store::PostgresStore`, a history in a database that several nodes share.
//! - `mysql`: `store::MySqlStore`, the same in MariaDB and MySQL.
//! - `redis`: [`directory`]`::redis::RedisDirectory`, the live nodes in Redis.
//! - `accounts`: [`auth`]`::AccountAuthenticator`, which knows users by the accounts of a store, and gives them tokens.
//! - `cache`: `cache::CachedStore`, a store with a cache in front; with `redis` one that nodes share behind it.
//! - `conformance`: the suites for a broker, store, registry, directory or dead letters of one's own.
//!
//! # Runtime
//! It needs a tokio runtime with time enabled, reads no environment and installs no logger: it emits [`tracing`] events.

pub mod accounts;
pub mod analytics;
mod answers;
pub mod archive;
pub mod auth;
mod backoff;
pub mod broker;
#[cfg(feature = "cache")]
pub mod cache;
mod catchup;
mod chat;
mod codec;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod dedup;
pub mod directory;
mod engine;
mod error;
mod hooks;
mod letters;
mod message;
mod notice;
pub mod outbox;
mod pipeline;
mod position;
mod presence;
mod projection;
pub mod protocol;
mod rate;
pub mod registry;
mod relay;
mod session;
mod settings;
mod start;
mod stats;
pub mod store;
mod validator;
mod websocket;

pub use accounts::{Account, Accounts};
pub use analytics::Analytics;
pub use auth::{Action, AllowAll, Anonymous, Authenticator, Authorizer, Credentials, Identity};
pub use backoff::Backoff;
pub use broker::{Broker, LogId, Opening, Profile};
pub use bytestring::ByteString;
pub use chat::ChatCodec;
pub use codec::{BadFrame, Codec};
pub use directory::{NodeDirectory, NodeInfo};
pub use engine::{
    Ack, Authentication, Component, ConnectRequest, Deliver, Engine, EngineBuilder, Health, PublishError, Published, QueueDepth,
    ShutdownReport,
};
pub use error::{Error, ErrorKind, Result};
pub use hooks::{Hooks, NoHooks};
pub use letters::{Shelf, place_before};
pub use message::{BadRoomId, Header, MAX_ROOM_NAME, Message, MessageId, NodeId, RoomId, Timestamp, UserId, kind};
pub use position::{BadPosition, Position};
pub use registry::RoomRegistry;
pub use settings::{Delivery, Live, Settings, SlowPolicy, duration};
pub use stats::Stats;
pub use store::{DeadLetter, DeadLetters, Exception, Lease, Located, MessageStore, Page, PageQuery, Stored};
pub use validator::{ChatValidator, Draft, Limits, MessageValidator, Violation};
