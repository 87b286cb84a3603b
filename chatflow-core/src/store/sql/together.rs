//! Small batches of several logs, committed together: they share what a transaction costs, and its sync.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use super::rows::{Exceptions, Part};
use crate::store::times::Times;
use crate::store::{Lease, Stored, batch};
use crate::{Error, ErrorKind, LogId, Position, Result};

/// Rows and bytes of a batch that fills a transaction by itself.
const LARGE_ROWS: usize = 1_000;
const LARGE_BYTES: usize = 1 << 20;

/// Rows and bytes of a transaction beyond which it takes no further batch.
const MOST_ROWS: usize = 2_000;
const MOST_BYTES: usize = 2 << 20;

/// Transactions of small batches at once. What comes meanwhile makes the next one larger.
const TURNS: usize = 2;

/// A batch that is not large.
#[derive(Debug)]
pub(in crate::store) struct Small {
    pub(in crate::store) lease: Lease,
    pub(in crate::store) entries: Vec<Stored>,
    pub(in crate::store) through: Position,
}

impl Small {
    /// `None` when the batch is large.
    pub(in crate::store) fn of(lease: &Lease, entries: &[Stored], through: Position) -> Option<Self> {
        let is_small = entries.len() < LARGE_ROWS && bytes_of(entries) < LARGE_BYTES;
        is_small.then(|| Self { lease: lease.clone(), entries: entries.to_vec(), through })
    }
}

fn bytes_of(entries: &[Stored]) -> usize {
    entries.iter().map(|entry| entry.message.body.len()).sum()
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Outcome {
    /// It is committed, but for these.
    Committed(Exceptions),
    /// Nothing: it may be at fault, or waits for somebody, and is to be committed by itself.
    Alone,
}

/// Which of `batches` are as they should be, where their logs are `held`: how far each is, and what is known of its times.
pub(in crate::store) fn admitted<'a>(
    origin: &'static str,
    batches: &'a [Small],
    mut held: HashMap<LogId, (Position, Times)>,
) -> (Vec<usize>, Vec<Part<'a>>) {
    let part = |(place, Small { lease, entries, through }): (usize, &'a Small)| {
        let (watermark, times) = held.remove(&lease.log)?;
        batch::follows(origin, lease, watermark).and_then(|()| batch::check(origin, entries, *through)).ok()?;
        Some((place, Part { log: lease.log, entries, through: *through, watermark, times }))
    };
    batches.iter().enumerate().filter_map(part).unzip()
}

/// What became of a group of `count` batches, of which those at `places` are committed, each but for some.
pub(in crate::store) fn outcomes(count: usize, places: Vec<usize>, exceptions: Vec<Exceptions>) -> Vec<Outcome> {
    let mut outcomes: Vec<_> = (0..count).map(|_| Outcome::Alone).collect();
    places.into_iter().zip(exceptions).for_each(|(place, exceptions)| outcomes[place] = Outcome::Committed(exceptions));
    outcomes
}

/// Batches that wait for a turn.
///
/// Each caller is there for its own batch, so that there is no task to own: whoever gets a turn commits all that waits. One that is dropped
/// in its turn leaves the others without an answer, and they are told to try again.
pub(in crate::store) struct Together {
    /// At most one for each call that is under way.
    waiting: Mutex<VecDeque<Waiting>>,
    turns: Semaphore,
    origin: &'static str,
}

type Waiting = (Small, oneshot::Sender<Result<Outcome>>);

impl Together {
    pub(in crate::store) fn new(origin: &'static str) -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(TURNS), origin }
    }

    /// Commits `small` with what else waits, by `run`, which gives an outcome for each batch or has committed none.
    ///
    /// # Errors
    /// Those of `run` that time may mend. What fails for another reason is to be tried alone, for one of them is at fault.
    pub(in crate::store) async fn commit<F>(&self, small: Small, run: impl Fn(Vec<Small>) -> F) -> Result<Outcome>
    where
        F: Future<Output = Result<Vec<Outcome>>>,
    {
        let (reply, mut answer) = oneshot::channel();
        self.waiting.lock().push_back((small, reply));
        loop {
            let turn = tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(self.given_up())),
                turn = self.turns.acquire() => turn,
            };
            let (group, replies): (Vec<_>, Vec<_>) = self.take().into_iter().unzip();
            if group.is_empty() {
                drop(turn);
                // Another turn has it.
                return answer.await.unwrap_or_else(|_| Err(self.given_up()));
            }
            let answers: Vec<_> = match run(group).await {
                Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
                Err(error) => replies.iter().map(|_| self.failed(&error)).collect(),
            };
            for (reply, answer) in replies.into_iter().zip(answers) {
                // Whoever does not wait any more need not be told.
                let _ = reply.send(answer);
            }
        }
    }

    /// What waits and fits into one transaction: in turn, one of each log, none that was given up.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let (mut rows, mut bytes) = (0, 0);
        let mut group: Vec<Waiting> = Vec::new();
        while let Some((small, reply)) = waiting.front() {
            if !reply.is_closed() {
                rows += small.entries.len();
                bytes += bytes_of(&small.entries);
                let is_more = rows > MOST_ROWS || bytes > MOST_BYTES || group.iter().any(|(other, _)| other.lease.log == small.lease.log);
                if is_more && !group.is_empty() {
                    break;
                }
                group.extend(waiting.pop_front());
            } else {
                waiting.pop_front();
            }
        }
        group
    }

    /// What each of a group is told whose transaction failed.
    fn failed(&self, error: &Error) -> Result<Outcome> {
        if !error.is_transient() {
            return Ok(Outcome::Alone);
        }
        let text = error.to_string();
        let text = text.strip_prefix(error.origin()).and_then(|text| text.strip_prefix(": ")).map_or(text.clone(), str::to_owned);
        Err(Error::new(error.kind(), error.origin(), text))
    }

    fn given_up(&self) -> Error {
        Error::new(ErrorKind::Unavailable, self.origin, "the commit that this was a part of was given up")
    }
}

impl fmt::Debug for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Together").field("waiting", &self.waiting.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::task::Poll;

    use futures::future::join_all;
    use futures::poll;

    use super::*;
    use crate::{LogId, Message, MessageId, RoomId, Timestamp};

    /// So many rows of a log.
    fn small(log: u16, rows: usize) -> Small {
        let row = |n: usize| Stored {
            position: Position::new(1, n as u128),
            message: Message {
                id: MessageId::new_v4(),
                room: RoomId::new("a").unwrap(),
                sender: "ada".into(),
                kind: crate::kind::TEXT,
                body: bytes::Bytes::new(),
                digest: 0,
                at: Timestamp(0),
                node: "n".into(),
                session: 0,
                origin: "".into(),
            },
        };
        let entries: Vec<_> = (1..=rows).map(row).collect();
        Small::of(&Lease::new(LogId(log), 1, Position::ZERO), &entries, Position::new(1, rows as u128)).unwrap()
    }

    /// What was run, when it may end, and of which log a group fails.
    struct Database {
        groups: RefCell<Vec<Vec<(u16, usize)>>>,
        go: Semaphore,
        fails: Option<(u16, ErrorKind)>,
    }

    impl Database {
        fn new(fails: Option<(u16, ErrorKind)>) -> Self {
            Self { groups: RefCell::default(), go: Semaphore::new(0), fails }
        }

        async fn run(&self, group: Vec<Small>) -> Result<Vec<Outcome>> {
            self.groups.borrow_mut().push(group.iter().map(|small| (small.lease.log.0, small.entries.len())).collect());
            self.go.acquire().await.unwrap().forget();
            match self.fails {
                Some((log, kind)) if group.iter().any(|small| small.lease.log.0 == log) => Err(Error::new(kind, "test", "it failed")),
                _ => Ok(group.iter().map(|_| Outcome::Committed(Vec::new())).collect()),
            }
        }

        fn ran(&self) -> Vec<Vec<(u16, usize)>> {
            self.groups.take()
        }
    }

    #[tokio::test]
    async fn what_waits_for_a_turn_goes_together_within_bounds() {
        let (together, database) = (Together::new("test"), Database::new(None));
        let run = |group| database.run(group);
        let sizes = [(0, 10), (1, 10), (2, 900), (3, 900), (2, 5), (4, 900), (5, 0), (6, 999), (7, 97)];
        let mut commits: Vec<_> = sizes.iter().map(|(log, rows)| Box::pin(together.commit(small(*log, *rows), run))).collect();
        for commit in &mut commits {
            assert!(poll!(commit).is_pending());
        }
        assert_eq!(database.ran(), [[(0, 10)], [(1, 10)]], "two at once");
        drop(commits.remove(3));
        database.go.add_permits(sizes.len());
        let outcomes = join_all(commits).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(Outcome::Committed(_)))), "{outcomes:?}");
        let wanted = [vec![(2, 900)], vec![(2, 5), (4, 900), (5, 0), (6, 999)], vec![(7, 97)]];
        assert_eq!(database.ran(), wanted, "in turn, one of each log, none that was given up, and not more than fits");
        assert_eq!(together.turns.available_permits(), TURNS);
    }

    #[tokio::test]
    async fn what_goes_wrong_is_tried_again_by_everybody_or_alone() {
        for (kind, wanted) in [(ErrorKind::Invalid, "Ok(Alone)"), (ErrorKind::Unavailable, "Err(Unavailable(test: it failed))")] {
            let (together, database) = (Together::new("test"), Database::new(Some((3, kind))));
            let run = |group| database.run(group);
            let mut commits: Vec<_> = (0..4).map(|log| Box::pin(together.commit(small(log, 1), run))).collect();
            for commit in &mut commits {
                assert!(poll!(commit).is_pending());
            }
            database.go.add_permits(4);
            let outcomes: Vec<_> = join_all(commits).await.iter().map(|outcome| format!("{outcome:?}")).collect();
            assert_eq!(outcomes, ["Ok(Committed([]))", "Ok(Committed([]))", wanted, wanted]);
        }
    }

    #[tokio::test]
    async fn who_is_dropped_in_its_turn_leaves_the_others_to_try_again() {
        let (together, database) = (Together::new("test"), Database::new(None));
        let run = |group| database.run(group);
        let mut commits: Vec<_> = (0..4).map(|log| Box::pin(together.commit(small(log, 1), run))).collect();
        for commit in &mut commits {
            assert!(poll!(commit).is_pending());
        }
        database.go.add_permits(2);
        let mut fourth = commits.pop().unwrap();
        for commit in &mut commits {
            let _ = poll!(commit);
        }
        assert_eq!(database.ran().last().unwrap(), &[(2, 1), (3, 1)]);
        drop(commits);
        assert!(matches!(poll!(&mut fourth), Poll::Ready(Err(error)) if error.is_transient()));
        assert_eq!(together.turns.available_permits(), TURNS);
    }
}
