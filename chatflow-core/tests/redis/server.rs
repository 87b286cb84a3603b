//! Private Redis servers: on free ports, with their data in a temporary folder, killed with the test's process however that ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// One server.
pub(crate) struct Redis {
    pub(crate) port: u16,
    folder: TempDir,
    settings: Vec<String>,
    running: Mutex<Option<Child>>,
}

/// Ends the server when its own input ends, which it does with whoever holds the other end.
const GUARD: &str = r#""$@" >log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;

impl Redis {
    /// Starts one, with an append-only file that is synced before an answer.
    pub(crate) fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one with these settings.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let settings = settings.iter().map(ToString::to_string).collect();
        let redis = Self { port, folder: TempDir::new().unwrap(), settings, running: Mutex::default() };
        fs::create_dir(redis.data()).unwrap();
        redis.begin();
        redis
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it on the data that are there.
    pub(crate) fn begin(&self) {
        let port = self.port.to_string();
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh", "redis-server", "--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]);
        command.arg(self.data()).args(&self.settings).current_dir(self.folder.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        *self.running.lock().unwrap() = Some(child);
        let begun = Instant::now();
        while self.try_call(&["PING"]).is_none_or(|answer| answer != "PONG") {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not start: apt-get install redis-server");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.running.lock().unwrap().take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_call(&self, command: &[&str]) -> Option<String> {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(command).output().expect("redis-cli");
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !said.starts_with("LOADING")).then_some(said)
    }

    /// What it answers.
    pub(crate) fn call(&self, command: &[&str]) -> String {
        self.try_call(command).expect("an answer")
    }

    /// A copy of its data, as they would be after a crash.
    pub(crate) fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        copy_folder(&self.data(), copy.path());
        copy
    }

    /// Puts a copy in place of its data, while it does not run.
    pub(crate) fn put(&self, copy: &TempDir) {
        fs::remove_dir_all(self.data()).unwrap();
        fs::create_dir(self.data()).unwrap();
        copy_folder(copy.path(), &self.data());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Three servers that are a cluster.
pub(crate) struct Cluster(pub(crate) Vec<Redis>);

impl Cluster {
    /// Starts one that takes commands.
    pub(crate) fn start() -> Self {
        // Synced less often, a server that is killed while its disk is slow loses what it had answered.
        let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--appendonly", "yes", "--appendfsync", "always"];
        let nodes: Vec<Redis> = (0..3)
            .map(|_| {
                // The servers' own port is a free one, too: the usual one, 10,000 above, may not be a port at all.
                let bus = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string();
                Redis::with(&[&settings[..], &["--cluster-port", &bus]].concat())
            })
            .collect();
        let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let create = Command::new("redis-cli").args(["--cluster", "create"]).args(&addresses).arg("--cluster-yes").output().unwrap();
        assert!(create.status.success(), "{}", String::from_utf8_lossy(&create.stdout));
        let begun = Instant::now();
        while !nodes.iter().all(|node| node.call(&["CLUSTER", "INFO"]).contains("cluster_state:ok")) {
            assert!(begun.elapsed() < Duration::from_secs(30), "the cluster does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(nodes)
    }

    /// Its URL: one server is enough to find the others.
    pub(crate) fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", self.0[0].port, self.0[1].port)
    }
}
