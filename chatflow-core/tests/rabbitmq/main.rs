//! The RabbitMQ broker: the public suite, and what only RabbitMQ can do to it.

#![allow(clippy::unwrap_used)]

#[path = "../support/door.rs"]
mod door;
mod harm;
mod node;
mod server;

mod lives;
mod network;
mod nodes;
mod setup;

use chatflow_core::broker_suite;

broker_suite!(shared suite, async { harm::common().await }, faults: async { harm::private().await });
