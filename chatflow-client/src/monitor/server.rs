//! What is known of one server: how it is, how fast it is, how that went of late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::rates::{Counter, Rates};
use super::sample::{Queues, Sample};

/// How many intervals the trend goes back.
const TREND: usize = 400;

/// What a round of questions came to: an answer, or when and why there was none.
pub(super) type Observation = Result<Sample, (Instant, String)>;

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It has not answered yet, nor failed to.
    Asked,
    Ready,
    /// A part that it depends on is away.
    NotReady,
    Draining,
    /// It answers, but does not tell whether it is ready.
    Up,
    Down,
}

impl State {
    /// In a word or two.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Ready => "ready",
            Self::NotReady => "not ready",
            Self::Draining => "draining",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One of the servers that are watched.
#[derive(Debug)]
pub(super) struct Server {
    /// Its address.
    pub(super) url: String,
    state: State,
    since: Instant,
    reason: String,
    /// The last answer, kept over an outage: what came meanwhile is measured from there.
    last: Option<Sample>,
    rates: Option<Rates>,
    trend: VecDeque<Option<u64>>,
    rounds: u64,
}

impl Server {
    /// One that is about to be asked.
    pub(super) fn new(url: String, now: Instant) -> Self {
        Self { url, state: State::Asked, since: now, reason: String::new(), last: None, rates: None, trend: VecDeque::new(), rounds: 0 }
    }

    /// Takes in how a round of questions went.
    pub(super) fn observe(&mut self, observation: Observation) {
        self.rounds += 1;
        let (at, state, reason) = match observation {
            Ok(sample) => {
                let (state, reason) = judge(&sample);
                let at = sample.at;
                self.rates = self.last.as_ref().and_then(|last| Rates::between(last, &sample));
                self.last = Some(sample);
                (at, state, reason)
            }
            Err((at, reason)) => {
                self.rates = None;
                (at, State::Down, reason)
            }
        };
        if self.state != state {
            (self.state, self.since) = (state, at);
        }
        self.reason = reason;
        if self.trend.len() == TREND {
            self.trend.pop_front();
        }
        self.trend.push_back(self.rate(Counter::Accepted).map(|rate| rate.round() as u64));
    }

    /// How it is.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub(super) fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Why it is not ready, or why that is not known; empty where there is nothing to say.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// How many rounds of questions are over.
    pub(super) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// What it says of itself now: nothing while it is down.
    pub(super) fn sample(&self) -> Option<&Sample> {
        self.last.as_ref().filter(|_| self.state != State::Down)
    }

    /// What waits in it, if it tells.
    pub(super) fn queues(&self) -> Option<&Queues> {
        self.sample()?.queues.as_ref().ok()
    }

    /// How much of it came in a second, of late.
    pub(super) fn rate(&self, counter: Counter) -> Option<f64> {
        self.rates?.per_second(counter)
    }

    /// How much it grew since the answer before.
    pub(super) fn growth(&self, counter: Counter) -> Option<u64> {
        self.rates?.growth(counter)
    }

    /// How much of one came with each of another, of late.
    pub(super) fn each(&self, what: Counter, of: Counter) -> Option<f64> {
        self.rates?.each(what, of)
    }

    /// How long a batch took until it was committed, seconds.
    pub(super) fn commit_seconds(&self) -> Option<f64> {
        Some(self.each(Counter::CommitMicroseconds, Counter::Commits)? / 1e6)
    }

    /// How far the history is behind, seconds: how long what waits will take at the pace at which it was written of late. `None`
    /// where nothing is written here, be it that the history stands still or that another node writes it.
    pub(super) fn lag_seconds(&self) -> Option<f64> {
        match self.queues()?.waiting {
            0 => Some(0.0),
            waiting => Some(waiting as f64 / self.rate(Counter::Persisted).filter(|rate| *rate > 0.0)?),
        }
    }

    /// Messages accepted in a second in the last intervals, the oldest first.
    pub(super) fn trend(&self) -> impl DoubleEndedIterator<Item = Option<u64>> {
        self.trend.iter().copied()
    }
}

fn judge(sample: &Sample) -> (State, String) {
    match &sample.readiness {
        Ok(readiness) if readiness.ready => (State::Ready, String::new()),
        Ok(readiness) if readiness.draining => (State::Draining, readiness.missing()),
        Ok(readiness) => (State::NotReady, readiness.missing()),
        Err(why) => (State::Up, format!("/ready: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::invented::{Invented, server};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_is_told_from_its_beginning_and_measured_over() {
        let begin = Instant::now();
        let mut server = server(begin);
        server.observe(Ok(Invented::at(begin, 10).accepted(500).sample()));
        assert_eq!((server.state(), server.rate(Counter::Accepted)), (State::Ready, None));
        for n in 1..=3 {
            server.observe(Err((begin + n * SECOND, format!("no answer {n}"))));
        }
        let now = begin + 4 * SECOND;
        assert_eq!((server.state(), server.since(now), server.reason()), (State::Down, 3 * SECOND, "no answer 3"));
        assert!(server.sample().is_none() && server.queues().is_none() && server.lag_seconds().is_none());
        server.observe(Ok(Invented::at(now, 14).accepted(900).sample()));
        assert_eq!((server.state(), server.since(now), server.reason()), (State::Ready, Duration::ZERO, ""));
        assert_eq!(server.rate(Counter::Accepted), Some(100.0), "of the whole time");
        assert_eq!(server.trend().collect::<Vec<_>>(), [None, None, None, None, Some(100)]);
    }

    #[test]
    fn a_server_that_was_started_again_is_measured_afresh() {
        let begin = Instant::now();
        let mut server = server(begin);
        server.observe(Ok(Invented::at(begin, 10).accepted(500).sample()));
        server.observe(Ok(Invented::at(begin + SECOND, 0).accepted(3).sample()));
        assert_eq!(server.rate(Counter::Accepted), None);
        server.observe(Ok(Invented::at(begin + 2 * SECOND, 1).accepted(10).sample()));
        assert_eq!(server.rate(Counter::Accepted), Some(7.0));
    }

    #[test]
    fn the_lag_is_what_waits_at_the_pace_of_late() {
        let begin = Instant::now();
        let mut server = server(begin);
        server.observe(Ok(Invented::at(begin, 10).persisted(0, 0, 0).waiting(50).sample()));
        assert_eq!(server.lag_seconds(), None, "the pace is not known yet");
        server.observe(Ok(Invented::at(begin + SECOND, 11).persisted(200, 4, 20_000).waiting(50).sample()));
        assert_eq!((server.lag_seconds(), server.commit_seconds()), (Some(0.25), Some(0.005)));
        assert_eq!(server.each(Counter::Persisted, Counter::Commits), Some(50.0));
        server.observe(Ok(Invented::at(begin + 2 * SECOND, 12).persisted(200, 4, 20_000).waiting(60).sample()));
        assert_eq!((server.lag_seconds(), server.commit_seconds()), (None, None), "it stands still");
        server.observe(Ok(Invented::at(begin + 3 * SECOND, 13).persisted(200, 4, 20_000).waiting(0).sample()));
        assert_eq!(server.lag_seconds(), Some(0.0));
    }

    #[test]
    fn what_is_missing_is_the_reason() {
        let begin = Instant::now();
        let mut server = server(begin);
        server.observe(Ok(Invented::at(begin, 1).broken("store", "the disk is full").sample()));
        assert_eq!((server.state(), server.reason()), (State::NotReady, "store: the disk is full"));
        let mut sample = Invented::at(begin + SECOND, 2).sample();
        sample.readiness = Err("HTTP 404".to_owned());
        server.observe(Ok(sample));
        assert_eq!((server.state(), server.reason()), (State::Up, "/ready: HTTP 404"));
    }

    #[test]
    fn the_trend_is_bounded() {
        let begin = Instant::now();
        let mut server = server(begin);
        (0..2 * TREND as u64).for_each(|n| server.observe(Ok(Invented::at(begin + Duration::from_secs(n), n).accepted(n).sample())));
        assert_eq!((server.trend().count(), server.rounds()), (TREND, 2 * TREND as u64));
    }
}
