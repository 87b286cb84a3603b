//! How often somebody may try to log in: from one address, and under one name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::admission;

/// Addresses and names that are remembered, twice: those that were heard of lately, and those before them.
const REMEMBERED: usize = 50_000;

const MINUTE: Duration = Duration::from_secs(60);

/// Counts attempts. What is not heard of for long is forgotten, and then has all its attempts again.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// How many in a minute; 0 = any number.
    most: u32,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    young: HashMap<Of, Left>,
    old: HashMap<Of, Left>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Of {
    Address(IpAddr),
    Name(String),
}

/// Attempts that are left, as of a moment.
#[derive(Debug, Clone, Copy)]
struct Left {
    count: f64,
    at: Instant,
}

/// One attempt.
#[derive(Debug)]
pub(crate) struct Attempt(Vec<Of>);

impl Attempts {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, known: Mutex::default() }
    }

    /// Takes an attempt from those of the address and of the name, if it can be anybody's.
    ///
    /// # Errors
    /// There is none; how long until there is.
    pub(crate) fn begin(&self, address: IpAddr, name: &str) -> Result<Attempt, Duration> {
        self.begin_at(address, name, Instant::now())
    }

    fn begin_at(&self, address: IpAddr, name: &str, now: Instant) -> Result<Attempt, Duration> {
        let mut of = vec![Of::Address(admission::network(address))];
        if chatflow_core::accounts::is_name(name) {
            of.push(Of::Name(chatflow_core::accounts::key(name)));
        }
        if self.most == 0 {
            return Ok(Attempt(Vec::new()));
        }
        let mut known = self.known.lock();
        let mut left = of.iter().map(|of| known.of(of, self.most, now)).collect::<Vec<_>>();
        let least = left.iter().map(|left| left.count).fold(f64::INFINITY, f64::min);
        if least < 1.0 {
            return Err(MINUTE.mul_f64((1.0 - least) / f64::from(self.most)));
        }
        left.iter_mut().for_each(|left| left.count -= 1.0);
        of.iter().zip(left).for_each(|(of, left)| known.keep(of.clone(), left));
        Ok(Attempt(of))
    }

    /// Gives it back: who knows the password may log in as often as they like.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        let (mut known, now) = (self.known.lock(), Instant::now());
        for of in &attempt.0 {
            let mut left = known.of(of, self.most, now);
            left.count = (left.count + 1.0).min(f64::from(self.most));
            known.keep(of.clone(), left);
        }
    }
}

impl Known {
    fn of(&self, of: &Of, most: u32, now: Instant) -> Left {
        let most = f64::from(most);
        let Some(left) = self.young.get(of).or_else(|| self.old.get(of)) else { return Left { count: most, at: now } };
        let since = now.saturating_duration_since(left.at).as_secs_f64() / MINUTE.as_secs_f64();
        Left { count: (left.count + since * most).min(most), at: now.max(left.at) }
    }

    fn keep(&mut self, of: Of, left: Left) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(of, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_run_out_by_address_and_by_name_and_come_back() {
        let (attempts, begun) = (Attempts::new(6), Instant::now());
        let try_it =
            |address: &str, name: &str, seconds| attempts.begin_at(address.parse().unwrap(), name, begun + Duration::from_secs(seconds));
        for _ in 0..6 {
            assert!(try_it("10.0.0.1", "ada", 0).is_ok());
        }
        assert_eq!(try_it("10.0.0.1", "grace", 0).unwrap_err(), Duration::from_secs(10), "the address has none left");
        assert!(try_it("10.0.0.2", "ADA", 0).is_err(), "the name has none left, whatever its case");
        assert!(try_it("10.0.0.2", "grace", 0).is_ok());
        assert!(try_it("10.0.0.3", "ada", 9).is_err());
        assert!(try_it("10.0.0.3", "ada", 10).is_ok());
        assert!(try_it("10.0.0.3", "ada", 10).is_err());
        assert!(try_it("10.0.0.1", "no name", 60).is_ok());
    }

    #[test]
    fn success_costs_nothing() {
        let attempts = Attempts::new(2);
        for _ in 0..10 {
            let attempt = attempts.begin(IpAddr::from([10, 0, 0, 1]), "ada").unwrap();
            attempts.succeeded(&attempt);
        }
        for _ in 0..10 {
            assert!(Attempts::new(0).begin(IpAddr::from([10, 0, 0, 1]), "ada").is_ok());
        }
    }

    #[test]
    fn a_flood_is_forgotten_in_time() {
        let attempts = Attempts::new(1);
        for n in 0..3 * REMEMBERED as u32 {
            let _ = attempts.begin(IpAddr::from(n.to_be_bytes()), "nobody else");
        }
        let known = attempts.known.lock();
        assert!(known.young.len() <= REMEMBERED && known.old.len() <= REMEMBERED);
    }
}
