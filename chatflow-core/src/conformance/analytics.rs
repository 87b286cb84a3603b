//! The suite for [`Analytics`], and for the [`Projections`](crate::store::Projections) of stores that have them: each case cites the
//! guarantee that it tests, with a `g` that of the first, with a `p` of the second. It is run on the stores that the
//! [store suite](super::store) is run on.
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
//! chatflow_core::analytics_suite!(memory, fresh);
//! # fn main() {}
//! ```

mod figures;
mod history;
mod names;
mod projections;
mod walks;

pub use figures::*;
pub use names::*;
pub use projections::*;
pub use walks::*;

use super::store::Subject;
use crate::{Analytics, MessageStore};

/// The store as one that can be asked.
fn analytics(store: &dyn MessageStore) -> &dyn Analytics {
    store.analytics().expect("a store that is held against this suite can be asked")
}

/// Makes a `#[tokio::test]` of each case of the [analytics suite](crate::conformance::analytics), in a module `$name`. `$fresh` is an async
/// function that gives an empty store as a [`Subject`](crate::conformance::store::Subject). With `if: $there`, a case passes over what it
/// needs when that expression is false.
#[macro_export]
macro_rules! analytics_suite {
    ($name:ident, $fresh:ident) => {
        $crate::analytics_suite!($name, $fresh, if: true);
    };
    ($name:ident, $fresh:ident, if: $there:expr) => {
        $crate::analytics_suite!(@cases $name, $fresh, $there,
            g1_any_question_is_answered_as_the_model_does
            g1_what_did_not_become_a_row_counts_nowhere
            g1_a_range_ends_where_its_minutes_do
            g1_nothing_was_said_by_nobody
            g2_walks_beside_writers_skip_and_repeat_nothing
            g3_any_name_is_its_own_user
            g3_equal_numbers_are_in_the_order_of_the_names_bytes
            g4_no_list_is_longer_than_the_largest_page
            g5_answers_come_beside_commits
            p1_another_node_goes_on_where_one_was
            p1_what_is_rolled_up_is_counted_as_well
            p3_answers_say_up_to_when_they_count
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
                    $crate::conformance::analytics::$case(&super::$fresh().await).await;
                }
            )*
        }
    };
}
