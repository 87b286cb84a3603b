//! How far logs are in a history that other nodes write as well.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::relay::Reach;
use crate::store::{Mark, MessageStore};
use crate::{Error, LogId, Position};

/// Between two looks while this node has seen more than the history has: from the first to the last, doubled while nothing moves.
const SOON: Duration = Duration::from_millis(5);
const LATER: Duration = Duration::from_millis(200);
/// Between two looks while nothing is on its way.
const IDLE: Duration = Duration::from_secs(1);
/// How soon it is noticed that something is on its way.
const NOTICE: Duration = Duration::from_millis(10);

/// What was found at the last look.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    pub(crate) of: HashMap<LogId, Mark>,
    /// Why there was nothing to be found.
    pub(crate) trouble: Option<Error>,
}

/// Looks for everybody who listens to `marks`, and only while somebody does, with one question for all logs.
///
/// `reaches` are how far this node has read each log.
pub(crate) async fn look(store: Arc<dyn MessageStore>, reaches: Vec<watch::Receiver<Reach>>, marks: Arc<watch::Sender<Marks>>) {
    let Some(shared) = store.shared() else { return };
    let mut wait = SOON;
    loop {
        if marks.receiver_count() == 0 {
            sleep(LATER).await;
            continue;
        }
        let found = shared.marks().await;
        let moved = marks.send_if_modified(|seen| match found {
            Ok(found) => {
                let found: HashMap<_, _> = found.into_iter().map(|mark| (mark.log, mark)).collect();
                let news = seen.trouble.is_some() || found != seen.of;
                *seen = Marks { of: found, trouble: None };
                news
            }
            Err(error) => {
                seen.trouble = Some(error);
                true
            }
        });
        let read = |log: LogId| reaches.get(usize::from(log.0)).map_or(Position::ZERO, |reach| reach.borrow().read);
        let is_behind = || marks.borrow().of.values().any(|mark| mark.through < read(mark.log));
        let failed = marks.borrow().trouble.is_some();
        if failed {
            sleep(LATER).await;
        } else if is_behind() {
            wait = if moved { SOON } else { (wait * 2).min(LATER) };
            sleep(wait).await;
        } else {
            wait = SOON;
            let until = Instant::now() + IDLE;
            while Instant::now() < until && !is_behind() {
                sleep(NOTICE).await;
            }
        }
    }
}
