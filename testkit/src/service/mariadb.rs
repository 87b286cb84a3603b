//! MariaDB, one server.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;

use super::{Program, account, lacks, mysql};
use crate::Port;

const PROGRAMS: [&str; 2] = ["mariadbd", "mariadb-install-db"];
const PACKAGE: &str = "mariadb-server";

/// Makes the data where there are none, and becomes the server. Root may not be that. Each has a folder of its own for what is
/// temporary, while it is made too: a server that starts clears the tables of others away from one that they share.
const SCRIPT: &str = r#"
PATH=$PATH:/usr/sbin:/sbin
data=$1
shift
[ -e "$data/mysql" ] || mariadb-install-db --no-defaults --datadir="$data" --auth-root-authentication-method=normal --tmpdir="$data" --skip-test-db >&2 || exit
exec mariadbd --no-defaults --datadir="$data" --tmpdir="$data" "$@"
"#;

/// One MariaDB: durable to the last commit unless it is told otherwise.
#[derive(Debug)]
pub struct MariaDb {
    port: Port,
    /// Arguments of `mariadbd`.
    arguments: Vec<String>,
    /// Where its tables are, if not with the rest.
    tables: Option<PathBuf>,
}

impl Default for MariaDb {
    fn default() -> Self {
        let mariadb = Self { port: Port::free(), arguments: vec!["--skip-name-resolve".to_owned()], tables: None };
        mariadb.set("max_connections", "200").set("innodb_buffer_pool_size", "128M").set("bind_address", "127.0.0.1")
    }
}

impl MariaDb {
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

    /// With the tables of its database in a folder, perhaps of a disk that is soon full; all else of it stays where it is.
    #[must_use]
    pub fn tables_in(self, folder: impl Into<PathBuf>) -> Self {
        Self { tables: Some(folder.into()), ..self }
    }
}

#[async_trait]
impl Program for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn missing() -> Option<String> {
        lacks(&PROGRAMS, PACKAGE)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.port.address()]
    }

    fn url(&self, addresses: &[SocketAddr]) -> String {
        mysql::url(addresses[0])
    }

    fn commands(&self, folder: &Path) -> Vec<Command> {
        let data = folder.join("data");
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]).arg(&data).arg(format!("--port={}", self.port.number()));
        // The path of a socket may not be long, so it lies under the data and is named from there.
        command
            .args(["--socket=socket", "--pid-file=pid"])
            .arg(format!("--init-file={}", mysql::user(folder).display()))
            .args(&self.arguments);
        if let Some(tables) = &self.tables {
            account::give(tables, &mut command, "mysql");
            if let Err(error) = symlink(tables, data.join("chatflow")) {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            }
        }
        account::give(&data, &mut command, "mysql");
        vec![command]
    }

    async fn answers(&self) -> bool {
        mysql::answers(&self.url(&self.addresses())).await
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}
