//! A history whose tables are made older than they are, and become current again.

use std::sync::Arc;

use chatflow_core::analytics::{Counted, Minutes, Participation, UserRoom};
use chatflow_core::conformance::store::batch;
use chatflow_core::store::SUMMARIES;
use chatflow_core::{ErrorKind, LogId, MessageStore, Timestamp};

const DAY: i64 = 86_400_000;

/// What a store answers of a history of forty days, and the rooms of whoever said something first.
type Answers = (Counted<u64>, Counted<Participation>, Counted<Vec<UserRoom>>);

async fn answers(store: &dyn MessageStore) -> Answers {
    let (lease, analytics) = (store.claim(SUMMARIES, &"n".into()).await.unwrap(), store.analytics().unwrap());
    while store.projections().unwrap().project(&lease, 10).await.unwrap() {}
    store.release(&lease).await.unwrap();
    let sender = batch("a", 1..=1)[0].message.sender.clone();
    let range = Minutes::covering(Some(Timestamp(0)), Some(Timestamp(25 * DAY)));
    (
        analytics.active_users(range).await.unwrap(),
        analytics.participation(range, 10).await.unwrap(),
        analytics.user_rooms(&sender, None, 10).await.unwrap(),
    )
}

/// `open` opens the store; `age` makes its tables those of the version before.
pub(crate) async fn becomes_current<S: MessageStore>(open: impl AsyncFn() -> Arc<S>, age: impl AsyncFn()) {
    let store = open().await;
    let lease = store.claim(LogId(0), &"n".into()).await.unwrap();
    let mut rows = batch("a", 1..=40);
    rows.iter_mut().zip(0..).for_each(|(row, day)| row.message.at = Timestamp(day * DAY + 1));
    assert_eq!(store.commit(&lease, &rows, rows[39].position).await.unwrap(), []);
    let before = answers(&*store).await;
    assert_eq!((before.0.value, before.2.value.len()), (7, 1));
    age().await;
    // The lease of who counted as that version did.
    let older = store.claim(LogId(u16::MAX), &"older".into()).await.unwrap();
    drop(store);
    let store = open().await;
    assert_eq!(answers(&*store).await, before);
    assert_eq!(store.renew(&older).await.unwrap_err().kind(), ErrorKind::Fenced);
    let error = store.claim(LogId(u16::MAX), &"older".into()).await.unwrap_err();
    assert!(error.to_string().contains("a newer program"), "{error}");
}
