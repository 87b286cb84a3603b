//! From configuration to an engine: the only place that knows which backends there are.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use chatflow_core::{BadFrame, ChatCodec, ChatValidator, Codec, Draft, Engine, Message, NodeId, Position};

use crate::config::{Config, ConfigError};
use crate::http::strip_prefix;

/// Opens the backends and starts the engine.
///
/// # Errors
/// There is no such backend, or it can't be reached.
pub(crate) async fn engine(config: &Config, node: NodeId) -> Result<Engine, ConfigError> {
    let allow = config.rooms.allow.clone();
    let builder = Engine::builder()
        .node(node)
        .settings(config.settings())
        .validator(ChatValidator::new(config.validator.limits()))
        .codec(AliasCodec { prefix: config.rooms.strip_prefix.clone() })
        .rooms(move |room| allow.allows(room));
    builder.build().await.map_err(|error| ConfigError::line(error.to_string()))
}

/// The chat schema, where a message may name its room by an alias (`room7` for `7`).
#[derive(Debug)]
struct AliasCodec {
    prefix: String,
}

impl Codec for AliasCodec {
    fn decode(&self, frame: &ByteString) -> Result<Draft, BadFrame> {
        let mut draft = ChatCodec.decode(frame)?;
        draft.room = draft.room.map(|room| room.slice_ref(strip_prefix(&self.prefix, &room)));
        Ok(draft)
    }

    fn body(&self, draft: &Draft) -> Bytes {
        ChatCodec.body(draft)
    }

    fn digest(&self, draft: &Draft) -> u64 {
        ChatCodec.digest(draft)
    }

    fn broadcast(&self, message: &Message, position: Position, out: &mut BytesMut) {
        ChatCodec.broadcast(message, position, out);
    }

    fn echo(&self, message: &Message, out: &mut BytesMut) {
        ChatCodec.echo(message, out);
    }
}
