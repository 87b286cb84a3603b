//! What was committed last through this process: what a newest page that is a moment old lacks.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::logs::Logs;
use crate::store::{Exception, Page, Stored};
use crate::{LogId, Position, RoomId};

/// The most rows of a log that are kept, and the most bytes of their bodies.
const ROWS: usize = 512;
const BYTES: usize = 1 << 20;

/// The last rows of each log.
#[derive(Debug, Default)]
pub(super) struct Recent {
    logs: Logs<Mutex<Stretch>>,
}

/// Rows of a log that follow each other without a gap.
#[derive(Debug, Default)]
struct Stretch {
    /// Every row after `from`, up to `through`, is here.
    from: Position,
    through: Position,
    rows: VecDeque<Stored>,
    bytes: usize,
}

impl Recent {
    /// Keeps what a commit wrote into `log` up to `through`, whose lease was at `follows`.
    pub(super) fn committed(&self, log: LogId, follows: Position, batch: &[Stored], through: Position, but: &[(usize, Exception)]) {
        let stretch = self.logs.of(log);
        let mut stretch = stretch.lock();
        if through <= stretch.through {
            // Of two commits that were under way at once, the earlier one is told last.
            return;
        }
        let goes_on = follows == stretch.through && follows != Position::ZERO;
        if !goes_on {
            // Somebody else may have written in between, or whoever writes does not count along: what lies before this batch is not known.
            *stretch = Stretch { from: through, through, ..Stretch::default() };
            return;
        }
        let mut but = but.iter().peekable();
        for (index, stored) in batch.iter().enumerate() {
            let exception = but.next_if(|(at, _)| *at == index).map(|(_, exception)| exception);
            // A repeat of itself: the row is there, from a commit whose answer was lost.
            let is_row = exception.is_none_or(|exception| *exception == Exception::Repeat { first: stored.position });
            if is_row {
                stretch.bytes += stored.message.body.len();
                stretch.rows.push_back(stored.clone());
            }
        }
        stretch.through = through;
        stretch.trim();
    }

    /// `page`, the newest of `room`, as it is now, if it is so young that what it lacks is here, up to `least` or further.
    pub(super) fn grown(&self, log: LogId, room: &RoomId, page: &Page, least: Position, limit: usize) -> Option<Page> {
        let stretch = self.logs.of(log);
        let stretch = stretch.lock();
        if page.through < stretch.from || page.through > stretch.through || stretch.through < least {
            return None;
        }
        let newer = stretch.rows.partition_point(|stored| stored.position <= page.through);
        let newer = stretch.rows.range(newer..).filter(|stored| stored.message.room == *room);
        Some(behind(page, newer.cloned().collect(), stretch.through, limit))
    }
}

impl Stretch {
    fn trim(&mut self) {
        while self.rows.len() > ROWS || self.bytes > BYTES {
            let Some(first) = self.rows.pop_front() else { return };
            self.bytes -= first.message.body.len();
            self.from = first.position;
        }
    }
}

/// The newest `limit` messages of what `page` and, behind it, `newer` hold: all that there are up to `through`.
pub(super) fn behind(page: &Page, newer: Vec<Stored>, through: Position, limit: usize) -> Page {
    let surplus = (page.messages.len() + newer.len()).saturating_sub(limit);
    let kept = page.messages.iter().skip(surplus).cloned();
    let newer = newer.into_iter().skip(surplus.saturating_sub(page.messages.len()));
    Page::new(kept.chain(newer).collect(), page.more || surplus > 0, through, page.since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Message, Timestamp};

    const LOG: LogId = LogId(3);

    fn at(offset: u128) -> Position {
        Position::new(1, offset)
    }

    fn stored(room: &str, offset: u128) -> Stored {
        let room = RoomId::new(room).unwrap();
        let message = Message {
            id: uuid::Uuid::from_u128(offset),
            room,
            sender: "ann".into(),
            kind: "TEXT".into(),
            body: vec![b'x'; 100].into(),
            digest: offset as u64,
            at: Timestamp(offset as i64),
            node: "n".into(),
            session: 1,
            origin: "".into(),
        };
        Stored { position: at(offset), message }
    }

    fn page(offsets: impl IntoIterator<Item = u128>, more: bool, through: u128) -> Page {
        Page::new(offsets.into_iter().map(|offset| stored("a", offset)).collect(), more, at(through), Position::ZERO)
    }

    /// Odd offsets are said in `a`, even ones in `b`; a commit holds five.
    fn commit(recent: &Recent, from: u128) {
        let batch: Vec<_> = (from + 1..=from + 5).map(|offset| stored(if offset % 2 == 1 { "a" } else { "b" }, offset)).collect();
        recent.committed(LOG, at(from), &batch, at(from + 5), &[]);
    }

    fn grown(recent: &Recent, page: &Page, least: u128, limit: usize) -> Option<Page> {
        recent.grown(LOG, &RoomId::new("a").unwrap(), page, at(least), limit)
    }

    #[test]
    fn a_page_grows_by_what_its_room_got_and_keeps_its_length() {
        let recent = Recent::default();
        assert_eq!(grown(&recent, &page([1], false, 5), 5, 9), None, "nothing is known");
        [0, 5, 10].into_iter().for_each(|from| commit(&recent, from));
        assert_eq!(grown(&recent, &page([1], false, 4), 5, 9), None, "the first commit only says where the log is");
        assert_eq!(grown(&recent, &page([1, 3, 5], false, 5), 10, 9), Some(page([1, 3, 5, 7, 9, 11, 13, 15], false, 15)));
        assert_eq!(grown(&recent, &page([1, 3, 5], false, 6), 10, 4), Some(page([9, 11, 13, 15], true, 15)));
        assert_eq!(grown(&recent, &page([], true, 14), 15, 4), Some(page([15], true, 15)));
        assert_eq!(grown(&recent, &page([1, 3, 5], false, 5), 16, 9), None, "another node has written more");
        assert_eq!(grown(&recent, &page([1, 3, 5], false, 16), 15, 9), None, "the page is newer");
    }

    #[test]
    fn a_stretch_has_no_gap_and_an_end() {
        let recent = Recent::default();
        [0, 5].into_iter().for_each(|from| commit(&recent, from));
        // Another node wrote 10 to 20.
        [20, 25].into_iter().for_each(|from| commit(&recent, from));
        assert_eq!(grown(&recent, &page([9], false, 10), 30, 9), None);
        assert_eq!(grown(&recent, &page([25], false, 25), 30, 9), Some(page([25, 27, 29], false, 30)));
        // A commit that is told late does not go back.
        commit(&recent, 15);
        assert_eq!(grown(&recent, &page([25], false, 25), 30, 1), Some(page([29], true, 30)));
        for from in (30..2_000).step_by(5) {
            commit(&recent, from);
        }
        let rows = recent.logs.of(LOG).lock().rows.len();
        assert_eq!(rows, ROWS);
        assert_eq!(grown(&recent, &page([25], false, 25), 2_000, 9), None, "too old");
        assert_eq!(grown(&recent, &page([], false, 1_488), 2_000, 1), Some(page([1_999], true, 2_000)));
        assert_eq!(grown(&recent, &page([], false, 1_487), 2_000, 1), None);
    }

    #[test]
    fn only_rows_are_kept() {
        let recent = Recent::default();
        commit(&recent, 0);
        let batch = [stored("a", 6), stored("a", 7), stored("a", 8)];
        let (elsewhere, itself) = (Exception::Repeat { first: at(1) }, Exception::Repeat { first: at(7) });
        recent.committed(LOG, at(5), &batch, at(8), &[(0, elsewhere), (1, itself)]);
        assert_eq!(grown(&recent, &page([], false, 5), 8, 9), Some(page([7, 8], false, 8)));
    }
}
