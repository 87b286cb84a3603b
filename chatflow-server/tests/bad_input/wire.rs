//! A client that may break every rule: frames made by hand on a bare TCP connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Server;

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The first bytes of a masked frame that says it has `length` bytes of payload, in the shortest form.
pub(crate) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | length as u8),
        126..=0xffff => {
            head.push(0x80 | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}

/// A masked frame. `first` is FIN, the reserved bits and the opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A close frame with this code and reason.
pub(crate) fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// A message that every rule allows.
pub(crate) fn said(text: &str) -> Value {
    json!({"userId": "7", "username": "mallory", "message": text, "timestamp": "2026-11-20T11:02:10Z", "messageType": "TEXT"})
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// A WebSocket connection that does nothing by itself: no pong, no close frame in return.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    /// Shakes hands in the plain dialect at `/chat/{path}`.
    pub(crate) fn open(server: &Server, path: &str) -> Self {
        Self::open_with(server, path, "")
    }

    /// The same in the dialect `chatflow.v1`.
    pub(crate) fn open_v1(server: &Server, path: &str) -> Self {
        Self::open_with(server, path, "Sec-WebSocket-Protocol: chatflow.v1\r\n")
    }

    /// The same with these headers, each with its line's end.
    pub(crate) fn open_with(server: &Server, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!(
            "GET /chat/{path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n",
            server.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut wire = Self { stream, read: Vec::new() };
        let end = loop {
            if let Some(end) = wire.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(wire.fill().unwrap(), "the server hung up: {:?}", String::from_utf8_lossy(&wire.read));
        };
        assert!(wire.read.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&wire.read));
        wire.read.drain(..end);
        wire
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.send(&frame(FIN | TEXT, text.as_bytes()));
    }

    pub(crate) fn json(&mut self, value: &Value) {
        self.text(&value.to_string());
    }

    /// Reads some more; `false` at the end of the connection.
    fn fill(&mut self) -> io::Result<bool> {
        let mut part = [0; 16 << 10];
        let count = self.stream.read(&mut part)?;
        self.read.extend_from_slice(&part[..count]);
        Ok(count > 0)
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame and no end of the connection: {error}"),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (first, second) = (*self.read.first()?, *self.read.get(1)?);
        assert!(second < 128, "servers don't mask");
        let (start, length) = match second {
            126 => (4, usize::from(u16::from_be_bytes(self.read.get(2..4)?.try_into().unwrap()))),
            127 => (10, u64::from_be_bytes(self.read.get(2..10)?.try_into().unwrap()) as usize),
            length => (2, usize::from(length)),
        };
        let payload = self.read.get(start..start + length)?.to_vec();
        self.read.drain(..start + length);
        Some(Frame { first, payload })
    }

    /// The next frame that is JSON and that `wanted` wants.
    #[track_caller]
    pub(crate) fn next_json(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let frame = self.next().expect("the connection goes on");
            assert!(frame.first != FIN | CLOSE, "closed: {:?}", closed(&frame));
            if frame.first == FIN | TEXT {
                let json = serde_json::from_slice(&frame.payload).unwrap();
                if wanted(&json) {
                    return json;
                }
            }
        }
    }

    /// The next answer or error.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Value {
        self.next_json(|frame| frame.get("status").is_some())
    }

    /// Reads to the end of the connection: the code and reason of the close frame that was its last.
    #[track_caller]
    pub(crate) fn end(&mut self) -> (u16, String) {
        let mut last = None;
        while let Some(frame) = self.next() {
            last = Some(frame);
        }
        closed(&last.expect("a last frame")).expect("a close frame at the end")
    }
}

/// Code and reason of a close frame.
fn closed(frame: &Frame) -> Option<(u16, String)> {
    let (code, reason) = frame.payload.split_first_chunk().filter(|_| frame.first == FIN | CLOSE)?;
    Some((u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap()))
}
