//! A private Redis.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::process::eventually;

/// A redis-server of the test's own; ended when dropped.
pub(crate) struct Redis {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Redis {
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::at(free(), options)
    }

    pub(crate) fn at(address: SocketAddr, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &address.port().to_string(), "--dir"]).arg(folder.path());
        let process = command.args(options).stdout(Stdio::null()).spawn().expect("redis-server is installed");
        eventually("Redis answers", || TcpStream::connect(address).ok());
        Self { process, address, _folder: folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address at which nobody listens.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
