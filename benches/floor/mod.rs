//! The floor under the `sockets` bench: a server that does what nobody can leave out, and nothing else.
//!
//! One thread; what was read from a publisher is counted, not parsed, and not answered. For each of its messages every member of the
//! room is due the same ready-made broadcast; all that is due to a member goes out in one write.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{ErrorKind, Write};
use std::rc::Rc;

use bytes::BytesMut;
use chatflow_core::protocol::put_text_frame;
use chatflow_core::{ChatCodec, Codec, Message, MessageId, Position, RoomId, Timestamp};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Broadcasts that one write carries at most.
const MOST: usize = 1_024;

/// A broadcast of the length that ChatFlow's has, for a client's frame of this payload.
fn broadcast(payload: &str) -> BytesMut {
    let draft = ChatCodec.decode(&payload.into()).expect("the bench's own message");
    let message = Message {
        id: MessageId::now_v7(),
        room: RoomId::new("10").expect("a valid name"),
        sender: draft.sender.clone(),
        kind: draft.kind.clone(),
        body: ChatCodec.body(&draft),
        digest: 0,
        at: Timestamp::now(),
        node: "".into(),
        session: 0,
        origin: "".into(),
    };
    let position = Position::new(message.at.0 as u64, 123_456);
    let mut out = BytesMut::new();
    put_text_frame(&mut out, |out| ChatCodec.broadcast(&message, position, out));
    out
}

struct Member {
    stream: TcpStream,
    /// Bytes of the room's broadcasts that it was written.
    written: Cell<u64>,
    /// Told when its socket is full.
    full: Notify,
}

#[derive(Default)]
struct Room {
    members: RefCell<Vec<Rc<Member>>>,
    /// Bytes of broadcasts since the room began.
    due: Cell<u64>,
}

struct Floor {
    /// A client's frame on the wire, in bytes.
    frame: u64,
    /// The broadcast, over and over: what is due to a member is always a slice of it.
    broadcasts: Vec<u8>,
    broadcast: u64,
    rooms: RefCell<HashMap<String, Rc<Room>>>,
}

/// Serves on a free port until it is killed; says where on the standard output, as `chatflow-server` does.
pub(crate) async fn serve(frame: &[u8]) {
    let payload = std::str::from_utf8(&frame[8..]).expect("a text frame with a zero mask");
    let broadcast = broadcast(payload);
    let floor = Rc::new(Floor {
        frame: frame.len() as u64,
        broadcasts: broadcast.repeat(MOST),
        broadcast: broadcast.len() as u64,
        rooms: RefCell::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mut stdout = std::io::stdout();
    writeln!(stdout, "http://{}/", listener.local_addr().expect("an address")).and_then(|()| stdout.flush()).expect("a reader");
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(connection(Rc::clone(&floor), stream));
    }
}

async fn connection(floor: Rc<Floor>, mut stream: TcpStream) {
    stream.set_nodelay(true).expect("nodelay");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let name = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
    stream.try_write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").expect("an empty socket takes it");
    let room = Rc::clone(floor.rooms.borrow_mut().entry(name).or_default());
    let member = Rc::new(Member { stream, written: Cell::new(room.due.get()), full: Notify::new() });
    room.members.borrow_mut().push(Rc::clone(&member));

    let (mut buffer, mut read) = (vec![0; 64 << 10], 0);
    loop {
        tokio::select! {
            readable = member.stream.readable() => if readable.is_err() { return },
            () = member.full.notified() => {
                if member.stream.writable().await.is_err() {
                    return;
                }
                floor.write(&room, &member);
                continue;
            }
        }
        let before = read / floor.frame;
        loop {
            match member.stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => read += n as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return,
            }
        }
        let messages = read / floor.frame - before;
        if messages > 0 {
            room.due.set(room.due.get() + messages * floor.broadcast);
            for member in room.members.borrow().iter() {
                floor.write(&room, member);
            }
        }
    }
}

impl Floor {
    /// Writes a member what is due to it; what its socket does not take is written once it takes more.
    fn write(&self, room: &Room, member: &Member) {
        loop {
            let (written, due) = (member.written.get(), room.due.get());
            if written == due {
                return;
            }
            let from = (written % self.broadcast) as usize;
            let until = self.broadcasts.len().min(from + (due - written) as usize);
            match member.stream.try_write(&self.broadcasts[from..until]) {
                Ok(n) => member.written.set(written + n as u64),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return member.full.notify_one(),
                // It is gone; its own task notices.
                Err(_) => return,
            }
        }
    }
}
