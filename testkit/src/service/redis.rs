//! Redis, one process, or three as a cluster.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Program, lacks};
use crate::{Port, eventually_async};

const PROGRAMS: [&str; 2] = ["redis-server", "redis-cli"];
const PACKAGE: &str = "redis-server";

/// How durable it is, and who may use it.
#[derive(Debug, Clone)]
struct Settings {
    /// Arguments of `redis-server`.
    arguments: Vec<String>,
    password: Option<String>,
}

impl Default for Settings {
    /// Every write is on the disk before it is answered, as the guarantees want it.
    fn default() -> Self {
        let mut settings = Self { arguments: Vec::new(), password: None };
        for (key, value) in [("save", ""), ("appendonly", "yes"), ("appendfsync", "always"), ("enable-debug-command", "local")] {
            settings.set(key, value);
        }
        settings
    }
}

impl Settings {
    fn set(&mut self, key: &str, value: &str) {
        self.arguments.extend([format!("--{key}"), value.to_owned()]);
    }

    fn protect(&mut self, password: &str) {
        self.set("requirepass", password);
        self.set("masterauth", password);
        self.password = Some(password.to_owned());
    }

    fn command(&self, port: &Port, data: &Path) -> Command {
        let _ = std::fs::create_dir(data);
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.number().to_string(), "--bind", "127.0.0.1", "--dir"]).arg(data).args(&self.arguments);
        command
    }

    /// `user:password@`, of a URL.
    fn userinfo(&self) -> String {
        self.password.as_ref().map_or_else(String::new, |password| format!(":{password}@"))
    }

    /// What the server at `address` says to a command.
    async fn ask(&self, address: SocketAddr, question: &str) -> Option<String> {
        let mut text = self.password.as_ref().map_or_else(String::new, |password| format!("AUTH {password}\r\n"));
        text += &format!("{question}\r\nQUIT\r\n");
        let exchange = async {
            let mut stream = TcpStream::connect(address).await.ok()?;
            stream.write_all(text.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            Some(answer)
        };
        timeout(Duration::from_secs(1), exchange).await.ok()?
    }
}

/// One Redis: durable to the last write unless it is told otherwise.
#[derive(Debug)]
pub struct Redis {
    settings: Settings,
    port: Port,
}

impl Default for Redis {
    fn default() -> Self {
        Self { settings: Settings::default(), port: Port::free() }
    }
}

impl Redis {
    /// `appendonly yes`, `appendfsync always`, no password.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a setting of `redis.conf`, such as `appendfsync`, `everysec`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.set(key, value);
        self
    }

    /// With a password, which is then in the URL: of characters that stand for themselves there.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.settings.protect(password);
        self
    }
}

#[async_trait]
impl Program for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn missing() -> Option<String> {
        lacks(&PROGRAMS, PACKAGE)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.port.address()]
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        format!("redis://{}{}", self.settings.userinfo(), addresses[0])
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        vec![self.settings.command(&self.port, &folder.join("data"))]
    }

    async fn answers(&self) -> bool {
        self.settings.ask(self.port.address(), "PING").await.is_some_and(|answer| answer.contains("+PONG"))
    }
}

/// Three masters that share the slots, without replicas.
#[derive(Debug)]
pub struct RedisCluster {
    settings: Settings,
    /// Of each, for clients and for the others.
    ports: [(Port, Port); 3],
}

impl Default for RedisCluster {
    fn default() -> Self {
        let mut settings = Settings::default();
        settings.set("cluster-enabled", "yes");
        settings.set("cluster-node-timeout", "2000");
        Self { settings, ports: [(); 3].map(|()| (Port::free(), Port::free())) }
    }
}

impl RedisCluster {
    /// `appendonly yes`, `appendfsync always`, no password.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a setting of `redis.conf` for each.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.set(key, value);
        self
    }

    /// With a password, which is then in the URL: of characters that stand for themselves there.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.settings.protect(password);
        self
    }

    async fn all_say(&self, question: &str, wanted: &[&str]) -> bool {
        for address in self.addresses() {
            let answer = self.settings.ask(address, question).await.unwrap_or_default();
            if !wanted.iter().all(|wanted| answer.contains(wanted)) {
                return false;
            }
        }
        true
    }
}

#[async_trait]
impl Program for RedisCluster {
    fn name(&self) -> &'static str {
        "redis-cluster"
    }

    fn missing() -> Option<String> {
        lacks(&PROGRAMS, PACKAGE)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.ports.iter().map(|(port, _)| port.address()).collect()
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        let addresses: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
        format!("redis-cluster://{}{}", self.settings.userinfo(), addresses.join(","))
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        let each = self.ports.iter().enumerate().map(|(n, (port, bus))| {
            let mut command = self.settings.command(port, &folder.join("data").join(n.to_string()));
            command.args(["--cluster-port", &bus.number().to_string()]);
            command
        });
        each.collect()
    }

    async fn answers(&self) -> bool {
        self.all_say("CLUSTER INFO", &["cluster_state:ok", "cluster_known_nodes:3"]).await
    }

    async fn found(&self) {
        let up = || async { self.all_say("PING", &["+PONG"]).await.then_some(()) };
        eventually_async("three Redis answer", self.patience(), up).await;
        let mut create = tokio::process::Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(self.addresses().iter().map(SocketAddr::to_string)).arg("--cluster-yes");
        if let Some(password) = &self.settings.password {
            create.env("REDISCLI_AUTH", password);
        }
        let output = create.kill_on_drop(true).output().await.unwrap();
        assert!(output.status.success(), "redis-cli --cluster create: {}", String::from_utf8_lossy(&output.stdout));
    }
}
