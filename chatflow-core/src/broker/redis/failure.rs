//! What went wrong at Redis, in terms that a caller can act on.

use redis::{ErrorKind as Kind, RedisError, ServerErrorKind as Server};

use crate::{Error, ErrorKind};

/// An [`Error`] that several can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What an error of the client or the server at `place` means. Neither repeats passwords.
    pub(super) fn of(place: &impl std::fmt::Display, error: &RedisError) -> Self {
        let code = error.code().unwrap_or_default();
        let advice = match error.kind() {
            Kind::AuthenticationFailed => "user and password of the broker's URL are not right",
            _ if matches!(code, "NOAUTH" | "WRONGPASS") => "user and password of the broker's URL are not right",
            Kind::Server(Server::NoPerm) => "the user of the broker's URL may not do what the broker has to",
            // So versions 7.0 and 7.2 say it of what a script does.
            _ if ["user executing the script can't", "ACL failure in script"].iter().any(|said| error.to_string().contains(said)) => {
                "the user of the broker's URL may not do what the broker has to"
            }
            Kind::RESP3NotSupported => "version 7 or later is needed",
            Kind::InvalidClientConfig => "the broker's URL is not right",
            _ => "",
        };
        if !advice.is_empty() {
            return Self::new(ErrorKind::Config, format!("Redis at {place}: {advice} ({error})"));
        }
        let kind = match error.kind() {
            _ if error.is_timeout() => ErrorKind::Timeout,
            // It holds as much as it may: what is settled will make room.
            _ if code == "OOM" => ErrorKind::Full,
            Kind::Parse | Kind::UnexpectedReturnType => ErrorKind::Internal,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("Redis at {place}: {error}"))
    }

    /// The same as an error.
    pub(super) fn error(&self) -> Error {
        Error::new(self.kind, "redis", self.text.clone())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::new(failure.kind, "redis", failure.text)
    }
}
