//! MySQL, one server, and what MariaDB does as it does.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::{Connection, MySqlConnection};
use tokio::time::timeout;

use super::{Program, path_of};
use crate::{Port, packages};

/// Who may do everything.
const USER: &str = "chatflow";
const PASSWORD: &str = "secret";

/// Makes the data where there are none, and becomes the server. It may be root here: what is only there for tests lies in a home, which
/// others can't read.
const SCRIPT: &str = r#"
mysqld=$1 data=$2 init=$3
shift 3
set -- --no-defaults --user="$(id -un)" --datadir="$data" --tmpdir="$data" --secure-file-priv=NULL "$@"
[ -e "$data/mysql" ] || "$mysqld" "$@" --initialize-insecure >&2 || exit
exec "$mysqld" "$@" --init-file="$init"
"#;

/// One MySQL: durable to the last commit unless it is told otherwise.
#[derive(Debug)]
pub struct MySql {
    port: Port,
    /// Arguments of `mysqld`.
    arguments: Vec<String>,
}

impl Default for MySql {
    fn default() -> Self {
        let mysql = Self { port: Port::free(), arguments: vec!["--skip-name-resolve".to_owned()] };
        // Its other protocol has a port of its own.
        mysql.set("max_connections", "200").set("innodb_buffer_pool_size", "128M").set("bind_address", "127.0.0.1").set("mysqlx", "OFF")
    }
}

impl MySql {
    /// With the user `chatflow`, who may do everything, and the database `chatflow`.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a system variable, such as `innodb_flush_log_at_trx_commit`, `2`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.push(format!("--{key}={value}"));
        self
    }

    /// The server: this machine's own, or the one that `scripts/test` has fetched. MariaDB has a link of the same name.
    fn program() -> Option<PathBuf> {
        let own = path_of("mysqld").and_then(|path| fs::canonicalize(path).ok()).filter(|path| path.ends_with("mysqld"));
        own.or_else(|| Some(packages("mysql").join("mysqld"))).filter(|path| path.is_file())
    }
}

#[async_trait]
impl Program for MySql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn missing() -> Option<String> {
        if Self::program().is_some() { None } else { Some("there is no MySQL (scripts/test fetches it)".to_owned()) }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.port.address()]
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        url(addresses[0])
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(Self::program().unwrap()).arg(folder.join("data")).arg(user(folder));
        // The path of a socket may not be long, so it lies under the data and is named from there.
        command.arg(format!("--port={}", self.port.number())).args(["--socket=socket", "--pid-file=pid"]).args(&self.arguments);
        vec![command]
    }

    async fn answers(&self) -> bool {
        answers(&self.url(&self.addresses())).await
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Where the server's user finds their database.
pub(super) fn url(address: SocketAddr) -> String {
    format!("mysql://{USER}:{PASSWORD}@{address}/chatflow")
}

/// The file for `--init-file`, which makes the user and their database where they are missing.
pub(super) fn user(folder: &Path) -> PathBuf {
    let sql = format!(
        "CREATE DATABASE IF NOT EXISTS chatflow;\nCREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n"
    );
    let file = folder.join("init.sql");
    fs::write(&file, sql).unwrap();
    file
}

/// Whether the server at a URL answers a question.
pub(super) async fn answers(url: &str) -> bool {
    let ask = async { MySqlConnection::connect(url).await?.ping().await };
    matches!(timeout(Duration::from_secs(2), ask).await, Ok(Ok(())))
}
