//! Too much of what is allowed, and clients that do not listen: memory stays bounded, others notice nothing, and who shows no
//! sign of life is cut off.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::health::{metric, resident, unharmed, until_connections};
use crate::process::Server;
use crate::wire::{CONTINUATION, FIN, PING, PONG, TEXT, Wire, close, frame, head, said};

const MIB: u64 = 1 << 20;
/// Time-outs short enough for a test, and no publish rate in the way of a flood.
const IMPATIENT: [&str; 8] =
    ["--set", "engine.ping=1s", "--set", "engine.pong=1s", "--set", "engine.write=1s", "--set", "limits.publish_rate_anonymous=0"];

/// Writes `bytes` up to `times` times, until the server takes no more for half a second, or hangs up. How often it did.
fn pour(wire: &mut Wire, bytes: &[u8], times: usize) -> usize {
    wire.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    (0..times).take_while(|_| wire.stream.write_all(bytes).is_ok()).count()
}

/// Does `harm` while two others chat, and asserts that none of their messages took long, and that the server grew by no
/// more than `most` bytes.
#[track_caller]
fn nobody_notices(server: &Server, most: u64, harm: impl FnOnce()) {
    let (mut ada, mut grace) = (Wire::open(server, "bystanders"), Wire::open_v1(server, "bystanders"));
    grace.next_json(|frame| frame["event"] == "welcome");
    let mut chat = || {
        let begun = Instant::now();
        ada.json(&said("hello"));
        grace.next_json(|frame| frame["message"] == "hello");
        ada.next_json(|frame| frame["status"] == "SUCCESS");
        // Or she, who only listens, would seem to be gone.
        grace.send(&frame(FIN | PONG, b""));
        begun.elapsed()
    };
    chat();
    let before = resident(server);
    let done = AtomicBool::new(false);
    let (slowest, largest) = std::thread::scope(|scope| {
        let bystanders = scope.spawn(|| {
            let (mut slowest, mut largest) = (Duration::ZERO, before);
            while !done.load(Relaxed) {
                slowest = slowest.max(chat());
                largest = largest.max(resident(server));
            }
            (slowest, largest)
        });
        // They stop even where it panics, or nobody would ever hear of it.
        let harmed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(harm));
        done.store(true, Relaxed);
        let seen = bystanders.join().unwrap();
        harmed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        seen
    });
    assert!(slowest < Duration::from_secs(2), "a message took {slowest:?}");
    let grown = largest.saturating_sub(before);
    println!("grew by {} KiB, slowest message {slowest:?}", grown >> 10);
    assert!(grown < most, "the server grew by {grown} bytes");
}

#[test]
fn a_hundred_thousand_pings_whose_pongs_nobody_reads() {
    let server = Server::start(&IMPATIENT);
    nobody_notices(&server, 8 * MIB, || {
        let mut wire = Wire::open(&server, "7");
        let hundred: Vec<u8> = (0..100).flat_map(|_| frame(FIN | PING, &[b'x'; 125])).collect();
        let sent = pour(&mut wire, &hundred, 1_000);
        assert!(sent < 1_000, "the server reads on although nobody reads its pongs");
        // Two bystanders stay.
        until_connections(&server, 2);
    });
    unharmed(&server);
}

#[test]
fn a_hundred_thousand_pings_whose_pongs_are_read_are_all_answered() {
    let server = Server::start(&IMPATIENT);
    nobody_notices(&server, 8 * MIB, || {
        let mut wire = Wire::open(&server, "7");
        let hundred: Vec<u8> = (0..100).flat_map(|_| frame(FIN | PING, b"")).collect();
        for _ in 0..1_000 {
            wire.send(&hundred);
            let mut pongs = 0;
            while pongs < 100 {
                match wire.next().unwrap().first {
                    first if first == FIN | PONG => pongs += 1,
                    // The server's own, once a second.
                    first => assert_eq!(first, FIN | PING),
                }
            }
        }
    });
    unharmed(&server);
}

#[test]
fn a_client_that_never_reads_its_answers_is_not_read_and_then_cut_off() {
    let server = Server::start(&IMPATIENT);
    nobody_notices(&server, 24 * MIB, || {
        let mut wire = Wire::open(&server, "7?deliver=none");
        let sent = pour(&mut wire, &frame(FIN | TEXT, said("and I never listen").to_string().as_bytes()), 200_000);
        assert!(sent < 200_000, "the server reads on although nobody reads its answers");
        until_connections(&server, 2);
    });
    unharmed(&server);
}

#[test]
fn a_client_that_never_reads_what_the_room_says_is_cut_off() {
    let server = Server::start(&IMPATIENT);
    nobody_notices(&server, 24 * MIB, || {
        let mut wire = Wire::open(&server, "7");
        pour(&mut wire, &frame(FIN | TEXT, said(&"blah ".repeat(90)).to_string().as_bytes()), 200_000);
        until_connections(&server, 2);
    });
    unharmed(&server);
}

#[test]
fn ten_thousand_fragments_are_one_message() {
    let server = Server::start(&[]);
    let mut wire = Wire::open(&server, "7");
    let mut text = said("in very small pieces").to_string();
    text.extend(std::iter::repeat_n(' ', 10_000 - text.len()));
    let mut frames = frame(TEXT, b"");
    frames.extend(text.bytes().flat_map(|byte| frame(CONTINUATION, &[byte])));
    frames.extend(frame(FIN | CONTINUATION, b""));
    wire.send(&frames);
    assert_eq!(wire.answer()["status"], "SUCCESS");
    unharmed(&server);
}

#[test]
fn fragments_without_end_are_closed_with_1009_and_never_gathered() {
    let server = Server::start(&[]);
    nobody_notices(&server, 8 * MIB, || {
        let mut wire = Wire::open(&server, "7");
        wire.send(&frame(TEXT, b"{"));
        // 16 MiB, much of it after the close frame.
        pour(&mut wire, &frame(CONTINUATION, &[b' '; 1 << 10]), 16 << 10);
        assert_eq!(wire.end().0, 1009);
        let mut wire = Wire::open(&server, "7");
        wire.send(&frame(TEXT, b""));
        let thousand: Vec<u8> = (0..1_000).flat_map(|_| frame(CONTINUATION, b"")).collect();
        assert_eq!(pour(&mut wire, &thousand, 100), 100, "empty fragments cost nothing");
        wire.send(&frame(FIN | CONTINUATION, said("at last").to_string().as_bytes()));
        assert_eq!(wire.answer()["status"], "SUCCESS");
    });
    unharmed(&server);
}

#[test]
fn large_frames_that_are_announced_and_never_sent_cost_what_was_sent() {
    let server = Server::start(&[]);
    nobody_notices(&server, 8 * MIB, || {
        let wires: Vec<_> = (0..300)
            .map(|_| {
                let mut wire = Wire::open(&server, "7");
                wire.send(&[head(FIN | TEXT, 64 << 10), vec![b'x'; 100]].concat());
                wire
            })
            .collect();
        until_connections(&server, 302);
        drop(wires);
        until_connections(&server, 2);
    });
    unharmed(&server);
}

#[test]
fn nonsense_without_end_is_answered_ten_times() {
    let server = Server::start(&[]);
    nobody_notices(&server, 8 * MIB, || {
        let mut wire = Wire::open(&server, "7");
        pour(&mut wire, &frame(FIN | TEXT, &[b'{'; 1 << 10]), 16 << 10);
        for _ in 0..10 {
            assert_eq!(wire.answer()["code"], "bad_json");
        }
        assert_eq!(wire.end().0, 1008);
    });
    assert_eq!(metric(&server, "chatflow_messages_rejected_total"), 10);
    unharmed(&server);
}

#[test]
fn rooms_that_were_joined_and_left_are_forgotten() {
    let server = Server::start(&[]);
    nobody_notices(&server, 24 * MIB, || {
        let mut wire = Wire::open_v1(&server, "7");
        for batch in 0..20 {
            for n in 0..500 {
                let room = format!("room-{batch}-{n}");
                wire.json(&json!({"op": "join", "roomId": room}));
                wire.json(&json!({"op": "leave", "roomId": room}));
            }
            for _ in 0..500 {
                wire.next_json(|frame| frame["event"] == "left");
            }
        }
        // The bystanders' and the one that it came in by.
        crate::process::eventually("rooms without members go", || (metric(&server, "chatflow_rooms") == 2).then_some(()));
    });
    unharmed(&server);
}

#[test]
fn a_history_that_is_asked_for_in_many_rooms_and_not_read_is_not_gathered() {
    const ROOMS: usize = 60;
    let server = Server::start(&["--set", "limits.publish_rate_anonymous=0", "--set", "engine.recent_messages=0"]);
    let mut teller = Wire::open_v1(&server, "7?deliver=none");
    for room in 0..ROOMS {
        teller.json(&json!({"op": "join", "roomId": format!("long-{room}")}));
        for _ in 0..200 {
            let mut message = said(&"€".repeat(500));
            message["roomId"] = json!(format!("long-{room}"));
            teller.json(&message);
        }
        for _ in 0..200 {
            assert_eq!(teller.answer()["status"], "SUCCESS");
        }
    }
    drop(teller);
    // 60 rooms with 200 messages of 1.7 KB are 20 MB.
    nobody_notices(&server, 10 * MIB, || {
        let mut wire = Wire::open_v1(&server, "7");
        for room in 0..ROOMS {
            wire.json(&json!({"op": "join", "roomId": format!("long-{room}"), "history": 200}));
        }
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(1) {
            resident(&server);
        }
        // Who reads after all gets everything.
        for _ in 0..ROOMS * 200 {
            wire.next_json(|frame| frame.get("message").is_some());
        }
    });
    unharmed(&server);
}

#[test]
fn a_half_open_connection_is_pinged_and_closed_with_3000() {
    let server = Server::start(&IMPATIENT);
    let (mut silent, mut alive) = (Wire::open(&server, "7"), Wire::open(&server, "7"));
    let begun = Instant::now();
    let alive = std::thread::spawn(move || {
        let mut pings = 0;
        while begun.elapsed() < Duration::from_secs(5) {
            assert_eq!(alive.next().expect("who answers pings stays").first, FIN | PING);
            alive.send(&frame(FIN | PONG, b""));
            pings += 1;
        }
        (alive, pings)
    });
    assert_eq!(silent.next().unwrap().first, FIN | PING);
    assert_eq!(silent.end(), (3000, "no sign of life".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // It never sends its close frame, nor hangs up.
    until_connections(&server, 1);
    let (mut alive, pings) = alive.join().unwrap();
    assert!(pings >= 2);
    alive.json(&said("I am here"));
    assert_eq!(alive.answer()["status"], "SUCCESS");
    unharmed(&server);
}

#[test]
fn two_thousand_that_come_and_go_leave_nothing_behind() {
    let server = Server::start(&[]);
    nobody_notices(&server, 8 * MIB, || {
        for n in 0..2_000 {
            let mut wire = Wire::open(&server, &format!("{}", n % 20));
            if n % 2 == 0 {
                wire.send(&close(1000, b""));
            }
        }
        until_connections(&server, 2);
    });
    unharmed(&server);
}
