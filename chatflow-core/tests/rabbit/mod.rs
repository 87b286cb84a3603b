//! A RabbitMQ of the test's own: on free ports, with its data in a temporary folder, gone with whoever started it.
#![allow(dead_code, unreachable_pub)]

pub mod node;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Starts it, and ends it (and the port mapper that it needs) when the pipe on its standard input is closed: however we end.
const KEEPER: &str = r#"
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 & mapper=$!
"$SERVER" </dev/null & server=$!
cat >/dev/null
kill -9 "$(cat "$RABBITMQ_PID_FILE")" "$server" "$mapper"
wait
"#;

pub struct Rabbit {
    folder: TempDir,
    pub port: u16,
    /// Of the mapper, of Erlang's distribution, and of the stream plugin.
    ports: [u16; 3],
    keeper: Option<Child>,
}

impl Rabbit {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("rabbit").tempdir().unwrap();
        // All are held until all are known, so that no two are the same.
        let held: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |i: usize| held[i].local_addr().unwrap().port();
        let mut rabbit = Self { port: port(0), ports: [port(1), port(2), port(3)], folder, keeper: None };
        drop(held);
        rabbit.up();
        rabbit
    }

    /// One for all tests of this process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Rabbit> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Starts it with the data that it has.
    pub fn up(&mut self) {
        let at = self.folder.path();
        let [mapper, distribution, stream] = self.ports;
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nstream.listeners.tcp.1 = 127.0.0.1:{stream}\nlog.console = false\n\
             vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 20MB\n",
            self.port
        );
        std::fs::write(at.join("rabbitmq.conf"), configuration).unwrap();
        std::fs::write(at.join("plugins"), "[].").unwrap();
        let _ = std::fs::remove_file(at.join("pid"));
        let keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER])
            .envs([("SERVER", server().as_str()), ("RABBITMQ_CONF_ENV_FILE", "/dev/null"), ("ERL_EPMD_ADDRESS", "127.0.0.1")])
            .envs([("HOME", at), ("RABBITMQ_MNESIA_BASE", &at.join("data")), ("RABBITMQ_LOG_BASE", &at.join("log"))])
            .envs([("RABBITMQ_CONFIG_FILE", at.join("rabbitmq.conf")), ("RABBITMQ_ENABLED_PLUGINS_FILE", at.join("plugins"))])
            .env("RABBITMQ_PID_FILE", at.join("pid"))
            .env("RABBITMQ_NODENAME", format!("chatflow{}@localhost", self.port))
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(at.join("out")).unwrap())
            .stderr(std::fs::File::create(at.join("err")).unwrap())
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let patience = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < patience, "RabbitMQ did not start: {}", std::fs::read_to_string(at.join("out")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it with -9.
    pub fn down(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().unwrap();
        }
    }

    /// Runs a command of its own against it.
    pub fn control(&self, arguments: &[&str]) {
        let at = self.folder.path();
        let script = Path::new(&server()).with_file_name("rabbitmqctl");
        let done = Command::new(script)
            .args(["-n", &format!("chatflow{}@localhost", self.port)])
            .args(arguments)
            .envs([("HOME", at), ("RABBITMQ_LOG_BASE", &at.join("log"))])
            .envs([("RABBITMQ_CONF_ENV_FILE", "/dev/null"), ("ERL_EPMD_ADDRESS", "127.0.0.1")])
            .env("ERL_EPMD_PORT", self.ports[0].to_string())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Where its data is; copy it while it is down.
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.down();
    }
}

/// A prefix that no other case has.
pub fn prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("case{}", NEXT.fetch_add(1, Relaxed))
}

fn server() -> String {
    let folders = std::fs::read_dir("/usr/lib/rabbitmq/lib").expect("RabbitMQ is installed: apt-get install rabbitmq-server");
    let scripts = folders.filter_map(|folder| Some(folder.ok()?.path().join("sbin/rabbitmq-server")));
    scripts.into_iter().find(|script| Path::exists(script)).unwrap().to_str().unwrap().to_owned()
}
