//! An application with messages of its own: cursors that move over a shared canvas.
//!
//! `cargo run --example payload`: two people move their cursors, one of them out of the canvas, and both see where they are. The
//! [`Codec`] is all that the engine has to know of the new form.

mod server;

use bytes::{BufMut, Bytes, BytesMut};
use chatflow_client::{Client, Error, Events, Incoming};
use chatflow_core::protocol::{code, put_json};
use chatflow_core::{BadFrame, ByteString, Codec, Draft, Engine, Message, MessageId, Position, Violation};
use serde::{Deserialize, Serialize};

/// Where somebody's cursor is: both coordinates from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cursor {
    who: String,
    x: f64,
    y: f64,
}

/// A client's frame: the fields that every codec has, and a cursor.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    message_id: Option<MessageId>,
    room_id: Option<ByteString>,
    #[serde(rename = "ref")]
    reference: Option<ByteString>,
    #[serde(flatten)]
    cursor: Cursor,
}

#[derive(Debug)]
struct CursorCodec;

impl Codec for CursorCodec {
    fn decode(&self, frame: &ByteString) -> Result<Draft, BadFrame> {
        let bad = |error: serde_json::Error| {
            let (code, field) = if error.is_data() { (code::INVALID, "cursor") } else { (code::BAD_JSON, "frame") };
            BadFrame { code, violations: vec![Violation::new(field, error.to_string())], id: None, reference: None }
        };
        let Frame { message_id, room_id, reference, cursor } = serde_json::from_str(frame).map_err(bad)?;
        let body = serde_json::to_vec(&cursor).map_err(bad)?.into();
        Ok(Draft { id: message_id, room: room_id, reference, sender: cursor.who.into(), kind: "CURSOR".into(), body, ..Draft::default() })
    }

    fn body(&self, draft: &Draft) -> Bytes {
        draft.body.clone()
    }

    /// Two drafts are the same message if their bodies are: a body has one spelling, because `decode` wrote it. FNV-1a, because the
    /// history keeps digests, and the standard library's hashes may change with the next compiler.
    fn digest(&self, draft: &Draft) -> u64 {
        draft.body.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }

    fn broadcast(&self, message: &Message, position: Position, out: &mut BytesMut) {
        out.put_slice(br#"{"messageId":"#);
        put_json(out, &message.id.to_string());
        out.put_slice(br#","roomId":"#);
        put_json(out, message.room.as_str());
        out.put_slice(br#","position":"#);
        put_json(out, &position.to_string());
        self.echo(message, out);
        out.put_u8(b'}');
    }

    fn echo(&self, message: &Message, out: &mut BytesMut) {
        out.put_slice(br#","cursor":"#);
        out.put_slice(&message.body);
    }
}

/// What goes for a cursor, in place of the rules for chat.
fn within_the_canvas(draft: &Draft) -> Result<(), Vec<Violation>> {
    let problem = |field, problem: &str| Violation::new(field, problem);
    let cursor: Cursor = serde_json::from_slice(&draft.body).map_err(|error| vec![problem("cursor", &error.to_string())])?;
    let outside = [("x", cursor.x), ("y", cursor.y)].into_iter().filter(|(_, value)| !(0.0..=1.0).contains(value));
    let violations: Vec<_> = outside.map(|(field, _)| problem(field, "must be from 0 to 1")).collect();
    if violations.is_empty() { Ok(()) } else { Err(violations) }
}

/// The next cursor that moves.
async fn next(events: &mut Events) -> Result<Cursor, Box<dyn std::error::Error>> {
    #[derive(Deserialize)]
    struct Moved {
        cursor: Cursor,
    }
    loop {
        if let Incoming::Message(message) = events.recv().await.ok_or("the connection ended")? {
            return Ok(message.json::<Moved>()?.cursor);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().codec(CursorCodec).validator(within_the_canvas).build().await?;
    let url = server::start(&engine).await?;
    let (ada, mut ada_sees) = Client::builder(&url).room("canvas").connect().await?;
    let (_bob, mut bob_sees) = Client::builder(&url).room("canvas").connect().await?;

    let fields = |cursor: &Cursor| match serde_json::to_value(cursor) {
        Ok(serde_json::Value::Object(fields)) => fields,
        other => panic!("a cursor is an object: {other:?}"),
    };
    for step in 0..5u8 {
        let moved = Cursor { who: "ada".into(), x: f64::from(step) / 4.0, y: 0.5 };
        ada.publish_json("canvas", fields(&moved)).await?;
        let (seen, also_seen) = (next(&mut ada_sees).await?, next(&mut bob_sees).await?);
        println!("{} is at {}, {}", seen.who, seen.x, seen.y);
        assert_eq!((&seen, &also_seen), (&moved, &moved));
    }
    match ada.publish_json("canvas", fields(&Cursor { who: "ada".into(), x: -0.1, y: 7.0 })).await {
        Err(Error::Refused(refusal)) => {
            println!("refused: {:?}", refusal.errors);
            assert_eq!(refusal.errors, ["x: must be from 0 to 1", "y: must be from 0 to 1"]);
        }
        other => return Err(format!("outside of the canvas, and yet {other:?}").into()),
    }
    Ok(())
}
