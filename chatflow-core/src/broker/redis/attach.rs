//! How a node comes to stand in a log: it listens, looks, and begins an epoch where the old one can't go on.

use std::sync::Arc;

use tokio::time::Instant;

use super::failure::Failure;
use super::head::Head;
use super::link::Link;
use super::log::Log;
use super::script::{BEGIN, LOOK, PROBE, PUBLISH};
use super::servers::Servers;
use crate::{ErrorKind, Position, Timestamp};

/// How many past epochs a log remembers.
const PAST: usize = 32;
/// How often others may begin an epoch while we are about to.
const ATTEMPTS: usize = 16;

/// What a node knows of a log before it looks.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The log has to be in this epoch, or in a later one.
    pub(super) least: u64,
    /// An epoch that begins is this one, or a later one.
    pub(super) next: u64,
    /// How many logs there are.
    pub(super) logs: u16,
    /// The history that the node writes, if it does.
    pub(super) history: Option<String>,
}

/// What stands in Redis.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) head: Option<Head>,
    /// It was begun in this life of the server.
    current: bool,
    /// The last id that the stream gave.
    last: Position,
}

/// Looks, and changes nothing.
pub(super) async fn look(link: &Link, log: &Log) -> Result<Found, Failure> {
    let command = LOOK.on(&[&log.keys.head, &log.keys.log]);
    let (other, state, last) = link.write::<(u8, Vec<Option<String>>, String)>(&LOOK, &command).await?;
    let last = last.split_once('-').and_then(|(epoch, offset)| Some((epoch.parse().ok()?, offset.parse().ok()?)));
    let last = last.map_or(Position::ZERO, |(epoch, offset): (u64, u64)| Position::new(epoch, offset.into()));
    let head = Head::parse(&state);
    if let Some(Head { logs, .. }) = &head
        && *logs != log.known.logs
    {
        let text = format!(
            "what is under {} was made with {logs} logs, and the configuration says {}: set broker.logs = {logs}, or another prefix",
            log.keys.head, log.known.logs
        );
        return Err(Failure::new(ErrorKind::Config, text));
    }
    Ok(Found { head, current: other == 0, last })
}

/// Tries whether we may do what has to be done.
pub(super) async fn probe(link: &Link, log: &Log, cluster: bool) -> Result<(), Failure> {
    let mut command = PROBE.on(&[&log.keys.log, &log.keys.probe]);
    link.write::<u8>(&PROBE, command.arg(&log.keys.channel).arg(publish(cluster))).await.map(drop)
}

/// The command that tells a channel: in a cluster only those who listen at the server that has its slot.
pub(super) fn publish(cluster: bool) -> &'static str {
    if cluster { "SPUBLISH" } else { "PUBLISH" }
}

/// Attaches `log`: from here on everything that is published in it is heard, or can be read. What was known about who has it at the
/// moment `stale` is not true any more.
pub(super) async fn attach(servers: &Servers, log: &Log, stale: Option<Instant>) -> Result<(Arc<Link>, Head), Failure> {
    let link = servers.link(log.keys.slot, stale).await?;
    // First listen, then look: there is no moment in between.
    link.listen(&log.keys.channel, servers.cluster(), &log.feed).await?;
    for _ in 0..ATTEMPTS {
        // Taken before the look: what is heard while that is on its way is no proof that the log was longer.
        let known = log.feed.known();
        let found = look(&link, log).await?;
        match next_epoch(&found, log.known.least, log.known.next, known)? {
            Some(epoch) => begin(&link, log, found.head.as_ref(), epoch).await?,
            None => {
                // Somebody may have flushed the server's scripts; what is published is never sent twice, so this one has to be there.
                link.load(&PUBLISH).await?;
                // Registers the history, so that what it does not have is kept for it.
                let (head, own) = log.tell_settled(&link, None).await?;
                log.backlog.attach(&head, own);
                log.feed.attach(&head);
                log.attached(&link);
                return Ok((link, head));
            }
        }
    }
    Err(Failure::new(ErrorKind::Unavailable, format!("log {}: others begin one epoch after another", log.id)))
}

/// The epoch that has to begin, if one has to: where there is no log, where its server lives another life, where a history or this
/// node knows a later place, and where the stream is not the head's.
fn next_epoch(found: &Found, least: u64, next: u64, known: Position) -> Result<Option<u64>, Failure> {
    let tail = found.head.as_ref().map_or(Position::ZERO, Head::tail);
    let good = found.head.is_some() && found.current && tail.epoch >= least && tail >= known && tail >= found.last;
    if good {
        return Ok(None);
    }
    let latest = [tail.epoch, known.epoch, found.last.epoch, least].into_iter().max().unwrap_or_default();
    let after = latest.checked_add(1);
    let after = after.ok_or_else(|| Failure::new(ErrorKind::Config, "there is no epoch after the last one that the history knows"))?;
    Ok(Some(after.max(next).max(now())))
}

/// An epoch is called after the millisecond in which it begins, unless that is taken.
pub(super) fn now() -> u64 {
    u64::try_from(Timestamp::now().0).unwrap_or_default()
}

async fn begin(link: &Link, log: &Log, head: Option<&Head>, epoch: u64) -> Result<(), Failure> {
    let ends = head.map(|head| head.epoch.to_string()).unwrap_or_default();
    let mut command = BEGIN.on(&[&log.keys.head, &log.keys.log, &log.keys.histories]);
    command.arg(ends).arg(epoch).arg(log.known.logs).arg(PAST);
    let (others,) = link.write::<(u8,)>(&BEGIN, &command).await?;
    match (others, head) {
        (0, Some(head)) => {
            tracing::info!(log = log.id.0, epoch, last = %head.tail(), "the log goes on in a new epoch");
        }
        (0, None) => tracing::info!(log = log.id.0, epoch, "the log begins"),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(epoch: u64, tail: u64, current: bool, last: Position) -> Found {
        let fields = [&epoch.to_string(), &tail.to_string(), "0", "0", "0", "0", "0", "", "1"].map(|field| Some(field.to_owned()));
        Found { head: Head::parse(&fields), current, last }
    }

    #[test]
    fn when_an_epoch_begins() {
        let at = Position::new;
        let begins = |found: Found, least, known| next_epoch(&found, least, 0, known).unwrap();
        let far = u64::MAX / 2;
        assert_eq!(begins(found(far, 5, true, at(far, 5)), far, at(far, 5)), None);
        assert_eq!(begins(found(far, 5, true, at(far, 4)), 0, Position::ZERO), None, "of a stream that was trimmed, the last id stays");
        assert_eq!(begins(found(far, 5, false, at(far, 5)), 0, Position::ZERO), Some(far + 1), "another life");
        assert_eq!(begins(found(far, 5, true, at(far, 5)), far + 7, Position::ZERO), Some(far + 8), "a history knows more");
        assert_eq!(begins(found(far, 5, true, at(far, 5)), 0, at(far, 6)), Some(far + 1), "the node has seen more");
        assert_eq!(begins(found(far, 5, true, at(far + 3, 1)), 0, Position::ZERO), Some(far + 4), "the stream has more");
        let nothing = || Found { head: None, current: false, last: Position::ZERO };
        assert_eq!(begins(nothing(), far, Position::ZERO), Some(far + 1));
        assert!(begins(nothing(), 0, Position::ZERO).unwrap() >= 1_700_000_000_000);
        assert!(next_epoch(&nothing(), u64::MAX, 0, Position::ZERO).is_err());
    }
}
