//! A chat message before it is published.

use chatflow_core::{MessageId, Timestamp, kind};

/// A chat message to publish with an id, a kind or a time of one's own choice.
///
/// ```
/// use chatflow_client::{Draft, kind};
///
/// let hello = Draft::new("ada is here").kind(kind::JOIN);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub(crate) id: MessageId,
    pub(crate) kind: String,
    pub(crate) text: String,
    pub(crate) timestamp: String,
}

impl Draft {
    /// A `TEXT` message of now, under a new UUIDv7.
    pub fn new(text: impl Into<String>) -> Self {
        Self { id: MessageId::now_v7(), kind: kind::TEXT.to_string(), text: text.into(), timestamp: Timestamp::now().to_string() }
    }

    /// The same of another kind: `JOIN`, `LEAVE` or one that the server's validator knows.
    #[must_use]
    pub fn kind(mut self, kind: impl AsRef<str>) -> Self {
        self.kind = kind.as_ref().to_owned();
        self
    }

    /// The same under this id. Publishing one id twice with the same content is one message.
    #[must_use]
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = id;
        self
    }

    /// The same with this client time, ISO-8601.
    #[must_use]
    pub fn timestamp(mut self, timestamp: impl Into<String>) -> Self {
        self.timestamp = timestamp.into();
        self
    }

    /// The id that it will be published under.
    pub fn message_id(&self) -> MessageId {
        self.id
    }
}
