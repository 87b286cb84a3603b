//! How far everybody is: what each history has settled, and what each node has seen.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Position, Timestamp};

/// A node that keeps no history and was not heard for so long is waited for no more.
const NODE_TTL: Duration = Duration::from_secs(30);

/// What a node says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) node: String,
    /// The history that it writes.
    pub(super) history: Option<String>,
    pub(super) at: Timestamp,
    /// For each log, up to where its history has settled; [`Position::ZERO`] when it does not know.
    pub(super) settled: Vec<Position>,
    /// For each log, the last place that it has read.
    pub(super) seen: Vec<Position>,
}

/// What was heard, the latest of everybody.
#[derive(Debug)]
pub(super) struct Board {
    /// By history, else by node. Forgotten with time.
    voices: Mutex<HashMap<Who, Voice>>,
    history_ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    History(String),
    Node(String),
}

#[derive(Debug)]
struct Voice {
    at: Timestamp,
    settled: Vec<Position>,
    seen: Vec<Position>,
}

impl Board {
    pub(super) fn new(history_ttl: Duration) -> Self {
        Self { voices: Mutex::default(), history_ttl }
    }

    /// Takes in a report; several nodes may write one history, one log each.
    pub(super) fn hear(&self, report: &Report) {
        let mut voices = self.voices.lock();
        let who = report.history.clone().map_or_else(|| Who::Node(report.node.clone()), Who::History);
        let voice = voices.entry(who).or_insert_with(|| Voice { at: report.at, settled: Vec::new(), seen: Vec::new() });
        voice.at = voice.at.max(report.at);
        for (known, told) in [(&mut voice.settled, &report.settled), (&mut voice.seen, &report.seen)] {
            known.resize(known.len().max(told.len()), Position::ZERO);
            known.iter_mut().zip(told).for_each(|(known, told)| *known = (*known).max(*told));
        }
        voices.retain(|who, voice| self.is_live(who, voice));
    }

    fn is_live(&self, who: &Who, voice: &Voice) -> bool {
        let ttl = if matches!(who, Who::History(_)) { self.history_ttl } else { NODE_TTL };
        Timestamp::now().0.saturating_sub(voice.at.0) <= ttl.as_millis() as i64
    }

    /// Up to where every live history has settled `log`; without histories, every node that reads. `None` when nobody says.
    pub(super) fn settled(&self, log: u16) -> Option<Position> {
        let voices = self.voices.lock();
        let live = || voices.iter().filter(|(who, voice)| self.is_live(who, voice));
        let histories = live().any(|(who, _)| matches!(who, Who::History(_)));
        let counts = live().filter(|(who, _)| !histories || matches!(who, Who::History(_)));
        let places = counts.filter_map(|(_, voice)| voice.settled.get(usize::from(log)).copied());
        places.filter(|place| *place > Position::ZERO).min()
    }

    /// The greatest offset in `epoch` of `log` that anybody has seen.
    pub(super) fn seen(&self, log: u16, epoch: u64) -> u128 {
        let voices = self.voices.lock();
        let seen = voices.values().filter_map(|voice| voice.seen.get(usize::from(log)));
        seen.filter(|seen| seen.epoch == epoch).map(|seen| seen.offset).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node: &str, history: Option<&str>, at: i64, settled: u128) -> Report {
        let place = |offset| vec![Position::new(7, offset)];
        let at = Timestamp(Timestamp::now().0 + at);
        Report { node: node.into(), history: history.map(Into::into), at, settled: place(settled), seen: place(settled + 5) }
    }

    #[test]
    fn the_history_that_is_furthest_behind_counts() {
        let board = Board::new(Duration::from_secs(60));
        assert_eq!((board.settled(0), board.seen(0, 7)), (None, 0));
        board.hear(&report("a", Some("one"), 0, 30));
        board.hear(&report("b", Some("one"), 0, 20));
        assert_eq!(board.settled(0), Some(Position::new(7, 30)), "the same history, heard from a node that does not write it");
        board.hear(&report("c", Some("two"), 0, 10));
        board.hear(&report("d", None, 0, 5));
        assert_eq!(board.settled(0), Some(Position::new(7, 10)), "nodes without a history don't count where there is one");
        assert_eq!((board.seen(0, 7), board.seen(0, 8), board.seen(1, 7)), (35, 0, 0));
    }

    #[test]
    fn who_was_not_heard_for_long_is_forgotten() {
        let board = Board::new(Duration::from_secs(60));
        board.hear(&report("a", Some("one"), -61_000, 10));
        assert_eq!(board.settled(0), None);
        board.hear(&report("b", None, -20_000, 10));
        board.hear(&report("c", None, -31_000, 5));
        assert_eq!(board.settled(0), Some(Position::new(7, 10)));
        assert_eq!(board.voices.lock().len(), 1);
    }
}
