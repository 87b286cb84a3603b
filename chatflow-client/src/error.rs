//! What can go wrong, in words that say what to do about it.

use std::io;
use std::time::Duration;

use chatflow_core::protocol::{ErrorFrame, close};
use chatflow_core::{BadRoomId, MessageId};

/// Why a client's call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is no address of a server.
    #[error("{url:?} is no server address: {problem}")]
    BadUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The token has characters that can't stand in an HTTP header.
    #[error("the token has characters that can't be sent in an HTTP header")]
    BadToken,
    /// The text can't be a room's name.
    #[error("{0:?} can't be a room: {BadRoomId}")]
    BadRoom(String),
    /// The `messageId` of a message of the application's own form is not a UUID.
    #[error("messageId must be a UUID")]
    BadMessageId,
    /// No server could be reached: what happened with each.
    #[error("{}", join(.0))]
    Unreachable(Vec<ConnectError>),
    /// The server answered with an error: invalid, forbidden, an id used before, or retryable but past the deadline.
    #[error("{}", refusal(.0))]
    Refused(Box<ErrorFrame>),
    /// No answer within the deadline. Whether the message is in the room is not known; publishing it again under the
    /// same id finds out and can't double it.
    #[error("message {id} was not answered within {} s; publish it again under the same id to find out", .within.as_secs_f32())]
    Unanswered {
        /// The message.
        id: MessageId,
        /// The deadline that passed.
        within: Duration,
    },
    /// The server did not answer the request to join or leave within the deadline.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The client is not a member of the room: join it first.
    #[error("not a member of room {0}: join it first")]
    NotJoined(String),
    /// The frame is larger than the server takes; it was not sent.
    #[error("the message makes a frame of {size} bytes; the server takes {limit}")]
    TooLarge {
        /// Bytes of the frame.
        size: usize,
        /// Bytes that the server takes.
        limit: usize,
    },
    /// The builder was not told who publishes.
    #[error("say who publishes: ClientBuilder::user(id, name)")]
    NoUser,
    /// The server ended the connection for good, with this close code.
    #[error("the server closed the connection for good ({code}{}{reason})", if .reason.is_empty() { "" } else { ": " })]
    ClosedByServer {
        /// The WebSocket close code.
        code: u16,
        /// The server's reason; untrusted text.
        reason: String,
    },
    /// The client was closed by the application.
    #[error("the client is closed")]
    Closed,
}

/// Why one server could not be reached.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{url}: {failure}")]
pub struct ConnectError {
    /// The server.
    pub url: String,
    /// What happened.
    pub failure: ConnectFailure,
}

/// What happened on the way to a server.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// The host's name has no address.
    #[error("the name {host:?} could not be resolved ({problem})")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        problem: String,
    },
    /// Nobody listens at the port.
    #[error("connection refused: nobody listens there")]
    Refused,
    /// Another fault of the network.
    #[error("{0}")]
    Network(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No secure connection came about.
    #[error("TLS failed: {0}")]
    Tls(String),
    /// The address needs TLS and this build has none.
    #[error("this build has no TLS (feature `tls`); use ws:// or http://")]
    NoTls,
    /// The upgrade to WebSocket was answered with an HTTP status.
    #[error("the server answered HTTP {status} instead of upgrading{}{detail}", if .detail.is_empty() { "" } else { ": " })]
    Status {
        /// The HTTP status.
        status: u16,
        /// What the body says; untrusted text.
        detail: String,
        /// The `Retry-After` header.
        retry_after: Option<Duration>,
    },
    /// A WebSocket server, but not one of `chatflow.v1`.
    #[error("the server does not speak chatflow.v1; is it a ChatFlow server?")]
    NoSubprotocol,
    /// The server closed the connection before its welcome.
    #[error("the server closed the connection ({code}{}{reason})", if .reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The WebSocket close code.
        code: u16,
        /// The server's reason; untrusted text.
        reason: String,
    },
    /// The other side speaks no WebSocket, or breaks its rules.
    #[error("no WebSocket connection: {0}")]
    Protocol(String),
}

impl ConnectFailure {
    /// Whether trying again later may help.
    pub fn comes_back(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Closed { code, .. } => close::comes_back(*code),
            Self::NoTls | Self::NoSubprotocol => false,
            _ => true,
        }
    }

    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Network(error.to_string()),
        }
    }
}

impl From<ErrorFrame> for Error {
    fn from(frame: ErrorFrame) -> Self {
        Self::Refused(Box::new(frame))
    }
}

fn join(errors: &[ConnectError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn refusal(frame: &ErrorFrame) -> String {
    match &frame.errors[..] {
        [] => format!("the server refused: {}", frame.code),
        errors => format!("the server refused ({}): {}", frame.code, errors.join("; ")),
    }
}
