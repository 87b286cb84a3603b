//! Tells the other nodes how far this one is, hears them, and deletes the queues that nobody needs any more.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::board::Report;
use super::epochs::queue_of;
use super::fault::{Fault, error};
use super::link::{Feed, Start, stream_arguments};
use super::session::Session;
use crate::{Error, ErrorKind, Position, Result, Timestamp};

/// What changed is told so often at most.
const PACE: Duration = Duration::from_millis(250);
/// What has been seen is told so often, without anybody asking.
const SEEN: Duration = Duration::from_secs(1);
/// Even if nothing changed, a report is written so often.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long reading what was said may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked meanwhile whether RabbitMQ takes anything.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const SEGMENT: u64 = 1 << 20;
const RETAINED: i64 = 16 << 20;

fn queue(session: &Session) -> String {
    format!("{}.progress", session.config.prefix)
}

/// Makes the queue if it is missing and reads it: what was said within the time that counts, until now. What others have seen of a log
/// is known then before this node puts anything into it.
pub(super) async fn open(session: &Session) -> Result<Feed> {
    let queue = queue(session);
    let mut arguments = stream_arguments(SEGMENT);
    arguments.insert("x-max-length-bytes".into(), lapin::types::AMQPValue::LongLongInt(RETAINED));
    session.link.declare(&queue, arguments).await?;
    let since = Start::Since(session.config.history_ttl);
    let failed = |fault: Fault| fault.into_error("reading the progress");
    let mut feed = session.link.consume(&queue, since).await.map_err(failed)?;
    let ours = put(session, &now(session)).await?;
    let read = async {
        // While RabbitMQ blocks publishers nothing comes; but nobody puts anything into a log then, either.
        while !*session.link.blocked().borrow() {
            match timeout(LOOK_AGAIN, take(session, &mut feed)).await {
                Ok(Ok(latest)) if latest.is_some_and(|latest| latest >= ours) => break,
                Ok(Err(fault)) => return Err(failed(fault)),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
        Ok(())
    };
    let late = |_| error(ErrorKind::Timeout, "the queue of progress does not give back what was put into it");
    timeout(PATIENCE, read).await.map_err(late)??;
    Ok(feed)
}

/// Takes in what the others say, until the connection is lost.
pub(super) async fn hear(session: &Session, mut feed: Feed) -> Error {
    loop {
        if let Err(fault) = take(session, &mut feed).await {
            return fault.into_error("reading the progress");
        }
    }
}

/// Takes in the next reports; when the last of this node's own among them was made.
async fn take(session: &Session, feed: &mut Feed) -> Result<Option<Timestamp>, Fault> {
    let batch = feed.next(1_024, 1 << 20).await?;
    let mut ours = None;
    for report in batch.iter().filter_map(|fed| serde_json::from_slice::<Report>(&fed.data).ok()) {
        session.board.hear(&report);
        if report.node == *session.node {
            ours = ours.max(Some(report.at));
        }
    }
    session.settle_all();
    feed.acknowledge(true).await?;
    Ok(ours)
}

/// What this node has settled and seen.
fn now(session: &Session) -> (Vec<Position>, Vec<Position>) {
    (session.settled(), session.logs.iter().map(|log| log.tail()).collect())
}

/// Says how far this node is whenever that changes, until the connection is lost.
pub(super) async fn tell(session: &Session) -> Error {
    let mut last: Option<(Vec<Position>, Vec<Position>)> = None;
    let mut due = Instant::now();
    let mut deleted = HashSet::new();
    loop {
        let now = now(session);
        let heartbeat = Instant::now() >= due;
        if heartbeat || last.as_ref() != Some(&now) {
            if let Err(error) = put(session, &now).await {
                return error;
            }
            last = Some(now);
        }
        if heartbeat {
            due = Instant::now() + HEARTBEAT;
            if let Err(error) = clean(session, &mut deleted).await {
                return error;
            }
        }
        sleep(PACE).await;
        // Whoever waits for room wants to hear of a settled log soon; what was seen may wait a little.
        drop(timeout_at((Instant::now() + SEEN).min(due), session.settles.notified()).await);
    }
}

/// Says how far this node is; answers with when that was.
async fn put(session: &Session, (settled, seen): &(Vec<Position>, Vec<Position>)) -> Result<Timestamp> {
    let at = Timestamp::now();
    let report =
        Report { node: session.node.to_string(), history: session.history.clone(), at, settled: settled.clone(), seen: seen.clone() };
    let bytes = serde_json::to_vec(&report).map_err(|cause| error(ErrorKind::Internal, "a report of progress").with_source(cause))?;
    match session.link.put(&queue(session), &bytes).await {
        // While RabbitMQ blocks publishers nothing can be said, and that is no reason to give up the connection.
        Err(_) if *session.link.blocked().borrow() => Ok(at),
        put => put.map(|()| at),
    }
}

/// Deletes the queues of epochs that every history has behind it.
async fn clean(session: &Session, deleted: &mut HashSet<String>) -> Result<()> {
    let chain = session.epochs.chain().borrow().clone();
    for log in 0..session.config.logs {
        let Some(settled) = session.board.settled(log) else { continue };
        for epoch in chain.epochs(log).iter().filter(|epoch| **epoch < settled.epoch) {
            let queue = queue_of(&session.config, log, *epoch);
            if deleted.insert(queue.clone()) {
                session.link.delete(&queue).await?;
            }
        }
    }
    Ok(())
}
