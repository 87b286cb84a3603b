//! What the oracle found wrong.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;

/// The most violations that are kept in full; the rest are counted.
const IN_FULL: usize = 20;

/// How a server broke its promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Acknowledged, and nobody was ever shown it.
    Lost,
    /// A member was not shown a message that others saw, before and after which it saw messages.
    Missed,
    /// A member was shown the same message twice.
    Repeated,
    /// A member was shown messages against the order of their positions.
    OutOfOrder,
    /// Two messages at one position.
    PositionReused,
    /// One message at two positions.
    Duplicated,
    /// A message does not say what was sent.
    Altered,
    /// Two members were shown the same message in different words.
    Different,
    /// A message that this run never sent.
    NeverSent,
    /// A message in a room that it was not sent to.
    WrongRoom,
    /// An answer names another position than the message has.
    WrongPosition,
    /// The answers to a message that was sent once contradict it, or each other.
    WrongAnswer,
    /// Two messages of one connection, both sent once, the later first.
    SenderOrder,
    /// A member came back and could not go on where it was.
    PositionLost,
    /// A frame that can't be read.
    BadFrame,
    /// A connection that stood before was given up.
    ConnectionLost,
    /// Acknowledged or shown, and not in the history.
    HistoryMissing,
    /// In the history, and members were not shown it.
    HistoryUnseen,
    /// Twice in the history.
    HistoryRepeated,
    /// The history is not in the order of its positions.
    HistoryOutOfOrder,
    /// The history has something else at a position than members saw.
    HistoryDifferent,
    /// The history could not be read.
    HistoryUnreadable,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// One breach.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    pub(super) detail: String,
}

/// All breaches of a run: the first ones in full.
#[derive(Debug, Default)]
pub(super) struct Violations(Mutex<Findings>);

/// What is told of the breaches at the end.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Findings {
    pub(super) counts: BTreeMap<Kind, u64>,
    pub(super) first: Vec<Violation>,
}

impl Violations {
    /// Notes a breach; `detail` is only called for the first ones.
    pub(super) fn add(&self, kind: Kind, detail: impl FnOnce() -> String) {
        let mut findings = self.0.lock();
        *findings.counts.entry(kind).or_default() += 1;
        if findings.first.len() < IN_FULL {
            findings.first.push(Violation { kind, detail: detail() });
        }
    }

    /// Those found so far.
    pub(super) fn findings(&self) -> Findings {
        self.0.lock().clone()
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.lock().counts.values().sum()
    }
}
