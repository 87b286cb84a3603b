//! Copies of the history, every now and then.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chatflow_core::archive::Export;
use chatflow_core::{Component, Engine, LogId, MessageStore, Timestamp};
use parking_lot::Mutex;

use crate::archive::Sink;
use crate::config::{BackupSection, Config};

/// How often it is looked whether one is due, at least.
const LOOK: Duration = Duration::from_secs(1);

/// How long after a failure it is tried again; twice as long after each, up to a few minutes.
const RETRY: Duration = Duration::from_secs(5);

const PREFIX: &str = "chatflow-";
const SUFFIX: &str = ".jsonl";

/// Writes the history to files in a folder, on whichever node writes log 0: where nodes share a store, that is one of them, and should
/// two take themselves for it for a moment, there are two copies.
#[derive(Debug)]
pub(crate) struct Backups {
    section: BackupSection,
    logs: u16,
    engine: Engine,
    store: Arc<dyn MessageStore>,
    last: Mutex<Option<Result<Timestamp, String>>>,
}

impl Backups {
    /// `None`: none are made.
    pub(crate) fn new(config: &Config, engine: Engine, store: Option<Arc<dyn MessageStore>>) -> Option<Arc<Self>> {
        let store = store.filter(|_| !config.backup.every.is_zero())?;
        let (section, logs) = (config.backup.clone(), config.broker.logs);
        Some(Arc::new(Self { section, logs, engine, store, last: Mutex::default() }))
    }

    /// Makes one whenever it is due. Ends when it is dropped; what is not finished then is no copy.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut failures = 0u32;
        loop {
            let wait = match self.due() {
                Some(Duration::ZERO) => match self.make().await {
                    Ok(()) => {
                        failures = 0;
                        Duration::ZERO
                    }
                    Err(error) => {
                        tracing::error!(%error, "the history could not be copied");
                        *self.last.lock() = Some(Err(error));
                        failures += 1;
                        RETRY * 2u32.saturating_pow(failures.min(6))
                    }
                },
                Some(until) => until.min(LOOK),
                None => LOOK,
            };
            tokio::time::sleep(wait.max(Duration::from_millis(100))).await;
        }
    }

    /// How long until the next one; `None` where another node makes them. The files say when the last was made, whoever made it.
    fn due(&self) -> Option<Duration> {
        if !self.engine.writes(LogId(0)) {
            return None;
        }
        let newest = files(Path::new(&self.section.dir)).into_iter().next_back();
        let made = newest.and_then(|path| path.metadata().ok()?.modified().ok());
        let age = made.map(|made| SystemTime::now().duration_since(made).unwrap_or_default());
        Some(age.map_or(Duration::ZERO, |age| self.section.every.saturating_sub(age)))
    }

    async fn make(&self) -> Result<(), String> {
        let folder = PathBuf::from(&self.section.dir);
        let now = Timestamp::now();
        let path = folder.join(format!("{PREFIX}{}{SUFFIX}", now.to_string().replace([':', '.'], "-")));
        let target = path.clone();
        let mut sink = aside(move || {
            std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            remove_unfinished(&folder);
            Sink::create(&target)
        })
        .await?;
        let mut export = Export::begin(Arc::clone(&self.store), self.logs).await.map_err(|error| error.to_string())?;
        while let Some(lines) = export.next().await.map_err(|error| error.to_string())? {
            sink = aside(move || sink.write(lines.as_bytes()).map(|()| sink)).await?;
        }
        let (folder, keep) = (PathBuf::from(&self.section.dir), self.section.keep);
        aside(move || {
            sink.finish()?;
            let files = files(&folder);
            for old in &files[..files.len().saturating_sub(keep)] {
                std::fs::remove_file(old).map_err(|error| format!("{}: {error}", old.display()))?;
            }
            Ok(())
        })
        .await?;
        tracing::info!(file = %path.display(), messages = export.messages(), "the history was copied");
        *self.last.lock() = Some(Ok(now));
        Ok(())
    }

    /// What became of the last one, for `/ready`.
    pub(crate) fn component(&self) -> Component {
        let (healthy, detail) = match &*self.last.lock() {
            None => (true, "none made by this node yet".to_owned()),
            Some(Ok(at)) => (true, format!("the last was made at {at}")),
            Some(Err(error)) => (false, error.clone()),
        };
        Component { name: "backup", healthy, detail }
    }
}

/// Does what waits for a disk where nobody waits for it.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

/// The copies in a folder, the oldest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = named(folder, SUFFIX);
    files.sort();
    files
}

/// What a node that ended in the middle of it left behind.
fn remove_unfinished(folder: &Path) {
    for file in named(folder, &format!("{SUFFIX}.unfinished")) {
        if let Err(error) = std::fs::remove_file(&file) {
            tracing::warn!(%error, file = %file.display(), "an unfinished copy can't be removed");
        }
    }
}

fn named(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(suffix))
        })
        .collect()
}
