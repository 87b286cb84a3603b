//! `chatflow-server export` and `import`: the history as JSON lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chatflow_core::archive::{Export, Import, Imported, LONGEST_LINE};

use crate::config::{Config, ConfigError};
use crate::failed::Failed;
use crate::wiring;

/// How often progress is told: at a terminal, where a line is written over, and elsewhere.
const AT_A_TERMINAL: Duration = Duration::from_millis(200);
const IN_A_PIPE: Duration = Duration::from_secs(10);

/// Writes the history to `out`, standard output when it is `-`. A file is there once it is whole.
///
/// # Errors
/// The store can't be read, or the file not be written.
pub(crate) async fn export(config: &Config, room: Option<&str>, out: &Path) -> Result<(), Failed> {
    let room = room.map(|name| chatflow_core::RoomId::new(name).map_err(|error| ConfigError::line(format!("--room {name:?}: {error}"))));
    let room = room.transpose()?;
    let store = wiring::lasting_store(&config.store).await?;
    let mut export = match room {
        Some(room) => Export::begin_room(store.clone(), config.broker.logs, room).await?,
        None => Export::begin(store.clone(), config.broker.logs).await?,
    };
    let mut sink = Sink::create(out)?;
    let mut progress = Progress::begin();
    while let Some(lines) = export.next().await? {
        sink.write(lines.as_bytes())?;
        progress.tell(|| format!("{} messages", export.messages()));
    }
    sink.finish()?;
    store.close().await?;
    progress.end(&format!("{} messages were exported", export.messages()));
    Ok(())
}

/// Reads lines from `from`, standard input when it is `-`, into the history.
///
/// # Errors
/// The store can't be written, a line is none, or something was left out.
pub(crate) async fn import(config: &Config, from: &Path) -> Result<(), Failed> {
    let input: Box<dyn Read> = match from == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(from).map_err(|error| ConfigError::line(format!("{}: {error}", from.display())))?),
    };
    let store = wiring::lasting_store(&config.store).await?;
    let mut import = Import::new(store.clone(), config.broker.logs, format!("import-{}", std::process::id()));
    let mut progress = Progress::begin();
    let done = lines(&mut import, input, &mut progress).await;
    let so_far = import.so_far().clone();
    let report = match done {
        Ok(()) => import.finish().await.map_err(Failed::from),
        Err(failed) => {
            // What came before the line at fault is good, and the lease is not to be waited for.
            let finished = import.finish().await;
            let kept = finished.map_or(so_far.messages, |report| report.messages);
            Err(format!("{failed}; {kept} messages before it were imported, and importing again goes on there").into())
        }
    };
    let closed = store.close().await;
    let report = report?;
    closed?;
    progress.end(&summary(&report));
    if report.conflicts + report.behind > 0 { Err(left_out(&report).into()) } else { Ok(()) }
}

async fn lines(import: &mut Import, input: Box<dyn Read>, progress: &mut Progress) -> Result<(), Failed> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut input).take(LONGEST_LINE as u64 + 2).read_until(b'\n', &mut line);
        if read.map_err(|error| format!("the archive can't be read: {error}"))? == 0 {
            return Ok(());
        }
        let text = std::str::from_utf8(&line).map_err(|_| "the archive is not UTF-8".to_owned())?;
        import.line(text.trim_end()).await?;
        progress.tell(|| format!("{} messages, {} repeats", import.so_far().messages, import.so_far().repeats));
    }
}

fn summary(report: &Imported) -> String {
    format!("{} messages were imported, {} were there already", report.messages, report.repeats)
}

fn left_out(report: &Imported) -> String {
    let places: Vec<_> = report.left_out.iter().map(|(log, position)| format!("{position} of log {log}")).collect();
    format!(
        "{} messages were left out: {} stand where the history has gone past and is without them, {} have the id of another message; first {}",
        report.behind + report.conflicts,
        report.behind,
        report.conflicts,
        places.join(", ")
    )
}

/// Where an export goes.
#[derive(Debug)]
pub(crate) struct Sink {
    out: Out,
}

#[derive(Debug)]
enum Out {
    Standard(io::Stdout),
    File { file: BufWriter<File>, unfinished: PathBuf, path: PathBuf },
}

impl Sink {
    /// The file at `path`, which is called `path.unfinished` until it is whole; standard output for `-`.
    ///
    /// # Errors
    /// No file can be made there.
    pub(crate) fn create(path: &Path) -> Result<Self, String> {
        if path == Path::new("-") {
            return Ok(Self { out: Out::Standard(io::stdout()) });
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let unfinished = PathBuf::from(unfinished);
        let file = File::create(&unfinished).map_err(|error| format!("{}: {error}", unfinished.display()))?;
        Ok(Self { out: Out::File { file: BufWriter::new(file), unfinished, path: path.to_owned() } })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let wrote = match &mut self.out {
            Out::Standard(out) => out.write_all(bytes),
            Out::File { file, .. } => file.write_all(bytes),
        };
        wrote.map_err(|error| format!("what was exported can't be written: {error}"))
    }

    /// Sees to it that everything is on the disk, under its name.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn finish(self) -> Result<(), String> {
        let done = match self.out {
            Out::Standard(mut out) => out.flush(),
            Out::File { file, unfinished, path } => file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| {
                file.sync_all()?;
                std::fs::rename(&unfinished, &path)?;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                File::open(folder)?.sync_all()
            }),
        };
        done.map_err(|error| format!("what was exported can't be written: {error}"))
    }
}

/// What is told while it goes on, on the error output.
struct Progress {
    terminal: bool,
    told: Instant,
}

impl Progress {
    fn begin() -> Self {
        Self { terminal: io::stderr().is_terminal(), told: Instant::now() }
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        if self.told.elapsed() < if self.terminal { AT_A_TERMINAL } else { IN_A_PIPE } {
            return;
        }
        self.told = Instant::now();
        let (before, after) = if self.terminal { ("\r", "\x1b[K") } else { ("", "\n") };
        // Nobody may be looking.
        let _ = write!(io::stderr(), "{before}{}{after}", text());
    }

    fn end(&self, text: &str) {
        let before = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(io::stderr(), "{before}{text}");
    }
}
