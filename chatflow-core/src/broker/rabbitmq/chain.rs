//! Which epochs each log has had, as everybody reads it from one queue.

use serde::{Deserialize, Serialize};

/// What stands in the queue of epochs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// How many logs its writer has.
    pub(super) logs: u16,
    /// The writer's life, and a number of the record: its writer waits until it reads it.
    pub(super) by: (u64, u64),
    #[serde(default)]
    pub(super) turns: Vec<Turn>,
}

/// A log leaves one epoch for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) log: u16,
    /// The epoch that it leaves; 0 for a log's first.
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The epochs of every log: the outcome of all records in their order, so the same for everybody. Of two that want to turn the same
/// page, the first does and the other changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// As the first record says; 0 before it.
    pub(super) logs: u16,
    epochs: Vec<Vec<u64>>,
}

impl Chain {
    pub(super) fn apply(&mut self, record: &Record) {
        if self.logs == 0 {
            self.logs = record.logs;
            self.epochs = vec![Vec::new(); usize::from(record.logs)];
        }
        if record.logs != self.logs {
            return;
        }
        for turn in &record.turns {
            let current = self.current(turn.log);
            if let Some(epochs) = self.epochs.get_mut(usize::from(turn.log))
                && turn.from == current
                && turn.to > current
            {
                epochs.push(turn.to);
            }
        }
    }

    /// All epochs of a log, growing.
    pub(super) fn epochs(&self, log: u16) -> &[u64] {
        self.epochs.get(usize::from(log)).map_or(&[], Vec::as_slice)
    }

    /// The epoch that a log is in; 0 before its first.
    pub(super) fn current(&self, log: u16) -> u64 {
        self.epochs(log).last().copied().unwrap_or_default()
    }

    /// The epoch after `epoch`, if it is over.
    pub(super) fn after(&self, log: u16, epoch: u64) -> Option<u64> {
        self.epochs(log).iter().copied().find(|next| *next > epoch)
    }

    pub(super) fn has(&self, log: u16, epoch: u64) -> bool {
        self.epochs(log).binary_search(&epoch).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(logs: u16, turns: &[(u16, u64, u64)]) -> Record {
        Record { logs, by: (0, 0), turns: turns.iter().map(|&(log, from, to)| Turn { log, from, to }).collect() }
    }

    #[test]
    fn of_two_the_first_counts() {
        let mut chain = Chain::default();
        chain.apply(&record(2, &[]));
        assert_eq!((chain.logs, chain.current(0)), (2, 0));
        chain.apply(&record(2, &[(0, 0, 10), (1, 0, 10)]));
        chain.apply(&record(2, &[(0, 0, 11), (1, 10, 12)]));
        chain.apply(&record(2, &[(1, 12, 12), (1, 12, 5), (7, 0, 1)]));
        assert_eq!((chain.epochs(0), chain.epochs(1)), (&[10][..], &[10, 12][..]));
        assert_eq!((chain.after(1, 10), chain.after(1, 12), chain.after(1, 3)), (Some(12), None, Some(10)));
        assert!(chain.has(1, 12) && !chain.has(1, 11));
    }

    #[test]
    fn another_number_of_logs_changes_nothing() {
        let mut chain = Chain::default();
        chain.apply(&record(2, &[(0, 0, 10)]));
        chain.apply(&record(4, &[(0, 10, 11), (3, 0, 11)]));
        assert_eq!((chain.logs, chain.current(0), chain.current(3)), (2, 10, 0));
    }
}
