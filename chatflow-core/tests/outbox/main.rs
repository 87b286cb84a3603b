//! Messages in the application's own transactions: one list of cases, on each database, and what only some of them do.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod application;
mod cases;
mod faults;
mod mysql;
mod postgres;
mod sqlite;
mod trouble;

/// The cases on one database: `$open` makes an application with a database of its own.
macro_rules! outbox_suite {
    ($name:ident, $open:path, if: $can:expr) => {
        outbox_suite!(@each $name, $open, $can;
            cases::{
                what_is_rolled_back_does_not_go_out,
                what_is_committed_goes_out_once_and_in_order,
                what_the_validator_refuses_is_not_written,
                two_forwarders_do_no_work_twice,
                one_that_is_closed_hands_over_at_once,
                one_that_is_dropped_is_taken_over_after_its_lease,
                an_engine_that_shuts_down_ends_its_forwarder,
            }
            trouble::{
                killed_before_the_row_is_removed_it_goes_out_once,
                a_repeat_that_only_the_history_remembers_reaches_nobody,
                while_the_broker_is_away_all_of_it_waits,
                what_is_refused_now_and_then_keeps_its_order,
                what_can_never_be_published_becomes_a_dead_letter,
                a_dead_letter_is_put_aside_once_however_often_it_is_tried,
                a_table_that_is_not_there_is_told_and_waited_for,
            }
        );
    };
    (@each $name:ident, $open:path, $can:expr; $($module:ident::{$($case:ident),* $(,)?})*) => {
        mod $name {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if $can {
                        let application = $open().await;
                        crate::$module::$case(&application).await;
                    }
                }
            )*)*
        }
    };
}

outbox_suite!(on_postgres, crate::postgres::Shop::open, if: chatflow_testkit::can_use::<chatflow_testkit::Postgres>());
outbox_suite!(on_mariadb, crate::mysql::Shop::on_mariadb, if: chatflow_testkit::can_use::<chatflow_testkit::MariaDb>());
outbox_suite!(on_mysql, crate::mysql::Shop::on_mysql, if: chatflow_testkit::can_use::<chatflow_testkit::MySql>());
outbox_suite!(on_sqlite, crate::sqlite::Shop::open, if: true);
