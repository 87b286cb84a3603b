//! One direction of a connection.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::connection::Order;
use super::{Faults, Flow, Pass};

/// Bytes read at a time, and how many such pieces are on their way.
const PIECE: usize = 16 * 1024;
const PIECES: usize = 64;

/// How a direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The sender had no more to say, and the receiver knows.
    Finished,
    /// The connection is to be reset.
    Reset,
}

/// When bytes may arrive at the earliest; none are the end.
type Piece = (Instant, Vec<u8>);

/// Which flow of a connection's faults.
pub(super) type Direction = fn(&Faults) -> Flow;

/// Reads as fast as a network takes bytes up, and writes when and if they may arrive.
#[derive(Debug, Clone)]
pub(super) struct Pump<'a> {
    pub(super) forth: Direction,
    pub(super) back: Direction,
    pub(super) arrived: &'a AtomicU64,
    pub(super) dropped: &'a AtomicU64,
    pub(super) order: watch::Receiver<Order>,
}

impl Pump<'_> {
    pub(super) async fn run(self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> End {
        let (sender, pieces) = mpsc::channel(PIECES);
        let reader = self.clone();
        tokio::select! {
            end = self.write(to, pieces) => end,
            end = reader.read(from, sender) => end,
        }
    }

    /// What is in force. An order to reset is obeyed elsewhere.
    fn flow(&mut self, direction: Direction) -> Flow {
        match &*self.order.borrow_and_update() {
            Order::Behave(faults) => direction(faults),
            Order::Reset => Flow::default(),
        }
    }

    /// Waits until news can travel in that direction: of the death of one side the other does not hear while nothing gets through.
    async fn passes(&mut self, direction: Direction) {
        while self.flow(direction).pass != Pass::Through && self.order.changed().await.is_ok() {}
    }

    /// Reads to the end, and is not done then: the writer is.
    async fn read(mut self, mut from: ReadHalf<'_>, pieces: mpsc::Sender<Piece>) -> End {
        loop {
            // What is not read waits at the sender's.
            while self.flow(self.forth).pass == Pass::Held && self.order.changed().await.is_ok() {}
            let mut bytes = vec![0; PIECE];
            let count = tokio::select! {
                read = from.read(&mut bytes) => read,
                Ok(()) = self.order.changed() => continue,
            };
            let Ok(count) = count else {
                self.passes(self.forth).await;
                return End::Reset;
            };
            bytes.truncate(count);
            let due = Instant::now() + self.flow(self.forth).delay;
            if pieces.send((due, bytes)).await.is_err() || count == 0 {
                return std::future::pending().await;
            }
        }
    }

    async fn write(mut self, mut to: WriteHalf<'_>, mut pieces: mpsc::Receiver<Piece>) -> End {
        let mut flow = self.flow(self.forth);
        let (mut left, mut swallows) = (flow.cut_after, false);
        while let Some((due, bytes)) = pieces.recv().await {
            sleep_until(due).await;
            let mut rest = bytes.as_slice();
            // Once at least, for the end of it all.
            loop {
                while (self.order.has_changed().unwrap_or(false)) || (flow.pass == Pass::Held && self.order.changed().await.is_ok()) {
                    flow = self.flow(self.forth);
                    left = flow.cut_after;
                }
                swallows |= flow.pass == Pass::Dropped;
                if swallows {
                    self.dropped.fetch_add(rest.len() as u64, Relaxed);
                    break;
                }
                if bytes.is_empty() {
                    return if to.shutdown().await.is_ok() { End::Finished } else { End::Reset };
                }
                let most = left.unwrap_or(u64::MAX).min(flow.bytes_per_second.map_or(u64::MAX, |rate| (rate / 20).max(1)));
                let (now, later) = rest.split_at(rest.len().min(usize::try_from(most).unwrap_or(usize::MAX)));
                if to.write_all(now).await.is_err() {
                    self.passes(self.back).await;
                    return End::Reset;
                }
                self.arrived.fetch_add(now.len() as u64, Relaxed);
                left = left.map(|left| left - now.len() as u64);
                if left == Some(0) {
                    return End::Reset;
                }
                if let Some(rate) = flow.bytes_per_second {
                    sleep(Duration::from_secs_f64(now.len() as f64 / rate as f64)).await;
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
        }
        // The end was swallowed.
        std::future::pending().await
    }
}
