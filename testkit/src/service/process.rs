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
        let own = self.pid().as_raw();
        let mut all = marked(&self.mark);
        // Redis writes its title over its environment.
        if !all.contains(&own) && !self.has_ended() {
            all.push(own);
        }
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

    /// Stops it and its group where they are; nothing of it runs once this returns.
    pub(super) fn freeze(&self) {
        let _ = killpg(self.pid(), Signal::SIGSTOP);
        let begun = Instant::now();
        while !self.state().is_none_or(|state| "TZX".contains(state)) {
            assert!(begun.elapsed() < PATIENCE, "process {} does not stop", self.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        let _ = killpg(self.pid(), Signal::SIGCONT);
    }

    /// The letter in the kernel's table.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // While it has not been waited for, nobody else can have its number.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.note);
        let begun = Instant::now();
        loop {
            let left = marked(&self.mark);
            if left.is_empty() || begun.elapsed() > PATIENCE {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
