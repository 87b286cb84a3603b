//! How fast counters grow.

use std::time::Duration;

use serde_json::Value;

use super::sample::Sample;

/// How much more the time that passed here may be than that of the server's clock, for another reason than a restart.
const SLACK: Duration = Duration::from_millis(500);
/// Over less than this a rate means nothing.
const SHORTEST: Duration = Duration::from_millis(1);

/// What only grows while a server lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    Opened,
    Accepted,
    Rejected,
    Refused,
    Acknowledged,
    Repeated,
    Conflicting,
    Persisted,
    Commits,
    CommitMicroseconds,
    CommitFailures,
    DeadLetters,
    Broadcasts,
    Deliveries,
    SentBytes,
    ReceivedBytes,
    SlowMembers,
    CaughtUp,
}

impl Counter {
    /// All of them, in order, by the name that the server gives them in JSON.
    pub(super) const ALL: [(Self, &'static str); 18] = [
        (Self::Opened, "connectionsOpened"),
        (Self::Accepted, "messagesAccepted"),
        (Self::Rejected, "messagesRejected"),
        (Self::Refused, "messagesRefused"),
        (Self::Acknowledged, "messagesAcknowledged"),
        (Self::Repeated, "messagesRepeated"),
        (Self::Conflicting, "messagesConflicting"),
        (Self::Persisted, "messagesPersisted"),
        (Self::Commits, "storeCommits"),
        (Self::CommitMicroseconds, "storeCommitMicroseconds"),
        (Self::CommitFailures, "storeCommitFailures"),
        (Self::DeadLetters, "deadLetters"),
        (Self::Broadcasts, "broadcasts"),
        (Self::Deliveries, "deliveries"),
        (Self::SentBytes, "sentBytes"),
        (Self::ReceivedBytes, "receivedBytes"),
        (Self::SlowMembers, "slowMembers"),
        (Self::CaughtUp, "caughtUpMessages"),
    ];
}

/// Where each stood. A server of another version need not have all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters([Option<u64>; Counter::ALL.len()]);

impl Counters {
    /// Reads them off `/metrics`.
    pub(super) fn read(body: &Value) -> Self {
        Self(Counter::ALL.map(|(_, name)| body.get(name).and_then(Value::as_u64)))
    }

    /// Since the server started.
    pub(super) fn of(&self, counter: Counter) -> Option<u64> {
        self.0[counter as usize]
    }
}

/// What came in a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    over: Duration,
    growth: [Option<u64>; Counter::ALL.len()],
}

impl Rates {
    /// From one sample of a server to a later one; `None` where they are not of one life: it was started again in between, or
    /// another server answers at its address.
    ///
    /// The time is that of the server's own clock, which it reads together with its counters: how long its answers are on their way
    /// does not matter.
    pub(super) fn between(before: &Sample, after: &Sample) -> Option<Self> {
        let (was, is) = (&before.figures, &after.figures);
        let over = is.uptime.checked_sub(was.uptime)?;
        let passed = after.at.saturating_duration_since(before.at);
        // A new life is younger than the time that has passed, even if it is older than the last one was when it was seen.
        let unsure = SLACK + before.took + after.took + passed / 100;
        if was.node != is.node || over < SHORTEST || over + unsure < passed {
            return None;
        }
        let growth = std::array::from_fn(|place| is.counters.0[place]?.checked_sub(was.counters.0[place]?));
        Some(Self { over, growth })
    }

    /// How much it grew.
    pub(super) fn growth(&self, counter: Counter) -> Option<u64> {
        self.growth[counter as usize]
    }

    /// How much it grew in a second.
    pub(super) fn per_second(&self, counter: Counter) -> Option<f64> {
        Some(self.growth(counter)? as f64 / self.over.as_secs_f64())
    }

    /// How much of one came with each of another; `None` where there was none.
    pub(super) fn each(&self, what: Counter, of: Counter) -> Option<f64> {
        let (what, of) = (self.growth(what)?, self.growth(of)?);
        (of > 0).then(|| what as f64 / of as f64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::monitor::invented::Invented;

    fn sample(at: Instant, uptime: f64, accepted: u64) -> Sample {
        Invented::at(at, 0).figure("uptimeSeconds", uptime).figure("storeCommits", 7).accepted(accepted).sample()
    }

    fn seconds(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    #[test]
    fn the_order_is_that_of_the_counters() {
        assert!(Counter::ALL.iter().enumerate().all(|(place, (counter, _))| *counter as usize == place));
    }

    #[test]
    fn rates_are_per_second_of_the_servers_clock() {
        let now = Instant::now();
        // The second answer was 0.4 s longer on its way.
        let rates = Rates::between(&sample(now, 10.0, 500), &sample(now + seconds(2.4), 12.0, 1_500)).unwrap();
        assert_eq!((rates.per_second(Counter::Accepted), rates.growth(Counter::Accepted)), (Some(500.0), Some(1_000)));
        assert_eq!(rates.per_second(Counter::Commits), Some(0.0));
        assert_eq!(rates.per_second(Counter::Refused), None, "a counter that the server does not have");
        assert_eq!(rates.each(Counter::Accepted, Counter::Commits), None, "there was no commit");
    }

    #[test]
    fn a_restart_gives_no_rates_however_the_counters_stand() {
        let now = Instant::now();
        let after = |passed: f64, uptime: f64, accepted: u64| {
            Rates::between(&sample(now, 10.0, 500), &sample(now + seconds(passed), uptime, accepted))
        };
        assert_eq!(after(1.0, 0.3, 0), None);
        assert_eq!(after(1.0, 0.3, 900), None, "more than before, in a shorter life");
        assert_eq!(after(30.0, 15.0, 900), None, "more than before, in a longer life that is shorter than the time that passed");
        assert_eq!(after(30.0, 40.0, 900).unwrap().per_second(Counter::Accepted), Some(400.0 / 30.0), "only out of reach for a while");
    }

    #[test]
    fn no_rate_is_negative_or_infinite() {
        let now = Instant::now();
        let rates = Rates::between(&sample(now, 10.0, 500), &sample(now + seconds(1.0), 11.0, 499)).unwrap();
        assert_eq!(rates.per_second(Counter::Accepted), None);
        assert_eq!(Rates::between(&sample(now, 10.0, 500), &sample(now, 10.0, 501)), None);
    }

    #[test]
    fn another_server_at_the_address_is_another_life() {
        let now = Instant::now();
        let mut other = sample(now + seconds(1.0), 11.0, 600);
        other.figures.node = "m".to_owned();
        assert_eq!(Rates::between(&sample(now, 10.0, 500), &other), None);
    }
}
