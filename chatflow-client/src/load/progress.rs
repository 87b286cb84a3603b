//! Telling how far the run is, while it goes on: one live line on a terminal, plain lines in a pipe.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use super::args::MOST_MESSAGES;
use super::run::{Phase, Run};
use super::stats::read;

const LIVE: Duration = Duration::from_millis(500);
const PLAIN: Duration = Duration::from_secs(5);

/// Tells until it is aborted.
pub(super) async fn tell(run: Arc<Run>) {
    let live = std::io::stderr().is_terminal();
    let every = if live { LIVE } else { PLAIN };
    let mut before = 0;
    loop {
        tokio::time::sleep(every).await;
        let acknowledged = read(&run.stats.acknowledged);
        let rate = (acknowledged - before) as f64 / every.as_secs_f64();
        before = acknowledged;
        let line = line(&run, acknowledged, rate);
        let mut out = std::io::stderr().lock();
        // Nobody reads it if this fails.
        let _ = if live { write!(out, "\r\x1b[K{line}").and_then(|()| out.flush()) } else { writeln!(out, "{line}") };
    }
}

/// Takes the live line away.
pub(super) fn clear() {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
    }
}

fn line(run: &Run, acknowledged: u64, rate: f64) -> String {
    let p99 = run.stats.total().answer.value_at_quantile(0.99) as f64 / 1e3;
    let mut line = format!(
        "sent {}  answered {acknowledged}  {rate:.0} msg/s  p99 {p99:.1} ms  broadcasts {}",
        read(&run.stats.sent),
        read(&run.stats.delivered)
    );
    let failed = read(&run.stats.failed);
    if failed > 0 {
        line += &format!("  failed {failed}");
    }
    let violations = run.violations.count();
    if violations > 0 {
        line += &format!("  VIOLATIONS {violations}");
    }
    if let Some(left) = left(run, acknowledged, rate) {
        line += &format!("  {left:.0} s left");
    }
    line
}

fn left(run: &Run, acknowledged: u64, rate: f64) -> Option<f64> {
    let by_time = match (*run.phase.borrow(), run.setup.duration) {
        (Phase::Send { start_us }, Some(duration)) => {
            let gone = run.clock.us(std::time::Instant::now()).saturating_sub(start_us) as f64 / 1e6;
            Some((duration.as_secs_f64() - gone).max(0.0))
        }
        _ => None,
    };
    let counted = run.setup.messages < MOST_MESSAGES && rate > 0.0;
    let by_count = counted.then(|| u64::from(run.setup.messages).saturating_sub(acknowledged) as f64 / rate);
    by_time.into_iter().chain(by_count).min_by(f64::total_cmp)
}
