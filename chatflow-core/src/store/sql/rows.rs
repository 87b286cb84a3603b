//! What becomes of a batch's entries, whichever database keeps them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::store::times::Times;
use crate::store::{Exception, Located, Stored, batch};
use crate::{MessageId, Position, Result};

/// The entries that may become rows, each id once. Behind the watermark nothing may appear any more: readers have been there. In one
/// order, whoever writes, so that no two commits wait for each other.
pub(in crate::store) fn fresh(entries: &[Stored], watermark: Position) -> Vec<&Stored> {
    let mut ids = HashSet::with_capacity(entries.len());
    let mut fresh: Vec<_> = entries.iter().filter(|entry| ids.insert(entry.message.id) && entry.position > watermark).collect();
    fresh.sort_unstable_by_key(|entry| entry.message.id);
    fresh
}

/// What became of the entries that are no new rows, where `kept` are the rows of all their ids by now. A batch that is committed again
/// is found here.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): one stands behind the watermark and is no row.
pub(in crate::store) fn exceptions(
    origin: &'static str,
    entries: &[Stored],
    watermark: Position,
    kept: &HashMap<MessageId, Located>,
) -> Result<Vec<(usize, Exception)>> {
    let mut exceptions = Vec::new();
    for (index, Stored { position, message }) in entries.iter().enumerate() {
        let first = kept.get(&message.id).ok_or_else(|| batch::behind(origin, *position))?;
        if *position <= watermark || first.position != *position || first.room != message.room {
            exceptions.push((index, Exception::of(message, first.position, first.room.as_str(), first.digest)));
        }
    }
    Ok(exceptions)
}

/// What a commit says of its new rows besides themselves.
#[derive(Debug, Default)]
pub(in crate::store) struct News<'a> {
    /// The rooms in the order of their names: when the last message of each was accepted, and where it stands.
    pub(in crate::store) rooms: BTreeMap<&'a str, (i64, Position)>,
    /// The least time at which any of them was accepted.
    pub(in crate::store) least: Option<i64>,
    /// The marks that they get, see [`Times`].
    pub(in crate::store) marks: Vec<(i64, Position)>,
}

/// What is new in `entries`, of which `exceptions` became no rows; `times` are the log's.
pub(in crate::store) fn news<'a>(entries: &'a [Stored], exceptions: &[(usize, Exception)], times: &mut Times) -> News<'a> {
    let mut excepted = exceptions.iter().map(|(index, _)| *index).peekable();
    let mut news = News::default();
    for (index, Stored { message, position }) in entries.iter().enumerate() {
        if excepted.next_if_eq(&index).is_none() {
            news.rooms.insert(message.room.as_str(), (message.at.0, *position));
            news.marks.extend(times.take(message.at.0).map(|at| (at, *position)));
            news.least = Some(news.least.map_or(message.at.0, |least| least.min(message.at.0)));
        }
    }
    news
}
