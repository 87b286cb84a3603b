//! Guarantees 3 and 4: what an accepted receipt says.

use bytes::Bytes;
use futures::future::join_all;

use super::Subject;
use super::publisher::{message, offer};
use super::watch::{attach, next, texts};
use crate::Message;
use crate::broker::{Entry, From, Reader, Receipt};

/// Guarantee 3: bytes of any kind.
pub async fn g3_accepted_entries_are_read_back_as_they_were(subject: Subject) {
    let broker = subject.opened().await;
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    let awkward = Message { body: (0..=255u8).collect::<Vec<_>>().into(), ..message("") };
    broker.submit(Entry::new(super::LOG, &awkward), Receipt::ignored()).expect("taken");
    let back = next(&mut events, 1).await;
    assert_eq!(Message::decode(back[0].bytes.clone()).expect("a message"), awkward);
}

/// Guarantee 3: as large as the profile says.
pub async fn g3_the_largest_entry_is_taken(subject: Subject) {
    let broker = subject.opened().await;
    let (mut events, _) = attach(broker, Reader::Node, From::Present).await;
    let mut large = message("");
    let room = broker.profile().largest_entry - large.encode().len();
    large.body = Bytes::from_iter((0..room).map(|i| (i % 251) as u8));
    let entry = Entry::new(super::LOG, &large);
    assert_eq!(entry.bytes.len(), broker.profile().largest_entry);
    let bytes = entry.bytes.clone();
    broker.submit(entry, Receipt::ignored()).expect("taken");
    assert!(next(&mut events, 1).await[0].bytes == bytes, "it is read back as it was");
}

/// Guarantee 4: accepted or failed; the positions that are told, if any, are those that readers see.
pub async fn g4_each_receipt_is_told_once(subject: Subject) {
    let broker = subject.opened().await;
    let n = (subject.full_at / 2).min(100);
    let (mut events, _) = attach(broker, Reader::History, From::Oldest).await;
    let all: Vec<String> = (0..n).map(|i| i.to_string()).collect();
    let told = join_all(all.iter().map(|text| offer(broker, text))).await;
    let seen = next(&mut events, n).await;
    assert_eq!(texts(&seen), all);
    for (told, seen) in told.into_iter().zip(seen) {
        let position = told.expect("accepted");
        assert!(position.is_none_or(|position| position == seen.position), "told {position:?}, read at {}", seen.position);
    }
}
