//! Room broadcast that any application can embed.

mod answers;
pub mod auth;
pub mod broker;
mod catchup;
mod chat;
mod codec;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod dedup;
mod engine;
mod error;
mod hooks;
mod message;
mod pipeline;
mod position;
pub mod protocol;
mod rate;
pub mod registry;
mod relay;
mod session;
mod settings;
mod stats;
pub mod store;
mod validator;
mod websocket;

pub use auth::{Action, AllowAll, Anonymous, Authenticator, Authorizer, Credentials, Identity};
pub use broker::{Broker, LogId, Profile};
pub use bytestring::ByteString;
pub use chat::ChatCodec;
pub use codec::{BadFrame, Codec};
pub use engine::{
    Ack, Component, ConnectRequest, Deliver, Engine, EngineBuilder, Health, PublishError, Published, QueueDepth, ShutdownReport,
};
pub use error::{Error, ErrorKind, Result};
pub use hooks::{Hooks, NoHooks};
pub use message::{BadRoomId, Header, MAX_ROOM_NAME, Message, MessageId, NodeId, RoomId, Timestamp, UserId, kind};
pub use position::{BadPosition, Position};
pub use registry::RoomRegistry;
pub use settings::{Delivery, Live, Settings, SlowPolicy, duration};
pub use stats::Stats;
pub use store::{DeadLetter, DeadLetters, Exception, Lease, MessageStore, Page, PageQuery, Stored};
pub use validator::{ChatValidator, Draft, Limits, MessageValidator, Violation};
