//! Dead letters in a file of JSON lines, which works when the store does not.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{MOST, full};
use crate::store::exclusive::Exclusive;
use crate::store::{DeadLetter, DeadLetters};
use crate::{Error, ErrorKind, LogId, Position, Result};

const ORIGIN: &str = "dead letters";

/// [`DeadLetters`] in one file: a line of JSON for each letter and for each that was discarded, synced before a call returns.
///
/// A line that a crash cut short is dropped when the file is opened: its put never returned. Opening also rewrites a file
/// that holds discarded letters. In memory there is only where each letter stands. The file belongs to one process.
#[derive(Debug)]
pub struct FileDeadLetters {
    /// Held for the length of a call, on a thread that may block.
    shelf: Arc<Mutex<Shelf>>,
}

/// Where the line of each letter begins and how long it is, in bytes.
type Lines = BTreeMap<(LogId, Position), (u64, usize)>;

#[derive(Debug)]
struct Shelf {
    path: PathBuf,
    file: File,
    /// How long the file is as far as its lines are known to be whole and synced.
    length: u64,
    lines: Lines,
    _lock: Exclusive,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", bound(deserialize = "L: Deserialize<'de>"))]
enum Line<L> {
    Put(L),
    Discard { log: u16, position: Position },
}

impl FileDeadLetters {
    /// Opens the file at `path`, creating it if need be.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when another process uses it; [`ErrorKind::Corrupt`] when a line in it is no letter, naming the
    /// line; [`ErrorKind::Unavailable`] when it can't be read or written.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let shelf = blocking(move || Shelf::open(path)).await?;
        Ok(Self { shelf: Arc::new(Mutex::new(shelf)) })
    }

    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Shelf) -> Result<T> + Send + 'static) -> Result<T> {
        let shelf = self.shelf.clone();
        blocking(move || work(&mut shelf.lock())).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "it panicked").with_source(error))?
}

impl Shelf {
    fn open(path: PathBuf) -> Result<Self> {
        let lock = Exclusive::lock(&path, ORIGIN)?;
        let failed = |error| unavailable(&path, error);
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
        let (mut lines, length, discarded) = scan(&path, &file)?;
        if discarded {
            (file, lines) = compact(&path, &mut file, &lines).map_err(failed)?;
        } else {
            file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        sync_folder(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Self { path, file, length, lines, _lock: lock })
    }

    fn put(&mut self, letters: &[DeadLetter]) -> Result<()> {
        let mut text = Vec::new();
        let mut added = BTreeMap::new();
        for letter in letters {
            let place = letter.place();
            if !self.lines.contains_key(&place) && !added.contains_key(&place) {
                let begin = text.len();
                append(&mut text, &Line::Put(letter))?;
                added.insert(place, (self.length + begin as u64, text.len() - begin));
            }
        }
        if self.lines.len() + added.len() > MOST {
            return Err(full(ORIGIN));
        }
        self.write(&text)?;
        self.lines.extend(added);
        Ok(())
    }

    fn list(&mut self, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut letters = Vec::new();
        for &(begin, length) in self.lines.range((from, Bound::Unbounded)).take(limit).map(|(_, line)| line) {
            let text = read_line(&mut self.file, begin, length).map_err(|error| unavailable(&self.path, error))?;
            match serde_json::from_slice(&text) {
                Ok(Line::Put(letter)) => letters.push(letter),
                Ok(Line::Discard { .. }) | Err(_) => {
                    let text = format!("the line at byte {begin} of {} is no letter any more", self.path.display());
                    return Err(Error::new(ErrorKind::Corrupt, ORIGIN, text));
                }
            }
        }
        Ok(letters)
    }

    fn discard(&mut self, log: LogId, position: Position) -> Result<bool> {
        if !self.lines.contains_key(&(log, position)) {
            return Ok(false);
        }
        let mut text = Vec::new();
        append(&mut text, &Line::<DeadLetter>::Discard { log: log.0, position })?;
        self.write(&text)?;
        self.lines.remove(&(log, position));
        Ok(true)
    }

    /// Appends `text` and syncs it. What a failed write left behind is cut off before the next, so a line is never torn
    /// in the middle of the file.
    fn write(&mut self, text: &[u8]) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let written = (|| {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(text)?;
            self.file.sync_data()
        })();
        written.map_err(|error| unavailable(&self.path, error))?;
        self.length += text.len() as u64;
        Ok(())
    }
}

/// Where each letter stands, how far the file's lines are whole, and whether any was discarded.
fn scan(path: &Path, file: &File) -> Result<(Lines, u64, bool)> {
    let mut reader = BufReader::new(file);
    let (mut lines, mut length, mut discarded) = (BTreeMap::new(), 0, false);
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).map_err(|error| unavailable(path, error))?;
        if text.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice::<Line<DeadLetter>>(&text) {
            Ok(Line::Put(letter)) => {
                lines.entry(letter.place()).or_insert((length, read));
            }
            Ok(Line::Discard { log, position }) => {
                lines.remove(&(LogId(log), position));
                discarded = true;
            }
            Err(error) => {
                let text = format!("line {number} of {} is no dead letter", path.display());
                return Err(Error::new(ErrorKind::Corrupt, ORIGIN, text).with_source(error));
            }
        }
        length += read as u64;
    }
    Ok((lines, length, discarded))
}

/// Writes the letters that are left into a new file and puts it in the place of the old.
fn compact(path: &Path, old: &mut File, lines: &Lines) -> io::Result<(File, Lines)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&name)?;
    let mut writer = BufWriter::new(file);
    let (mut moved, mut end) = (BTreeMap::new(), 0);
    for (place, &(begin, length)) in lines {
        writer.write_all(&read_line(old, begin, length)?)?;
        moved.insert(*place, (end, length));
        end += length as u64;
    }
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    file.sync_all()?;
    fs::rename(&name, path)?;
    Ok((file, moved))
}

fn read_line(file: &mut File, begin: u64, length: usize) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(begin))?;
    let mut text = vec![0; length];
    file.read_exact(&mut text)?;
    Ok(text)
}

/// A file's name is safe once its folder is synced. Elsewhere than on Unix a folder can't be opened, nor needs it.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn append<L: Serialize>(text: &mut Vec<u8>, line: &Line<L>) -> Result<()> {
    let written = serde_json::to_writer(&mut *text, line);
    written.map_err(|error| Error::new(ErrorKind::Internal, ORIGIN, "a letter can't be written as JSON").with_source(error))?;
    text.push(b'\n');
    Ok(())
}

fn unavailable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, ORIGIN, path.display().to_string()).with_source(error)
}

#[async_trait]
impl DeadLetters for FileDeadLetters {
    async fn put(&self, letters: &[DeadLetter]) -> Result<()> {
        let letters = letters.to_vec();
        self.with(move |shelf| shelf.put(&letters)).await
    }

    async fn list(&self, after: Option<(LogId, Position)>, limit: usize) -> Result<Vec<DeadLetter>> {
        self.with(move |shelf| shelf.list(after, limit)).await
    }

    async fn discard(&self, log: LogId, position: Position) -> Result<bool> {
        self.with(move |shelf| shelf.discard(log, position)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    fn letter(offset: u128) -> DeadLetter {
        let (id, at) = (crate::MessageId::nil(), Timestamp(0));
        DeadLetter { log: LogId(0), position: Position::new(1, offset), id, room: None, at, reason: String::new(), entry: "x".into() }
    }

    /// A file with letters 1 and 2 that nobody has open.
    async fn two_letters() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters.jsonl");
        FileDeadLetters::open(&path).await.unwrap().put(&[letter(1), letter(2)]).await.unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn a_file_cut_anywhere_keeps_its_whole_lines_and_takes_new_ones() {
        let (_folder, path) = two_letters().await;
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let near = |cut: usize, place: usize| cut.abs_diff(place) < 3;
        for cut in (0..=whole.len()).filter(|&cut| cut % 25 == 0 || near(cut, first) || near(cut, whole.len())) {
            fs::write(&path, &whole[..cut]).unwrap();
            let letters = FileDeadLetters::open(&path).await.unwrap();
            let mut expected = vec![letter(1), letter(2)];
            expected.truncate(usize::from(cut >= first) + usize::from(cut == whole.len()));
            assert_eq!(letters.list(None, 10).await.unwrap(), expected, "cut at {cut}");
            letters.put(&[letter(3)]).await.unwrap();
            drop(letters);
            expected.push(letter(3));
            assert_eq!(FileDeadLetters::open(&path).await.unwrap().list(None, 10).await.unwrap(), expected, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_damaged_line_among_whole_ones_is_named_and_nothing_is_thrown_away() {
        let (_folder, path) = two_letters().await;
        let mut damaged = fs::read(&path).unwrap();
        damaged[3] = 0;
        fs::write(&path, &damaged).unwrap();
        let error = FileDeadLetters::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("line 1 of "), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }

    #[tokio::test]
    async fn opening_rewrites_a_file_without_what_was_discarded() {
        let (_folder, path) = two_letters().await;
        let letters = FileDeadLetters::open(&path).await.unwrap();
        assert!(letters.discard(LogId(0), Position::new(1, 1)).await.unwrap());
        drop(letters);
        let before = fs::metadata(&path).unwrap().len();
        let letters = FileDeadLetters::open(&path).await.unwrap();
        assert!(fs::metadata(&path).unwrap().len() < before / 2);
        letters.put(&[letter(3)]).await.unwrap();
        assert_eq!(letters.list(None, 10).await.unwrap(), [letter(2), letter(3)]);
    }

    #[tokio::test]
    async fn a_second_owner_is_turned_away() {
        let (_folder, path) = two_letters().await;
        let first = FileDeadLetters::open(&path).await.unwrap();
        assert_eq!(FileDeadLetters::open(&path).await.unwrap_err().kind(), ErrorKind::Config);
        drop(first);
        FileDeadLetters::open(&path).await.unwrap();
    }
}
