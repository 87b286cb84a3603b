//! Services that tests start for themselves: on ports of their own, with their data in a temporary folder, ended with the test.

mod account;
mod haproxy;
mod mariadb;
mod mysql;
mod postgres;
mod process;
mod rabbitmq;
mod redis;
mod sqs;
mod watch;

use std::fmt::Debug;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;

pub use haproxy::HaProxy;
pub use mariadb::MariaDb;
pub use mysql::MySql;
pub use postgres::Postgres;
use process::Process;
pub use rabbitmq::RabbitMq;
pub use redis::{Redis, RedisCluster};
pub use sqs::Sqs;
use watch::Run;

use crate::eventually_async;

/// How long a service may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(20);

/// What a service is made of.
#[async_trait]
pub trait Program: Debug + Send + Sync + 'static {
    /// Its name, as in `skipped: redis`.
    fn name(&self) -> &'static str;

    /// What this machine lacks to run it.
    fn missing() -> Option<String>
    where
        Self: Sized;

    /// Where clients connect, one address a process that takes any.
    fn addresses(&self) -> Vec<SocketAddr>;

    /// Its URL, for `--broker`, when it is reached at these addresses.
    fn url(&self, addresses: &[SocketAddr]) -> String;

    /// How each of its processes is started: in `folder`, where files of configuration may be written, with data under `folder/data`.
    fn commands(&self, folder: &Path) -> Vec<Command>;

    /// Whether it does its work.
    async fn answers(&self) -> bool;

    /// What is to be done once after a start without data.
    async fn found(&self) {}

    /// How long a start may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Whether its data outlive it.
    fn keeps_data(&self) -> bool {
        true
    }
}

/// Whether tests can use a service here. If not, says so where it is seen even though the test passes.
///
/// # Panics
/// It is missing in CI, where nothing may be.
pub fn can_use<P: Program>() -> bool {
    let missing = P::missing();
    if let Some(missing) = &missing {
        crate::skip(missing);
    }
    missing.is_none()
}

/// Leaves a test that needs services which this machine does not have: `needs!(Redis, RabbitMq);`.
#[macro_export]
macro_rules! needs {
    ($($program:ty),+ $(,)?) => {
        if !($($crate::can_use::<$program>())&&+) {
            return;
        }
    };
}

/// A running service. Whatever is done to it, its addresses stay. Everything of it is killed and removed when it is dropped, or when
/// the test's process ends in any other way.
#[derive(Debug)]
pub struct Service {
    program: Box<dyn Program>,
    folder: PathBuf,
    processes: Mutex<Vec<Option<Process>>>,
}

/// A copy of a service's data, as a crash at that moment would have left them. Removed when dropped.
#[derive(Debug)]
pub struct Snapshot(PathBuf);

impl Service {
    /// Starts one; it does its work once this returns.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_new<P: Program>(program: P) -> Self {
        let folder = Run::this().folder(program.name());
        fs::create_dir(folder.join("data")).unwrap();
        let service = Self { program: Box::new(program), folder, processes: Mutex::default() };
        service.start().await;
        service
    }

    /// What it is: `redis`, say.
    pub fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Its URL, for `--broker`.
    pub fn url(&self) -> String {
        self.program.url(&self.addresses())
    }

    /// The same when it is reached through somebody else, such as a [`Proxy`](crate::Proxy).
    pub fn url_through(&self, addresses: &[SocketAddr]) -> String {
        self.program.url(addresses)
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.program.addresses()
    }

    /// Where clients connect, the first.
    pub fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// Whether its data outlive it. If not, every restart is a [`wipe`](Self::wipe).
    pub fn keeps_data(&self) -> bool {
        self.program.keeps_data()
    }

    /// The numbers of its living processes, and of those that they started.
    pub fn processes(&self) -> Vec<i32> {
        self.processes.lock().iter().flatten().flat_map(Process::all).collect()
    }

    /// Everything that it has logged, over all restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    /// Starts what of it does not run, on the data that are there; it does its work once this returns.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start(&self) {
        let is_new = fs::read_dir(self.data()).unwrap().next().is_none();
        self.spawn();
        if is_new {
            self.program.found().await;
        }
        let what = format!("{} does its work", self.program.name());
        eventually_async(&what, self.program.patience(), || async {
            self.check();
            self.program.answers().await.then_some(())
        })
        .await;
    }

    /// Starts what does not run, and waits for nothing.
    fn spawn(&self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let commands = self.program.commands(&self.folder);
        let mut processes = self.processes.lock();
        processes.resize_with(commands.len(), || None);
        for (slot, mut command) in processes.iter_mut().zip(commands) {
            if slot.is_none() {
                command.current_dir(&self.folder);
                *slot = Some(Process::spawn(command, &log));
            }
        }
    }

    /// Panics if it has ended by itself.
    fn check(&self) {
        let ended = self.processes.lock().iter().flatten().any(Process::has_ended);
        assert!(!ended, "{} has ended", self.program.name());
    }

    /// Asks it to end, and waits for that; what does not end is killed.
    pub async fn stop(&self) {
        // The last first: it uses those before.
        loop {
            let Some(last) = self.processes.lock().pop() else { break };
            let Some(process) = last else { continue };
            process.thaw();
            process.terminate();
            let begun = Instant::now();
            while !process.has_ended() && begun.elapsed() < FAREWELL {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Ends it as a crash does.
    pub fn kill9(&self) {
        self.processes.lock().clear();
    }

    /// Ends one of its processes as a crash does; [`start`](Self::start) brings it back.
    pub fn kill9_one(&self, which: usize) {
        self.processes.lock()[which] = None;
    }

    /// Stops it and starts it again.
    pub async fn restart(&self) {
        self.stop().await;
        self.start().await;
    }

    /// Stops it where it is: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.processes.lock().iter().flatten().for_each(Process::freeze);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.processes.lock().iter().flatten().for_each(Process::thaw);
    }

    /// Stops it, forgets its data, and starts it again.
    pub async fn wipe(&self) {
        self.kill9();
        fs::remove_dir_all(self.data()).unwrap();
        fs::create_dir(self.data()).unwrap();
        self.start().await;
    }

    /// A copy of its data as they are, running or not.
    ///
    /// # Panics
    /// Its data are nowhere: see [`keeps_data`](Self::keeps_data).
    pub fn snapshot(&self) -> Snapshot {
        assert!(self.keeps_data(), "{} keeps its data in memory", self.program.name());
        let copy = Run::this().folder("snapshot");
        let processes = self.processes.lock();
        processes.iter().flatten().for_each(Process::freeze);
        copy_folder(&self.data(), &copy);
        processes.iter().flatten().for_each(Process::thaw);
        Snapshot(copy)
    }

    /// Kills it, puts a copy in place of its data, and starts it again.
    pub async fn restore(&self, snapshot: &Snapshot) {
        self.kill9();
        fs::remove_dir_all(self.data()).unwrap();
        fs::create_dir(self.data()).unwrap();
        copy_folder(&snapshot.0, &self.data());
        self.start().await;
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("the end of the log of {}:\n{}", self.program.name(), lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies what is in a folder into another.
fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&to).unwrap();
            copy_folder(&entry.path(), &to);
        } else if kind.is_file() {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The path of a program: also where a user who is not root does not look.
fn path_of(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// That one of these programs is not there, and what it comes with.
fn lacks(programs: &[&str], package: &str) -> Option<String> {
    let missing = programs.iter().find(|name| path_of(name).is_none())?;
    Some(format!("there is no {missing} (apt-get install {package})"))
}
