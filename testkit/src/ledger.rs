//! What was sent and acknowledged, what each member saw, and whether it all agrees with the history.

use std::collections::{BTreeMap, HashMap, HashSet};

use chatflow_core::Position;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{History, Row};

/// A message as its publisher knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Where it went.
    pub room: String,
    /// Who sent it.
    pub sender: usize,
    /// What it says.
    pub text: String,
}

/// What all publishers sent, and which of it the server acknowledged.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    sent: HashMap<Uuid, Sent>,
    order: Vec<Uuid>,
    acknowledged: HashMap<Uuid, Option<Position>>,
}

/// What a member saw of one room.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Who it is.
    pub name: String,
    /// The room.
    pub room: String,
    /// The position before the first message it was to see.
    pub start: Option<Position>,
    /// What it was shown, as it came.
    pub rows: Vec<Row>,
    /// Every time it was told that something may be missing.
    pub losses: Vec<String>,
    /// How often it came back.
    pub reconnects: usize,
}

impl Ledger {
    /// A message is about to be sent for the first time.
    pub fn sent(&self, id: Uuid, sent: Sent) {
        let mut book = self.0.lock();
        book.order.push(id);
        assert!(book.sent.insert(id, sent).is_none(), "{id} was sent before");
    }

    /// The server has said `SUCCESS`.
    pub fn acknowledged(&self, id: Uuid, position: Option<Position>) {
        self.0.lock().acknowledged.insert(id, position);
    }

    /// How many were sent, and how many of them acknowledged.
    pub fn counts(&self) -> (usize, usize) {
        let book = self.0.lock();
        (book.sent.len(), book.acknowledged.len())
    }

    /// What has no answer yet.
    pub fn unanswered(&self) -> Vec<Uuid> {
        let book = self.0.lock();
        book.order.iter().filter(|id| !book.acknowledged.contains_key(*id)).copied().collect()
    }

    /// Everything in the history, and in what members saw, that should not be so; empty when all is well.
    ///
    /// With `sender_order`, a sender's messages stand in the order in which it first sent them: true unless some were refused.
    pub fn faults(&self, history: &History, members: &[Seen], sender_order: bool) -> Vec<String> {
        let book = self.0.lock();
        let mut faults = Vec::new();
        let mut places = HashMap::new();
        for (room, rows) in &history.0 {
            for row in rows {
                match book.sent.get(&row.id) {
                    None => faults.push(format!("history: nobody sent {row:?}")),
                    Some(sent) if sent.room != *room || sent.text != row.text => {
                        faults.push(format!("history: {room} has {row:?}, sent was {sent:?}"));
                    }
                    Some(_) => {}
                }
                if places.insert(row.id, row.position).is_some() {
                    faults.push(format!("history: {} is there twice", row.id));
                }
            }
            for pair in rows.windows(2).filter(|pair| pair[0].position >= pair[1].position) {
                faults.push(format!("history of {room}: {} stands before {}", pair[0].position, pair[1].position));
            }
        }
        for (id, position) in &book.acknowledged {
            match (places.get(id), position) {
                (None, _) => faults.push(format!("acknowledged and not in the history: {id}")),
                (Some(place), Some(position)) if place != position => {
                    faults.push(format!("{id} was acknowledged at {position} and stands at {place}"));
                }
                _ => {}
            }
        }
        if sender_order {
            faults.extend(book.out_of_order(&places));
        }
        for member in members {
            faults.extend(member.faults(history));
        }
        faults
    }
}

impl Book {
    fn out_of_order(&self, places: &HashMap<Uuid, Position>) -> Vec<String> {
        let mut last: BTreeMap<(usize, &str), Position> = BTreeMap::new();
        let mut faults = Vec::new();
        for id in &self.order {
            let (Some(position), sent) = (places.get(id), &self.sent[id]) else { continue };
            let before = last.insert((sent.sender, &sent.room), *position);
            if before.is_some_and(|before| before >= *position) {
                faults.push(format!("sender {} said {:?} after what stands later", sent.sender, sent.text));
            }
        }
        faults
    }
}

impl Seen {
    /// The last position that it was shown, or where it began.
    pub fn last(&self) -> Option<Position> {
        self.rows.last().map(|row| row.position).or(self.start)
    }

    /// What differs between what it saw and what the history has since it came.
    pub fn faults(&self, history: &History) -> Vec<String> {
        let Self { name, room, start, rows, losses, .. } = self;
        let mut faults: Vec<_> = losses.iter().map(|loss| format!("{name} in {room}: {loss}")).collect();
        let Some(start) = start else {
            faults.push(format!("{name} was never in {room}"));
            return faults;
        };
        let all = history.0.get(room).map_or(&[][..], Vec::as_slice);
        let expected: Vec<_> = all.iter().filter(|row| row.position > *start).collect();
        let known: HashSet<_> = expected.iter().map(|row| row.position).collect();
        let saw: HashSet<_> = rows.iter().map(|row| row.position).collect();
        for row in rows.iter().filter(|row| !expected.contains_at(row)) {
            faults.push(format!(
                "{name} in {room}: saw {row:?}, which the history has not{}",
                if known.contains(&row.position) { " there" } else { "" }
            ));
        }
        for row in expected.iter().filter(|row| !saw.contains(&row.position)) {
            faults.push(format!("{name} in {room}: never saw {row:?}"));
        }
        for pair in rows.windows(2).filter(|pair| pair[0].position >= pair[1].position) {
            faults.push(format!("{name} in {room}: saw {} and then {}", pair[0].position, pair[1].position));
        }
        faults
    }
}

trait Contains {
    fn contains_at(&self, row: &Row) -> bool;
}

impl Contains for Vec<&Row> {
    /// Whether exactly this row is there; sorted by position.
    fn contains_at(&self, row: &Row) -> bool {
        self.binary_search_by_key(&row.position, |row| row.position).is_ok_and(|at| self[at] == row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(offset: u128) -> Row {
        Row { position: Position::new(1, offset), id: Uuid::from_u128(offset), text: format!("text {offset}") }
    }

    /// Ten messages of one sender: sent, acknowledged, in the history and seen by a member that came after the second.
    fn all_is_well() -> (Ledger, History, Seen) {
        let ledger = Ledger::default();
        let rows: Vec<_> = (1..=10).map(row).collect();
        for row in &rows {
            ledger.sent(row.id, Sent { room: "7".into(), sender: 0, text: row.text.clone() });
            ledger.acknowledged(row.id, Some(row.position));
        }
        let seen =
            Seen { name: "ada".into(), room: "7".into(), start: Some(rows[1].position), rows: rows[2..].to_vec(), ..Seen::default() };
        (ledger, History([("7".to_owned(), rows)].into()), seen)
    }

    fn faults(spoil: impl FnOnce(&Ledger, &mut Vec<Row>, &mut Seen)) -> Vec<String> {
        let (ledger, mut history, mut seen) = all_is_well();
        spoil(&ledger, history.0.get_mut("7").unwrap(), &mut seen);
        ledger.faults(&history, &[seen], true)
    }

    #[test]
    fn nothing_is_found_where_all_is_well() {
        assert_eq!(faults(|_, _, _| {}), [""; 0]);
    }

    #[test]
    fn each_fault_is_found() {
        type Spoil = Box<dyn FnOnce(&Ledger, &mut Vec<Row>, &mut Seen)>;
        let cases: [(&str, Spoil); 12] = [
            ("acknowledged and not in the history", Box::new(|_, rows, _| drop(rows.remove(0)))),
            ("nobody sent", Box::new(|_, rows, _| rows.insert(0, row(0)))),
            ("sent was", Box::new(|_, rows, _| rows[0].text.push('!'))),
            ("is there twice", Box::new(|_, rows, _| rows.push(Row { position: Position::new(2, 1), ..row(1) }))),
            ("stands before", Box::new(|_, rows, _| rows.swap(0, 1))),
            ("was acknowledged at", Box::new(|ledger, _, _| ledger.acknowledged(Uuid::from_u128(3), Some(Position::new(9, 9))))),
            (
                "after what stands later",
                Box::new(|_, rows, _| {
                    (rows[0].position, rows[1].position) = (rows[1].position, rows[0].position);
                    rows.swap(0, 1);
                }),
            ),
            ("which the history has not", Box::new(|_, _, seen| seen.rows.push(row(11)))),
            ("which the history has not there", Box::new(|_, _, seen| seen.rows[0].text.push('!'))),
            ("never saw", Box::new(|_, _, seen| drop(seen.rows.remove(3)))),
            ("and then", Box::new(|_, _, seen| seen.rows.insert(3, seen.rows[3].clone()))),
            ("recovered: false", Box::new(|_, _, seen| seen.losses.push("recovered: false".into()))),
        ];
        for (expected, spoil) in cases {
            let found = faults(spoil);
            assert!(found.iter().any(|fault| fault.contains(expected)), "{expected:?} is not in {found:?}");
        }
    }
}
