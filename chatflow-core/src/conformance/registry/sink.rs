//! A member's socket, by hand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;

use super::eventually;

/// A socket that takes as much as it is told to.
#[derive(Debug, Clone, Default)]
pub(super) struct Sink(Arc<Mutex<SinkState>>);

#[derive(Debug, Default)]
struct SinkState {
    taken: Vec<u8>,
    /// How much it takes before it is full; and how much at once.
    budget: usize,
    bite: usize,
    waker: Option<Waker>,
    writes: usize,
}

impl Sink {
    pub(super) fn open() -> Self {
        Self::taking(usize::MAX, usize::MAX)
    }

    pub(super) fn taking(budget: usize, bite: usize) -> Self {
        Self(Arc::new(Mutex::new(SinkState { budget, bite, ..SinkState::default() })))
    }

    pub(super) fn allow(&self, more: usize) {
        let mut state = self.0.lock();
        state.budget = state.budget.saturating_add(more);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How often something was written.
    pub(super) fn writes(&self) -> usize {
        self.0.lock().writes
    }

    /// The payloads of the text frames that arrived whole.
    pub(super) fn frames(&self) -> Vec<String> {
        let state = self.0.lock();
        let (mut bytes, mut frames) = (&state.taken[..], Vec::new());
        while bytes.len() >= 2 {
            let (header, len) = match bytes[1] {
                126 if bytes.len() >= 4 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                126 => break,
                len => (2, usize::from(len)),
            };
            if bytes.len() < header + len {
                break;
            }
            if bytes[0] == 0x81 {
                frames.push(String::from_utf8_lossy(&bytes[header..header + len]).into_owned());
            }
            bytes.advance(header + len);
        }
        frames
    }

    pub(super) fn close_code(&self) -> Option<u16> {
        let state = self.0.lock();
        let at = state.taken.windows(2).rposition(|w| w[0] == 0x88 && usize::from(w[1]) <= 125)?;
        Some(u16::from_be_bytes([*state.taken.get(at + 2)?, *state.taken.get(at + 3)?]))
    }

    pub(super) async fn has(&self, wanted: &[String]) {
        eventually(&format!("{} frames", wanted.len()), || self.frames().len() >= wanted.len()).await;
        assert_eq!(self.frames(), wanted);
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        let n = bytes.len().min(state.budget).min(state.bite);
        if n == 0 && !bytes.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.budget -= if state.budget == usize::MAX { 0 } else { n };
        state.writes += 1;
        state.taken.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
