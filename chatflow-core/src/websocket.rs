//! RFC 6455 around a session: bytes in, frames out.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytestring::ByteString;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::engine::Inner;
use crate::protocol::close;
use crate::registry::Outlet;
use crate::session::Session;

/// What is read from a socket at once, in bytes. It lies on the stack, so an idle connection does not hold it.
const READ: usize = 16 << 10;
/// What the frame parser takes of that at once, in bytes, and what an idle connection holds. The parser makes a new buffer of
/// this size, or of the frame's, when a frame's text still holds the last one; below 1 KiB it would make one for each frame.
const PARSE: usize = 1 << 10;
/// Bytes of answers that may wait before the client is not read any more.
const UNSENT: usize = 64 << 10;

/// Reads frames until the connection ends.
///
/// It is one future without suspended calls inside, because there is one for each connection, most of them idle. For the same
/// reason it is no `async fn`, whose arguments take their place twice.
pub(crate) fn serve<R: AsyncRead + Unpin>(
    mut reader: R,
    mut session: Session,
    outlet: Arc<Outlet>,
    engine: Arc<Inner>,
) -> impl Future<Output = ()> {
    let mut context = parser(engine.settings.frame);
    // What was read and not parsed when reading was paused.
    let mut rest = Vec::new();
    async move {
        let unread = poll_fn(|cx| {
            let mut memory = [const { MaybeUninit::uninit() }; READ];
            let mut input = Input::new(&mut memory, &mut rest);
            loop {
                if outlet.is_over() {
                    return Poll::Ready(false);
                }
                // Whoever does not read its answers, or has too many due, is not read either.
                let paused = || outlet.waiting() > UNSENT || outlet.unanswered() >= engine.settings.in_flight;
                if paused() {
                    outlet.wake_reader(cx);
                    if paused() && !outlet.is_over() {
                        rest = input.rest().to_vec();
                        return Poll::Pending;
                    }
                    continue;
                }
                let mut pipe = Pipe { reader: Pin::new(&mut reader), input: &mut input, outlet: &outlet, engine: &engine, cx };
                match context.read(&mut pipe) {
                    Ok(Message::Text(text)) => {
                        // The bytes were checked to be UTF-8 on their way in.
                        match ByteString::try_from(bytes::Bytes::from(text)) {
                            Ok(text) if !outlet.is_closing() => session.text(text),
                            _ => {}
                        }
                    }
                    Ok(Message::Binary(_)) => outlet.close(close::UNACCEPTABLE, "frames are text"),
                    Ok(_) => {}
                    Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        outlet.wake_reader(cx);
                        if !outlet.is_over() {
                            return Poll::Pending;
                        }
                    }
                    Err(error) => match fault(&error) {
                        Some((code, reason)) => {
                            outlet.close(code, reason);
                            return Poll::Ready(true);
                        }
                        None => return Poll::Ready(false),
                    },
                }
            }
        })
        .await;
        drop(session);
        // The last frames, our own close among them, go out; a client that does not take them is cut by the clock.
        outlet.close(close::NORMAL, "");
        outlet.room_below(0).await;
        if unread {
            read_out(&mut reader, &outlet).await;
        }
        outlet.cut();
    }
}

/// Reads what a client still sends that was told to go: closing a socket with unread bytes would take back what the client has
/// not read, the close frame among it.
async fn read_out<R: AsyncRead + Unpin>(reader: &mut R, outlet: &Outlet) {
    poll_fn(|cx| {
        let mut rest = [0; 512];
        loop {
            outlet.wake_reader(cx);
            let mut buffer = ReadBuf::new(&mut rest);
            match Pin::new(&mut *reader).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && !outlet.is_over() => {}
                Poll::Pending if !outlet.is_over() => return Poll::Pending,
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// Reads frames of a client that are no larger than `frame` bytes, nor the messages that they make.
fn parser(frame: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(PARSE)
        .write_buffer_size(0)
        .max_write_buffer_size(frame.max(PARSE))
        .max_frame_size(Some(frame))
        .max_message_size(Some(frame));
    WebSocketContext::new(Role::Server, Some(config))
}

/// The close code for what a client did wrong; `None` when the connection is simply at its end.
fn fault(error: &Error) -> Option<(u16, &'static str)> {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    match error {
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::ReceivedAfterClosing) => None,
        Error::Protocol(_) => Some((close::PROTOCOL, "the frames break RFC 6455")),
        Error::Utf8(_) => Some((close::NOT_UTF8, "a text frame is not UTF-8")),
        Error::Capacity(_) => Some((close::TOO_BIG, "the frame is too big")),
        _ => None,
    }
}

/// Bytes on their way from the socket to the frame parser.
struct Input<'m> {
    bytes: ReadBuf<'m>,
    taken: usize,
}

impl<'m> Input<'m> {
    /// Begins with `rest`, and takes it: what was left of the last one, so it fits.
    fn new(memory: &'m mut [MaybeUninit<u8>; READ], rest: &mut Vec<u8>) -> Self {
        let mut bytes = ReadBuf::uninit(memory);
        bytes.put_slice(&std::mem::take(rest));
        Self { bytes, taken: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes.filled()[self.taken..]
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let n = self.rest().len().min(into.len());
        into[..n].copy_from_slice(&self.rest()[..n]);
        self.taken += n;
        n
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.taken = 0;
    }
}

/// The connection as the frame parser sees it: it reads from the socket, and what it writes (pongs, the echo of a close
/// frame) goes where everything else does.
struct Pipe<'a, 'c, 'm, R> {
    reader: Pin<&'a mut R>,
    input: &'a mut Input<'m>,
    outlet: &'a Arc<Outlet>,
    engine: &'a Inner,
    cx: &'a mut Context<'c>,
}

impl<R: AsyncRead> Read for Pipe<'_, '_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.rest().is_empty() {
            self.input.clear();
            match self.reader.as_mut().poll_read(self.cx, &mut self.input.bytes) {
                Poll::Ready(read) => read?,
                Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            }
            self.engine.counters.bytes_in.add(self.input.rest().len() as u64);
            self.outlet.heard.store(self.engine.ticks(), Relaxed);
        }
        Ok(self.input.take(buffer))
    }
}

impl<R> Write for Pipe<'_, '_, '_, R> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        match frame.first() {
            Some(0x88) => self.outlet.close_with(frame),
            _ => self.outlet.push(|out| out.extend_from_slice(frame)),
        }
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
