//! What SQLite's result codes mean to a caller.

use rusqlite::ErrorCode;

use super::ORIGIN;
use crate::{Error, ErrorKind};

/// Whether the failure lies in the row itself, so that its neighbours may be fine and it never will be.
pub(super) fn is_of_row(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    matches!(error.sqlite_error_code(), Some(TooBig | ConstraintViolation | TypeMismatch))
}

/// The library's error for SQLite's, which may be needed more than once: a group has many waiters.
pub(crate) fn error(error: &rusqlite::Error) -> Error {
    use ErrorCode::*;
    let (kind, text) = match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked) => (ErrorKind::Unavailable, "another process holds a lock on the database"),
        Some(DiskFull) => (ErrorKind::Unavailable, "the disk is full"),
        Some(SystemIoFailure | FileLockingProtocolFailed) => (ErrorKind::Unavailable, "the disk failed"),
        Some(ReadOnly | PermissionDenied) => (ErrorKind::Unavailable, "the database can't be written"),
        Some(CannotOpen) => (ErrorKind::Unavailable, "the database can't be opened"),
        Some(OperationInterrupted) => (ErrorKind::Timeout, "the answer takes too long"),
        Some(OutOfMemory) => (ErrorKind::Unavailable, "out of memory"),
        Some(TooBig | ConstraintViolation | TypeMismatch) => (ErrorKind::Invalid, "the row can't be stored"),
        Some(DatabaseCorrupt) => (ErrorKind::Corrupt, "the database is damaged"),
        Some(NotADatabase) => (ErrorKind::Corrupt, "the file is not a database"),
        _ if matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)) => {
            (ErrorKind::Corrupt, "a row can't be read back")
        }
        _ => (ErrorKind::Internal, "SQLite failed"),
    };
    Error::new(kind, ORIGIN, text).with_source(error.to_string())
}
