//! Asking, by several readers at once, and how long that takes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::history::{Dice, History};
use crate::questions::Question;
use crate::usage::Usage;

/// How a question was answered.
#[derive(Debug)]
pub(crate) struct Measured {
    /// How long each answer took, ascending.
    times: Vec<Duration>,
    wall: Duration,
    /// Processor time of one answer, milliseconds: the server's, and the database's.
    pub(crate) processor: [f64; 2],
    /// Bytes of the largest body.
    pub(crate) largest: usize,
}

impl Measured {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.times.len() as f64 / self.wall.as_secs_f64()
    }

    /// What this part of the answers took at the most, milliseconds.
    pub(crate) fn within(&self, part: f64) -> f64 {
        let index = (self.times.len() as f64 * part).ceil() as usize;
        self.times.get(index.max(1) - 1).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    }
}

/// Asks for that long, after a tenth of it that does not count.
pub(crate) async fn ask(
    question: Question,
    history: &Arc<History>,
    (server, readers, span): (SocketAddr, usize, Duration),
    usage: impl Fn() -> [Usage; 2],
) -> Measured {
    let mut round = 0;
    let mut run = async |span: Duration| {
        round += 1;
        let begun = Instant::now();
        let reader = |reader| {
            let (history, mut dice) = (Arc::clone(history), Dice::of(round << 32 | reader as u64));
            tokio::spawn(async move {
                let (mut connection, mut times, mut largest) = (Connection::open(server).await, Vec::new(), 0);
                while begun.elapsed() < span {
                    let path = (question.path)(&history, &mut dice);
                    let asked = Instant::now();
                    largest = largest.max(connection.get(&path).await);
                    times.push(asked.elapsed());
                }
                (times, largest)
            })
        };
        let readers = join_all((0..readers).map(reader)).await;
        (readers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), begun.elapsed())
    };
    run(span / 10).await;
    let before = usage();
    let (readers, wall) = run(span).await;
    let after = usage();
    let largest = readers.iter().map(|(_, largest)| *largest).max().unwrap_or(0);
    let mut times: Vec<_> = readers.into_iter().flat_map(|(times, _)| times).collect();
    times.sort_unstable();
    let each = |n: usize| after[n].since(&before[n]).as_secs_f64() * 1_000.0 / times.len().max(1) as f64;
    Measured { processor: [each(0), each(1)], times, wall, largest }
}

/// One connection, on which one question follows the other.
struct Connection(BufReader<TcpStream>, SocketAddr, Vec<u8>);

impl Connection {
    async fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::with_capacity(1 << 16, stream), server, Vec::new())
    }

    /// The length of the answer.
    async fn get(&mut self, path: &str) -> usize {
        let Self(stream, server, body) = self;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {server}\r\n\r\n").as_bytes()).await.unwrap();
        let (mut line, mut length, mut good) = (String::new(), None, false);
        loop {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
            let text = line.trim_end().to_ascii_lowercase();
            good |= text.starts_with("http/1.1 200");
            match text.split_once(": ") {
                Some(("content-length", value)) => length = value.parse::<usize>().ok(),
                _ if text.is_empty() => break,
                _ => {}
            }
        }
        body.resize(length.unwrap_or_else(|| panic!("no length of {path}")), 0);
        stream.read_exact(body).await.unwrap();
        assert!(good, "{path}: {}", String::from_utf8_lossy(body));
        body.len()
    }
}
