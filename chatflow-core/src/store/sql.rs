//! What the stores in databases have in common: how they are configured, their connections, and what becomes of a batch.

mod config;
mod pools;
mod rooms;
mod rows;
mod together;

use std::time::Duration;

pub use config::DatabaseConfig;
pub(super) use pools::{Dialect, Lent, Pools};
pub(super) use rooms::Walk;
pub(super) use rows::{Exceptions, News, Part, exceptions, fresh, news};
pub(super) use together::{Outcome, Small, Together, admitted, outcomes};

use super::{Page, PageQuery};
use crate::{Error, ErrorKind, LogId, Position, Result, RoomId};

/// How long the answer to one call is waited for. The database gives up a little sooner by itself.
pub(super) const CALL: Duration = Duration::from_secs(6);

/// How long a status may take, less than the second that it is promised in.
pub(super) const STATUS: Duration = Duration::from_millis(900);

pub(super) fn slow(origin: &'static str) -> Error {
    Error::new(ErrorKind::Timeout, origin, "the database does not answer")
}

/// Whether `page` lacks something because it was read at a replica which is not as far as the log: up to `watermark`.
pub(super) fn misses(page: &Page, query: &PageQuery, watermark: Position) -> bool {
    let is_full = page.more && !query.newest;
    page.through < watermark && !is_full && query.before.is_none_or(|before| before > page.through)
}

/// The position in a column.
pub(super) fn place(origin: &'static str, bytes: &[u8]) -> Result<Position> {
    Position::from_bytes(bytes).ok_or_else(|| Error::new(ErrorKind::Corrupt, origin, "a position is not 24 bytes long"))
}

/// The log in a column.
pub(super) fn written_log(origin: &'static str, number: i64) -> Result<LogId> {
    let number = u16::try_from(number).map_err(|_| Error::new(ErrorKind::Corrupt, origin, "a log has an impossible number"));
    number.map(LogId)
}

/// The room in a column.
pub(super) fn written_room(origin: &'static str, name: &str) -> Result<RoomId> {
    RoomId::new(name).map_err(|_| Error::new(ErrorKind::Corrupt, origin, "a room has an impossible name"))
}

/// A position as 48 hexadecimal digits, which sort as positions do: what a column for texts holds of one.
pub(super) fn hex(position: Position) -> String {
    format!("{:016x}{:032x}", position.epoch, position.offset)
}

/// The position that was written like this.
pub(super) fn unhex(origin: &'static str, digits: &str) -> Result<Position> {
    let position = digits
        .split_at_checked(16)
        .and_then(|(epoch, offset)| Some(Position::new(u64::from_str_radix(epoch, 16).ok()?, u128::from_str_radix(offset, 16).ok()?)));
    position.ok_or_else(|| Error::new(ErrorKind::Corrupt, origin, "a position is not 48 digits long"))
}

/// Runs `$call` with a connection of the writers or readers, for as long as it may take.
macro_rules! with {
    ($pools:expr, $which:ident, |$db:ident| $call:expr) => {{
        let mut lent = $crate::store::sql::Lent::new($pools.$which().await?);
        let outcome = tokio::time::timeout($crate::store::sql::CALL, async {
            match lent.connection() {
                Some($db) => $call.await,
                None => Err($crate::store::batch::closed(ORIGIN)),
            }
        })
        .await;
        $pools.done(lent, outcome.unwrap_or_else(|_| Err($crate::store::sql::slow(ORIGIN))), stringify!($which))
    }};
}
pub(super) use with;
