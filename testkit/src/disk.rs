//! A disk that is soon full.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::unistd::Uid;
use tempfile::TempDir;

/// Takes the disk away when its input ends, which it does with the test's process however that ends.
const SCRIPT: &str = r#"mount -t tmpfs -o "size=$2m" tmpfs "$1" && echo mounted && cat && umount -l "$1""#;

/// A file system of a few MiB in memory. A process holds it, and takes it away when it is dropped or the test ends.
#[derive(Debug)]
pub struct Disk {
    holder: Child,
    folder: TempDir,
}

impl Disk {
    /// Why there can't be one here, if there can't.
    pub fn missing() -> Option<String> {
        if !Uid::effective().is_root() {
            return Some("only root may mount a small disk".into());
        }
        let mut trial = Command::new("unshare");
        trial.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mounts = trial.status().is_ok_and(|status| status.success());
        (!mounts).then(|| "nothing can be mounted here".into())
    }

    /// One of `mib` MiB, empty.
    ///
    /// # Panics
    /// It is [`missing`](Self::missing).
    pub fn of(mib: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut holder = Command::new("sh");
        holder.args(["-c", SCRIPT, "sh"]).arg(folder.path()).arg(mib.to_string());
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n");
        Self { holder, folder }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        let mut filling = fs::File::options().create(true).append(true).open(self.filling()).unwrap();
        let piece = [0; 1024];
        while filling.write(&piece).is_ok_and(|written| written > 0) {}
    }

    /// Gives the room back that [`fill`](Self::fill) took.
    pub fn free(&self) {
        let _ = fs::remove_file(self.filling());
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
