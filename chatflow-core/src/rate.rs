//! How fast one identity may publish.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::{Timestamp, UserId};

/// A token bucket: `rate` a second, twice that at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: u32,
    /// Thousandths of a token, so that a millisecond at one a second counts.
    level: u64,
    at: Timestamp,
}

impl Bucket {
    pub(crate) fn new(rate: u32) -> Self {
        Self { rate, level: u64::from(rate) * 2_000, at: Timestamp(0) }
    }

    /// Takes a token, or says after how many milliseconds there will be one.
    pub(crate) fn take(&mut self, now: Timestamp) -> Result<(), u64> {
        if self.rate == 0 {
            return Ok(());
        }
        let passed = u64::try_from(now.0.saturating_sub(self.at.0)).unwrap_or_default();
        self.level = self.level.saturating_add(passed.saturating_mul(u64::from(self.rate))).min(u64::from(self.rate) * 2_000);
        self.at = self.at.max(now);
        match self.level.checked_sub(1_000) {
            Some(left) => {
                self.level = left;
                Ok(())
            }
            None => Err((1_000 - self.level).div_ceil(u64::from(self.rate))),
        }
    }
}

/// The buckets of authenticated users, shared by all their connections, as long as they have one.
#[derive(Debug, Default)]
pub(crate) struct UserBuckets(Mutex<HashMap<UserId, Weak<Mutex<Bucket>>>>);

impl UserBuckets {
    pub(crate) fn of(&self, user: &UserId, rate: u32) -> Arc<Mutex<Bucket>> {
        let mut users = self.0.lock();
        if let Some(bucket) = users.get(user).and_then(Weak::upgrade) {
            return bucket;
        }
        users.retain(|_, bucket| bucket.strong_count() > 0);
        let bucket = Arc::new(Mutex::new(Bucket::new(rate)));
        users.insert(user.clone(), Arc::downgrade(&bucket));
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_two_seconds_then_the_rate() {
        let mut bucket = Bucket::new(50);
        let taken = |bucket: &mut Bucket, at: i64| (0..1_000).take_while(|_| bucket.take(Timestamp(at)).is_ok()).count();
        assert_eq!(taken(&mut bucket, 1_000_000), 100);
        assert_eq!(bucket.take(Timestamp(1_000_000)), Err(20));
        assert_eq!(taken(&mut bucket, 1_000_020), 1);
        assert_eq!(taken(&mut bucket, 1_001_020), 50);
        assert_eq!(taken(&mut bucket, 1_000_500), 0, "a clock that goes back gives nothing");
        assert_eq!(taken(&mut bucket, 1_100_000), 100);
        assert_eq!(taken(&mut Bucket::new(0), 0), 1_000, "0 is off");
    }
}
