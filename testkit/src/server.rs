//! The real server, in a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::{DatabaseLock, Port, eventually};

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Options(Vec<String>);

impl Options {
    /// As the server is by default.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a setting of the configuration, such as `broker.entries`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.0.extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// On a broker, by its URL.
    #[must_use]
    pub fn broker(self, url: impl Into<String>) -> Self {
        self.flag("--broker", url)
    }

    /// With a history elsewhere than in a file of its own, by its URL.
    #[must_use]
    pub fn store(self, url: impl Into<String>) -> Self {
        self.flag("--store", url)
    }

    /// Under a name.
    #[must_use]
    pub fn node(self, id: impl Into<String>) -> Self {
        self.flag("--node-id", id)
    }

    fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.extend([name.to_owned(), value.into()]);
        self
    }
}

/// A server with a folder and a [port](Port) of its own, which it keeps over restarts. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    options: Options,
    _port: Port,
    folder: TempDir,
    child: Child,
}

impl Server {
    /// Starts one; it listens once this returns.
    ///
    /// # Panics
    /// There is no such program, or it does not start.
    pub fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::free();
        let address = port.address();
        match launch(&folder, address, &options) {
            Ok(child) => Self { address, options, _port: port, folder, child },
            Err(line) => panic!("the server said {line:?} and logged {}", read_log(&folder)),
        }
    }

    /// What a server says on its error output that does not start, and the code that it ends with.
    ///
    /// # Panics
    /// There is no such program.
    pub fn refused(options: &Options) -> (Option<i32>, String) {
        let folder = tempfile::tempdir().unwrap();
        let output = command(&folder).args(["--listen", "127.0.0.1:0"]).args(&options.0).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts it again, after its end: the same port, the same database.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        let launched = launch(&self.folder, self.address, &self.options);
        self.child = launched.unwrap_or_else(|line| panic!("the server said {line:?} and logged {}", self.log()));
    }

    /// Ends it as a crash does: nothing is flushed, nothing is said.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it where it is: connections stay, nothing is answered.
    pub fn freeze(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGSTOP).unwrap();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGCONT).unwrap();
    }

    /// Asks it to drain and end.
    pub fn terminate(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        eventually("the server ends", within, || self.child.try_wait().unwrap()).await
    }

    /// Everything that it has logged, over all restarts.
    pub fn log(&self) -> String {
        read_log(&self.folder)
    }

    /// Its address for the client library.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.folder.path().join("chatflow.db")
    }

    /// Asks for a path.
    pub async fn get(&self, path: &str) -> Response {
        http::get(self.address, path).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// One figure of `/metrics`, by its JSON name.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// The number of its process.
    pub fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Bytes of memory that it occupies.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Runs the program once more, in the same folder, with this on its input; what it said.
    ///
    /// # Panics
    /// It failed.
    pub fn run(&self, args: &[&str], input: &str) -> String {
        let mut child = command(&self.folder).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{args:?}: {:?}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Takes the write lock of its file.
    pub fn lock_database(&self) -> DatabaseLock {
        DatabaseLock::of_file(&self.database())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// Lets this process open as many files as the system allows: each connection is one.
pub fn raise_file_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

/// The program: `$CHATFLOW_SERVER`, or beside the tests.
fn program() -> PathBuf {
    let named = std::env::var_os("CHATFLOW_SERVER").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap();
        test.ancestors().nth(2).unwrap().join("chatflow-server")
    });
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    assert!(path.is_file(), "{} is not there: build it with `cargo build{release} -p chatflow-server`", path.display());
    path
}

/// The program in its folder, without what the environment of whoever runs the tests says.
fn command(folder: &TempDir) -> Command {
    let mut command = Command::new(program());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHATFLOW_")) {
        command.env_remove(name);
    }
    // Nor their credentials: the emulator takes any.
    command.envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
    command.current_dir(folder.path());
    command
}

/// Runs the program until it says that it listens; otherwise what it said.
fn launch(folder: &TempDir, address: SocketAddr, options: &Options) -> Result<Child, String> {
    let mut command = command(folder);
    let log = File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
    command.args(["--listen", &address.to_string()]).args(&options.0).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    if line.contains(&format!("listening on {address}")) {
        return Ok(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(line)
}

fn read_log(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
}
