//! RabbitMQ, one node.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;

use super::{Program, lacks, path_of};
use crate::Port;

/// One RabbitMQ with streams, and Erlang's name server for it alone.
#[derive(Debug)]
pub struct RabbitMq {
    clients: Port,
    streams: Port,
    distribution: Port,
    names: Port,
    /// More lines of `rabbitmq.conf`.
    settings: String,
}

impl Default for RabbitMq {
    fn default() -> Self {
        Self { clients: Port::free(), streams: Port::free(), distribution: Port::free(), names: Port::free(), settings: String::new() }
    }
}

impl RabbitMq {
    /// With the user `guest`.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a setting of `rabbitmq.conf`, such as `channel_max`, `100`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings += &format!("{key} = {value}\n");
        self
    }

    /// Declares a stream that stays there: while it comes up, a node has not got those which it had.
    async fn streams_work(&self) -> lapin::Result<()> {
        let connection = Connection::connect(&self.url(&self.addresses()), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("testkit".into(), options, arguments).await?;
        connection.close(200, "done".into()).await
    }

    /// The script that starts it. Debian's own, in the path, changes to the user of the system's service.
    fn script() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/rabbitmq/lib").into_iter().flatten();
        let scripts = versions.filter_map(|entry| Some(entry.ok()?.path().join("sbin/rabbitmq-server")));
        let elsewhere = || path_of("rabbitmq-server").filter(|path| !path.starts_with("/usr/sbin") && !path.starts_with("/sbin"));
        scripts.filter(|path| path.is_file()).max().or_else(elsewhere)
    }
}

#[async_trait]
impl Program for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn missing() -> Option<String> {
        let missing = || Some("there is no rabbitmq-server (apt-get install rabbitmq-server)".to_owned());
        lacks(&["epmd", "erl"], "rabbitmq-server").or_else(|| if Self::script().is_some() { None } else { missing() })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.clients.address()]
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        format!("amqp://guest:guest@{}/%2f", addresses[0])
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        let (plugins, settings) = (folder.join("enabled_plugins"), folder.join("rabbitmq.conf"));
        fs::write(&plugins, "[rabbitmq_stream].\n").unwrap();
        let own = format!(
            "listeners.tcp.1 = {}\nstream.listeners.tcp.1 = {}\nlog.console = true\nlog.file = false\n\
             vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 50MB\n{}",
            self.clients.address(),
            self.streams.address(),
            self.settings
        );
        fs::write(&settings, own).unwrap();
        let port = self.names.number().to_string();
        let mut names = Command::new(path_of("epmd").unwrap());
        let mut node = Command::new(Self::script().unwrap());
        // Not what the machine's own RabbitMQ is told.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RABBITMQ_")) {
            node.env_remove(name);
        }
        names.args(["-port", &port, "-address", "127.0.0.1"]);
        // The node has its data, its cookie and its flags under `data`; it writes what it makes of the configuration there too.
        let data = folder.join("data");
        node.env("HOME", &data)
            .env("RABBITMQ_MNESIA_BASE", &data)
            .env("RABBITMQ_GENERATED_CONFIG_DIR", data.join("config"))
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
            .env("RABBITMQ_CONFIG_FILE", settings)
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", folder.join("advanced.config"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", format!("chatflow{}@localhost", self.clients.number()))
            .env("RABBITMQ_NODE_PORT", self.clients.number().to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_DIST_PORT", self.distribution.number().to_string())
            .env("ERL_EPMD_PORT", port)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 -start_epmd false")
            // The script becomes Erlang instead of waiting for it.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        vec![names, node]
    }

    /// Lets clients in and has its streams: it lets them in some time before.
    async fn answers(&self) -> bool {
        matches!(timeout(Duration::from_secs(5), self.streams_work()).await, Ok(Ok(())))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}
