//! The course of a run: who comes when, and when it is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::Senders;
use super::csv::{CsvFile, Rows};
use super::listener::{self, Listener};
use super::reads;
use super::report::Times;
use super::run::{Event, Phase, Run};
use super::sender::Sender;
use super::stats::read;

/// How long messages under way, and members that lag behind, are waited for after an interruption.
const INTERRUPTED: Duration = Duration::from_secs(2);
/// How often is looked whether the members have caught up.
const LOOK: Duration = Duration::from_millis(20);
/// How long connections may take to leave.
const LEAVE: Duration = Duration::from_secs(5);

/// Listeners come, the warm-up is sent, then the measured part; then everybody sees the rest and leaves.
///
/// # Errors
/// Why the run could not begin.
pub(super) async fn perform(run: &Arc<Run>, csv: Option<&CsvFile>) -> Result<Times, String> {
    let setup = &run.setup;
    let (told, mut events) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for number in 0..setup.listeners {
        tasks.spawn(Listener::new(Arc::clone(run), number, told.clone()).run());
    }
    wait(&mut events, |e| matches!(e, Event::Ready), setup.listeners.into()).await?;
    if setup.listeners == 0 && setup.history {
        // Without this, the history is not compared, and the report says so.
        if let Err(why) = listener::look(run).await {
            tracing::debug!(why, "where the rooms stand is not known");
        }
    }
    let rows = || csv.map_or_else(Rows::default, CsvFile::rows);
    let mut times = Times::default();

    let warmup_start = run.clock.us(Instant::now());
    for number in 0..setup.warmup_connections {
        tasks.spawn(Sender::new(Arc::clone(run), number, true, rows(), told.clone()).run());
    }
    wait(&mut events, |e| matches!(e, Event::Finished), setup.warmup_connections).await?;
    times.warm = read(&run.stats.acknowledged);
    times.warmup_us = run.clock.us(Instant::now()) - warmup_start;

    for number in 0..setup.connections {
        let number = setup.warmup_connections + number;
        tasks.spawn(Sender::new(Arc::clone(run), number, false, rows(), told.clone()).run());
    }
    wait(&mut events, |e| matches!(e, Event::Ready), setup.connections).await?;
    times.start_us = run.clock.us(Instant::now());
    run.reads.begin(run);
    if run.reads.are_wanted() {
        (0..setup.connections).for_each(|number| drop(tasks.spawn(reads::reader(Arc::clone(run), number as usize))));
    }
    run.stats.begin(times.start_us);
    run.phase.send_if_modified(|phase| {
        let begin = *phase == Phase::Prepare;
        if begin {
            *phase = Phase::Send { start_us: times.start_us };
        }
        begin
    });
    let finished = wait(&mut events, |e| matches!(e, Event::Finished), setup.connections);
    send_for(run, finished).await?;
    times.end_us = run.clock.us(Instant::now());
    times.reads = read(&run.reads.done);
    run.phase.send_if_modified(|phase| {
        matches!(*phase, Phase::Send { .. }) && {
            *phase = Phase::Stop;
            true
        }
    });

    drain(run).await;
    times.drain_us = run.clock.us(Instant::now()) - times.end_us;
    run.phase.send_replace(Phase::Close);
    let leave = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LEAVE, leave).await.is_err() {
        tasks.shutdown().await;
    }
    Ok(times)
}

/// Waits for so many events of one sort.
async fn wait(events: &mut mpsc::UnboundedReceiver<Event>, counts: impl Fn(&Event) -> bool, mut left: u32) -> Result<(), String> {
    while left > 0 {
        match events.recv().await {
            Some(Event::Unable(why)) => return Err(why),
            Some(event) => left -= u32::from(counts(&event)),
            None => return Err("the connections are gone".into()),
        }
    }
    Ok(())
}

/// Waits until all have finished, and tells them to once the time is up. Interrupted, it does not wait much longer.
async fn send_for(run: &Run, finished: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let time_is_up = async {
        match run.setup.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let mut phase = run.phase.subscribe();
    let mut finished = std::pin::pin!(finished);
    tokio::select! {
        result = &mut finished => return result,
        () = time_is_up => drop(run.phase.send_replace(Phase::Stop)),
        _ = phase.wait_for(|p| *p == Phase::Stop) => {}
    }
    let interrupted = async {
        while !run.interrupted.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(INTERRUPTED).await;
    };
    tokio::select! {
        result = &mut finished => result,
        () = interrupted => Ok(()),
    }
}

/// Waits until every member has seen everything, or nobody sees anything new any more.
async fn drain(run: &Run) {
    let observed = run.setup.senders == Senders::Members || run.setup.listeners > 0;
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let (settled, progress) = run.ledger.settled(observed);
        let patience = if run.interrupted.load(Ordering::Relaxed) { INTERRUPTED } else { run.setup.patience };
        if settled || (progress == before && since.elapsed() > patience) {
            return;
        }
        if progress != before {
            (before, since) = (progress, Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
}
