//! Figures for people.

use std::time::Duration;

/// What stands where nothing is known.
pub(super) const NONE: &str = "-";

/// `12,310`; from ten million on `12.3M`.
pub(super) fn count(n: u64) -> String {
    match n {
        0..10_000_000 => grouped(n),
        10_000_000..10_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}G", n as f64 / 1e9),
    }
}

/// As [`count`], if it is known.
pub(super) fn known(n: Option<u64>) -> String {
    n.map_or_else(|| NONE.to_owned(), count)
}

/// So many a second: `0.3`, `12,310`.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => NONE.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => count(rate.round() as u64),
    }
}

/// `817 B`, `1.2 MB`.
pub(super) fn bytes(n: Option<f64>) -> String {
    let Some(n) = n else { return NONE.to_owned() };
    let (unit, name) = match n {
        ..1e3 => return format!("{n:.0} B"),
        ..1e6 => (1e3, "kB"),
        ..1e9 => (1e6, "MB"),
        ..1e12 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    format!("{:.1} {name}", n / unit)
}

/// A short time: `0.4 ms`, `2.1 s`.
pub(super) fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => NONE.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 100.0 => format!("{seconds:.1} s"),
        Some(seconds) => span(Duration::from_secs_f64(seconds.min(1e15))),
    }
}

/// A long time, in its two largest units: `12 s`, `2 h 3 min`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_and_stay_short() {
        for (n, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (9_999_999, "9,999,999"), (12_345_678, "12.3M"), (u64::MAX, "18446744073.7G")]
        {
            assert_eq!(count(n), text);
        }
        assert_eq!(known(None), "-");
    }

    #[test]
    fn small_rates_have_a_decimal() {
        for (n, text) in [(None, "-"), (Some(0.0), "0"), (Some(0.34), "0.3"), (Some(12.6), "13"), (Some(12_309.7), "12,310")] {
            assert_eq!(rate(n), text);
        }
    }

    #[test]
    fn times_and_sizes_have_their_units() {
        for (n, text) in [(817.0, "817 B"), (1_234.0, "1.2 kB"), (183_000_000.0, "183.0 MB"), (2e13, "20.0 TB")] {
            assert_eq!(bytes(Some(n)), text);
        }
        for (n, text) in [(0.0, "0"), (0.0004, "0.4 ms"), (2.1, "2.1 s"), (125.0, "2 min 5 s"), (f64::INFINITY, "11574074074 d 1 h")] {
            assert_eq!(latency(Some(n)), text);
        }
        for (n, text) in [(12, "12 s"), (125, "2 min 5 s"), (7_385, "2 h 3 min"), (180_000, "2 d 2 h")] {
            assert_eq!(span(Duration::from_secs(n)), text);
        }
    }
}
