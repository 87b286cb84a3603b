//! What RabbitMQ's errors mean to us.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::{Error, ErrorKind};

/// Why something could not be done with a queue.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no such queue.
    Missing,
    Other(Error),
}

impl Fault {
    /// What `error` means that came of doing `what`.
    pub(super) fn of(what: &str, error: lapin::Error) -> Self {
        let missing = matches!(error.kind(), lapin::ErrorKind::ProtocolError(e)
            if *e.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) && !e.get_message().as_str().contains("down or inaccessible"));
        if missing { Self::Missing } else { Self::Other(explain(what, error)) }
    }

    pub(super) fn into_error(self, what: &str) -> Error {
        match self {
            Self::Missing => Error::new(ErrorKind::Unavailable, "rabbitmq", format!("{what}: the queue is gone")),
            Self::Other(error) => error,
        }
    }
}

/// An error of `kind` with this text.
pub(super) fn error(kind: ErrorKind, text: impl Into<String>) -> Error {
    Error::new(kind, "rabbitmq", text.into())
}

/// The error of doing `what`, saying what to do about it where that is known.
pub(super) fn explain(what: &str, cause: lapin::Error) -> Error {
    let lapin::ErrorKind::ProtocolError(refusal) = cause.kind() else {
        return error(ErrorKind::Unavailable, what).with_source(cause);
    };
    let said = refusal.get_message().as_str();
    let (kind, text) = match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) if said.contains("Login was refused") || said.contains("login refused") => {
            (ErrorKind::Config, "wrong user or password, or the user may only connect from the same machine".to_owned())
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
            (ErrorKind::Config, format!("{what}: the user needs the rights to configure, write and read the queues of the prefix: {said}"))
        }
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
            (ErrorKind::Config, format!("the vhost does not exist, or the user may not use it: {said}"))
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => (
            ErrorKind::Config,
            format!("{what}: RabbitMQ 3.9 or later is needed, and a queue of that name must be one that we made: {said}"),
        ),
        _ => (ErrorKind::Unavailable, format!("{what}: {said}")),
    };
    error(kind, text)
}
