//! HAProxy, with any configuration.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::{Program, lacks, path_of};
use crate::Port;

/// HAProxy as it is told.
#[derive(Debug)]
pub struct HaProxy {
    ports: Vec<Port>,
    configuration: String,
}

impl HaProxy {
    /// With that configuration, which listens on these ports.
    pub fn new(ports: Vec<Port>, configuration: String) -> Self {
        Self { ports, configuration }
    }
}

#[async_trait]
impl Program for HaProxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn missing() -> Option<String> {
        lacks(&["haproxy"], "haproxy")
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(Port::address).collect()
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        format!("ws://{}", addresses[0])
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        fs::write(folder.join("haproxy.cfg"), &self.configuration).unwrap();
        let mut command = Command::new(path_of("haproxy").unwrap());
        command.args(["-db", "-f", "haproxy.cfg"]);
        vec![command]
    }

    async fn answers(&self) -> bool {
        for address in self.addresses() {
            if TcpStream::connect(address).await.is_err() {
                return false;
            }
        }
        true
    }

    fn keeps_data(&self) -> bool {
        false
    }
}
