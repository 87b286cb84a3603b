//! One process of a service, and whatever it starts.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::watch::{MARK, Run, marked};

/// How long the kernel may take to end or stop a process.
const PATIENCE: Duration = Duration::from_secs(10);

/// A process that leads a group of its own. Killed when dropped, with its group and everything that carries its mark.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    mark: String,
    note: PathBuf,
}

impl Process {
    /// Starts it; what it says goes to the end of `log`.
    pub(super) fn spawn(mut command: Command, log: &File) -> Self {
        let mark = Run::this().mark();
        command.env(MARK, &mark).process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log.try_clone().unwrap());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let note = Run::this().note(child.id() as i32);
        File::create(&note).unwrap();
        Self { child, mark, note }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// It, and what it has started and is not a zombie.
    pub(super) fn all(&self) -> Vec<i32> {
        let mut all = marked(&self.mark);
        // Redis and PostgreSQL write their titles over their marks.
        let unmarked = [self.pid()].into_iter().chain(children(self.pid())).filter(|pid| lives(*pid));
        all.extend(unmarked.map(Pid::as_raw));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether it has ended. It is not taken from the kernel's table by that, so its number remains its own.
    pub(super) fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.pid()), flags), Ok(WaitStatus::StillAlive))
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
    }

    /// Stops it, its group and its children where they are; nothing of it runs once this returns.
    pub(super) fn freeze(&self) {
        let children = self.stop_starting();
        for pid in &children {
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        for pid in [self.pid()].into_iter().chain(children) {
            assert!(stops(pid), "process {pid} does not stop");
        }
    }

    /// Stops it and its group, so that it starts nothing more, and tells its children: PostgreSQL's have groups of their own.
    fn stop_starting(&self) -> Vec<Pid> {
        let _ = killpg(self.pid(), Signal::SIGSTOP);
        stops(self.pid());
        children(self.pid())
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        for child in children(self.pid()) {
            let _ = kill(child, Signal::SIGCONT);
        }
        let _ = killpg(self.pid(), Signal::SIGCONT);
    }
}

/// Waits until it has stopped, or ended; whether it did.
fn stops(pid: Pid) -> bool {
    let begun = Instant::now();
    while !stat(pid).is_none_or(|(state, _)| "TZX".contains(state)) {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Whether it is there, and more than a line in its parent's books.
fn lives(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| !"ZX".contains(state))
}

/// The processes that it has started itself.
fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    processes.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// The letter of its state, and its parent, in the kernel's table.
fn stat(pid: Pid) -> Option<(char, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.chars().next()?, Pid::from_raw(words.next()?.parse().ok()?)))
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut unmarked = self.stop_starting();
        for pid in &unmarked {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        // While it has not been waited for, nobody else can have its number.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.note);
        let begun = Instant::now();
        loop {
            let left = marked(&self.mark);
            // Whoever is there still holds what a new start needs, such as PostgreSQL's memory.
            unmarked.retain(|pid| lives(*pid));
            if left.is_empty() && unmarked.is_empty() || begun.elapsed() > PATIENCE {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
