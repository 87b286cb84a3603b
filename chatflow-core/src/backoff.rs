//! How long to wait before the next attempt.

use std::time::Duration;

use crate::MessageId;

/// Exponential backoff with full jitter: attempt `n` waits a random time between nothing and `base · 2ⁿ`, at most `cap`.
///
/// Full jitter spreads the clients of a server that restarts over the whole interval
/// ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Default for Backoff {
    /// From 100 ms up to 10 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

impl Backoff {
    /// From `base` up to `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The longest that attempt `attempt` (from 0) may wait.
    pub fn ceiling(&self, attempt: u32) -> Duration {
        self.base.saturating_mul(1 << attempt.min(31)).min(self.cap)
    }

    /// How long attempt `attempt` (from 0) waits: different each time it is asked.
    pub fn delay(&self, attempt: u32) -> Duration {
        self.ceiling(attempt).mul_f64(random_fraction())
    }
}

/// Uniform in `0..1`, out of the random bits of a UUID: one random number a reconnect is not worth a dependency.
fn random_fraction() -> f64 {
    let bits = MessageId::new_v4().as_u64_pair().1 & ((1 << 53) - 1);
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_cap() {
        let backoff = Backoff::default();
        let ceilings: Vec<u64> = (0..9).map(|n| backoff.ceiling(n).as_millis() as u64).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(backoff.ceiling(u32::MAX), Duration::from_secs(10));
    }

    #[test]
    fn delays_fill_the_whole_interval() {
        let delays: Vec<f64> = (0..1_000).map(|_| Backoff::default().delay(7).as_secs_f64()).collect();
        assert!(delays.iter().all(|d| (0.0..10.0).contains(d)));
        let mean = delays.iter().sum::<f64>() / 1_000.0;
        assert!((4.0..6.0).contains(&mean), "mean {mean} s");
        assert!(delays.iter().any(|d| *d < 0.5) && delays.iter().any(|d| *d > 9.5));
    }
}
