//! `messages.csv`: a row for each answer and failure, written as the run goes on.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::clock::put_iso;

/// The columns.
const HEADER: &str = "timestamp,messageType,latency,statusCode,roomId\n";
/// Rows are handed over in pieces of about so many bytes.
const PIECE: usize = 32 << 10;
/// At most so many pieces wait for the disk; then senders wait too.
const QUEUE: usize = 64;

/// Writes rows to a file in a thread of its own.
#[derive(Debug)]
pub(super) struct CsvFile {
    pieces: mpsc::Sender<String>,
    writer: JoinHandle<io::Result<()>>,
}

impl CsvFile {
    /// Creates the file and writes its header.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(HEADER.as_bytes())?;
        let (pieces, mut queue) = mpsc::channel::<String>(QUEUE);
        let writer = std::thread::Builder::new().name("csv".into()).spawn(move || {
            while let Some(piece) = queue.blocking_recv() {
                file.write_all(piece.as_bytes())?;
            }
            file.flush()
        })?;
        Ok(Self { pieces, writer })
    }

    /// A new source of rows.
    pub(super) fn rows(&self) -> Rows {
        Rows { pieces: Some(self.pieces.clone()), piece: String::new() }
    }

    /// Waits until every row is in the file; all [`Rows`] must be gone.
    pub(super) fn finish(self) -> io::Result<()> {
        drop(self.pieces);
        self.writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))
    }
}

/// The rows of one connection; a default one goes nowhere.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pieces: Option<mpsc::Sender<String>>,
    piece: String,
}

impl Rows {
    /// A row: when it was sent (milliseconds since 1970), its kind, how long it took, what the answer said, its room
    /// (from 0).
    pub(super) fn add(&mut self, sent_ms: u64, kind: &str, latency_us: u64, status: &str, room: u32) {
        use std::fmt::Write;
        if self.pieces.is_some() {
            put_iso(&mut self.piece, sent_ms);
            // Writing into a string can't fail.
            let _ = writeln!(self.piece, ",{kind},{}.{:03},{status},{}", latency_us / 1000, latency_us % 1000, room + 1);
        }
    }

    /// Hands rows over once there are enough, or `all` of them.
    pub(super) async fn flush(&mut self, all: bool) {
        if self.piece.len() >= PIECE || (all && !self.piece.is_empty()) {
            let piece = std::mem::take(&mut self.piece);
            if let Some(pieces) = &self.pieces
                && pieces.send(piece).await.is_err()
            {
                // The disk failed, which the end of the run reports.
                self.pieces = None;
            }
        }
    }
}
