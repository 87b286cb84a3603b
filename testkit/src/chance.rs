//! Chance for tests whose order of events is chance anyway.

use std::time::Duration;

/// A number from 0 to 1.
pub fn chance() -> f64 {
    (uuid::Uuid::new_v4().as_u128() >> 75) as f64 / (1u64 << 53) as f64
}

/// A time between two.
pub fn between(shortest: Duration, longest: Duration) -> Duration {
    shortest + (longest - shortest).mul_f64(chance())
}
