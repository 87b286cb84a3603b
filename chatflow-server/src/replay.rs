//! A stream that was read from before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

/// Gives back `first`, which was read too early, before the rest of `stream`.
#[derive(Debug)]
pub(crate) struct Replay<S> {
    first: Bytes,
    stream: S,
}

impl<S> Replay<S> {
    /// `stream`, as if `first` had not been read yet.
    pub(crate) fn new(first: Bytes, stream: S) -> Self {
        Self { first, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, out);
        }
        let count = self.first.len().min(out.remaining());
        out.put_slice(&self.first[..count]);
        self.first.advance(count);
        if self.first.is_empty() {
            // Empty bytes still hold on to the memory that they were cut from.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn what_was_read_too_early_comes_first_whatever_the_reads() {
        for size in 1..12 {
            let mut stream = Replay::new(Bytes::from_static(b"early "), &b"and late"[..]);
            let mut all = Vec::new();
            let mut part = vec![0; size];
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                all.extend_from_slice(&part[..count]);
            }
            assert_eq!(all, b"early and late");
        }
    }
}
