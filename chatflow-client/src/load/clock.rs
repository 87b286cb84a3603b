//! One clock for the whole run.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the run began, and the time of day that belongs to them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start: Instant,
    wall_ms: u64,
}

impl Clock {
    /// A clock that begins now.
    pub(super) fn start() -> Self {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        Self { start: Instant::now(), wall_ms }
    }

    /// Microseconds from the beginning to `instant`.
    pub(super) fn us(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.start).as_micros() as u64
    }

    /// The instant `us` microseconds after the beginning.
    pub(super) fn instant(&self, us: u64) -> Instant {
        self.start + Duration::from_micros(us)
    }

    /// Milliseconds since 1970 at `us` microseconds after the beginning. Steps of the system's clock don't show.
    pub(super) fn wall_ms(&self, us: u64) -> u64 {
        self.wall_ms + us / 1000
    }
}

/// Appends a moment as in `2026-11-20T11:02:10.123Z`.
pub(super) fn put_iso(out: &mut String, ms: u64) {
    thread_local! {
        // Formatting a date costs more than the rest of a frame, and neighbours share their second.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    SECOND.with_borrow_mut(|(cached, text)| {
        let second = ms / 1000;
        if *cached != second {
            let moment = jiff::Timestamp::from_second(second as i64).unwrap_or_default();
            *text = moment.to_string();
            text.pop();
            *cached = second;
        }
        out.push_str(text);
    });
    let digit = |n: u64| char::from(b'0' + (n % 10) as u8);
    for part in ['.', digit(ms / 100), digit(ms / 10), digit(ms), 'Z'] {
        out.push(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_to_the_millisecond() {
        let iso = |ms| {
            let mut out = String::new();
            put_iso(&mut out, ms);
            out
        };
        assert_eq!(iso(1_763_636_530_007), "2025-11-20T11:02:10.007Z");
        assert_eq!(iso(1_763_636_530_120), "2025-11-20T11:02:10.120Z");
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
    }
}
