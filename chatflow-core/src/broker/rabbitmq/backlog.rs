//! What of a log the histories do not have yet, in entries and bytes.

use std::collections::VecDeque;

use super::window::Window;
use crate::Position;

/// How many places are remembered with the bytes up to them.
const MOST_MARKS: usize = 4_096;

/// How much a log holds that is not settled, and how much of ours is on its way there.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Every history has what is up to here; `None` as long as nobody said so: then what was read since is what counts.
    settled: Option<Position>,
    settled_so_far: Amount,
    read_so_far: Amount,
    /// After each batch, how much was read by then. Some in between are left out, which makes the bound tighter, never wider.
    marks: VecDeque<(Position, Amount)>,
    began: Position,
    /// Submitted, and neither failed nor read back.
    pub(super) waiting_entries: usize,
    pub(super) waiting_bytes: usize,
}

/// How much was read since the beginning.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Amount {
    entries: u64,
    bytes: u64,
}

impl Backlog {
    /// The node stands in the log for the first time.
    pub(super) fn begin(&mut self, position: Position) {
        self.began = position;
    }

    /// A batch was read, up to `position`.
    pub(super) fn read(&mut self, position: Position, entries: u64, bytes: usize) {
        self.read_so_far.entries += entries;
        self.read_so_far.bytes += bytes as u64;
        self.marks.push_back((position, self.read_so_far));
        if self.marks.len() > MOST_MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Every history has what is up to `position`.
    pub(super) fn settle(&mut self, position: Position) {
        self.settled = Some(position);
        let through = self.marks.partition_point(|(at, _)| *at <= position);
        if let Some((_, amount)) = self.marks.drain(..through).next_back() {
            self.settled_so_far = amount;
        }
    }

    /// How many entries are not settled.
    pub(super) fn entries(&self, window: &Window) -> u64 {
        let settled = self.settled.unwrap_or(self.began);
        window.messages_after(settled).unwrap_or(self.read_so_far.entries - self.settled_so_far.entries)
    }

    /// Whether `more` bytes fit into the bounds.
    pub(super) fn admits(&self, window: &Window, more: usize, most_entries: usize, most_bytes: usize) -> bool {
        let bytes = self.read_so_far.bytes - self.settled_so_far.bytes + (self.waiting_bytes + more) as u64;
        self.entries(window) + (self.waiting_entries as u64) < most_entries as u64 && bytes <= most_bytes as u64
    }

    /// Some of ours failed, or was read back.
    pub(super) fn told(&mut self, entries: usize, bytes: usize) {
        self.waiting_entries = self.waiting_entries.saturating_sub(entries);
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_settled_and_what_is_on_its_way_count() {
        let (mut window, mut backlog) = (Window::default(), Backlog::default());
        window.begin(Position::new(7, 10));
        backlog.begin(Position::new(7, 10));
        for offset in 11..=14 {
            window.push(Position::new(7, offset), vec![0; 100].into());
            backlog.read(Position::new(7, offset), 1, 100);
        }
        (backlog.waiting_entries, backlog.waiting_bytes) = (2, 200);
        assert_eq!(backlog.entries(&window), 4);
        assert!(backlog.admits(&window, 100, 7, 700));
        assert!(!backlog.admits(&window, 100, 6, 700) && !backlog.admits(&window, 101, 7, 700));
        backlog.settle(Position::new(7, 12));
        assert_eq!(backlog.entries(&window), 2);
        assert!(backlog.admits(&window, 100, 5, 500) && !backlog.admits(&window, 100, 5, 499));
        backlog.told(2, 200);
        backlog.settle(Position::new(7, 20));
        assert!(backlog.admits(&window, 100, 1, 100), "another node has read further");
    }

    #[test]
    fn the_places_that_are_remembered_are_bounded_and_never_say_less() {
        let mut backlog = Backlog::default();
        (1..=20_000u128).for_each(|offset| backlog.read(Position::new(1, offset), 1, 1));
        assert!(backlog.marks.len() <= MOST_MARKS);
        backlog.settle(Position::new(1, 10_000));
        let unsettled = backlog.read_so_far.bytes - backlog.settled_so_far.bytes;
        assert!((10_000..10_200).contains(&unsettled), "{unsettled}");
        backlog.settle(Position::new(1, 20_000));
        assert_eq!(backlog.read_so_far, backlog.settled_so_far);
    }
}
