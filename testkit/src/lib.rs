//! What proves ChatFlow under faults: a server in a process of its own that can be killed and started again, clients that
//! share no code with the client library, a browser, and a check of what everybody saw against what the history has.
//!
//! Everything here panics when it can't do its work: it is for tests alone.

#![allow(clippy::unwrap_used)]

pub mod browser;
mod chance;
mod cluster;
mod disk;
mod history;
pub mod http;
mod ledger;
mod lock;
mod member;
mod missing;
mod port;
mod proxy;
mod publisher;
mod server;
mod service;
mod socket;
mod wait;

pub use chance::{between, chance};
pub use cluster::Cluster;
pub use disk::Disk;
pub use history::{History, Row};
pub use ledger::{Ledger, Seen, Sent};
pub use lock::DatabaseLock;
pub use member::{Habit, Member};
pub use missing::{packages, skip};
pub use port::Port;
pub use proxy::{Counters, Faults, Flow, Pass, Proxy};
pub use publisher::{Publisher, Refusals};
pub use server::{Options, Server, raise_file_limit};
pub use service::{HaProxy, MariaDb, MySql, Postgres, Program, RabbitMq, Redis, RedisCluster, Service, Snapshot, Sqs, can_use};
pub use socket::{Frame, Socket, text_message};
pub use wait::{eventually, eventually_async};
