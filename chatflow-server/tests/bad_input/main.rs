//! Whatever a client sends: each case gets its documented error, the server goes on, and its memory stays bounded.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod floods;
mod forwarded;
mod frames;
mod health;
mod http;
mod idle;
#[path = "../serves/process.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod process;
mod resume;
mod rooms;
mod websocket;
mod wire;
