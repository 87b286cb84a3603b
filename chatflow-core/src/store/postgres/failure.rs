//! What PostgreSQL's and the connection's errors mean to a caller.

use super::ORIGIN;
use crate::store::batch;
use crate::{Error, ErrorKind};

/// An error of a running store.
pub(crate) fn error(error: sqlx::Error) -> Error {
    use ErrorKind::{Config, Corrupt, Internal, Invalid, Unavailable};
    let (kind, text) = match &error {
        sqlx::Error::PoolClosed => return batch::closed(ORIGIN),
        sqlx::Error::PoolTimedOut => return Error::new(Unavailable, ORIGIN, "there is no connection to the database"),
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => (Unavailable, "the connection to the database failed"),
        sqlx::Error::Configuration(_) => (Config, "the URL can't be used"),
        sqlx::Error::Tls(_) => (Unavailable, "TLS with the database failed"),
        sqlx::Error::Database(from) => of_code(from.code().as_deref().unwrap_or_default()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => (Corrupt, "a row can't be read back"),
        // What cannot be encoded is a row at fault.
        sqlx::Error::Encode(_) => (Invalid, "the row can't be stored"),
        _ => (Internal, "the driver failed"),
    };
    Error::new(kind, ORIGIN, text).with_source(error.to_string())
}

/// An error while opening: what is only unfortunate later is a mistake in the settings then.
pub(super) fn opening(from: sqlx::Error) -> Error {
    let code = from.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
    let is_setting = matches!(code.get(..2), Some("28" | "3D" | "42" | "0A")) || matches!(from, sqlx::Error::Tls(_));
    if is_setting {
        let text = match &*code {
            "28P01" | "28000" => "the database does not let this user in",
            "3D000" => "there is no such database",
            "42501" => "the user lacks a right",
            _ => "the database can't be used",
        };
        return Error::new(ErrorKind::Config, ORIGIN, text).with_source(from.to_string());
    }
    error(from)
}

/// Whether what was to be inserted is there already.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// By SQLSTATE, appendix A of PostgreSQL's manual.
fn of_code(code: &str) -> (ErrorKind, &'static str) {
    use ErrorKind::{Corrupt, Internal, Invalid, Timeout, Unavailable};
    match (code.get(..2).unwrap_or_default(), code) {
        (_, "40001" | "40P01") => (Unavailable, "another commit was in the way"),
        (_, "55P03") => (Unavailable, "somebody holds a lock on the database for too long"),
        // The limit of a statement: a writer's waits for locks are shorter.
        (_, "57014") => (Timeout, "the answer takes too long"),
        (_, "53100") => (Unavailable, "the database's disk is full"),
        (_, "25006") => (Unavailable, "the database is read-only"),
        ("08" | "53" | "57" | "58" | "25", _) => (Unavailable, "the database can't work now"),
        // Somebody is changing users, rights or tables: not the row's fault, and mended by a person.
        ("28" | "3D" | "42", _) => (Unavailable, "the database refuses this node"),
        ("22" | "23" | "54", _) => (Invalid, "the row can't be stored"),
        (_, "XX001" | "XX002") => (Corrupt, "the database is damaged"),
        _ => (Internal, "PostgreSQL failed"),
    }
}
