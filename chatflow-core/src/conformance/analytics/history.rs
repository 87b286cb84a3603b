//! Histories in which much happens, written to the store and to the model alike.

use std::time::Duration;

use bytestring::ByteString;

use super::super::dice::Dice;
use super::super::store::message;
use super::analytics;
use crate::analytics::Minutes;
use crate::store::{Lease, MemoryStore, SUMMARIES, Stored};
use crate::{ErrorKind, LogId, Message, MessageStore, NodeId, Position, RoomId, Timestamp};

/// When the histories of this suite begin: a few minutes before a day does.
pub(super) const BEGINS: i64 = 1_700_006_400_000 - 3 * 60_000;

/// Names that are hard to keep apart or to keep at all.
pub(super) const NAMES: &[&str] = &[
    "ada",
    "Ada",
    "ADA",
    "ada ",
    " ada",
    "ada\u{0}",
    "ada\u{0} ",
    "ada\\",
    "ada\\0",
    "ada\\\\0",
    "\\",
    "\\\\",
    "\u{0}",
    "\u{0}\u{0}",
    "'; DROP TABLE chatflow_messages; --",
    "%",
    "_",
    "a%",
    "\"",
    "`ada`",
    "?",
    "$1",
    "å",
    "a\u{30a}",
    "Å",
    "漢字",
    "🦀",
    "ß",
    "ss",
    "",
    " ",
    "1",
    "01",
    "1.0",
    "null",
    "\t",
    "\r\n",
];

/// A history on its way: some logs, in which rooms have their messages.
pub(super) struct Writing<'a> {
    store: &'a dyn MessageStore,
    model: &'a MemoryStore,
    logs: Vec<(Lease, Lease, Position)>,
    number: u64,
    kept: Vec<Message>,
    again: Option<(usize, Vec<Stored>, Position)>,
    counting: Option<Lease>,
}

impl<'a> Writing<'a> {
    /// Writes `logs` logs, as `node-1` does.
    pub(super) async fn begin(store: &'a dyn MessageStore, model: &'a MemoryStore, logs: u16) -> Self {
        let node = NodeId::from_static("node-1");
        let mut begun = Vec::new();
        for log in (0..logs).map(LogId) {
            let (real, other) = (store.claim(log, &node).await.expect("free"), model.claim(log, &node).await.expect("free"));
            let through = real.through;
            begun.push((real, other, through));
        }
        Self { store, model, logs: begun, number: 0, kept: Vec::new(), again: None, counting: None }
    }

    /// Rows said by these names in these rooms of the log `log`, each at its time.
    pub(super) async fn say(&mut self, log: usize, said: impl IntoIterator<Item = (&str, &str, i64)>) {
        let mut position = self.logs[log].2;
        let entries = said.into_iter().map(|(user, room, at)| {
            position = Position::new(position.epoch.max(1), position.offset + 1);
            Stored { position, message: self.message(user, room, at) }
        });
        let entries: Vec<_> = entries.collect();
        self.commit(log, entries, position).await;
    }

    fn message(&mut self, user: &str, room: &str, at: i64) -> Message {
        self.number += 1;
        let mut message = message(&RoomId::new(room).expect("cases name their rooms well"), self.number);
        (message.sender, message.at) = (ByteString::from(user), Timestamp(at));
        message
    }

    /// Commits to both; they answer alike.
    pub(super) async fn commit(&mut self, log: usize, entries: Vec<Stored>, through: Position) {
        let (real, other, last) = &mut self.logs[log];
        let met = self.store.commit(real, &entries, through).await.expect("valid");
        assert_eq!(met, self.model.commit(other, &entries, through).await.expect("valid"));
        *last = through.max(*last);
        let mut met = met.into_iter().map(|(index, _)| index).peekable();
        let fresh = entries.iter().enumerate().filter(|(index, _)| met.next_if_eq(index).is_none());
        self.kept.extend(fresh.map(|(_, entry)| entry.message.clone()));
        self.again = Some((log, entries, through));
    }

    /// One commit with whatever may come: ties, gaps, epochs, repeats, conflicts, late messages, the same batch again, lost stretches.
    pub(super) async fn go_on(&mut self, dice: &mut Dice, rows: u64) {
        if let Some((log, entries, through)) = self.again.take_if(|_| dice.one_in(8)) {
            return self.commit(log, entries, through).await;
        }
        let log = dice.below(self.logs.len() as u64) as usize;
        if dice.one_in(20) {
            let (real, other, last) = &mut self.logs[log];
            *last = Position::new(last.epoch + dice.below(2), last.offset + 5);
            let to = *last;
            self.store.skip(real, to).await.expect("held");
            return self.model.skip(other, to).await.expect("held");
        }
        let mut position = self.logs[log].2;
        let mut entries = Vec::new();
        for _ in 0..dice.below(rows) {
            position = match dice.one_in(60) {
                true => Position::new(position.epoch + 1, dice.below(3).into()),
                false => Position::new(position.epoch.max(1), position.offset + 1 + u128::from(dice.below(2))),
            };
            // A room lives in one log. Time goes on, with ties, and some messages waited long.
            let room = format!("room{}-{log}", dice.below(4));
            let waited = if dice.one_in(30) { 400_000 } else { dice.below(4_000) as i64 };
            let at = BEGINS + (self.number as i64 * 700 - waited).div_euclid(250) * 250;
            let user = match dice.one_in(3) {
                true => (*dice.one_of(NAMES)).to_owned(),
                false => format!("user{}", dice.below(40)),
            };
            let mut message = self.message(&user, &room, at);
            if !self.kept.is_empty() {
                let known = dice.one_of(&self.kept);
                match dice.below(30) {
                    0 | 1 => message = Message { at: message.at, ..known.clone() },
                    2 => message.id = known.id,
                    3 => message = Message { room: message.room, ..known.clone() },
                    _ => {}
                }
            }
            entries.push(Stored { position, message });
        }
        position.offset += u128::from(dice.below(2));
        position.epoch = position.epoch.max(1);
        self.commit(log, entries, position).await;
    }

    /// Has some of it counted, where that is somebody's work: a few rows, perhaps by somebody new, perhaps interrupted.
    pub(super) async fn count_some(&mut self, dice: &mut Dice) {
        let Some(projections) = self.store.projections() else { return };
        if self.counting.is_none() || dice.one_in(6) {
            // Whoever counted before is fenced, as if another node had taken over.
            let new = self.store.claim(SUMMARIES, &NodeId::from_static("node-1")).await.expect("this node's");
            if let Some(old) = self.counting.replace(new) {
                assert_eq!(projections.project(&old, 3).await.expect_err("fenced").kind(), ErrorKind::Fenced);
            }
        }
        let Some(lease) = &self.counting else { return };
        let some = projections.project(lease, 1 + dice.below(30) as usize);
        let within = Duration::from_micros(if dice.one_in(3) { dice.below(6_000) } else { 5_000_000 });
        if let Ok(done) = tokio::time::timeout(within, some).await {
            done.expect("it can be counted");
        }
    }

    /// Has everything counted, or waits until it is.
    pub(super) async fn counted(&mut self) {
        if let Some(projections) = self.store.projections() {
            let lease = match self.counting.take() {
                Some(lease) => lease,
                None => self.store.claim(SUMMARIES, &NodeId::from_static("node-1")).await.expect("this node's"),
            };
            while projections.project(&lease, 1_000).await.expect("it can be counted") {}
            self.counting = Some(lease);
        }
        let asked = analytics(self.store).active_users(Minutes::default()).await.expect("readable");
        assert_eq!(asked.as_of, None, "everything is counted");
    }

    /// When the last of the messages was said, or thereabouts.
    pub(super) fn ends(&self) -> i64 {
        BEGINS + self.number as i64 * 700
    }
}
