//! Reading a client's frame, keeping it, and making the frame that members see.
//!
//! `cargo bench --bench codec`. The reference in the same run: serde_json and a plain derived struct, which checks neither duplicate
//! keys of unknown fields nor depth, and names only the first thing that is wrong.

mod crowd;

use std::hint::black_box;

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use chatflow_core::{ChatCodec, ChatValidator, Codec, Message, MessageValidator, Position};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};

/// The chat message as anybody would write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plain {
    message_id: String,
    user_id: String,
    username: String,
    message: String,
    timestamp: String,
    message_type: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Broadcast<'a> {
    message_id: &'a str,
    room_id: &'a str,
    user_id: &'a str,
    username: &'a str,
    message: &'a str,
    message_type: &'a str,
    timestamp: &'a str,
    server_timestamp: String,
    position: String,
}

fn codec(c: &mut Criterion) {
    let frame = ByteString::from(crowd::frame());
    let draft = crowd::draft();
    let (validator, room, position) = (ChatValidator::default(), crowd::room(7), Position::new(1_795_172_530_123, 123_456));
    let message = crowd::accept(&draft, &room);
    let entry = message.encode();
    let plain: Plain = serde_json::from_str(&frame).expect("a good frame");
    let mut out = BytesMut::with_capacity(1 << 10);

    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |b| b.iter(|| ChatCodec.decode(black_box(&frame))));
    group.bench_function("decode, reference", |b| b.iter(|| serde_json::from_str::<Plain>(black_box(&frame))));
    group.bench_function("validate", |b| b.iter(|| validator.validate(black_box(&draft))));
    group.bench_function("body and digest", |b| b.iter(|| (ChatCodec.body(black_box(&draft)), ChatCodec.digest(black_box(&draft)))));
    group.bench_function("message encode", |b| b.iter(|| black_box(&message).encode()));
    group.bench_function("message decode", |b| b.iter(|| Message::decode(black_box(&entry).clone())));
    group.bench_function("message peek", |b| b.iter(|| Message::peek(black_box(&entry)).map(|header| header.digest)));
    group.bench_function("broadcast", |b| {
        b.iter(|| {
            out.clear();
            ChatCodec.broadcast(black_box(&message), position, &mut out);
            out.len()
        });
    });
    group.bench_function("broadcast, reference", |b| {
        b.iter(|| {
            out.clear();
            let plain = black_box(&plain);
            let broadcast = Broadcast {
                message_id: &plain.message_id,
                room_id: room.as_str(),
                user_id: &plain.user_id,
                username: &plain.username,
                message: &plain.message,
                message_type: &plain.message_type,
                timestamp: &plain.timestamp,
                server_timestamp: message.at.to_string(),
                position: position.to_string(),
            };
            serde_json::to_writer((&mut out).writer(), &broadcast).map(|()| out.len())
        });
    });
    // All that a message costs between the frame that comes in and the frame that goes out.
    group.bench_function("from frame to frame", |b| {
        b.iter(|| {
            let draft = ChatCodec.decode(black_box(&frame)).expect("a good frame");
            validator.validate(&draft).expect("a good message");
            let entry = crowd::accept(&draft, &room).encode();
            let message = Message::decode(entry).expect("what was encoded");
            out.clear();
            ChatCodec.broadcast(&message, position, &mut out);
            out.len()
        });
    });
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);
