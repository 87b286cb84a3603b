//! Keeps this node attached: notices what is wrong, closes the gate for publishers meanwhile, and mends it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use super::client::{Fault, call};
use super::{Shared, epoch, janitor, topology};
use crate::Backoff;

/// How often the queues of a history that other nodes write are measured, where this node publishes.
const MEASURE: Duration = Duration::from_secs(5);
/// How often while one of them comes near the bound: publishers may be refused, and then there may be room again.
const MEASURE_TIGHT: Duration = Duration::from_millis(300);

/// What others notice.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A service can't be reached, or refuses us.
    Away(String),
    /// A topic or queue is not there any more, or there are newer ones.
    Gone,
}

/// Runs until the broker is closed.
pub(super) async fn keep(shared: Arc<Shared>, mut troubles: mpsc::Receiver<Trouble>) {
    let patience = shared.config.dead_after;
    let ticks = |every: Duration| {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut beats, mut rounds, mut measures) = (ticks(patience / 10), ticks(patience / 5), Instant::now() + MEASURE);
    loop {
        let outcome = tokio::select! {
            () = shared.ended() => return,
            trouble = troubles.recv() => match trouble {
                Some(Trouble::Away(why)) => { mend(&shared, &mut troubles, &why).await; Ok(()) }
                Some(Trouble::Gone) => { mend(&shared, &mut troubles, "topics or queues are gone").await; Ok(()) }
                None => return,
            },
            _ = beats.tick() => beat(&shared).await,
            _ = rounds.tick() => round(&shared).await,
            () = sleep_until(measures) => {
                let measured = measure(&shared).await;
                let tight = shared.logs.iter().any(|log| log.is_tight());
                measures = Instant::now() + if tight { MEASURE_TIGHT } else { MEASURE };
                measured
            }
        };
        if let Err(fault) = outcome {
            mend(&shared, &mut troubles, &fault.error.to_string()).await;
        }
    }
}

/// Attaches again and again until it succeeds. Publishers are refused meanwhile, and readers wait.
async fn mend(shared: &Shared, troubles: &mut mpsc::Receiver<Trouble>, why: &str) {
    let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut why = why.to_owned();
    for attempt in 0.. {
        if shared.is_ended() {
            return;
        }
        shared.away(&why);
        tracing::warn!(why, attempt, "SNS and SQS don't serve this node; attaching again");
        match topology::attach(shared).await {
            Ok(()) => break,
            Err(fault) => why = fault.error.to_string(),
        }
        tokio::select! {
            () = sleep(backoff.delay(attempt)) => {}
            () = shared.ended() => return,
        }
    }
    // What was noticed before this is mended; what is still wrong is noticed again.
    while troubles.try_recv().is_ok() {}
    shared.back();
}

/// A sign of life, and a look whether the others have gone on to another epoch.
async fn beat(shared: &Shared) -> Result<(), Fault> {
    let Some(attached) = shared.attachment() else { return Ok(()) };
    topology::seen(shared, &attached.node_url).await?;
    if epoch::is_current(shared, &attached.root, attached.epoch).await? { Ok(()) } else { Err(Fault::odd("a new epoch has begun")) }
}

/// Looks whether everything is as it was left, and removes what dead nodes left behind.
async fn round(shared: &Shared) -> Result<(), Fault> {
    topology::attach(shared).await?;
    if let Err(fault) = janitor::sweep(shared).await {
        tracing::debug!(error = %fault.error, "what dead nodes left behind was not removed; trying again later");
    }
    Ok(())
}

/// Asks how much waits for a history that another node writes.
async fn measure(shared: &Shared) -> Result<(), Fault> {
    let Some(attached) = shared.attachment() else { return Ok(()) };
    for (log, url) in shared.logs.iter().zip(&attached.histories) {
        let elsewhere = log.state.lock().backlog.as_ref().is_some_and(|backlog| backlog.readers == 0);
        if !elsewhere || !log.published.swap(false, Relaxed) {
            continue;
        }
        let (visible, hidden) = (Attribute::ApproximateNumberOfMessages, Attribute::ApproximateNumberOfMessagesNotVisible);
        let request = shared.clients.sqs.get_queue_attributes().queue_url(url);
        let request = request.attribute_names(visible.clone()).attribute_names(hidden.clone());
        let answer = call("measuring a history's queue", || request.clone().send()).await?;
        let attributes = answer.attributes.unwrap_or_default();
        let number = |name: &Attribute| attributes.get(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
        let queued = number(&visible) + number(&hidden);
        // While much waits, it is looked at again, published or not.
        log.published.fetch_or(queued > 0, Relaxed);
        if let Some(backlog) = &mut log.state.lock().backlog {
            backlog.queued = queued;
        }
    }
    Ok(())
}
