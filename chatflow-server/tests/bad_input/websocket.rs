//! RFC 6455: what breaks it is closed with the code that it names; what it allows, however odd, is served.

use crate::health::unharmed;
use crate::process::Server;
use crate::wire::{BINARY, CLOSE, CONTINUATION, FIN, Frame, PING, PONG, TEXT, Wire, close, frame, head, said};

/// Sends each row's bytes on a connection of its own, and asserts how the server closes it.
fn each_is_closed_with(code: u16, rows: impl IntoIterator<Item = (impl Into<String>, Vec<u8>)>) {
    let server = Server::start(&[]);
    for (row, bytes) in rows {
        let row = row.into();
        let mut wire = Wire::open(&server, "7");
        wire.send(&bytes);
        assert_eq!(wire.end().0, code, "{row}");
    }
    unharmed(&server);
}

#[test]
fn a_frame_that_is_not_masked_is_a_protocol_error() {
    let hello = br#"{"userId":7}"#;
    let text = [&[FIN | TEXT, hello.len() as u8], hello.as_slice()].concat();
    each_is_closed_with(1002, [("text", text), ("ping", vec![FIN | PING, 0]), ("close", vec![FIN | CLOSE, 0])]);
}

#[test]
fn reserved_bits_are_a_protocol_error() {
    let first = |bit: u8| [TEXT, CONTINUATION, PING, CLOSE].map(|opcode| (format!("{bit:#x} {opcode}"), frame(FIN | bit | opcode, b"")));
    each_is_closed_with(1002, [0x40, 0x20, 0x10].into_iter().flat_map(first));
}

#[test]
fn reserved_opcodes_are_a_protocol_error() {
    each_is_closed_with(1002, (3..8).chain(11..16).map(|opcode| (opcode.to_string(), frame(FIN | opcode, b"{}"))));
}

#[test]
fn a_control_frame_in_fragments_is_a_protocol_error() {
    each_is_closed_with(1002, [CLOSE, PING, PONG].map(|opcode| (opcode.to_string(), frame(opcode, b""))));
}

#[test]
fn a_control_frame_of_more_than_125_bytes_is_a_protocol_error() {
    let long = |opcode| [126, 65_000].map(|length| (format!("{opcode} {length}"), frame(FIN | opcode, &vec![3; length])));
    each_is_closed_with(1002, [CLOSE, PING, PONG].into_iter().flat_map(long));
}

#[test]
fn fragments_out_of_order_are_a_protocol_error() {
    each_is_closed_with(
        1002,
        [
            ("the end of no message", frame(FIN | CONTINUATION, b"{}")),
            ("the middle of no message", frame(CONTINUATION, b"{}")),
            ("a message within a message", [frame(TEXT, b"{"), frame(FIN | TEXT, b"{}")].concat()),
            ("the begin of a message within a message", [frame(TEXT, b"{"), frame(TEXT, b"{")].concat()),
            ("a binary one within a text", [frame(TEXT, b"{"), frame(FIN | BINARY, b"}")].concat()),
            ("more of a message that has ended", [frame(FIN | TEXT, b"{}"), frame(CONTINUATION, b"{}")].concat()),
        ],
    );
}

#[test]
fn close_codes_that_nobody_may_send_are_a_protocol_error() {
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535];
    each_is_closed_with(1002, codes.map(|code| (code.to_string(), close(code, b"bye"))));
    each_is_closed_with(1002, [("one byte", frame(FIN | CLOSE, &[3]))]);
}

#[test]
fn a_text_that_is_not_utf_8_is_closed_with_1007() {
    each_is_closed_with(
        1007,
        [
            ("a stray byte", frame(FIN | TEXT, b"{\"message\":\"\xff\"}")),
            ("a lone surrogate", frame(FIN | TEXT, b"{\"message\":\"\xed\xa0\x80\"}")),
            ("an overlong form", frame(FIN | TEXT, b"{\"message\":\"\xc0\xaf\"}")),
            ("past the last character", frame(FIN | TEXT, b"{\"message\":\"\xf4\x90\x80\x80\"}")),
            ("cut off", frame(FIN | TEXT, b"{\"message\":\"\xe2\x82")),
            ("split over fragments", [frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"x")].concat()),
            ("cut off at the last fragment", [frame(TEXT, b"{}"), frame(FIN | CONTINUATION, b"\xe2\x82")].concat()),
            ("in a fragment that is not the last", [frame(TEXT, b"{"), frame(CONTINUATION, b"\xff")].concat()),
            ("in the reason of a close frame", close(1000, b"\xff\xfe")),
        ],
    );
}

#[test]
fn a_character_split_over_fragments_is_whole() {
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7");
    let message = said("20 €, please").to_string();
    let cut = message.find('€').unwrap() + 1;
    wire.send(&frame(TEXT, &message.as_bytes()[..cut]));
    wire.send(&frame(CONTINUATION, b""));
    wire.send(&frame(FIN | CONTINUATION, &message.as_bytes()[cut..]));
    assert_eq!(wire.next_json(|frame| frame.get("status").is_none())["message"], "20 €, please");
}

#[test]
fn a_binary_frame_is_closed_with_1003() {
    let fragments = [frame(BINARY, b"{"), frame(FIN | CONTINUATION, b"}")].concat();
    each_is_closed_with(1003, [("whole", frame(FIN | BINARY, b"{}")), ("empty", frame(FIN | BINARY, b"")), ("in fragments", fragments)]);
}

#[test]
fn what_is_larger_than_64_kib_is_closed_with_1009() {
    let half = vec![b' '; 32 << 10];
    each_is_closed_with(
        1009,
        [
            ("one byte more", frame(FIN | TEXT, &vec![b' '; (64 << 10) + 1])),
            ("announced only", head(FIN | TEXT, (64 << 10) + 1)),
            ("2^63 - 1", head(FIN | TEXT, i64::MAX as u64)),
            ("2^63, which RFC 6455 forbids", head(FIN | TEXT, 1 << 63)),
            ("2^64 - 1", head(FIN | TEXT, u64::MAX)),
            ("in fragments", [frame(TEXT, &half), frame(CONTINUATION, &half), frame(CONTINUATION, b" ")].concat()),
        ],
    );
}

#[test]
fn exactly_64_kib_are_taken() {
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7");
    let mut message = said("with much space after it").to_string();
    message.extend(std::iter::repeat_n(' ', (64 << 10) - message.len()));
    wire.text(&message);
    assert_eq!(wire.answer()["status"], "SUCCESS");
    let (one, two) = message.as_bytes().split_at(40_000);
    wire.send(&[frame(TEXT, one), frame(FIN | CONTINUATION, two)].concat());
    assert_eq!(wire.answer()["status"], "SUCCESS");
}

#[test]
fn a_ping_is_answered_with_its_payload_even_within_a_message() {
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7");
    for payload in [&b""[..], b"\0\xff", &[b'x'; 125]] {
        wire.send(&frame(FIN | PING, payload));
        assert_eq!(wire.next(), Some(Frame { first: FIN | PONG, payload: payload.to_vec() }));
    }
    wire.send(&frame(FIN | PONG, b"that nobody asked for"));
    let message = said("in two parts").to_string();
    wire.send(&frame(TEXT, &message.as_bytes()[..10]));
    wire.send(&frame(FIN | PING, b"between"));
    assert_eq!(wire.next(), Some(Frame { first: FIN | PONG, payload: b"between".to_vec() }));
    wire.send(&frame(FIN | CONTINUATION, &message.as_bytes()[10..]));
    assert_eq!(wire.answer()["status"], "SUCCESS");
}

#[test]
fn a_close_frame_comes_back_and_ends_the_connection() {
    let server = Server::start(&[]);
    for code in [1000, 1001, 1003, 1007, 1011, 3000, 3999, 4000, 4999] {
        let mut wire = Wire::open(&server, "7");
        // What follows a close frame is not read.
        wire.send(&[close(code, "adieu, 世界".as_bytes()), frame(FIN | TEXT, b"{}"), frame(FIN | PING, b"")].concat());
        assert_eq!(wire.end(), (code, "adieu, 世界".to_owned()));
    }
    let mut wire = Wire::open(&server, "7");
    wire.send(&frame(FIN | CLOSE, b""));
    assert_eq!((wire.next(), wire.next()), (Some(Frame { first: FIN | CLOSE, payload: Vec::new() }), None));
    unharmed(&server);
}

#[test]
fn a_length_in_a_longer_form_than_needed_is_understood_or_closed() {
    // RFC 6455, 5.2: the minimal number of bytes must be used. ChatFlow reads it all the same.
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7");
    wire.send(&[FIN | PING, 0x80 | 126, 0, 2, 0, 0, 0, 0, b'h', b'i']);
    assert_eq!(wire.next(), Some(Frame { first: FIN | PONG, payload: b"hi".to_vec() }));
}

#[test]
fn a_connection_that_breaks_off_in_a_frame_leaves_nothing_behind() {
    let server = Server::start(&[]);
    let whole = frame(FIN | TEXT, said("never sent in full").to_string().as_bytes());
    for cut in [1, 2, 5, 20, whole.len() - 1] {
        Wire::open(&server, "7").send(&whole[..cut]);
    }
    crate::health::until_connections(&server, 0);
    unharmed(&server);
    assert_eq!(server.get("/api/v1/rooms/7/messages").json()["messages"].as_array().unwrap().len(), 0);
}
