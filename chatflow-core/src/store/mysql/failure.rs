//! What MySQL's, MariaDB's and the connection's errors mean to a caller.

use sqlx::mysql::MySqlDatabaseError;

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
        sqlx::Error::Database(_) => of_number(number(&error)),
        // What the driver can't make of the end of a connection.
        sqlx::Error::Protocol(_) => (Unavailable, "the connection to the database failed"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => (Corrupt, "a row can't be read back"),
        sqlx::Error::Encode(_) => (Invalid, "the row can't be stored"),
        _ => (Internal, "the driver failed"),
    };
    Error::new(kind, ORIGIN, text).with_source(error.to_string())
}

/// An error while opening: what is only unfortunate later is a mistake in the settings then.
pub(super) fn opening(from: sqlx::Error) -> Error {
    let text = match number(&from) {
        1044 | 1045 | 1130 | 1698 => "the database does not let this user in",
        1049 => "there is no such database",
        1142 | 1143 | 1227 => "the user lacks a right",
        1046 | 1064 | 1146 | 1235 => "the database can't be used",
        _ if matches!(from, sqlx::Error::Tls(_)) => "TLS with the database failed",
        _ => return error(from),
    };
    Error::new(ErrorKind::Config, ORIGIN, text).with_source(from.to_string())
}

/// The number of a database's error; 0 for any other.
pub(super) fn number(error: &sqlx::Error) -> u16 {
    let from = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    from.map_or(0, MySqlDatabaseError::number)
}

/// By the numbers that MySQL and MariaDB share.
fn of_number(number: u16) -> (ErrorKind, &'static str) {
    use ErrorKind::{Corrupt, Internal, Invalid, Timeout, Unavailable};
    match number {
        1213 | 1020 => (Unavailable, "another commit was in the way"),
        1205 => (Unavailable, "somebody holds a lock on the database for too long"),
        // The limit of a statement: a writer's waits for locks are shorter.
        1969 | 3024 => (Timeout, "the answer takes too long"),
        1021 | 1114 => (Unavailable, "the database's disk is full"),
        1290 | 1792 | 1836 => (Unavailable, "the database is read-only"),
        1040 | 1041 | 1053 | 1317 | 1037 | 1038 | 1077 | 1079 | 1129 | 1135 | 1152..=1161 if number != 1153 => {
            (Unavailable, "the database can't work now")
        }
        // Somebody is changing users, rights or tables: not the row's fault, and mended by a person.
        1044 | 1045 | 1049 | 1054 | 1142 | 1143 | 1146 | 1227 | 1698 => (Unavailable, "the database refuses this node"),
        1048 | 1062 | 1153 | 1264 | 1366 | 1406 | 1118 | 1301 => (Invalid, "the row can't be stored"),
        1034 | 1035 | 1194 | 1712 => (Corrupt, "the database is damaged"),
        1927 | 1928 | 4031 => (Unavailable, "the database has closed the connection"),
        _ => (Internal, "the database failed"),
    }
}
