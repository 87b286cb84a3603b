//! Reading beside the sending: what people who look at pages and figures ask for, in the shares of the older systems' mix.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::run::{Phase, Run, chance};
use super::stats::{Met, read};

/// What is asked for, and in how many of a hundred reads.
pub(super) const QUESTIONS: [(&str, u32); 5] =
    [("room page", 40), ("active users", 20), ("top users", 20), ("top rooms", 10), ("health", 10)];
/// How far back figures look, milliseconds.
const FIGURES_OF: u64 = 15 * 60_000;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a reader or sender that is ahead of the other kind looks again.
pub(super) const AHEAD: Duration = Duration::from_millis(1);

type Http = Client<HttpConnector, Empty<Bytes>>;

/// The reads of a run: how many of them for each message, and what came of them.
#[derive(Debug)]
pub(super) struct Reads {
    /// Reads for each message; 0 for none.
    each: f64,
    /// How far one kind may be ahead of the other, reads.
    slack: f64,
    started: AtomicU64,
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    /// What was sent and answered before the measured part.
    before: [AtomicU64; 2],
    latencies: Mutex<Vec<Histogram<u64>>>,
    pub(super) errors: Mutex<BTreeMap<String, Met>>,
}

impl Reads {
    /// `share` of everything that is asked for, below 1, while so many connections send.
    pub(super) fn new(share: f64, connections: u32) -> Self {
        let each = share / (1.0 - share);
        let histogram = || Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are constants that it takes");
        Self {
            each,
            slack: (each * f64::from(connections)).max(f64::from(connections)),
            started: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            before: [AtomicU64::new(0), AtomicU64::new(0)],
            latencies: Mutex::new(QUESTIONS.iter().map(|_| histogram()).collect()),
            errors: Mutex::default(),
        }
    }

    /// Whether there are any.
    pub(super) fn are_wanted(&self) -> bool {
        self.each > 0.0
    }

    /// The measured part begins.
    pub(super) fn begin(&self, run: &Run) {
        self.before[0].store(read(&run.stats.sent), Relaxed);
        self.before[1].store(read(&run.stats.acknowledged), Relaxed);
    }

    /// Whether a message may be sent: reads have kept up with those before it.
    pub(super) fn let_write(&self, sent: u64) -> bool {
        let sent = sent.saturating_sub(self.before[0].load(Relaxed));
        !self.are_wanted() || sent as f64 * self.each < self.done.load(Relaxed) as f64 + self.slack
    }

    fn let_read(&self, acknowledged: u64) -> bool {
        let acknowledged = acknowledged.saturating_sub(self.before[1].load(Relaxed));
        (self.started.load(Relaxed) as f64) < acknowledged as f64 * self.each + self.slack
    }

    /// Each question's latencies, microseconds.
    pub(super) fn latencies(&self) -> Vec<(&'static str, Histogram<u64>)> {
        QUESTIONS.iter().map(|(name, _)| *name).zip(self.latencies.lock().clone()).collect()
    }

    fn failed(&self, question: &str, why: String) {
        self.failed.fetch_add(1, Relaxed);
        let mut errors = self.errors.lock();
        errors.entry(question.to_owned()).or_insert_with(|| Met { times: 0, first: why }).times += 1;
    }
}

/// One reader: it asks, waits for the answer, and asks again while the run sends.
pub(super) async fn reader(run: Arc<Run>, number: usize) {
    let mut phase = run.phase.subscribe();
    if phase.wait_for(|phase| *phase != Phase::Prepare).await.is_err() {
        return;
    }
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Http = Client::builder(TokioExecutor::new()).build(connector);
    let target = &run.setup.targets[number % run.setup.targets.len()];
    while matches!(*phase.borrow(), Phase::Send { .. }) {
        if !run.reads.let_read(read(&run.stats.acknowledged)) {
            sleep(AHEAD).await;
            continue;
        }
        run.reads.started.fetch_add(1, Relaxed);
        let question = choose((chance() * 100.0) as u32);
        let url = target.http(&path(&run, question));
        let asked = Instant::now();
        let answer = timeout(PATIENCE, get(&client, &url)).await.unwrap_or_else(|_| Err("no answer within 10 s".into()));
        match answer {
            Ok(()) => {
                let micros = asked.elapsed().as_micros().max(1) as u64;
                run.reads.latencies.lock()[question].saturating_record(micros);
            }
            Err(why) => run.reads.failed(QUESTIONS[question].0, format!("{url}: {why}")),
        }
        run.reads.done.fetch_add(1, Relaxed);
    }
}

/// Which question a number below 100 falls to.
fn choose(mut number: u32) -> usize {
    let mut at = 0;
    while at + 1 < QUESTIONS.len() && number >= QUESTIONS[at].1 {
        number -= QUESTIONS[at].1;
        at += 1;
    }
    at
}

fn path(run: &Run, question: usize) -> String {
    let now = run.clock.wall_ms(run.clock.us(Instant::now()));
    let start = chatflow_core::Timestamp(now.saturating_sub(FIGURES_OF) as i64 / 60_000 * 60_000);
    match question {
        0 => format!("/api/v1/rooms/{}/messages?limit=100", (chance() * f64::from(run.setup.rooms)) as u32 % run.setup.rooms + 1),
        1 => format!("/api/v1/analytics/active-users?start={start}"),
        2 => format!("/api/v1/analytics/top-users?start={start}&limit=10"),
        3 => format!("/api/v1/analytics/top-rooms?start={start}&limit=10"),
        _ => "/health".into(),
    }
}

async fn get(client: &Http, url: &str) -> Result<(), String> {
    let response = client.get(url.parse().map_err(|e| format!("{e}"))?).await.map_err(|e| e.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("{status} {}", String::from_utf8_lossy(&body[..body.len().min(200)]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_fall_in_their_shares() {
        let mut met = [0; QUESTIONS.len()];
        (0..100).for_each(|number| met[choose(number)] += 1);
        assert_eq!(met, QUESTIONS.map(|(_, share)| share));
        assert_eq!(choose(100), 4, "rounding does not lead astray");
    }

    #[test]
    fn neither_reads_nor_messages_run_away_from_the_other() {
        let reads = Reads::new(0.7, 10);
        assert!(reads.let_write(0) && reads.let_read(0), "either may begin");
        let most = (0..1_000).find(|sent| !reads.let_write(*sent)).unwrap();
        assert!((10..=11).contains(&most), "{most}");
        reads.done.store(70, Relaxed);
        assert!((40..=41).contains(&(0..1_000).find(|sent| !reads.let_write(*sent)).unwrap()));
        reads.started.store(94, Relaxed);
        assert!(!reads.let_read(30) && reads.let_read(31));
        assert!(Reads::new(0.0, 10).let_write(1 << 40), "without reads nobody waits");
    }
}
