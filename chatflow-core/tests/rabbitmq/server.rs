//! A private RabbitMQ: on free ports, with its data in a temporary folder, killed with the test's process however that ends.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Starts it with the port mapper that it needs, and kills all that is of it when it is told to, however far it has come. At the end of its
/// own input, whoever holds the other end is gone, and its files go too.
const GUARD: &str = r#"
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
"$SERVER" </dev/null &
read -r _; told=$?
for file in $(grep -lz "^RABBITMQ_PID_FILE=$RABBITMQ_PID_FILE\$" /proc/[0-9]*/environ 2>/dev/null); do
    file=${file%/environ}
    [ "${file#/proc/}" = $$ ] || kill -9 "${file#/proc/}"
done 2>/dev/null
wait
[ "$told" -eq 0 ] || rm -rf "$HOME"
"#;

/// One server, with the user `guest`.
#[derive(Debug)]
pub(crate) struct Rabbit {
    pub(crate) port: u16,
    /// Of the mapper, and of Erlang's distribution.
    ports: [u16; 2],
    folder: TempDir,
    running: Mutex<Option<Child>>,
}

impl Rabbit {
    /// One that does not run yet.
    pub(crate) fn new() -> Self {
        // All are held until all are known, so that no two are the same.
        let held = [(); 3].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let [port, mapper, distribution] = held.each_ref().map(|held| held.local_addr().unwrap().port());
        Self { port, ports: [mapper, distribution], folder: TempDir::with_prefix("rabbit").unwrap(), running: Mutex::default() }
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// Starts it on the data that are there, unless it runs.
    pub(crate) async fn begin(&self) {
        if self.running.lock().is_none() {
            let guard = self.spawn();
            *self.running.lock() = Some(guard);
        }
        let begun = Instant::now();
        while !matches!(timeout(Duration::from_secs(5), self.has_streams()).await, Ok(Ok(()))) || !self.keeps_streams() {
            assert!(begun.elapsed() < Duration::from_secs(300), "RabbitMQ does not start: {}", self.said());
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// It writes down half a second later that it has streams at all. Killed before that, it never finds them again.
    fn keeps_streams(&self) -> bool {
        let name = self.name();
        let notes = self.data().join(&name).join("coordination").join(&name).join("names.dets");
        let written = fs::read(notes).unwrap_or_default();
        String::from_utf8_lossy(&written).contains("rabbit_stream_coordinator")
    }

    fn spawn(&self) -> Child {
        let at = self.folder.path();
        let [mapper, distribution] = self.ports;
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nlog.console = false\n\
             vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 20MB\n",
            self.port
        );
        fs::write(at.join("rabbitmq.conf"), settings).unwrap();
        fs::write(at.join("plugins"), "[].").unwrap();
        let _ = fs::remove_file(at.join("pid"));
        self.command("sh")
            .args(["-c", GUARD])
            .env("SERVER", script("rabbitmq-server"))
            .envs([("RABBITMQ_MNESIA_BASE", self.data()), ("RABBITMQ_PID_FILE", at.join("pid"))])
            .envs([("RABBITMQ_CONFIG_FILE", at.join("rabbitmq.conf")), ("RABBITMQ_ENABLED_PLUGINS_FILE", at.join("plugins"))])
            .env("RABBITMQ_NODENAME", self.name())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}")
            .env("ERL_EPMD_PORT", mapper.to_string())
            .stdin(Stdio::piped())
            .stdout(fs::File::create(at.join("said")).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh")
    }

    /// A program in the server's environment.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let at = self.folder.path();
        let mut command = Command::new(program);
        command.envs([("HOME", at), ("RABBITMQ_LOG_BASE", &at.join("log"))]);
        command.envs([("RABBITMQ_CONF_ENV_FILE", "/dev/null"), ("ERL_EPMD_ADDRESS", "127.0.0.1")]);
        command.env("ERL_EPMD_PORT", self.ports[0].to_string());
        command
    }

    /// Declares a stream that stays there: RabbitMQ lets clients in some time before it has its streams.
    async fn has_streams(&self) -> lapin::Result<()> {
        let connection = Connection::connect(&self.url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("test".into(), options, arguments).await?;
        connection.close(200, "done".into()).await
    }

    /// Kills it as a crash would.
    pub(crate) fn kill(&self) {
        if let Some(mut guard) = self.running.lock().take() {
            guard.stdin.take().unwrap().write_all(b"kill\n").unwrap();
            guard.wait().unwrap();
        }
    }

    /// Has `rabbitmqctl` do something to it.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let done = self.command(script("rabbitmqctl")).args(["-n", &self.name()]).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// A copy of its data, while it does not run.
    pub(crate) fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        copy_folder(&self.data(), copy.path());
        copy
    }

    /// Throws its data away, while it does not run.
    pub(crate) fn forget(&self) {
        fs::remove_dir_all(self.data()).unwrap();
    }

    /// Puts a copy in place of its data, while it does not run.
    pub(crate) fn put(&self, copy: &Path) {
        self.forget();
        copy_folder(copy, &self.data());
    }

    fn name(&self) -> String {
        format!("chatflow{}@localhost", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it said, and the last lines of its log.
    fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let log = read(&format!("log/{}.log", self.name()));
        let from = log.lines().count().saturating_sub(20);
        format!("{}\n{}", read("said"), log.lines().skip(from).collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A copy that keeps times and rights: RabbitMQ does not take a cookie that others may read.
fn copy_folder(from: &Path, into: &Path) {
    assert!(Command::new("cp").arg("-aT").args([from, into]).status().unwrap().success());
}

/// One of RabbitMQ's own scripts. Debian's, in the path, change to the user of the system's service.
fn script(name: &str) -> PathBuf {
    let folders = fs::read_dir("/usr/lib/rabbitmq/lib").expect("RabbitMQ is installed: apt-get install rabbitmq-server");
    let scripts = folders.filter_map(|folder| Some(folder.ok()?.path().join("sbin").join(name)));
    scripts.into_iter().find(|script| script.is_file()).expect("RabbitMQ's scripts")
}
