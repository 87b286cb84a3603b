//! Ports that stay whose they are.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nix::unistd::Uid;

use crate::between;

/// Below the ports that Linux gives to outgoing connections. Among those, a client that keeps connecting to a service that is away
/// is sooner or later given the service's own port, and connects to itself.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// A port of 127.0.0.1 that no other test of this user is given until it is dropped, not even while nobody listens there.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked, which ends with the process if not before.
    _claim: File,
}

impl Port {
    /// A port on which nobody listens.
    ///
    /// # Panics
    /// There is none to be found.
    pub fn free() -> Self {
        let folder = std::env::temp_dir().join(format!("chatflow-ports-{}", Uid::current()));
        fs::create_dir_all(&folder).unwrap();
        for _ in 0..100 {
            let number = between(Duration::from_nanos(PORTS.start.into()), Duration::from_nanos(PORTS.end.into())).as_nanos() as u16;
            let claim = File::create(folder.join(number.to_string())).unwrap();
            if claim.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free port from {PORTS:?}");
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Where whoever uses it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.number))
    }
}
