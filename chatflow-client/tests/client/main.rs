//! The client library against a server that speaks the protocol and misbehaves on command.

#![allow(clippy::unwrap_used)]

mod assign;
mod connect;
mod engine;
mod fake;
mod flow;
mod publish;
mod resume;
