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
use crate::{Port, eventually_async};

/// Who may do everything.
const USER: &str = "chatflow";
const PASSWORD: &str = "secret";

/// The tablespace of tables that have a place of their own.
const TABLES: &str = "tables";

/// Makes the data where there are none, and becomes the server. Root may not be that. The password comes as it is: what SCRAM computes
/// for each connection takes longer than all the rest in a program without optimizations.
const SCRIPT: &str = r#"
bin=$1 data=$2 user=$3
shift 3
[ -e "$data/PG_VERSION" ] || "$bin/initdb" -D "$data" -U "$user" --pwfile=password -A password -E UTF8 --locale=C --no-sync >&2 || exit
exec "$bin/postgres" -D "$data" "$@"
"#;

/// The same for a copy of the server at the URL `$3`, which it follows.
const FOLLOW: &str = r#"
bin=$1 data=$2 primary=$3
shift 3
[ -e "$data/PG_VERSION" ] || "$bin/pg_basebackup" -d "$primary" -D "$data" -R -c fast --no-sync >&2 || exit
exec "$bin/postgres" -D "$data" "$@"
"#;

/// One PostgreSQL: durable to the last commit unless it is told otherwise.
#[derive(Debug)]
pub struct Postgres {
    port: Port,
    /// Arguments of `postgres`.
    arguments: Vec<String>,
    /// The URL of the server that it follows, if it is a replica.
    primary: Option<String>,
    /// Where its tables are, if not with the rest.
    tables: Option<PathBuf>,
}

impl Default for Postgres {
    fn default() -> Self {
        let postgres = Self { port: Port::free(), arguments: Vec::new(), primary: None, tables: None };
        postgres.set("max_connections", "200").set("shared_buffers", "128MB").set("listen_addresses", "127.0.0.1")
    }
}

impl Postgres {
    /// With the user `chatflow`, who may do everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// A replica that follows the server at `url`, with all its databases and users.
    pub fn following(url: impl Into<String>) -> Self {
        Self { primary: Some(url.into()), ..Self::default() }
    }

    /// With a setting of `postgresql.conf`, such as `fsync`, `off`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.extend(["-c".to_owned(), format!("{key}={value}")]);
        self
    }

    /// With the tables that are made in a folder, perhaps of a disk that is soon full; all else of it stays where it is.
    #[must_use]
    pub fn tables_in(self, folder: impl Into<PathBuf>) -> Self {
        Self { tables: Some(folder.into()), ..self.set("default_tablespace", TABLES) }
    }

    /// The folder of its programs: Debian keeps a folder for each version, none of them in the path.
    fn programs() -> Option<PathBuf> {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let mut folders: Vec<_> = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
        folders.sort();
        // Not the folder of a link to one of them.
        folders.extend(path_of("initdb").and_then(|path| Some(fs::canonicalize(path).ok()?.parent()?.to_owned())));
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
        let (script, source) = self.primary.as_deref().map_or((SCRIPT, USER), |primary| (FOLLOW, primary));
        command.args(["-c", script, "sh"]).arg(Self::programs().unwrap()).arg(&data).arg(source);
        command.args(["-p", &self.port.number().to_string(), "-c", "unix_socket_directories="]).args(&self.arguments);
        account::give(&data, &mut command, "postgres");
        if let Some(tables) = &self.tables {
            account::give(tables, &mut command, "postgres");
        }
        vec![command]
    }

    /// Answers a question.
    async fn answers(&self) -> bool {
        let ask = async { PgConnection::connect(&self.url(&self.addresses())).await?.ping().await };
        matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(())))
    }

    async fn found(&self) {
        let Some(tables) = &self.tables else { return };
        eventually_async("PostgreSQL answers", self.patience(), || async { self.answers().await.then_some(()) }).await;
        let mut db = PgConnection::connect(&self.url(&self.addresses())).await.unwrap();
        let sql = format!("CREATE TABLESPACE {TABLES} LOCATION '{}'", tables.display());
        sqlx::query(&sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}
