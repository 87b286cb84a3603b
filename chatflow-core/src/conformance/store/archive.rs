//! Out of one store and into another.

use std::sync::Arc;

use super::{Subject, at, batch, message};
use crate::archive::{Export, Import, Imported};
use crate::store::{LARGEST_PAGE, MemoryStore, Stored};
use crate::{ErrorKind, LogId, MessageStore, NodeId, PageQuery, Position, RoomId};

const LOGS: u16 = 4;

async fn exported(store: &Arc<dyn MessageStore>) -> String {
    let mut export = Export::begin(Arc::clone(store), LOGS).await.expect("readable");
    let mut all = String::new();
    while let Some(lines) = export.next().await.expect("readable") {
        all.push_str(&lines);
    }
    all
}

async fn imported(store: &Arc<dyn MessageStore>, archive: &str) -> Imported {
    let mut import = Import::new(Arc::clone(store), LOGS, "importer");
    for line in archive.lines() {
        import.line(line).await.expect("a good line");
    }
    import.finish().await.expect("healthy")
}

/// Everything that can be read.
async fn everything(store: &dyn MessageStore) -> Vec<(LogId, Position, Position, RoomId, Vec<Stored>)> {
    let mut all = Vec::new();
    for summary in store.rooms(None, 1_000).await.expect("readable") {
        let log = LogId::of(summary.room.as_str(), LOGS);
        let page = store.page(log, &summary.room, &PageQuery::latest(LARGEST_PAGE)).await.expect("readable");
        all.push((log, page.through, page.since, summary.room, page.messages));
    }
    all
}

/// Rooms in all logs, whose messages alternate, over two epochs with a hole in one log.
async fn fill(store: &dyn MessageStore) -> u64 {
    let mut count = 0;
    for log in (0..LOGS).map(LogId) {
        let rooms: Vec<_> = (0..40).map(|n| RoomId::new(&format!("room-{n}")).expect("a name")).collect();
        let rooms: Vec<_> = rooms.into_iter().filter(|room| LogId::of(room.as_str(), LOGS) == log).take(3).collect();
        let lease = store.claim(log, &NodeId::from_static("node-1")).await.expect("free");
        for (epoch, offset) in [(1, 0), (1, 300), (1 << 40, 0)] {
            let row = |n: u64| {
                let mut message = message(&rooms[n as usize % rooms.len()], n);
                (message.digest, message.session) = (u64::MAX - n, u64::MAX - n);
                message.sender = "漢\\\0\"".into();
                message.body = if n.is_multiple_of(3) { vec![0xff, 0, n as u8].into() } else { message.body };
                Stored { position: Position::new(epoch, offset + u128::from(n) * 3), message }
            };
            let rows: Vec<_> = (1..=100).map(row).collect();
            count += rows.len() as u64;
            store.commit(&lease, &rows, Position::new(epoch, offset + 301)).await.expect("healthy");
        }
        if log == LogId(1) {
            store.skip(&lease, Position::new(1 << 41, 7)).await.expect("healthy");
        }
        store.release(&lease).await.expect("ours");
    }
    count
}

/// What is taken out of one store and put into another is the same there; once more, it changes nothing.
pub async fn an_archive_makes_the_same_history_elsewhere(subject: &Subject) {
    let (here, memory): (_, Arc<dyn MessageStore>) = (&subject.store, Arc::new(MemoryStore::new()));
    let count = fill(&*memory).await;
    let archive = exported(&memory).await;
    let first = imported(here, &archive).await;
    assert_eq!((first.messages, first.repeats, first.conflicts, first.behind), (count, 0, 0, 0));
    assert_eq!(everything(&**here).await, everything(&*memory).await);
    assert_eq!(here.last_epoch().await.expect("readable"), 1 << 41);

    let again = imported(here, &archive).await;
    assert_eq!((again.messages, again.repeats, again.conflicts, again.behind), (0, count, 0, 0));
    let back: Arc<dyn MessageStore> = Arc::new(MemoryStore::new());
    let archive_of_here = exported(here).await;
    assert_eq!(imported(&back, &archive_of_here).await.messages, count);
    assert_eq!(everything(&*back).await, everything(&*memory).await);
    let lines = |archive: &str| archive.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&archive_of_here), lines(&archive), "to the byte");
}

/// What a history has no place for any more is told, and so is what it has another message for.
pub async fn what_does_not_fit_into_a_history_is_told(subject: &Subject) {
    let (here, memory): (_, Arc<dyn MessageStore>) = (&subject.store, Arc::new(MemoryStore::new()));
    let log = LogId::of("a", LOGS);
    let lease = memory.claim(log, &NodeId::from_static("n")).await.expect("free");
    let rows = batch("a", 1..=6);
    memory.commit(&lease, &rows, at(6)).await.expect("healthy");
    let archive = exported(&memory).await;

    let lease = here.claim(log, &NodeId::from_static("n")).await.expect("free");
    let mut others = vec![rows[1].clone(), rows[2].clone()];
    others[1].message.digest += 1;
    here.commit(&lease, &others, at(4)).await.expect("healthy");
    here.release(&lease).await.expect("ours");
    let told = imported(here, &archive).await;
    assert_eq!((told.messages, told.repeats, told.conflicts, told.behind), (2, 1, 1, 2));
    assert_eq!(told.left_out, [(log, at(1)), (log, at(3)), (log, at(4))]);
    let page = here.page(log, &RoomId::new("a").expect("a name"), &PageQuery::latest(10)).await.expect("readable");
    assert_eq!(page.messages.iter().map(|stored| stored.position).collect::<Vec<_>>(), [at(2), at(3), at(5), at(6)]);

    // Where another node writes the log, nothing is taken from it.
    let Some(second) = subject.second_store() else { return };
    let lease = here.claim(log, &NodeId::from_static("n")).await.expect("free");
    let mut import = Import::new(second, LOGS, "importer");
    let mut refused = None;
    for line in archive.lines() {
        refused = refused.or(import.line(line).await.err());
    }
    assert_eq!(refused.expect("refused").kind(), ErrorKind::Unavailable);
    here.commit(&lease, &batch("a", 7..=7), at(7)).await.expect("the lease is valid");
}
