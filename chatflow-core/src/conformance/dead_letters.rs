//! The suite for [`DeadLetters`]: each case cites the guarantee that it tests.
//!
//! ```
//! use std::sync::Arc;
//!
//! use chatflow_core::conformance::dead_letters::Subject;
//! use chatflow_core::store::MemoryDeadLetters;
//!
//! async fn fresh() -> Subject {
//!     Subject::new(Arc::new(MemoryDeadLetters::new()))
//! }
//!
//! chatflow_core::dead_letters_suite!(memory, fresh);
//! # fn main() {}
//! ```

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{DeadLetter, DeadLetters, LogId, MessageId, Position, RoomId, Timestamp};

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn DeadLetters>> + Send + Sync>;

/// An empty place for dead letters to test.
pub struct Subject {
    letters: Arc<dyn DeadLetters>,
    reopen: Option<Reopen>,
    _kept: Box<dyn Any + Send + Sync>,
}

impl Subject {
    /// One whose letters go with it.
    pub fn new(letters: Arc<dyn DeadLetters>) -> Self {
        Self { letters, reopen: None, _kept: Box::new(()) }
    }

    /// One that can be opened again, by `reopen`, once it was dropped.
    #[must_use]
    pub fn reopening<F, R>(mut self, reopen: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Arc<dyn DeadLetters>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Drops `kept`, a temporary folder perhaps, only when the case is over.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self._kept = Box::new(kept);
        self
    }

    async fn list(&self) -> Vec<DeadLetter> {
        self.letters.list(None, usize::MAX).await.expect("readable")
    }

    async fn put(&self, letters: &[DeadLetter]) {
        self.letters.put(letters).await.expect("healthy");
    }

    async fn discard(&self, letter: &DeadLetter) -> bool {
        self.letters.discard(letter.log, letter.position).await.expect("healthy")
    }

    /// The same letters, opened anew; as they are when they go with it.
    async fn reopened(self) -> Self {
        let Self { letters, reopen, _kept } = self;
        let letters = match &reopen {
            Some(reopen) => {
                drop(letters);
                reopen().await
            }
            None => letters,
        };
        Self { letters, reopen, _kept }
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("letters", &self.letters).finish_non_exhaustive()
    }
}

fn letter(log: u16, offset: u128) -> DeadLetter {
    DeadLetter {
        log: LogId(log),
        position: Position::new(1, offset),
        id: MessageId::now_v7(),
        room: RoomId::new("red").ok(),
        at: Timestamp(1_700_000_000_000),
        reason: format!("\"too\nbad\", number {offset} of log {log}"),
        entry: Bytes::from((0..=255).collect::<Vec<u8>>()),
    }
}

/// Guarantee 1: letters, and the absence of discarded ones, outlive what holds them, where it is one that lasts.
pub async fn g1_letters_outlive_their_holder(subject: Subject) {
    let letters = [letter(1, 1), letter(1, 2), letter(2, 1)];
    subject.put(&letters).await;
    assert!(subject.discard(&letters[1]).await);
    let kept = [letters[0].clone(), letters[2].clone()];
    let subject = subject.reopened().await;
    assert_eq!(subject.list().await, kept);
    subject.put(&[letter(3, 9)]).await;
    let subject = subject.reopened().await;
    assert_eq!(subject.list().await[..2], kept, "what was written after opening begins where the rest ends");
    assert_eq!(subject.list().await.len(), 3);
}

/// Guarantee 2: the first letter of a place stays, also within one put.
pub async fn g2_a_place_has_one_letter(subject: Subject) {
    let first = letter(1, 7);
    subject.put(&[first.clone(), letter(1, 7)]).await;
    subject.put(&[letter(1, 7), letter(1, 8)]).await;
    let listed = subject.list().await;
    assert_eq!((&listed[0], listed.len()), (&first, 2));
    subject.put(&[]).await;
}

/// Guarantee 2: two logs may give one position to different messages; neither letter is lost.
pub async fn g2_logs_do_not_share_places(subject: Subject) {
    let letters = [letter(1, 7), letter(2, 7)];
    subject.put(&letters[..1]).await;
    subject.put(&letters[1..]).await;
    assert_eq!(subject.list().await, letters);
    assert!(subject.discard(&letters[0]).await);
    assert_eq!(subject.list().await, letters[1..]);
}

/// Guarantee 3: by log, then position, page by page.
pub async fn g3_letters_are_listed_in_order(subject: Subject) {
    let sorted = [letter(1, 2), letter(1, 10), letter(2, 1), letter(2, u128::MAX), letter(300, 5)];
    let mut shuffled = sorted.clone();
    shuffled.reverse();
    shuffled.swap(1, 3);
    subject.put(&shuffled).await;
    assert_eq!(subject.list().await, sorted);
    let after = |index: usize, limit| subject.letters.list(Some(sorted[index].place()), limit);
    assert_eq!(after(1, 2).await.expect("readable"), sorted[2..4]);
    assert_eq!(after(4, 2).await.expect("readable"), []);
    assert_eq!(subject.letters.list(None, 1).await.expect("readable"), sorted[..1]);
    assert_eq!(subject.letters.list(None, 0).await.expect("readable"), []);
}

/// Guarantee 4: gone after `true`; `false` when there was none; put again, it is a new letter.
pub async fn g4_a_discarded_letter_is_gone(subject: Subject) {
    let (one, two) = (letter(1, 1), letter(1, 2));
    subject.put(&[one.clone(), two.clone()]).await;
    assert!(subject.discard(&one).await);
    assert!(!subject.discard(&one).await);
    assert!(!subject.discard(&letter(9, 9)).await);
    assert_eq!(subject.list().await, std::slice::from_ref(&two));
    let again = letter(1, 1);
    subject.put(std::slice::from_ref(&again)).await;
    let subject = subject.reopened().await;
    assert_eq!(subject.list().await, [again, two]);
}

/// An entry that could not be decoded is kept as it is.
pub async fn an_entry_that_is_no_message_is_kept(subject: Subject) {
    let odd = DeadLetter { id: MessageId::nil(), room: None, entry: Bytes::new(), reason: String::new(), ..letter(1, 1) };
    subject.put(std::slice::from_ref(&odd)).await;
    assert_eq!(subject.reopened().await.list().await, [odd]);
}

/// Puts from several tasks at once are all kept.
pub async fn puts_at_once_are_all_kept(subject: Subject) {
    let puts = (0..8u16).map(|log| {
        let letters = subject.letters.clone();
        tokio::spawn(async move {
            for offset in 0..10 {
                letters.put(&[letter(log, offset)]).await.expect("healthy");
            }
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.expect("no panic");
    }
    assert_eq!(subject.reopened().await.list().await.len(), 80);
}

/// Makes a `#[tokio::test]` of each case of the [dead letters suite](crate::conformance::dead_letters), in a module `$name`. `$fresh` is an
/// async function that gives an empty [`Subject`](crate::conformance::dead_letters::Subject).
#[macro_export]
macro_rules! dead_letters_suite {
    ($name:ident, $fresh:ident) => {
        $crate::dead_letters_suite!($name, $fresh, if: true);
    };
    ($name:ident, $fresh:ident, if: $there:expr) => {
        $crate::dead_letters_suite!(@cases $name, $fresh, $there,
            g1_letters_outlive_their_holder
            g2_a_place_has_one_letter
            g2_logs_do_not_share_places
            g3_letters_are_listed_in_order
            g4_a_discarded_letter_is_gone
            an_entry_that_is_no_message_is_kept
            puts_at_once_are_all_kept
        );
    };
    (@cases $name:ident, $fresh:ident, $there:expr, $($case:ident)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    #[allow(unused_imports)]
                    use super::*;
                    if !$there {
                        return;
                    }
                    $crate::conformance::dead_letters::$case(super::$fresh().await).await;
                }
            )*
        }
    };
}
