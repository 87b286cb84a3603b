//! What becomes of a batch's entries, whichever database keeps them.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::store::times::Times;
use crate::store::{Exception, Located, Stored, batch};
use crate::{LogId, MessageId, Position, Result};

/// A batch of a log whose row is locked.
#[derive(Debug)]
pub(in crate::store) struct Part<'a> {
    pub(in crate::store) log: LogId,
    pub(in crate::store) entries: &'a [Stored],
    pub(in crate::store) through: Position,
    pub(in crate::store) watermark: Position,
    /// What is known of the log's times.
    pub(in crate::store) times: Times,
}

/// The entries that may become rows, each id of a log once. Behind the watermark nothing may appear any more: readers have been there. In
/// one order, whoever writes, so that no two commits wait for each other.
pub(in crate::store) fn fresh<'a>(parts: &[Part<'a>]) -> Vec<&'a Stored> {
    let mut fresh = Vec::with_capacity(parts.iter().map(|part| part.entries.len()).sum());
    for part in parts {
        let mut ids = HashSet::with_capacity(part.entries.len());
        fresh.extend(part.entries.iter().filter(|entry| ids.insert(entry.message.id) && entry.position > part.watermark));
    }
    fresh.sort_unstable_by_key(|entry| entry.message.id);
    fresh
}

/// Which entries of a batch did not become rows, and why.
pub(in crate::store) type Exceptions = Vec<(usize, Exception)>;

/// What became of the entries that are no new rows, where `kept` are the rows of all their ids by now. A batch that is committed again
/// is found here.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): one stands behind the watermark and is no row.
pub(in crate::store) fn exceptions(
    origin: &'static str,
    &Part { entries, watermark, .. }: &Part<'_>,
    kept: &HashMap<MessageId, Located>,
) -> Result<Exceptions> {
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
    /// The least time at which any of them was accepted, of each part.
    pub(in crate::store) least: Vec<Option<i64>>,
    /// The marks that logs get, see [`Times`].
    pub(in crate::store) marks: Vec<(LogId, i64, Position)>,
}

/// What is new in `parts`, where those `exceptions` of each became no rows. Each takes in the times of the others.
pub(in crate::store) fn news<'a>(parts: &mut [Part<'a>], exceptions: &[Exceptions]) -> News<'a> {
    let mut news = News::default();
    for (part, exceptions) in parts.iter_mut().zip(exceptions) {
        let mut excepted = exceptions.iter().map(|(index, _)| *index).peekable();
        let mut least = None;
        for (index, Stored { message, position }) in part.entries.iter().enumerate() {
            if excepted.next_if_eq(&index).is_none() {
                news.rooms.insert(message.room.as_str(), (message.at.0, *position));
                news.marks.extend(part.times.take(message.at.0).map(|at| (part.log, at, *position)));
                least = Some(least.map_or(message.at.0, |least: i64| least.min(message.at.0)));
            }
        }
        news.least.push(least);
    }
    news
}
