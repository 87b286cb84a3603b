//! The one error type of the library.

use std::borrow::Cow;
use std::fmt;

/// A result whose error is an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, in terms that a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The backend can't be reached or does not answer. Try again later.
    Unavailable,
    /// The backend took longer than it may. The outcome is unknown.
    Timeout,
    /// A bound is reached (a full log, a full queue). Try again later.
    Full,
    /// This node is shutting down and takes nothing new.
    Draining,
    /// Somebody else holds the lease by now; nothing was written.
    Fenced,
    /// What was asked for can never succeed as it stands (a bad row, an oversized entry).
    Invalid,
    /// The thing does not exist.
    NotFound,
    /// Who you are is not known.
    Unauthenticated,
    /// You may not do this.
    Forbidden,
    /// Settings contradict each other or the backend.
    Config,
    /// Stored data can't be read back.
    Corrupt,
    /// It was closed before.
    Closed,
    /// A fault of this library or a backend that no other kind describes.
    Internal,
}

/// An error: what kind, where it came from, and why.
///
/// A validator's [`Violation`](crate::Violation)s are not errors: they are an answer.
pub struct Error {
    kind: ErrorKind,
    origin: &'static str,
    message: Cow<'static, str>,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind` that arose in `origin` (`"broker"`, `"sqlite"`, …).
    pub fn new(kind: ErrorKind, origin: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, origin, message: message.into(), source: None }
    }

    /// The same with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What a caller can act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The part that reported it.
    pub fn origin(&self) -> &'static str {
        self.origin
    }

    /// Whether the same call may succeed later without anything being changed.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Full | ErrorKind::Draining)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as _)
    }
}
