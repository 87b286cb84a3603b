//! Random histories against a model that is too simple to be wrong.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::dice::Dice;
use super::{LOG, Subject, claim, message, room};
use crate::store::{PageQuery, Stored};
use crate::{Exception, Message, MessageId, MessageStore, Position, Timestamp};

const ROOMS: [&str; 3] = ["red", "green", "blue"];

fn any_room(dice: &mut Dice) -> &'static str {
    ROOMS[dice.below(ROOMS.len() as u64) as usize]
}

/// What the history should be.
#[derive(Default)]
struct Model {
    rows: BTreeMap<Position, Message>,
    firsts: HashMap<MessageId, Position>,
    through: Position,
}

impl Model {
    fn commit(&mut self, entries: &[Stored], through: Position) -> Vec<(usize, Exception)> {
        let mut exceptions = Vec::new();
        for (index, Stored { position, message }) in entries.iter().enumerate() {
            match self.firsts.get(&message.id) {
                Some(&first) if self.rows[&first].digest == message.digest && self.rows[&first].room == message.room => {
                    exceptions.push((index, Exception::Repeat { first }));
                }
                Some(&first) => exceptions.push((index, Exception::Conflict { first })),
                None => {
                    self.firsts.insert(message.id, *position);
                    self.rows.insert(*position, message.clone());
                }
            }
        }
        self.through = self.through.max(through);
        exceptions
    }

    fn room(&self, name: &str) -> Vec<Stored> {
        let of_room = self.rows.iter().filter(|(_, message)| message.room.as_str() == name);
        of_room.map(|(&position, message)| Stored { position, message: message.clone() }).collect()
    }

    fn page(&self, name: &str, query: &PageQuery) -> (Vec<Stored>, bool) {
        let mut found = self.room(name);
        found.retain(|row| {
            query.after.is_none_or(|after| row.position > after)
                && query.before.is_none_or(|before| row.position < before)
                && query.start.is_none_or(|start| row.message.at >= start)
                && query.end.is_none_or(|end| row.message.at < end)
        });
        let beyond = found.len().saturating_sub(query.limit);
        if query.newest {
            found.drain(..beyond);
        } else {
            found.truncate(query.limit);
        }
        (found, beyond > 0)
    }
}

/// Commits with gaps, new epochs, repeats, conflicts and batches that come twice; each answer is the model's.
async fn write(store: &dyn MessageStore, dice: &mut Dice, commits: usize) -> Model {
    let lease = claim(store, LOG).await;
    let (mut model, mut number, mut last) = (Model::default(), 0, (Vec::new(), Position::ZERO));
    for _ in 0..commits {
        if !dice.one_in(8) {
            let mut position = model.through;
            let mut entries = Vec::new();
            for _ in 0..dice.below(13) {
                position = match dice.one_in(40) {
                    true => Position::new(position.epoch + 1 + dice.below(3), dice.below(5).into()),
                    false => Position::new(position.epoch, position.offset + 1 + u128::from(dice.below(3))),
                };
                number += 1;
                let mut fresh = message(&room(any_room(dice)), number);
                // Nodes have clocks of their own: times are not quite in order.
                fresh.at.0 += dice.below(20) as i64;
                let known = model.firsts.values().nth(dice.below(model.firsts.len().max(1) as u64) as usize);
                match known.map(|first| model.rows[first].clone()) {
                    Some(known) if dice.one_in(6) => fresh = Message { at: fresh.at, ..known },
                    Some(known) if dice.one_in(8) => fresh.id = known.id,
                    Some(known) if dice.one_in(10) => fresh = Message { room: fresh.room, ..known },
                    _ => {}
                }
                entries.push(Stored { position, message: fresh });
            }
            position.offset += u128::from(dice.below(3));
            last = (entries, position);
        }
        let (entries, through) = &last;
        let expected = model.commit(entries, *through);
        assert_eq!(store.commit(&lease, entries, *through).await.expect("valid"), expected);
        tokio::task::yield_now().await;
    }
    model
}

/// A room read page by page from one end to the other: the rows, and through where they are complete.
async fn walk(store: &dyn MessageStore, name: &str, newest: bool, dice: &mut Dice) -> (Vec<Stored>, Position) {
    let (mut rows, mut complete): (Vec<Stored>, Option<Position>) = (Vec::new(), None);
    loop {
        let limit = 1 + dice.below(30) as usize;
        let query = match rows.first().filter(|_| newest) {
            Some(first) => PageQuery { before: Some(first.position), ..PageQuery::latest(limit) },
            None if newest => PageQuery::latest(limit),
            None => PageQuery::after(rows.last().map_or(Position::ZERO, |row| row.position), limit),
        };
        let page = store.page(LOG, &room(name), &query).await.expect("a healthy store can be read");
        assert!(page.messages.iter().all(|row| row.position <= page.through), "a page goes past its own watermark");
        assert!(page.messages.len() <= limit);
        // Forward, the last page says how far it is complete; backward, the first.
        complete = complete.filter(|_| newest).or(Some(page.through));
        let more = page.more;
        if newest {
            rows.splice(..0, page.messages);
        } else {
            rows.extend(page.messages);
        }
        if !more {
            return (rows, complete.unwrap_or_default());
        }
        tokio::task::yield_now().await;
    }
}

/// Guarantees 2, 3 and 5: walks in both directions beside random commits find, up to their watermark, exactly what the
/// model has in the end.
pub async fn g5_walks_beside_a_writer_skip_and_repeat_nothing(subject: &Subject) {
    let store = subject.store.clone();
    let writer = tokio::spawn(async move { write(&*store, &mut Dice::new(1), 150).await });
    let readers = (0..4u64).map(|reader| {
        let (store, mut dice) = (Arc::clone(&subject.store), Dice::new(100 + reader));
        tokio::spawn(async move {
            let mut walks = Vec::new();
            for _ in 0..40 {
                let (name, newest) = (any_room(&mut dice), dice.one_in(2));
                walks.push((name, newest, walk(&*store, name, newest, &mut dice).await));
            }
            walks
        })
    });
    let readers: Vec<_> = readers.collect();
    let model = writer.await.expect("the commits are answered as the model says");
    for reader in readers {
        for (name, newest, (rows, through)) in reader.await.expect("no panic") {
            let mut expected = model.room(name);
            expected.retain(|row| row.position <= through);
            assert_eq!(rows, expected, "{name} through {through}, newest first: {newest}");
        }
    }
}

/// Guarantee 5: any combination of bounds in position and time, from either end.
pub async fn g5_any_page_is_what_the_model_says(subject: &Subject) {
    let mut dice = Dice::new(2);
    let model = write(&*subject.store, &mut dice, 60).await;
    let positions: Vec<_> = model.rows.keys().copied().collect();
    for _ in 0..300 {
        let some_position = |dice: &mut Dice| {
            let near = positions[dice.below(positions.len() as u64) as usize];
            dice.one_in(2).then(|| Position::new(near.epoch, near.offset + u128::from(dice.below(2))))
        };
        let some_time = |dice: &mut Dice| dice.one_in(3).then(|| Timestamp(1_700_000_000_000 + dice.below(400) as i64));
        let query = PageQuery {
            after: some_position(&mut dice),
            before: some_position(&mut dice),
            start: some_time(&mut dice),
            end: some_time(&mut dice),
            limit: 1 + dice.below(40) as usize,
            newest: dice.one_in(2),
        };
        let name = any_room(&mut dice);
        let page = subject.store.page(LOG, &room(name), &query).await.expect("a healthy store can be read");
        assert_eq!((page.messages, page.more, page.through), {
            let (rows, more) = model.page(name, &query);
            (rows, more, model.through)
        });
    }
}

/// Guarantee 5: a store may know where in a log to look for a time; what was accepted out of order is found all the same.
pub async fn g5_a_range_of_time_has_all_of_it_however_long_the_log(subject: &Subject) {
    const ROWS: u64 = 5_000;
    let (store, mut dice) = (&*subject.store, Dice::new(3));
    let (lease, mut model) = (claim(store, LOG).await, Model::default());
    let numbers: Vec<u64> = (1..=ROWS).collect();
    for numbers in numbers.chunks(250) {
        let entries = numbers.iter().map(|&number| {
            let mut message = message(&room(any_room(&mut dice)), number);
            message.at.0 += dice.below(20) as i64;
            if number > ROWS / 2 && dice.one_in(200) {
                message.at.0 -= dice.below(ROWS / 2) as i64;
            }
            Stored { position: Position::new(1, number.into()), message }
        });
        let entries: Vec<_> = entries.collect();
        let through = entries.last().map_or(Position::ZERO, |entry| entry.position);
        assert_eq!(store.commit(&lease, &entries, through).await.expect("valid"), model.commit(&entries, through));
    }
    for _ in 0..200 {
        let start = 1_700_000_000_000 + dice.below(ROWS + 20) as i64;
        let end = start + dice.below(400) as i64;
        let query = PageQuery {
            start: (!dice.one_in(5)).then_some(Timestamp(start)),
            end: (!dice.one_in(5)).then_some(Timestamp(end)),
            limit: 1 + dice.below(300) as usize,
            newest: dice.one_in(2),
            ..PageQuery::latest(1)
        };
        let name = any_room(&mut dice);
        let page = store.page(LOG, &room(name), &query).await.expect("a healthy store can be read");
        assert_eq!((page.messages, page.more), model.page(name, &query), "{query:?}");
    }
}
