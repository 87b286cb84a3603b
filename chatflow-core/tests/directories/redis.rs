//! [`RedisDirectory`] at a private Redis: one server, and a cluster of three.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use chatflow_core::conformance::directory::Subject;
use chatflow_core::directory::redis::{RedisDirectory, RedisDirectoryConfig};
use chatflow_core::{ErrorKind, NodeDirectory, NodeInfo, directory_suite};
use tempfile::TempDir;

directory_suite!(single, async {
    let server = Arc::new(Server::start(&[]));
    let url = server.url();
    Subject::new(directory(&url, "p"), directory(&url, "p")).keeping(server)
});

directory_suite!(cluster, async {
    let (cluster, prefix) = (Cluster::shared(), fresh());
    Subject::new(directory(&cluster.url(), &prefix), directory(&cluster.url(), &prefix)).keeping(cluster)
});

const LEASE: Duration = Duration::from_secs(60);

/// A redis-server of the test's own; ended when dropped.
#[derive(Debug)]
struct Server {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        Self::at(free(), options)
    }

    fn at(address: SocketAddr, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &address.port().to_string(), "--dir"]).arg(folder.path());
        let process = command.args(options).stdout(Stdio::null()).spawn().expect("redis-server is installed");
        until("Redis answers", || TcpStream::connect(address).is_ok());
        Self { process, address, _folder: folder }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn cli(address: SocketAddr, arguments: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    let out = command.args(["-p", &address.port().to_string()]).args(arguments).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// A prefix that no other case has.
fn fresh() -> String {
    static CASES: AtomicU64 = AtomicU64::new(0);
    format!("case-{}", CASES.fetch_add(1, Relaxed))
}

/// Three servers, shared by the cases that run at the same time.
#[derive(Debug)]
struct Cluster(Vec<Server>);

impl Cluster {
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    fn start() -> Self {
        let server = |_| {
            let bus = free().port().to_string();
            Server::start(&["--cluster-enabled", "yes", "--cluster-port", &bus])
        };
        let servers: Vec<_> = (0..3).map(server).collect();
        let first = servers[0].address;
        let addresses: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
        let create = [&["--cluster", "create"][..], &addresses.iter().map(String::as_str).collect::<Vec<_>>(), &["--cluster-yes"]].concat();
        let made = cli(first, &create);
        for server in &servers {
            until(&format!("the cluster stands: {made}"), || cli(server.address, &["cluster", "info"]).contains("cluster_state:ok"));
        }
        Self(servers)
    }

    fn url(&self) -> String {
        let addresses: Vec<_> = self.0.iter().map(|server| server.address.to_string()).collect();
        format!("redis-cluster://{}", addresses.join(","))
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn directory(url: &str, prefix: &str) -> Arc<dyn NodeDirectory> {
    Arc::new(RedisDirectory::new(RedisDirectoryConfig::new(url).with_prefix(prefix)).unwrap())
}

#[tokio::test]
async fn prefixes_keep_directories_apart_and_nothing_stays_for_ever() {
    let server = Server::start(&[]);
    let (one, other) = (directory(&server.url(), "one"), directory(&server.url(), "other"));
    one.announce(&NodeInfo::new("a", 1), Duration::from_millis(50)).await.unwrap();
    other.announce(&NodeInfo::new("b", 1), LEASE).await.unwrap();
    assert_eq!(other.nodes().await.unwrap().len(), 1);
    until("the key expires", || cli(server.address, &["exists", "one:{nodes}:node:a"]) == "0\n");
    let begun = Instant::now();
    while cli(server.address, &["zscore", "one:{nodes}:names", "a"]) != "\n" {
        assert!(begun.elapsed() < Duration::from_secs(30), "the name stays");
        one.announce(&NodeInfo::new("c", 1), LEASE).await.unwrap();
    }
    assert_eq!(one.nodes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn it_comes_back_by_itself_after_redis_did() {
    let server = Server::start(&[]);
    let (address, me) = (server.address, NodeInfo::new("a", 1));
    let directory = directory(&server.url(), "p");
    directory.announce(&me, LEASE).await.unwrap();
    drop(server);
    let error = directory.announce(&me, LEASE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let _server = Server::at(address, &[]);
    assert!(directory.nodes().await.unwrap().is_empty(), "it was in memory");
    directory.announce(&me, LEASE).await.unwrap();
    assert_eq!(directory.nodes().await.unwrap(), [me]);
}

#[tokio::test]
async fn who_may_not_is_told_so_without_the_password() {
    let server = Server::start(&["--requirepass", "s3cret", "--user", "ada", "on", ">pa55word", "~other:*", "+@all"]);
    for (who, advice) in [("", "are not right"), (":wr0ng@", "are not right"), ("ada:pa55word@", "may not do")] {
        let directory = directory(&format!("redis://{who}{}", server.address), "p");
        let error = directory.announce(&NodeInfo::new("a", 1), LEASE).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let text = error.to_string();
        assert!(text.contains(advice) && !text.contains("wr0ng") && !text.contains("pa55word"), "{text}");
    }
    let right = directory(&format!("redis://:s3cret@{}", server.address), "p");
    right.announce(&NodeInfo::new("a", 1), LEASE).await.unwrap();
    assert!(!format!("{right:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_waited_for_no_longer_than_said() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = RedisDirectoryConfig::new(format!("redis://{}", silent.local_addr().unwrap())).with_timeout(Duration::from_millis(200));
    let begun = Instant::now();
    let error = RedisDirectory::new(config).unwrap().nodes().await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
