//! The ChatFlow client library: rooms that survive a bad network.
//!
//! [`Client`] keeps one connection to a ChatFlow server and comes back by itself when it is lost: with jitter, to the
//! next server where there are several, and to the very position in each room where it was. What was published and not
//! answered is sent again under the same id, so that it is in the room once, whatever happened to the answer.
//!
//! ```no_run
//! use chatflow_client::{Client, Incoming};
//!
//! # async fn run() -> Result<(), chatflow_client::Error> {
//! let (client, mut events) = Client::builder("ws://127.0.0.1:8080").user("42", "ada").room("7").connect().await?;
//! let published = client.publish("7", "hello").await?;
//! println!("{} stands at {:?}", published.message_id, published.position);
//! while let Some(event) = events.recv().await {
//!     if let Incoming::Message(message) = event {
//!         println!("{}", message.raw());
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//! 1. **Once and in order.** Each room's messages arrive in position order, each once, across any number of
//!    reconnects; where some can't be had any more, [`Incoming::Welcome`] says `recovered: false` or
//!    [`Incoming::Gap`] says where.
//! 2. **Published once.** A message is sent under one id until it is answered or its deadline passes.
//! 3. **Bounds.** At most [`in_flight`](ClientBuilder::in_flight) messages wait for an answer and at most
//!    [`event_buffer`](ClientBuilder::event_buffer) events for the application; beyond that, publishers wait and the
//!    socket is not read.
//!
//! # Features
//! `tls` (default): `wss://` and `https://`, by rustls with the system's certificates.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod assign;
mod builder;
mod client;
mod command;
mod connection;
mod cursor;
mod dial;
mod draft;
mod endpoint;
mod error;
mod failover;
mod frame;
pub mod http;
mod incoming;
mod publishes;
mod rooms;
mod session;
mod socket;
mod transport;

pub use builder::ClientBuilder;
pub use chatflow_core::Backoff;
pub use chatflow_core::protocol::{ErrorFrame, MemberInfo, WelcomeLimits, close, code};
pub use chatflow_core::{Ack, Deliver, MessageId, Position, RoomId, kind};
pub use client::{Acknowledgement, Client, Published};
pub use command::{JoinOptions, Joined};
pub use cursor::Cursor;
pub use draft::Draft;
pub use endpoint::Endpoint;
pub use error::{ConnectError, ConnectFailure, Error};
pub use incoming::{Chat, Events, Incoming, Message};
pub use transport::Transport;
