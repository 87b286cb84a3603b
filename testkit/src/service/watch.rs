//! What a test process leaves behind when it is ended in the middle, or keeps a service in a `static`: somebody waits for its end and
//! clears up.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use uuid::Uuid;

/// The variable in the environment of everything that a service consists of, however it forks: `<this run>/<which service>`.
pub(super) const MARK: &str = "CHATFLOW_TESTKIT";

/// Sees the end of its input when the process that started it is gone, then ends what is still there and removes its files.
const SCRIPT: &str = r#"
while read -r _; do :; done
for group in "$1"/groups/*; do kill -KILL "-${group##*/}" 2>/dev/null; done
for file in $(grep -lz "^$2" /proc/[0-9]*/environ 2>/dev/null); do file=${file%/environ}; kill -KILL "${file#/proc/}"; done 2>/dev/null
rm -rf "$1"
"#;

/// What belongs to this process's services.
#[derive(Debug)]
pub(super) struct Run {
    folder: PathBuf,
    id: Uuid,
    /// Its standard input closes with this process.
    _watch: Child,
}

impl Run {
    /// This process's.
    pub(super) fn this() -> &'static Self {
        static RUN: OnceLock<Run> = OnceLock::new();
        RUN.get_or_init(|| {
            let id = Uuid::new_v4();
            // Erlang wants short paths: it makes sockets in them.
            let folder = std::env::temp_dir().join(format!("chatflow-{:.8}", id.simple().to_string()));
            fs::create_dir_all(folder.join("groups")).unwrap();
            let mut watch = Command::new("sh");
            watch.args(["-c", SCRIPT, "sh"]).arg(&folder).arg(format!("{MARK}={id}/"));
            // In a group of its own, so that Ctrl-C does not end it too.
            watch.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            Self { folder, id, _watch: watch.spawn().unwrap() }
        })
    }

    /// A new, empty folder.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(format!("{name}-{:.8}", Uuid::new_v4().simple().to_string()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// The mark of a new service.
    pub(super) fn mark(&self) -> String {
        format!("{}/{:.8}", self.id, Uuid::new_v4().simple().to_string())
    }

    /// Where a process group is noted while it is there.
    pub(super) fn note(&self, group: i32) -> PathBuf {
        self.folder.join("groups").join(group.to_string())
    }
}

/// The living processes that carry a mark.
pub(super) fn marked(mark: &str) -> Vec<i32> {
    let line = format!("{MARK}={mark}");
    let carries =
        |folder: &Path| fs::read(folder.join("environ")).is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == line.as_bytes()));
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        carries(&path).then_some(pid)
    });
    processes.collect()
}
