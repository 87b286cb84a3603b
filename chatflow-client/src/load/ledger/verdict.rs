//! What can only be said at the end: what was missed, lost, doubled, or acknowledged at another place.

use std::collections::HashMap;

use super::{FOREIGN, Ledger, Places, Shard, Truth};
use crate::load::violation::Kind;

impl Ledger {
    /// Compares what was shown with what was acknowledged. `observed`: whether there were members who had to be shown
    /// everything; otherwise only the history can tell what was lost.
    pub(in crate::load) fn conclude(&self, truth: Truth<'_>, observed: bool) {
        for (room, shard) in self.shards.iter().enumerate() {
            let shard = shard.lock();
            let room = format!("room {}", room + 1);
            missed(&shard, truth, &room, self.shared);
            let places = places(&shard, truth, &room);
            acknowledged(&shard, truth, &room, &places, observed);
            sender_order(&shard, truth, &room);
        }
    }
}

fn missed(shard: &Shard, truth: Truth<'_>, room: &str, shared: bool) {
    // What others say in a shared room goes on while the members of this run leave one by one.
    for (at, member) in shard.room.members.iter().enumerate() {
        let (missing, more) = shard.room.missing(at, |entry| !shared || entry.number != FOREIGN);
        let more = std::iter::repeat_n(None, more as usize);
        for position in missing.into_iter().map(Some).chain(more) {
            let detail = || {
                let position = position.map_or_else(|| "a position".to_owned(), |p| p.to_string());
                format!("{room}: {} was not shown what others saw at {position}", member.name)
            };
            truth.violations.add(Kind::Missed, detail);
        }
    }
}

fn places(shard: &Shard, truth: Truth<'_>, room: &str) -> Places {
    let mut places = Places::with_capacity(shard.own);
    for entry in shard.room.sequence.iter().filter(|e| e.number != FOREIGN) {
        if let Some(first) = places.insert(entry.number, entry.seen.position) {
            let (id, second) = (entry.seen.id, entry.seen.position);
            truth.violations.add(Kind::Duplicated, || format!("{room}: {id} was shown at {first} and at {second}"));
            places.insert(entry.number, first);
        }
    }
    places
}

fn acknowledged(shard: &Shard, truth: Truth<'_>, room: &str, places: &Places, observed: bool) {
    let mut answers: Places = HashMap::with_capacity(shard.acknowledged.len());
    for answer in &shard.acknowledged {
        let id = || truth.plan.id(answer.number, truth.sent.made_ms(answer.number).unwrap_or_default());
        let place = places.get(&answer.number);
        match (place, answer.position) {
            (None, _) if observed => {
                let at = answer.position.map_or_else(String::new, |p| format!(" at {p}"));
                truth.violations.add(Kind::Lost, || format!("{room}: {} was acknowledged{at} and never shown to anybody", id()));
            }
            (Some(place), Some(position)) if *place != position => {
                truth.violations.add(Kind::WrongPosition, || format!("{room}: {} was answered with {position} and shown at {place}", id()));
            }
            _ => {}
        }
        if let Some(position) = answer.position
            && let Some(first) = answers.insert(answer.number, position)
            && first != position
        {
            truth.violations.add(Kind::WrongAnswer, || format!("{room}: {} was answered with {first}, then with {position}", id()));
        }
    }
}

/// Messages of one connection that were written once stand in the order in which they were written.
fn sender_order(shard: &Shard, truth: Truth<'_>, room: &str) {
    let mut furthest: HashMap<u32, u32> = HashMap::new();
    for entry in shard.room.sequence.iter().filter(|e| e.number != FOREIGN && truth.sent.written_once(e.number)) {
        let (sender, nth) = truth.plan.sender(entry.number);
        let before = furthest.entry(sender).or_insert(nth);
        if *before > nth {
            let (id, position) = (entry.seen.id, entry.seen.position);
            let detail = || format!("{room}: message {nth} of connection {sender}, {id}, stands at {position}, after its message {before}");
            truth.violations.add(Kind::SenderOrder, detail);
        }
        *before = nth.max(*before);
    }
}
