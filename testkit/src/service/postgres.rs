//! PostgreSQL, one server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use super::{Program, account, path_of};
use crate::Port;

/// Who may do everything.
const USER: &str = "chatflow";
const PASSWORD: &str = "secret";

/// Makes the data where there are none, and becomes the server. Root may not be that. The password comes as it is: what SCRAM computes
/// for each connection takes longer than all the rest in a program without optimizations.
const SCRIPT: &str = r#"
bin=$1 data=$2 user=$3
shift 3
[ -e "$data/PG_VERSION" ] || "$bin/initdb" -D "$data" -U "$user" --pwfile=password -A password -E UTF8 --locale=C --no-sync >&2 || exit
exec "$bin/postgres" -D "$data" "$@"
"#;

/// One PostgreSQL: durable to the last commit unless it is told otherwise.
#[derive(Debug)]
pub struct Postgres {
    port: Port,
    /// Arguments of `postgres`.
    arguments: Vec<String>,
}

impl Default for Postgres {
    fn default() -> Self {
        let postgres = Self { port: Port::free(), arguments: Vec::new() };
        postgres.set("max_connections", "200").set("shared_buffers", "128MB").set("listen_addresses", "127.0.0.1")
    }
}

impl Postgres {
    /// With the user `chatflow`, who may do everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a setting of `postgresql.conf`, such as `fsync`, `off`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.extend(["-c".to_owned(), format!("{key}={value}")]);
        self
    }

    /// The folder of its programs: Debian keeps a folder for each version, none of them in the path.
    fn programs() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut folders: Vec<_> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
        folders.sort();
        folders.extend(path_of("initdb").and_then(|path| Some(path.parent()?.to_owned())));
        folders.into_iter().rev().find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
    }
}

#[async_trait]
impl Program for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn missing() -> Option<String> {
        if Self::programs().is_some() { None } else { Some("there is no PostgreSQL (apt-get install postgresql)".to_owned()) }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.port.address()]
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/postgres", addresses[0])
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        let data = folder.join("data");
        fs::write(folder.join("password"), PASSWORD).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(Self::programs().unwrap()).arg(&data).arg(USER);
        command.args(["-p", &self.port.number().to_string(), "-c", "unix_socket_directories="]).args(&self.arguments);
        account::give(&data, &mut command, "postgres");
        vec![command]
    }

    /// Answers a question.
    async fn answers(&self) -> bool {
        let ask = async { PgConnection::connect(&self.url(&self.addresses())).await?.ping().await };
        matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(())))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}
