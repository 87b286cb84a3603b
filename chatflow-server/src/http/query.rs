//! Reading the parameters of a query: everything that is wrong with them is told at once.

use std::fmt::Display;
use std::str::FromStr;

use chatflow_core::Timestamp;
use chatflow_core::store::LARGEST_PAGE;

use super::Problem;

/// How many a page or a list holds unless asked.
pub(super) const DEFAULT_LIMIT: usize = 100;

/// What has been found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Reading(Vec<String>);

impl Reading {
    /// A text whose type says what it must be.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str, text: Option<&str>) -> Option<T> {
        text?.parse().map_err(|error| self.wrong(name, error)).ok()
    }

    /// A moment, to the millisecond.
    pub(super) fn time(&mut self, name: &str, text: Option<&str>) -> Option<Timestamp> {
        let moment = text?.parse::<jiff::Timestamp>();
        let wrong = |_| self.wrong(name, "must be an ISO-8601 time with an offset such as 2026-11-20T11:02:10Z");
        moment.map(|moment| Timestamp(moment.as_millisecond())).map_err(wrong).ok()
    }

    /// How many: 1 to 1,000, 100 unless asked.
    pub(super) fn limit(&mut self, text: Option<&str>) -> usize {
        let Some(text) = text else { return DEFAULT_LIMIT };
        let number = text.parse().ok().filter(|number| (1..=LARGEST_PAGE).contains(number));
        number.unwrap_or_else(|| {
            self.wrong("limit", format_args!("must be a whole number from 1 to {LARGEST_PAGE}"));
            DEFAULT_LIMIT
        })
    }

    /// Something else is wrong with `name`.
    pub(super) fn wrong(&mut self, name: &str, why: impl Display) {
        self.0.push(format!("{name}: {why}"));
    }

    /// The end of it.
    ///
    /// # Errors
    /// Everything that was wrong.
    pub(super) fn done(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(Problem::invalid(self.0)) }
    }

    #[cfg(test)]
    pub(super) fn errors(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_within_bounds() {
        let limit = |text| {
            let mut reading = Reading::default();
            let limit = reading.limit(text);
            reading.0.is_empty().then_some(limit)
        };
        assert_eq!((limit(None), limit(Some("1")), limit(Some("1000"))), (Some(100), Some(1), Some(1000)));
        for bad in ["0", "-1", "1001", "1e9", "", " 1", "18446744073709551616"] {
            assert_eq!(limit(Some(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn times_are_read_to_the_millisecond() {
        let mut reading = Reading::default();
        assert_eq!(reading.time("start", Some("2025-11-20T11:02:10.1239Z")), Some(Timestamp(1_763_636_530_123)));
        assert_eq!(reading.time("end", Some("2025-11-20T12:02:11+01:00")), Some(Timestamp(1_763_636_531_000)));
        assert_eq!((reading.time("start", None), reading.time("end", Some("now"))), (None, None));
        assert_eq!(reading.errors().len(), 1);
    }
}
