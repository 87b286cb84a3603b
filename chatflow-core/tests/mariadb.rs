//! The MySQL store on MariaDB.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use chatflow_testkit::MariaDb as Server;

#[path = "mysql/suite.rs"]
mod suite;

/// What ends a transaction of a node that stands still, and after how many seconds: as the store sets it.
const SILENCE: (&str, u64) = ("idle_transaction_timeout", 3);

/// Where it tells what each connection does.
const PROCESSES: &str = "information_schema.processlist";

/// Whether it encrypts connections without being told how.
const TLS: bool = false;

/// The statement that makes a server follow the one at `primary`, from the beginning of a file of its log.
fn follow(primary: SocketAddr, file: &str) -> String {
    let (host, port) = (primary.ip(), primary.port());
    format!(
        "CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = 'chatflow', MASTER_PASSWORD = 'secret',
            MASTER_LOG_FILE = '{file}', MASTER_LOG_POS = 4, MASTER_CONNECT_RETRY = 1"
    )
}
