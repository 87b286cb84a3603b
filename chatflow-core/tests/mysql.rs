//! The MySQL store on MySQL.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use chatflow_testkit::MySql as Server;

#[path = "mysql/suite.rs"]
mod suite;

/// What ends a transaction of a node that stands still, and after how many seconds: as the store sets it.
const SILENCE: (&str, u64) = ("wait_timeout", 10);

/// Where it tells what each connection does.
const PROCESSES: &str = "performance_schema.processlist";

/// Whether it encrypts connections without being told how.
const TLS: bool = true;

/// The statement that makes a server follow the one at `primary`, from the beginning of a file of its log.
fn follow(primary: SocketAddr, file: &str) -> String {
    let (host, port) = (primary.ip(), primary.port());
    format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_PORT = {port}, SOURCE_USER = 'chatflow', SOURCE_PASSWORD = 'secret',
            SOURCE_LOG_FILE = '{file}', SOURCE_LOG_POS = 4, SOURCE_CONNECT_RETRY = 1, SOURCE_SSL = 1"
    )
}
