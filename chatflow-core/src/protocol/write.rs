//! Writing frames by hand: the fast path, where a message is encoded once.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{MessageId, Position, Timestamp};

/// Appends one unmasked WebSocket text frame whose payload `write` appends.
///
/// The header's place is reserved first and filled in afterwards: a payload is written once, where it stays.
pub fn put_text_frame(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    // Most frames have 126 to 65,535 bytes and a header of four; others are moved.
    out.put_slice(&[0x81, 126, 0, 0]);
    write(out);
    let len = out.len() - start - 4;
    match len {
        0..126 => {
            out[start + 1] = len as u8;
            out.copy_within(start + 4.., start + 2);
            out.truncate(start + 2 + len);
        }
        126..=0xffff => out[start + 2..start + 4].copy_from_slice(&(len as u16).to_be_bytes()),
        _ => {
            out.put_slice(&[0; 6]);
            out.copy_within(start + 4..start + 4 + len, start + 10);
            out[start + 1] = 127;
            out[start + 2..start + 10].copy_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// One unmasked close frame.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end));
    let reason = &reason.as_bytes()[..end.unwrap_or(0)];
    let mut out = BytesMut::with_capacity(4 + reason.len());
    out.put_slice(&[0x88, 2 + reason.len() as u8]);
    out.put_u16(code);
    out.put_slice(reason);
    out.freeze()
}

/// Appends `text` as a JSON string.
pub fn put_json(out: &mut BytesMut, text: &str) {
    let plain = |b: u8| b >= 0x20 && b != b'"' && b != b'\\';
    if text.bytes().all(plain) {
        out.reserve(text.len() + 2);
        out.put_u8(b'"');
        out.put_slice(text.as_bytes());
        out.put_u8(b'"');
    } else {
        // Writing a string into memory can't fail.
        let _ = serde_json::to_writer(out.writer(), text);
    }
}

pub(crate) fn put_uuid(out: &mut BytesMut, id: MessageId) {
    let mut text = [0; 36];
    out.put_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

pub(crate) fn put_position(out: &mut BytesMut, position: Position) {
    put_number(out, u128::from(position.epoch));
    out.put_u8(b':');
    put_number(out, position.offset);
}

fn put_number(out: &mut BytesMut, number: u128) {
    let mut digits = [0u8; 39];
    let mut at = digits.len();
    // 64-bit division is several times cheaper, and offsets beyond it are rare.
    let (mut high, mut low) = (number, 0u64);
    while high > u128::from(u64::MAX) {
        at -= 1;
        digits[at] = b'0' + (high % 10) as u8;
        high /= 10;
    }
    low += high as u64;
    loop {
        at -= 1;
        digits[at] = b'0' + (low % 10) as u8;
        low /= 10;
        if low == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// Appends a moment as in `2026-11-20T11:02:10.123Z`.
pub(crate) fn put_timestamp(out: &mut BytesMut, at: Timestamp) {
    thread_local! {
        // Formatting a date costs more than the rest of a frame, and neighbours share their second.
        static SECOND: std::cell::RefCell<(i64, [u8; 20])> = const { std::cell::RefCell::new((i64::MIN, [0; 20])) };
    }
    let (second, ms) = (at.0.div_euclid(1000), at.0.rem_euclid(1000));
    let text = SECOND.with_borrow_mut(|(cached, text)| {
        if *cached != second {
            *cached = second;
            text.copy_from_slice(&Timestamp(second * 1000).to_string().as_bytes()[..20]);
        }
        *text
    });
    out.put_slice(&text);
    let digit = |n: i64| b'0' + (n % 10) as u8;
    out.put_slice(&[digit(ms / 100), digit(ms / 10), digit(ms), b'Z']);
}

pub(super) trait Within {
    fn extend_from_within_range(&mut self, from: usize, until: usize);
}

impl Within for BytesMut {
    fn extend_from_within_range(&mut self, from: usize, until: usize) {
        let end = self.len();
        self.resize(end + until - from, 0);
        self.copy_within(from..until, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Answer, close};

    fn frame(len: usize) -> BytesMut {
        let mut out = BytesMut::from(&b"before"[..]);
        put_text_frame(&mut out, |out| out.put_bytes(b'x', len));
        out.split_off(6)
    }

    #[test]
    fn frame_headers_fit_their_length() {
        for (len, header) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 255, 255]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let out = frame(len);
            assert_eq!(&out[..header.len()], header);
            assert_eq!(out.len(), header.len() + len);
            assert!(out[header.len()..].iter().all(|b| *b == b'x'));
        }
    }

    #[test]
    fn answers_are_json_whatever_the_texts() {
        let mut out = BytesMut::new();
        let at = Timestamp(1_763_636_530_007);
        let id = MessageId::from_u128(7);
        let answer = Answer {
            id,
            room: "7",
            position: Some(Position::new(3, u128::MAX)),
            at,
            client_timestamp: "a\"b\\c\u{1}",
            reference: Some("r\n"),
            echo: b"",
        };
        answer.write(&mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["messageId"], id.to_string());
        assert_eq!(json["position"], format!("3:{}", u128::MAX));
        assert_eq!(json["timestamp"], "2025-11-20T11:02:10.007Z");
        assert_eq!(json["serverTimestamp"], json["timestamp"]);
        assert_eq!(json["clientTimestamp"], "a\"b\\c\u{1}");
        assert_eq!(json["ref"], "r\n");
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = close_frame(close::POLICY, &"é".repeat(100));
        assert_eq!(frame[1] as usize, frame.len() - 2);
        assert!(frame.len() <= 127);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }
}
