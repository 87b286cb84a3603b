//! The suite for a [`MessageStore`]: each case cites the guarantee that it tests.
//!
//! ```
//! use std::sync::Arc;
//!
//! use chatflow_core::conformance::store::Subject;
//! use chatflow_core::store::MemoryStore;
//!
//! async fn fresh() -> Subject {
//!     Subject::new(Arc::new(MemoryStore::new()))
//! }
//!
//! chatflow_core::store_suite!(memory, fresh);
//! # fn main() {}
//! ```

mod archive;
mod commits;
mod leases;
mod pages;
mod retention;
mod shared;
mod walks;

use std::any::Any;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures::future::BoxFuture;

pub use archive::*;
pub use commits::*;
pub use leases::*;
pub use pages::*;
pub use retention::*;
pub use shared::*;
pub use walks::*;

use crate::store::{Lease, Page, PageQuery, Stored};
use crate::{LogId, Message, MessageId, MessageStore, NodeId, Position, RoomId, Timestamp};

type Reopen = Box<dyn Fn() -> BoxFuture<'static, Arc<dyn MessageStore>> + Send + Sync>;

/// An empty store to test.
pub struct Subject {
    /// The store.
    pub store: Arc<dyn MessageStore>,
    reopen: Option<Reopen>,
    /// Another node's, and how long a lease is.
    pub(super) second: Option<(Arc<dyn MessageStore>, Duration)>,
    _kept: Box<dyn Any + Send + Sync>,
}

impl Subject {
    /// A store whose history goes with it.
    pub fn new(store: Arc<dyn MessageStore>) -> Self {
        Self { store, reopen: None, second: None, _kept: Box::new(()) }
    }

    /// A store whose history can be opened again, by `reopen`, once it was closed.
    #[must_use]
    pub fn reopening<F, R>(mut self, reopen: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Arc<dyn MessageStore>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// A store that nodes share, as a `second` node sees it; a `lease` of either runs for so long, which some cases wait for.
    #[must_use]
    pub fn shared_with(mut self, second: Arc<dyn MessageStore>, lease: Duration) -> Self {
        self.second = Some((second, lease));
        self
    }

    /// Drops `kept`, a temporary folder perhaps, only when the case is over.
    #[must_use]
    pub fn keeping(mut self, kept: impl Any + Send + Sync) -> Self {
        self._kept = Box::new(kept);
        self
    }

    /// Another node's store, if nodes share it.
    pub(super) fn second(&self) -> Option<&dyn MessageStore> {
        self.second.as_ref().map(|(store, _)| &**store)
    }

    /// The same, to be kept.
    pub(super) fn second_store(&self) -> Option<Arc<dyn MessageStore>> {
        self.second.as_ref().map(|(store, _)| Arc::clone(store))
    }

    /// Closes the store and opens it again; `None` when its history goes with it.
    pub(super) async fn reopened(&self) -> Option<Arc<dyn MessageStore>> {
        let reopen = self.reopen.as_ref()?;
        self.store.close().await.expect("a healthy store closes");
        Some(reopen().await)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("store", &self.store).finish_non_exhaustive()
    }
}

/// The log that most cases use.
pub const LOG: LogId = LogId(3);

/// The room called `name`.
pub fn room(name: &str) -> RoomId {
    RoomId::new(name).expect("cases name their rooms well")
}

/// A message in `room` with an id, a text and a time of its own.
pub fn message(room: &RoomId, number: u64) -> Message {
    Message {
        id: MessageId::now_v7(),
        room: room.clone(),
        sender: ByteString::from(format!("user{}", number % 7)),
        kind: crate::kind::TEXT,
        body: Bytes::from(format!("message {number}")),
        digest: number,
        at: Timestamp(1_700_000_000_000 + number as i64),
        node: ByteString::from_static("node-1"),
        session: number % 5,
        origin: ByteString::from_static("127.0.0.1"),
    }
}

/// Fresh messages in the room called `name`, at the given offsets of epoch 1.
pub fn batch(name: &str, offsets: RangeInclusive<u64>) -> Vec<Stored> {
    let room = room(name);
    offsets.map(|offset| Stored { position: at(offset), message: message(&room, offset) }).collect()
}

/// `offset` in epoch 1.
pub const fn at(offset: u64) -> Position {
    Position::new(1, offset as u128)
}

async fn claim(store: &dyn MessageStore, log: LogId) -> Lease {
    store.claim(log, &NodeId::from_static("node-1")).await.expect("the lease is free")
}

async fn page(store: &dyn MessageStore, name: &str, query: &PageQuery) -> Page {
    store.page(LOG, &room(name), query).await.expect("a healthy store can be read")
}

/// All rows of a room, when they fit a page.
async fn rows(store: &dyn MessageStore, name: &str) -> Vec<Stored> {
    page(store, name, &PageQuery::latest(crate::store::LARGEST_PAGE)).await.messages
}

/// Makes a `#[tokio::test]` of each case of the [store suite](crate::conformance::store), in a module `$name`. `$fresh` is an async function
/// that gives an empty store as a [`Subject`](crate::conformance::store::Subject). With `if: $there`, a case passes over what it needs
/// when that expression is false.
#[macro_export]
macro_rules! store_suite {
    ($name:ident, $fresh:ident) => {
        $crate::store_suite!($name, $fresh, if: true);
    };
    ($name:ident, $fresh:ident, if: $there:expr) => {
        $crate::store_suite!(@cases $name, $fresh, $there,
            g1_a_claim_fences_all_earlier_ones
            g1_a_lease_that_was_given_back_is_worth_nothing
            g1_of_racing_claims_the_last_one_commits
            g1_logs_have_leases_of_their_own
            g2_batch_and_cursor_are_one
            g2_a_refused_batch_leaves_nothing_behind
            g2_the_cursor_never_goes_back
            g2_a_commit_waits_for_the_one_that_it_follows
            g2_commits_under_way_are_written_in_order
            g2_nothing_appears_behind_the_cursor
            g2_readers_see_whole_batches
            g3_a_second_copy_is_a_repeat_of_the_first
            g3_another_message_of_the_same_id_is_a_conflict
            g3_an_id_twice_in_one_batch_is_one_row
            g3_the_same_batch_again_changes_nothing
            g3_a_batch_of_any_size_has_its_exceptions
            g3_rows_are_found_by_their_ids
            g3_sixteen_logs_commit_at_once
            g3_logs_that_commit_at_once_have_each_their_own_exceptions
            g4_what_was_committed_is_there_after_reopening
            g5_pages_are_in_order_from_either_end
            g5_epochs_come_before_offsets
            g5_pages_stay_within_their_bounds_in_position_and_time
            g5_walks_beside_a_writer_skip_and_repeat_nothing
            g5_any_page_is_what_the_model_says
            g5_a_range_of_time_has_all_of_it_however_long_the_log
            g6_pages_are_read_beside_commits
            g7_a_page_holds_no_more_than_the_largest
            texts_are_kept_to_the_byte
            rooms_are_listed_by_name_with_their_last_message
            the_last_epoch_is_that_of_the_furthest_cursor
            g7_a_log_begins_in_the_epoch_of_its_first_commit
            g7_a_history_begins_again_where_it_was_skipped_to
            a_closed_store_says_so
            an_archive_makes_the_same_history_elsewhere
            what_does_not_fit_into_a_history_is_told
            g1_nodes_contend_for_a_log
            g1_a_lease_that_ran_out_is_taken_over_and_its_writer_fenced
            g2_a_second_node_goes_on_where_the_first_was
            g3_an_id_is_one_row_whichever_node_writes_it
            g9_what_another_node_commits_is_marked_and_found
            g10_the_oldest_go_and_the_newest_stays
            g10_nothing_goes_out_of_turn
            g10_what_a_user_said_goes_as_well
            g11_whoever_missed_something_is_told
            g11_walks_beside_a_remover_end_and_no_hole_is_silent
            g11_an_archive_tells_what_was_removed
            g12_a_fenced_lease_removes_nothing
            g12_many_at_once_remove_what_one_would
            g12_a_log_goes_on_after_a_removal
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
                    $crate::conformance::store::$case(&super::$fresh().await).await;
                }
            )*
        }
    };
}
