//! What is said at the end: for a person, and as `summary.json`.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::history;
use super::picture::Buckets;
use super::plan::KINDS;
use super::run::Run;
use super::stats::{Met, read};
use super::violation::Findings;

/// When what happened, in microseconds of the run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// The measured part began.
    pub(super) start_us: u64,
    /// The last message was answered or failed.
    pub(super) end_us: u64,
    /// Messages that the warm-up got answered.
    pub(super) warm: u64,
    /// How long the warm-up took.
    pub(super) warmup_us: u64,
    /// How long the members took to see the rest.
    pub(super) drain_us: u64,
    /// Reads that were answered or failed in the measured part.
    pub(super) reads: u64,
}

/// A latency's distribution, milliseconds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Latency {
    count: u64,
    mean: f64,
    median: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    min: f64,
    max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            median: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            min: histogram.min() as f64 / 1e3,
            max: histogram.max() as f64 / 1e3,
        })
    }
}

impl Display for Latency {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { mean, median, p95, p99, p999, min, max, .. } = self;
        write!(f, "mean {mean:.2}  median {median:.2}  p95 {p95:.2}  p99 {p99:.2}  p99.9 {p999:.2}  min {min:.2}  max {max:.2} ms")
    }
}

/// What came of the reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadFigures {
    succeeded: u64,
    failed: u64,
    reads_per_second: f64,
    /// Reads and messages.
    requests_per_second: f64,
    latency_ms: Latency,
    latency_ms_of: BTreeMap<&'static str, Latency>,
    errors: BTreeMap<String, Met>,
}

impl ReadFigures {
    fn of(run: &Run, times: &Times, wall: f64, messages_per_second: f64) -> Option<Self> {
        let questions = run.reads.latencies();
        let mut all = questions.first()?.1.clone();
        // Alike by construction, so their bounds fit.
        for (_, latencies) in &questions[1..] {
            let _ = all.add(latencies);
        }
        let reads_per_second = times.reads as f64 / wall;
        Some(Self {
            succeeded: all.len(),
            failed: read(&run.reads.failed),
            reads_per_second,
            requests_per_second: reads_per_second + messages_per_second,
            latency_ms: Latency::of(&all)?,
            latency_ms_of: questions.iter().filter_map(|(name, latencies)| Some((*name, Latency::of(latencies)?))).collect(),
            errors: run.reads.errors.lock().clone(),
        })
    }

    fn write(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { succeeded, failed, reads_per_second, requests_per_second, latency_ms, .. } = self;
        writeln!(
            f,
            "reads          {succeeded} answered, {failed} failed, {reads_per_second:.0}/s; with messages {requests_per_second:.0} requests/s"
        )?;
        writeln!(f, "  all          {latency_ms}")?;
        for (question, latency) in &self.latency_ms_of {
            writeln!(f, "  {question:<12} {latency}")?;
        }
        for (question, Met { times, first }) in &self.errors {
            writeln!(f, "  failed       {question}, {times} times, first: {first}")?;
        }
        Ok(())
    }
}

/// Every figure of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    passed: bool,
    interrupted: bool,
    sent: u64,
    succeeded: u64,
    failed: u64,
    warmup_messages: u64,
    warmup_seconds: f64,
    /// From the end of the warm-up to the last answer.
    wall_seconds: f64,
    drain_seconds: f64,
    messages_per_second: f64,
    connections: u64,
    reconnections: u64,
    retries: u64,
    deliveries: u64,
    deliveries_per_second: f64,
    /// From the write (with a rate: from when it was due) to the answer.
    answer_latency_ms: Option<Latency>,
    /// The same to when the last listener saw it.
    last_member_latency_ms: Option<Latency>,
    /// How late messages were written, at a fixed rate.
    schedule_lag_ms: Option<Latency>,
    reads: Option<ReadFigures>,
    /// Whether latency counts from when a message was due.
    open_loop: bool,
    /// Messages in flight at most, divided by the mean latency.
    littles_law_prediction: Option<f64>,
    /// Messages under way on average, by the same law.
    mean_in_flight: Option<f64>,
    message_types: BTreeMap<&'static str, u64>,
    room_messages: BTreeMap<u32, u64>,
    room_messages_per_second: BTreeMap<u32, f64>,
    errors: BTreeMap<String, Met>,
    announced_gaps: u64,
    history: history::Verdict,
    violations: Findings,
    pub(super) throughput: Buckets,
}

impl Report {
    pub(super) fn of(run: &Run, times: Times, history: history::Verdict, interrupted: bool) -> Self {
        let (setup, stats, total) = (&run.setup, &run.stats, run.stats.total());
        let violations = run.violations.findings();
        let (sent, succeeded) = (read(&stats.sent), read(&stats.acknowledged));
        // Connections that were given up leave messages behind that were not even tried.
        let whole_plan = setup.duration.is_none() && !interrupted;
        let never_sent = if whole_plan { u64::from(setup.messages).saturating_sub(sent) } else { 0 };
        let failed = read(&stats.failed) + never_sent;
        let wall = (times.end_us.saturating_sub(times.start_us) as f64 / 1e6).max(1e-6);
        let rate = (succeeded - times.warm.min(succeeded)) as f64 / wall;
        let answer = Latency::of(&total.answer);
        let in_flight = (setup.in_flight * setup.connections as usize) as f64;
        // What is delivered while the members catch up was delivered in that time too.
        let main_deliveries: u64 = total.ticks.iter().map(|t| t[1]).sum();
        let to_the_last_delivery = wall + times.drain_us as f64 / 1e6;
        let rooms = || (1..).zip(total.rooms.iter().copied());
        // Messages of the warm-up are in the counts for each room, so the whole time is what they are divided by.
        let whole = wall + times.warmup_us as f64 / 1e6;
        Self {
            passed: failed == 0 && read(&run.reads.failed) == 0 && violations.counts.is_empty() && !interrupted,
            interrupted,
            sent,
            succeeded,
            failed,
            warmup_messages: times.warm,
            warmup_seconds: times.warmup_us as f64 / 1e6,
            wall_seconds: wall,
            drain_seconds: times.drain_us as f64 / 1e6,
            messages_per_second: rate,
            connections: read(&stats.connections),
            reconnections: read(&stats.reconnections),
            retries: read(&stats.retries),
            deliveries: read(&stats.delivered),
            deliveries_per_second: main_deliveries as f64 / to_the_last_delivery,
            // Where messages wait for reads, fewer are in flight than may be.
            littles_law_prediction: answer.as_ref().filter(|_| !run.reads.are_wanted()).map(|l| in_flight / (l.mean / 1e3)),
            mean_in_flight: answer.as_ref().map(|l| rate * l.mean / 1e3),
            answer_latency_ms: answer,
            last_member_latency_ms: Latency::of(&total.last_member),
            schedule_lag_ms: Latency::of(&total.lag),
            reads: ReadFigures::of(run, &times, wall, rate),
            open_loop: setup.rate.is_some(),
            message_types: KINDS.into_iter().zip(total.kinds).collect(),
            room_messages: rooms().collect(),
            room_messages_per_second: rooms().map(|(room, n)| (room, n as f64 / whole)).collect(),
            errors: total.errors,
            announced_gaps: read(&stats.announced_gaps),
            history,
            violations,
            throughput: Buckets::of(&total.ticks, wall),
        }
    }

    /// Whether everything that was asked for was done and found right.
    pub(super) fn passed(&self) -> bool {
        self.passed
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.interrupted {
            writeln!(f, "interrupted: the figures are of the part before")?;
        }
        writeln!(f, "sent           {}, succeeded {}, failed {}", self.sent, self.succeeded, self.failed)?;
        if self.warmup_messages > 0 {
            writeln!(f, "warm-up        {} messages in {:.2} s", self.warmup_messages, self.warmup_seconds)?;
        }
        writeln!(f, "wall time      {:.2} s, and {:.2} s until the members had seen the rest", self.wall_seconds, self.drain_seconds)?;
        writeln!(f, "throughput     {:.0} msg/s", self.messages_per_second)?;
        writeln!(f, "deliveries     {} broadcasts received, {:.0}/s", self.deliveries, self.deliveries_per_second)?;
        writeln!(f, "connections    {}, reconnections {}, retries {}", self.connections, self.reconnections, self.retries)?;
        if let Some(latency) = &self.answer_latency_ms {
            let from = if self.open_loop { "from when it was due to the answer" } else { "from the write to the answer" };
            writeln!(f, "latency        {latency} ({from})")?;
        }
        if let Some(latency) = &self.last_member_latency_ms {
            writeln!(f, "last member    {latency} (to when the last listener saw it)")?;
        }
        if let Some(latency) = &self.schedule_lag_ms {
            writeln!(f, "schedule       {latency} (from when it was due to the write: included above)")?;
        }
        if let Some(reads) = &self.reads {
            reads.write(f)?;
        }
        match (self.littles_law_prediction, self.mean_in_flight) {
            (Some(law), _) if !self.open_loop => {
                writeln!(
                    f,
                    "Little's law   {law:.0} msg/s predicted (in flight / mean latency), {:.0} measured",
                    self.messages_per_second
                )?;
            }
            (_, Some(mean)) => writeln!(f, "Little's law   {mean:.1} messages under way on average (msg/s x mean latency)")?,
            _ => {}
        }
        let kinds: Vec<String> = self.message_types.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        writeln!(f, "types          {}", kinds.join(", "))?;
        for (code, Met { times, first }) in &self.errors {
            let said = if first.is_empty() { String::new() } else { format!(", first: {first}") };
            writeln!(f, "error met      {code}, {times} times{said}")?;
        }
        writeln!(f, "rooms          room: messages, msg/s")?;
        let rooms: Vec<String> =
            self.room_messages.iter().map(|(r, n)| format!("{r}: {n}, {:.0}", self.room_messages_per_second[r])).collect();
        for row in rooms.chunks(5) {
            let cells: Vec<String> = row.iter().map(|cell| format!("{cell:<20}")).collect();
            writeln!(f, "  {}", cells.concat().trim_end())?;
        }
        writeln!(f, "over time      from second: msg/s, deliveries/s, in buckets of {} s", self.throughput.width)?;
        for (at, (messages, deliveries)) in self.throughput.messages.iter().zip(&self.throughput.deliveries).enumerate() {
            writeln!(f, "  {:>8.1}: {messages:>9.0} {deliveries:>11.0}", at as f64 * self.throughput.width)?;
        }
        match &self.history {
            history::Verdict::Compared(n) => writeln!(f, "history: {n} messages read and compared")?,
            history::Verdict::Skipped(why) => writeln!(f, "history: {why}")?,
        }
        if self.announced_gaps > 0 {
            writeln!(f, "gaps that listeners were told of: {}", self.announced_gaps)?;
        }
        self.write_verdict(f)
    }
}

impl Report {
    fn write_verdict(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let total: u64 = self.violations.counts.values().sum();
        let unread = self.reads.as_ref().map_or(0, |reads| reads.failed);
        if unread > 0 {
            writeln!(f, "FAILED: {unread} reads")?;
        }
        if total == 0 && self.failed == 0 && unread > 0 {
            return Ok(());
        }
        if total == 0 && self.failed == 0 {
            return writeln!(f, "nothing lost, repeated, altered or out of order");
        }
        if self.failed > 0 {
            writeln!(f, "FAILED: {} messages were not accepted", self.failed)?;
        }
        if total > 0 {
            writeln!(f, "VIOLATIONS: {total}")?;
            for (kind, n) in &self.violations.counts {
                writeln!(f, "  {kind}: {n}")?;
            }
            for violation in &self.violations.first {
                writeln!(f, "- {}: {}", violation.kind, violation.detail)?;
            }
            let more = total.saturating_sub(self.violations.first.len() as u64);
            if more > 0 {
                writeln!(f, "  and {more} more")?;
            }
        }
        Ok(())
    }
}
