//! Messages that wait for their answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chatflow_core::RoomId;
use chatflow_core::protocol::ErrorFrame;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::command::Publish;
use crate::{Backoff, Error, Published};

/// All messages that are not answered yet, in the order in which they were published. Their permits bound them.
#[derive(Debug, Default)]
pub(crate) struct Publishes {
    by_number: BTreeMap<u64, Unanswered>,
    /// When each is to be looked at next: its deadline, or the end of its wait.
    timers: BTreeSet<(Instant, u64)>,
}

#[derive(Debug)]
struct Unanswered {
    publish: Publish,
    state: State,
    refusals: u32,
    timer: Instant,
}

#[derive(Debug)]
enum State {
    /// Not on this connection yet.
    Waiting,
    /// On this connection; the answer is to come.
    Sent,
    /// Refused for now.
    Resting(Box<ErrorFrame>),
}

/// Whether a message of this size may be sent.
fn fits(frame: &Utf8Bytes, limit: Option<usize>) -> Result<(), Error> {
    match limit {
        Some(limit) if frame.len() > limit => Err(Error::TooLarge { size: frame.len(), limit }),
        _ => Ok(()),
    }
}

impl Publishes {
    pub(crate) fn insert(&mut self, publish: Publish) {
        let (number, timer) = (publish.number, publish.deadline);
        self.timers.insert((timer, number));
        self.by_number.insert(number, Unanswered { publish, state: State::Waiting, refusals: 0, timer });
    }

    /// The frame of one message, if it is its turn; from now on it counts as sent. What is larger than `limit` fails here: it
    /// would only close the connection.
    pub(crate) fn send(&mut self, number: u64, limit: Option<usize>) -> Option<Utf8Bytes> {
        let unanswered = self.by_number.get_mut(&number)?;
        if !matches!(unanswered.state, State::Waiting) {
            return None;
        }
        if unanswered.publish.reply.is_closed() {
            self.remove(number);
            return None;
        }
        if let Err(error) = fits(&unanswered.publish.frame, limit) {
            self.finish(number, Err(error));
            return None;
        }
        unanswered.state = State::Sent;
        Some(unanswered.publish.frame.clone())
    }

    /// The numbers of all messages to `room`, in order.
    pub(crate) fn of_room(&self, room: &RoomId) -> Vec<u64> {
        self.by_number.iter().filter(|(_, u)| u.publish.room == *room).map(|(number, _)| *number).collect()
    }

    pub(crate) fn room(&self, number: u64) -> Option<&RoomId> {
        self.by_number.get(&number).map(|u| &u.publish.room)
    }

    /// The server has acknowledged one. An answer that came twice, or too late, belongs to none.
    pub(crate) fn answered(&mut self, number: u64, published: Published) {
        self.finish(number, Ok(published));
    }

    /// The server has refused one: for good, or to be tried again after a while.
    pub(crate) fn refused(&mut self, number: u64, error: ErrorFrame, backoff: Backoff) {
        let Some(unanswered) = self.by_number.get_mut(&number) else { return };
        if !error.retryable {
            return self.finish(number, Err(error.into()));
        }
        let asked = Duration::from_millis(error.retry_after_ms.unwrap_or(0));
        let again = Instant::now() + asked.saturating_add(backoff.delay(unanswered.refusals));
        unanswered.refusals = unanswered.refusals.saturating_add(1);
        unanswered.state = State::Resting(Box::new(error));
        let (old, new) = (unanswered.timer, again.min(unanswered.publish.deadline));
        unanswered.timer = new;
        self.timers.remove(&(old, number));
        self.timers.insert((new, number));
    }

    /// The connection is gone: what was sent on it has to be sent again.
    pub(crate) fn disconnected(&mut self) {
        for unanswered in self.by_number.values_mut() {
            if matches!(unanswered.state, State::Sent) {
                unanswered.state = State::Waiting;
            }
        }
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Ends those whose deadline has passed, and returns the numbers of those that have waited long enough.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<u64> {
        let mut again = Vec::new();
        while let Some(&(at, number)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            let Some(unanswered) = self.by_number.get_mut(&number) else { continue };
            let deadline = unanswered.publish.deadline;
            if now < deadline {
                unanswered.state = State::Waiting;
                unanswered.timer = deadline;
                self.timers.insert((deadline, number));
                again.push(number);
                continue;
            }
            let error = match &unanswered.state {
                State::Resting(error) => Error::Refused(error.clone()),
                _ => Error::Unanswered { id: unanswered.publish.id, within: unanswered.publish.within },
            };
            self.finish(number, Err(error));
        }
        again.sort_unstable();
        again
    }

    /// Ends all messages to `room`.
    pub(crate) fn fail_room(&mut self, room: &RoomId, error: &Error) {
        for number in self.of_room(room) {
            self.finish(number, Err(error.clone()));
        }
    }

    /// Ends all.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        self.timers.clear();
        for (_, unanswered) in std::mem::take(&mut self.by_number) {
            let _ = unanswered.publish.reply.send(Err(error.clone()));
        }
    }

    fn remove(&mut self, number: u64) -> Option<Unanswered> {
        let unanswered = self.by_number.remove(&number)?;
        self.timers.remove(&(unanswered.timer, number));
        Some(unanswered)
    }

    fn finish(&mut self, number: u64, result: Result<Published, Error>) {
        if let Some(unanswered) = self.remove(number) {
            drop(unanswered.publish.permit);
            // Nobody waits any more if the caller dropped the future.
            let _ = unanswered.publish.reply.send(result);
        }
    }
}
