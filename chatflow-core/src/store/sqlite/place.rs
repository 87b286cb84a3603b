//! Positions as SQLite keeps them.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Value, ValueRef};

use crate::Position;

/// One half of a position: an integer up to 2^63 − 1, beyond that 16 big-endian bytes. SQLite sorts every integer before
/// every blob, so the column sorts as the numbers do, and a usual position takes a few bytes and reads well in a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Half(u128);

/// Both halves, in the order of the columns `epoch` and `offset`.
pub(super) fn halves(position: Position) -> (Half, Half) {
    (Half(position.epoch.into()), Half(position.offset))
}

/// The position in the columns `column` and the next.
pub(super) fn position(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Position> {
    let (Half(epoch), Half(offset)) = (row.get(column)?, row.get(column + 1)?);
    let epoch = u64::try_from(epoch).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, i64::MAX))?;
    Ok(Position::new(epoch, offset))
}

impl ToSql for Half {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(match i64::try_from(self.0) {
            Ok(small) => Value::Integer(small),
            Err(_) => Value::Blob(self.0.to_be_bytes().to_vec()),
        }))
    }
}

impl FromSql for Half {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Integer(small) => u128::try_from(small).map(Half).map_err(|_| FromSqlError::OutOfRange(small)),
            ValueRef::Blob(bytes) => match bytes.try_into() {
                Ok(bytes) => Ok(Half(u128::from_be_bytes(bytes))),
                Err(_) => Err(FromSqlError::InvalidBlobSize { expected_size: 16, blob_size: bytes.len() }),
            },
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
