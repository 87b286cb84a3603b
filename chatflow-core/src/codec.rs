//! What an application's messages look like on the wire.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use crate::{Draft, Message, Position, Violation};

/// Turns clients' frames into drafts and accepted messages into the frames that members see.
///
/// The [chat schema](crate::ChatCodec) comes with the library; an application brings its own payload by implementing
/// this. Frames are JSON objects, and the fields `messageId`, `roomId`, `ref`, `op`, `status` and `event` mean the
/// same in every codec.
///
/// # Guarantees
/// 1. `decode` never panics, whatever the frame, and takes time linear in its length.
/// 2. What `body` makes of a draft is all that `broadcast` needs besides the message's server fields: a message read
///    back from the history is shown in the same bytes as it was live.
/// 3. Two drafts have the same `digest` exactly if they say the same; times do not count. The history keeps digests, so they
///    are the same on every node and in every later version of the program.
pub trait Codec: Debug + Send + Sync + 'static {
    /// Reads a client's frame.
    ///
    /// # Errors
    /// Why the frame is not a message at all, or every field that has the wrong type.
    fn decode(&self, frame: &ByteString) -> Result<Draft, BadFrame>;

    /// What is kept for good of a draft that was found valid.
    fn body(&self, draft: &Draft) -> Bytes;

    /// A hash of what makes two drafts the same message.
    fn digest(&self, draft: &Draft) -> u64;

    /// Appends the JSON object that members see.
    fn broadcast(&self, message: &Message, position: Position, out: &mut BytesMut);

    /// Appends the message's own fields, as `,"name":value` pairs, to the answer of a server that only answers.
    fn echo(&self, message: &Message, out: &mut BytesMut);
}

/// A frame that is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFrame {
    /// `bad_json`, `too_deep`, `invalid`: an error code of the protocol.
    pub code: &'static str,
    /// Everything that is wrong.
    pub violations: Vec<Violation>,
    /// The message's id, if it could be read all the same.
    pub id: Option<ByteString>,
    /// The client's reference, if it could be read all the same.
    pub reference: Option<ByteString>,
}
