//! The binary as a user runs it, against a small server of one room.

#![allow(clippy::unwrap_used)]

mod asking;
mod chat;
mod check;
mod monitor;
mod nodes;
mod tiny;
