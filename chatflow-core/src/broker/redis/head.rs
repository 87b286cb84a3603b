//! What there is to know about a log, and what it says about a place in it.

use crate::Position;
use crate::broker::{Event, From};

/// The state of a log, as the scripts answer with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The present epoch, and the offset of its last entry; offsets begin with 1 and have no holes.
    pub(super) epoch: u64,
    pub(super) tail: u64,
    /// Counted over all epochs: the entries before the present epoch.
    pub(super) base: u64,
    /// Counted over all epochs: the entries that may be gone, and those that the slowest history has.
    pub(super) oldest: u64,
    pub(super) settled: u64,
    /// Bytes of all entries, and of those that the slowest history has.
    pub(super) bytes: u64,
    pub(super) freed: u64,
    /// Epochs that are over, in order.
    past: Vec<Past>,
    /// How many logs there are.
    pub(super) logs: u16,
}

/// An epoch that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Past {
    epoch: u64,
    base: u64,
    tail: u64,
}

/// Where a place is in a log.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// So many entries are before it, over all epochs.
    Here(u64),
    /// Whoever was there has seen what this log lost; so many entries are before where it can go on.
    Lost(u64),
    /// The log was never so far: it is not the log that it was.
    Ahead,
}

/// The log was never at a place where somebody has been: it has to begin a new epoch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ahead;

impl Head {
    /// Of a script's answer; `None` if there is no such log.
    pub(super) fn parse(fields: &[Option<String>]) -> Option<Self> {
        let number = |i: usize| fields.get(i)?.as_deref()?.parse::<u64>().ok();
        let past = fields.get(7)?.as_deref().unwrap_or_default().split(',').filter(|past| !past.is_empty());
        let past = past.map(|past| {
            let mut numbers = past.split(':').map(|number| number.parse().ok());
            Some(Past { epoch: numbers.next()??, base: numbers.next()??, tail: numbers.next()?? })
        });
        Some(Self {
            epoch: number(0)?,
            tail: number(1)?,
            base: number(2)?,
            oldest: number(3)?,
            settled: number(4)?,
            bytes: number(5)?,
            freed: number(6)?,
            past: past.collect::<Option<_>>()?,
            logs: number(8).and_then(|logs| u16::try_from(logs).ok())?,
        })
    }

    /// The place of the last entry.
    pub(super) fn tail(&self) -> Position {
        Position::new(self.epoch, self.tail.into())
    }

    /// The entries of all epochs.
    pub(super) fn count(&self) -> u64 {
        self.base + self.tail
    }

    /// How many entries of all epochs are before and at `at`, if that is in this log.
    pub(super) fn count_through(&self, at: Position) -> Option<u64> {
        match self.find(at) {
            Found::Here(count) => Some(count),
            Found::Lost(_) | Found::Ahead => None,
        }
    }

    fn find(&self, at: Position) -> Found {
        let offset = u64::try_from(at.offset).unwrap_or(u64::MAX);
        if at.epoch >= self.epoch {
            let here = at.epoch == self.epoch && offset <= self.tail;
            return if here { Found::Here(self.base + offset) } else { Found::Ahead };
        }
        match self.past.iter().find(|past| past.epoch >= at.epoch) {
            Some(past) if past.epoch == at.epoch && offset <= past.tail => Found::Here(past.base + offset),
            Some(past) if past.epoch == at.epoch => Found::Lost(past.base + past.tail),
            Some(past) => Found::Lost(past.base),
            None => Found::Lost(self.base),
        }
    }

    /// The place with so many entries before and at it. Between two epochs: the beginning of the later one.
    fn place(&self, count: u64) -> Position {
        let past = self.past.iter().rev().find(|past| past.base <= count).filter(|_| count < self.base);
        let (epoch, base) = past.map_or((self.epoch, self.base), |past| (past.epoch, past.base));
        Position::new(epoch, count.saturating_sub(base).into())
    }

    /// Where a reader stands that starts at `from`, and the events that it is told first.
    pub(super) fn attach(&self, from: From) -> Result<(Position, Vec<Event>), Ahead> {
        let at = match from {
            From::Present => self.tail(),
            From::Oldest => self.place(self.oldest),
            From::Last(n) => self.place(self.count().saturating_sub(n).max(self.oldest)),
            From::After(last) => {
                let (at, lost) = self.go_on(last)?;
                return Ok(match lost {
                    // It stands where it was; the beginning of a later epoch may be the same place by another name.
                    false => (last, vec![Event::Attached(last)]),
                    true => (at, vec![Event::Lost { last, epoch: at.epoch }, Event::Attached(at)]),
                });
            }
        };
        Ok((at, vec![Event::Attached(at)]))
    }

    /// Where a reader goes on that has read through `last`, and whether something is lost in between.
    pub(super) fn go_on(&self, last: Position) -> Result<(Position, bool), Ahead> {
        match self.find(last) {
            Found::Here(count) if count >= self.oldest => Ok((self.place(count), false)),
            Found::Here(_) => Ok((self.place(self.oldest), true)),
            Found::Lost(count) => Ok((self.place(count.max(self.oldest)), true)),
            Found::Ahead => Err(Ahead),
        }
    }

    /// Whether `next` is where a reader at `at` goes on without a hole: the same place, perhaps by another name.
    pub(super) fn same(&self, at: Position, next: Position) -> bool {
        at == next || self.count_through(at).is_some_and(|count| self.count_through(next) == Some(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epoch 10 had five entries, epoch 20 none, epoch 30 three, and epoch 40 has four; the first two are gone.
    fn head() -> Head {
        let past = [(10, 0, 5), (20, 5, 0), (30, 5, 3)].map(|(epoch, base, tail)| Past { epoch, base, tail });
        Head { epoch: 40, tail: 4, base: 8, oldest: 2, settled: 2, bytes: 0, freed: 0, past: past.into(), logs: 1 }
    }

    fn at(epoch: u64, offset: u128) -> Position {
        Position::new(epoch, offset)
    }

    #[test]
    fn an_answer_is_understood() {
        let fields = ["40", "4", "8", "2", "2", "0", "0", "10:0:5,20:5:0,30:5:3", "1"].map(|field| Some(field.to_owned()));
        assert_eq!(Head::parse(&fields), Some(head()));
        assert_eq!(Head::parse(&[const { None }; 9]), None);
        assert_eq!(Head::parse(&[]), None);
    }

    #[test]
    fn readers_go_on_through_epochs_that_lost_nothing() {
        let head = head();
        for (last, next) in [
            (at(40, 4), at(40, 4)),
            (at(40, 1), at(40, 1)),
            (at(30, 3), at(40, 0)),
            (at(30, 1), at(30, 1)),
            (at(20, 0), at(30, 0)),
            (at(10, 5), at(30, 0)),
            (at(10, 2), at(10, 2)),
        ] {
            assert_eq!(head.go_on(last), Ok((next, false)), "{last}");
        }
        assert!(head.same(at(10, 5), at(30, 0)) && head.same(at(30, 3), at(40, 0)) && !head.same(at(30, 2), at(40, 0)));
    }

    #[test]
    fn readers_are_told_what_the_log_lost() {
        let head = head();
        for (last, next) in [
            (at(10, 1), at(10, 2)),
            (at(10, 6), at(30, 0)),
            (at(20, 1), at(30, 0)),
            (at(30, 9), at(40, 0)),
            (at(5, 1), at(10, 2)),
            (at(35, 1), at(40, 0)),
        ] {
            assert_eq!(head.go_on(last), Ok((next, true)), "{last}");
        }
        assert_eq!(head.go_on(at(40, 5)), Err(Ahead));
        assert_eq!(head.go_on(at(41, 0)), Err(Ahead));
    }

    #[test]
    fn where_readers_start() {
        let attached = |from| head().attach(from).unwrap().0;
        assert_eq!(attached(From::Present), at(40, 4));
        assert_eq!(attached(From::Oldest), at(10, 2));
        assert_eq!(attached(From::Last(3)), at(40, 1));
        assert_eq!(attached(From::Last(4)), at(40, 0));
        assert_eq!(attached(From::Last(6)), at(30, 1));
        assert_eq!(attached(From::Last(1_000)), at(10, 2));
        assert_eq!(head().attach(From::After(at(30, 3))).unwrap().1, [Event::Attached(at(30, 3))], "by the name that it knows");
    }
}
