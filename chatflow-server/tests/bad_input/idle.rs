//! Thousands of connections that say nothing.
//!
//! The figure for 10,000, with the release build:
//!
//! ```text
//! cargo test --release -p chatflow-server --test bad_input -- --ignored --nocapture ten_thousand
//! ```

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use crate::health::{resident, unharmed, until_connections};
use crate::process::Server;
use crate::wire::Wire;

/// Lets this process open so many sockets.
fn raise_file_limit(sockets: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(maximum.is_none_or(|most| most > sockets + 200), "the system's limit of open files, {maximum:?}, is too low for this test");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// `count` members of 20 rooms who say nothing: bytes of the server's memory for each.
fn bytes_for_each(server: &Server, count: usize) -> u64 {
    raise_file_limit(count as u64);
    // What is set up once isn't any connection's.
    drop((0..200).map(|n| Wire::open(server, &format!("{}", n % 20))).collect::<Vec<_>>());
    until_connections(server, 0);
    let before = resident(server);
    let wires: Vec<_> = (0..count).map(|n| Wire::open(server, &format!("{}", n % 20))).collect();
    until_connections(server, count as u64);
    let grown = resident(server).saturating_sub(before);
    unharmed(server);
    drop(wires);
    until_connections(server, 0);
    grown / count as u64
}

#[test]
fn two_thousand_silent_members_cost_a_few_kib_each() {
    let server = Server::start(&[]);
    let each = bytes_for_each(&server, 2_000);
    println!("{each} bytes of resident memory for each of 2,000 idle members");
    // With the read buffer that every connection once held it was 7.9 KB in a debug build.
    assert!(each < 6 << 10, "{each} bytes for each");
    unharmed(&server);
}

#[test]
#[ignore = "needs 10,200 open files in this process and as many in the server"]
fn ten_thousand_silent_members_cost_less_than_8_kib_each() {
    let server = Server::start(&[]);
    let each = bytes_for_each(&server, 10_000);
    println!("{each} bytes of resident memory for each of 10,000 idle members");
    assert!(each < 8 << 10, "{each} bytes for each");
    unharmed(&server);
}

#[test]
fn two_thousand_connections_that_never_send_a_request_are_cut_off() {
    raise_file_limit(2_000);
    let server = Server::start(&["--set", "limits.handshake=2s"]);
    let silent: Vec<_> = (0..2_000).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    unharmed(&server);
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let end = stream.read(&mut [0; 64]);
        assert!(matches!(end, Ok(0)) || end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "{end:?}");
    }
    unharmed(&server);
}
