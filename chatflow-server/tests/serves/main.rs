//! The server as its users meet it: the real program, its configuration, its HTTP API and its sockets.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod accounts;
mod analytics;
mod chatting;
mod configuration;
mod dead_letters;
mod endpoints;
mod handshakes;
mod life;
#[cfg(feature = "redis")]
mod nodes;
mod openapi;
mod process;
#[cfg(feature = "redis")]
mod redis;
mod retention;
mod roles;
mod schema;
