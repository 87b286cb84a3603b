//! The brokers of the library against the public suite; and the suite against brokers that have a fault.

#[path = "brokers/service.rs"]
mod service;
#[path = "brokers/shared.rs"]
mod shared;

use std::sync::Arc;

use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
use chatflow_core::broker_suite;
use chatflow_core::conformance::broker::{self as suite, Subject};
use service::Fault;

broker_suite!(memory, async {
    let mut config = MemoryBrokerConfig::default();
    (config.logs, config.entries, config.retain) = (2, 64, 16);
    Subject::new(Arc::new(InMemoryBroker::new(config)), 64)
});

// The suite itself: brokers in this process pass it, whether they rewind and say positions or not …
broker_suite!(shared in_process, async { shared::subject(true, true, None) });
broker_suite!(shared in_process_of_the_present, async { shared::subject(false, false, None) });

// … and those with a fault don't: each in the case that is there for it.
macro_rules! caught {
    ($($name:ident: $fault:ident in $case:ident, $says:literal;)*) => {
        $(
            // Time stands still while anything can be done, so that what never comes is missed at once.
            #[tokio::test(start_paused = true)]
            #[should_panic(expected = $says)]
            async fn $name() {
                suite::$case(shared::subject(true, true, Some(Fault::$fault))).await;
            }
        )*
    };
}

caught! {
    two_entries_swapped: Swaps in g1_two_nodes_publish_at_once_and_all_see_one_order, "two entries at";
    positions_of_its_own: Shifts in g1_two_nodes_publish_at_once_and_all_see_one_order, "two entries at";
    positions_of_its_own_for_who_joins_late: Shifts in g2_a_node_that_joins_late_sees_what_comes_where_the_others_do, "left == right";
    the_oldest_dropped: DropsOldest in g5_a_full_log_refuses_and_settling_makes_room, "entries were taken";
    readers_waited_for: WaitsForReaders in g5_a_stalled_node_holds_up_no_other, "is not accepted";
    the_dead_waited_for: WaitsForTheDead in g5_a_node_that_dies_blocks_nothing, "is not accepted";
    trimmed_for_one_history: TrimsForOne in g6_each_history_settles_for_itself, "not in time: an entry is read";
    an_epoch_gone_on_with_after_a_wipe: ForgetsItsEpoch in g7_a_wiped_backend_goes_on_in_a_greater_epoch, "attached at";
    places_reused_in_an_old_copy: ReusesPlaces in g7_an_old_copy_put_back_gives_no_place_twice, "attached at";
    a_floor_ignored: IgnoresTheFloor in g7_a_clock_that_went_back_gives_no_place_twice, "is not after";
    an_entry_skipped_after_a_cut: Skips in g8_cut_connections_lose_nothing, "not whole within";
    an_entry_repeated_after_a_cut: Repeats in g8_cut_connections_lose_nothing, "positions must grow";
    an_entry_skipped_after_a_restart: Skips in g8_a_restart_loses_nothing_that_was_accepted, "not whole within";
    the_last_entries_gone_after_a_restart: CutsInRestart in g8_a_restart_loses_nothing_that_was_accepted, "attached at";
    streams_ended: EndsStreams in g8_a_restart_loses_nothing_that_was_accepted, "the stream ended";
    accepted_while_away: AcceptsAway in g8_publishers_are_refused_at_once_while_the_backend_is_away, "was accepted";
    refused_late: RefusesLate in g8_publishers_are_refused_at_once_while_the_backend_is_away, "refused after";
    all_nodes_closed: ClosesAll in g9_the_other_nodes_go_on, "is not accepted";
    any_number_of_logs: AnyNumberOfLogs in open_refuses_another_number_of_logs, "another number of logs";
}
