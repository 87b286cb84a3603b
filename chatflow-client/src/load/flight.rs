//! The messages of one connection that wait for their answer, and when to send which of them again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause before a message is sent again; it doubles with each further time.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Written; an answer is due until then.
    Waiting(Instant),
    /// To be written again then.
    Resting(Instant),
    Settled,
}

#[derive(Debug)]
struct Pending {
    number: u32,
    writes: u8,
    state: State,
}

/// What became of a message after which nothing was heard of it in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Write it again now.
    Again(u32),
    /// It was written often enough; it failed.
    GivenUp(u32),
}

/// The window of one connection. Messages enter in the order of the connection's numbering (`nth`).
#[derive(Debug)]
pub(super) struct Flight {
    timeout: Duration,
    retries: u8,
    /// Which of the connection's messages the front is.
    front: u32,
    window: VecDeque<Pending>,
    live: usize,
    /// Nothing is due before this.
    wake: Option<Instant>,
}

impl Flight {
    pub(super) fn new(timeout: Duration, retries: u8) -> Self {
        Self { timeout, retries, front: 0, window: VecDeque::new(), live: 0, wake: None }
    }

    /// How many messages wait for an answer or for being sent again.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Which of the connection's messages comes next.
    pub(super) fn next(&self) -> u32 {
        self.front + self.window.len() as u32
    }

    /// The next message, which is `number` in the run, was just written.
    pub(super) fn wrote(&mut self, number: u32, now: Instant) {
        let deadline = now + self.timeout;
        self.window.push_back(Pending { number, writes: 1, state: State::Waiting(deadline) });
        self.live += 1;
        self.wake_at(deadline);
    }

    /// The `nth` message was answered for good; whether it was waited for.
    pub(super) fn settle(&mut self, nth: u32) -> bool {
        let Some(pending) = nth.checked_sub(self.front).and_then(|at| self.window.get_mut(at as usize)) else { return false };
        if pending.state == State::Settled {
            return false;
        }
        pending.state = State::Settled;
        self.live -= 1;
        while self.window.front().is_some_and(|p| p.state == State::Settled) {
            self.window.pop_front();
            self.front += 1;
        }
        true
    }

    /// The `nth` message was refused for now; `after` is how long the server asks to wait. `None` if it was not waited
    /// for, else whether it will be sent again.
    pub(super) fn refused(&mut self, nth: u32, after: Option<Duration>, now: Instant, jitter: f64) -> Option<bool> {
        let retries = self.retries;
        let pending = nth.checked_sub(self.front).and_then(|at| self.window.get_mut(at as usize))?;
        if !matches!(pending.state, State::Waiting(_)) {
            return None;
        }
        if pending.writes > retries {
            self.settle(nth);
            return Some(false);
        }
        let rest = backoff(pending.writes, jitter).max(after.unwrap_or_default());
        pending.state = State::Resting(now + rest);
        self.wake_at(now + rest);
        Some(true)
    }

    /// The connection was lost: whatever waits for an answer is to be written again at once on the next one.
    pub(super) fn lost(&mut self, now: Instant) {
        for pending in &mut self.window {
            if matches!(pending.state, State::Waiting(_)) {
                pending.state = State::Resting(now);
            }
        }
        self.wake = Some(now);
    }

    /// Adds what is due at `now` to `due`. Messages to be written again count as written.
    pub(super) fn expire(&mut self, now: Instant, mut jitter: impl FnMut() -> f64, due: &mut Vec<Due>) {
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        self.wake = None;
        let mut given_up = Vec::new();
        let mut wake: Option<Instant> = None;
        for (at, pending) in self.window.iter_mut().enumerate() {
            pending.state = match pending.state {
                State::Waiting(until) if until <= now && pending.writes > self.retries => {
                    given_up.push(self.front + at as u32);
                    due.push(Due::GivenUp(pending.number));
                    continue;
                }
                State::Waiting(until) if until <= now => State::Resting(now + backoff(pending.writes, jitter())),
                State::Resting(until) if until <= now && pending.writes > self.retries => {
                    given_up.push(self.front + at as u32);
                    due.push(Due::GivenUp(pending.number));
                    continue;
                }
                State::Resting(until) if until <= now => {
                    pending.writes += 1;
                    due.push(Due::Again(pending.number));
                    State::Waiting(now + self.timeout)
                }
                state => state,
            };
            if let State::Waiting(until) | State::Resting(until) = pending.state {
                wake = Some(wake.map_or(until, |w| w.min(until)));
            }
        }
        self.wake = wake;
        for nth in given_up {
            self.settle(nth);
        }
    }

    /// When something is due next, at the earliest.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Gives up all that is left and returns their numbers.
    pub(super) fn abandon(&mut self) -> Vec<u32> {
        let left = self.window.drain(..).filter(|p| p.state != State::Settled).map(|p| p.number).collect();
        self.live = 0;
        left
    }

    fn wake_at(&mut self, instant: Instant) {
        self.wake = Some(self.wake.map_or(instant, |wake| wake.min(instant)));
    }
}

/// The pause after so many tries, with `jitter` from 0 to 1: half fixed, half by chance.
pub(super) fn backoff(tries: u8, jitter: f64) -> Duration {
    let full = BACKOFF.saturating_mul(1 << u32::from(tries.saturating_sub(1)).min(16)).min(LONGEST_BACKOFF);
    full.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn expire(flight: &mut Flight, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        flight.expire(now, || 1.0, &mut due);
        due
    }

    #[test]
    fn the_window_moves_past_what_is_settled_in_any_order() {
        let now = Instant::now();
        let mut flight = Flight::new(TIMEOUT, 5);
        (10..14).for_each(|number| flight.wrote(number, now));
        assert!(flight.settle(2) && flight.settle(0) && !flight.settle(0));
        assert_eq!((flight.len(), flight.next()), (2, 4));
        assert!(flight.settle(1) && flight.settle(3) && !flight.settle(4));
        assert_eq!((flight.len(), flight.next(), flight.front), (0, 4, 4));
    }

    #[test]
    fn an_unanswered_message_is_sent_again_with_doubling_pauses_and_then_given_up() {
        let start = Instant::now();
        let mut flight = Flight::new(TIMEOUT, 2);
        flight.wrote(7, start);
        let mut now = start;
        let mut at = Vec::new();
        while flight.len() > 0 {
            now = flight.wake().unwrap();
            at.extend(expire(&mut flight, now).into_iter().map(|due| (due, now - start)));
        }
        let ms = Duration::from_millis;
        assert_eq!(at, [(Due::Again(7), ms(1_100)), (Due::Again(7), ms(2_300)), (Due::GivenUp(7), ms(3_300))]);
        assert_eq!(now - start, ms(3_300));
    }

    #[test]
    fn a_late_answer_still_counts() {
        let start = Instant::now();
        let mut flight = Flight::new(TIMEOUT, 2);
        flight.wrote(7, start);
        assert!(expire(&mut flight, start + TIMEOUT).is_empty(), "it rests before it is sent again");
        assert!(flight.settle(0));
        assert!(expire(&mut flight, start + TIMEOUT * 9).is_empty());
    }

    #[test]
    fn a_refusal_waits_at_least_as_long_as_the_server_asks() {
        let start = Instant::now();
        let mut flight = Flight::new(TIMEOUT, 1);
        flight.wrote(7, start);
        assert_eq!(flight.refused(0, Some(TIMEOUT * 3), start, 0.0), Some(true));
        assert!(expire(&mut flight, start + TIMEOUT * 2).is_empty());
        assert_eq!(expire(&mut flight, start + TIMEOUT * 3), [Due::Again(7)]);
        assert_eq!(flight.refused(0, None, start, 0.0), Some(false));
        assert_eq!(flight.len(), 0);
    }

    #[test]
    fn after_a_lost_connection_everything_unanswered_goes_out_again_in_order() {
        let start = Instant::now();
        let mut flight = Flight::new(TIMEOUT, 5);
        (10..13).for_each(|number| flight.wrote(number, start));
        flight.settle(1);
        flight.lost(start);
        assert_eq!(expire(&mut flight, start), [Due::Again(10), Due::Again(12)]);
        assert_eq!(flight.abandon(), [10, 12]);
    }
}
