//! The suite for a [`Broker`]: each case cites the guarantee that it tests.
//!
//! A broker for one node needs no more than itself. One that several nodes share also says how a further node's broker is made, and
//! what harm can be done to its backend:
//!
//! ```
//! use std::sync::Arc;
//!
//! use chatflow_core::broker::memory::{InMemoryBroker, MemoryBrokerConfig};
//! use chatflow_core::broker_suite;
//! use chatflow_core::conformance::broker::Subject;
//!
//! broker_suite!(memory, async {
//!     let mut config = MemoryBrokerConfig::default();
//!     (config.logs, config.entries, config.retain) = (2, 64, 16);
//!     Subject::new(Arc::new(InMemoryBroker::new(config)), 64)
//! });
//! # fn main() {}
//! ```
//!
//! ```text
//! broker_suite!(shared redis, async { on_the_common_service().await }, faults: async { on_a_service_of_its_own().await });
//! ```
//!
//! The expression is evaluated afresh for each case, and cases run side by side: on a service that they have in common, each needs a
//! prefix of its own. What a [`Profile`](crate::Profile) or the [`Capabilities`] of a backend exclude is said in one line on the
//! standard error; no case is passed over silently.

mod accepting;
mod bounds;
mod closing;
mod epochs;
mod order;
mod publisher;
mod reach;
mod recovery;
mod settling;
mod watch;

use std::any::Any;
use std::fmt::{self, Debug};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

pub use accepting::*;
pub use bounds::*;
pub use closing::*;
pub use epochs::*;
pub use order::*;
pub use reach::*;
pub use recovery::*;
pub use settling::*;

use crate::broker::{Broker, Durability, Opening};
use crate::{LogId, NodeId};

/// How long a case waits for anything before it fails. What a backend waits for by itself (a lease, a visibility timeout) is to be
/// set shorter.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How soon all is whole once a backend is back: guarantee 8.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// The log that the cases use.
const LOG: LogId = LogId(0);

/// Makes a further node's broker, not opened yet, on the backend of a [`Subject`], configured for so many logs.
pub type Another = Arc<dyn Fn(u16) -> Arc<dyn Broker> + Send + Sync>;

/// A broker to be tested, made anew for each case.
#[derive(Clone)]
pub struct Subject {
    /// The broker of the first node, not opened yet, on a backend (or a part of one) that holds nothing.
    pub broker: Arc<dyn Broker>,
    /// How many entries that were not settled one of its logs takes, at most; half as many always fit. Small, so that a case can
    /// fill it; what was settled should be kept for no more than a quarter of it. At least 32.
    pub full_at: usize,
    /// How further nodes come to share the backend; the shared cases need it.
    pub another: Option<Another>,
    /// What can be done to the backend; without one, the cases about faults say that they don't apply.
    pub backend: Option<Arc<dyn Backend>>,
}

impl Subject {
    /// A broker for one node.
    pub fn new(broker: Arc<dyn Broker>, full_at: usize) -> Self {
        Self { broker, full_at, another: None, backend: None }
    }

    /// The same, with further nodes' brokers made by `another` for so many logs.
    #[must_use]
    pub fn shared_by<F>(mut self, another: F) -> Self
    where
        F: Fn(u16) -> Arc<dyn Broker> + Send + Sync + 'static,
    {
        self.another = Some(Arc::new(another));
        self
    }

    /// The same, with a backend that harm can be done to.
    #[must_use]
    pub fn on(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// The first node's broker, opened, with a history called `h`.
    async fn opened(&self) -> &Arc<dyn Broker> {
        self.broker.open(&Opening::new("node-1").with_history("h", 0)).await.expect("opens");
        &self.broker
    }

    /// A further broker, not opened.
    fn another(&self, logs: u16) -> Arc<dyn Broker> {
        self.another.as_ref().expect("the subject of a shared broker makes further nodes")(logs)
    }

    /// A further node's broker, opened, with or without a history.
    async fn node(&self, name: impl Into<NodeId>, history: Option<&str>) -> Arc<dyn Broker> {
        let node = self.another(self.broker.profile().logs);
        let opening = Opening { history: history.map(str::to_owned), ..Opening::new(name) };
        node.open(&opening).await.expect("opens");
        node
    }

    /// Two nodes that share a history, as they do on one store.
    async fn two_nodes(&self) -> [Arc<dyn Broker>; 2] {
        let one = Arc::clone(self.opened().await);
        [one, self.node("node-2", Some("h")).await]
    }

    /// The backend, when all of this can be had of it and of the profile; else it is said what can't.
    fn backend(&self, case: &str, needs: &[Need]) -> Option<&dyn Backend> {
        (!self.excludes(case, needs)).then_some(self.backend.as_deref())?
    }

    /// Whether something that a case needs can't be had, which is said then.
    fn excludes(&self, case: &str, needs: &[Need]) -> bool {
        let profile = self.broker.profile();
        let able = self.backend.as_ref().map_or(Capabilities::NONE, |backend| backend.capabilities());
        let why = needs.iter().find_map(|need| match need {
            Need::Rewinds => (!profile.rewinds).then_some("it does not rewind"),
            Need::Durable => (profile.durability == Durability::Volatile).then_some("it is volatile"),
            Need::Stops => (!able.stops).then_some("its backend can't be stopped here"),
            Need::Cuts => (!able.cuts).then_some("its connections can't be cut here"),
            Need::Wipes => (!able.wipes).then_some("its backend can't be wiped here"),
            Need::Restores => (!able.restores).then_some("its backend can't be wound back here"),
        });
        if let Some(why) = why {
            // Not by a macro for printing: what those print is shown of failing tests only.
            let _ = writeln!(std::io::stderr(), "broker suite: {case} does not apply to {}: {why}", profile.name);
        }
        why.is_some()
    }
}

impl Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("broker", &self.broker).field("full_at", &self.full_at).finish_non_exhaustive()
    }
}

/// What a case may need of a profile or a backend.
#[derive(Debug, Clone, Copy)]
enum Need {
    Rewinds,
    Durable,
    Stops,
    Cuts,
    Wipes,
    Restores,
}

/// What can be done to a [`Backend`]. A case that needs more says that it does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// It can be stopped and started.
    pub stops: bool,
    /// All connections to it can be cut while it stays up.
    pub cuts: bool,
    /// Everything that it holds can be thrown away.
    pub wipes: bool,
    /// A copy of its data can be taken, and put back later.
    pub restores: bool,
}

impl Capabilities {
    /// All of it.
    pub const ALL: Self = Self { stops: true, cuts: true, wipes: true, restores: true };
    /// Nothing of it.
    pub const NONE: Self = Self { stops: false, cuts: false, wipes: false, restores: false };
}

/// The service behind the brokers of a [`Subject`], and the harm that a case does to it while they are open.
///
/// Each method returns once it is done: what is said to be up takes connections. What the capabilities exclude is never called.
#[async_trait]
pub trait Backend: Debug + Send + Sync {
    /// Which of the methods can be called.
    fn capabilities(&self) -> Capabilities;

    /// Ends the service, as a crash would if that can be done; nobody can connect any more.
    async fn stop(&self) {
        panic!("{self:?} can't be stopped");
    }

    /// Starts it again, with what a [durable](Durability::Durable) broker keeps.
    async fn start(&self) {
        panic!("{self:?} can't be started");
    }

    /// [Stops](Self::stop) and [starts](Self::start) it.
    async fn restart(&self) {
        self.stop().await;
        self.start().await;
    }

    /// Throws away everything that it holds. It is up afterwards.
    async fn wipe(&self) {
        panic!("{self:?} can't be wiped");
    }

    /// A copy of everything that it holds now. It is up afterwards.
    async fn snapshot(&self) -> Box<dyn Any + Send> {
        panic!("{self:?} can't be copied");
    }

    /// Puts a copy in the place of what it holds now. It is up afterwards.
    async fn restore(&self, copy: Box<dyn Any + Send>) {
        drop(copy);
        panic!("{self:?} can't be wound back");
    }

    /// Cuts all connections to it, now; they can be made again at once.
    async fn lose_live(&self) {
        panic!("connections to {self:?} can't be cut");
    }
}

async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not in time: {what}"),
    }
}

/// Makes a test of every case. `broker_suite!(memory, async { Subject::new(…) })`: of those for every broker;
/// `broker_suite!(shared redis, async { … })`: of these and of those for brokers that several nodes share. With
/// `, faults: async { … }` the cases that harm the backend get their subject from there.
#[macro_export]
macro_rules! broker_suite {
    (shared $name:ident, $subject:expr) => {
        $crate::broker_suite!(shared $name, $subject, faults: $subject);
    };
    (shared $name:ident, $subject:expr, faults: $private:expr) => {
        mod $name {
            use super::*;
            $crate::broker_suite!(@every $subject);
            $crate::broker_suite!(@cases $subject,
                g1_two_nodes_publish_at_once_and_all_see_one_order
                g2_a_node_that_joins_late_sees_what_comes_where_the_others_do
                g5_a_stalled_node_holds_up_no_other
                g5_a_node_that_dies_blocks_nothing
                g6_each_history_settles_for_itself
                g6_another_node_takes_the_history_over
                g7_a_clock_that_went_back_gives_no_place_twice
                g7_a_history_that_comes_back_begins_no_epoch
                g9_the_other_nodes_go_on
                open_refuses_another_number_of_logs
            );
            $crate::broker_suite!(@cases $private,
                g7_a_wiped_backend_goes_on_in_a_greater_epoch
                g7_an_old_copy_put_back_gives_no_place_twice
                g8_cut_connections_lose_nothing
                g8_a_restart_loses_nothing_that_was_accepted
                g8_publishers_are_refused_at_once_while_the_backend_is_away
            );
        }
    };
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;
            $crate::broker_suite!(@every $subject);
        }
    };
    (@every $subject:expr) => {
        $crate::broker_suite!(@cases $subject,
            g1_all_readers_see_one_order_whoever_publishes
            g1_positions_grow
            g2_a_late_reader_gets_everything_from_where_it_starts
            g2_a_reader_of_the_present_gets_only_what_comes
            g2_the_last_so_many_are_to_be_had
            g2_a_reader_that_comes_back_misses_nothing
            g3_accepted_entries_are_read_back_as_they_were
            g3_the_largest_entry_is_taken
            g4_each_receipt_is_told_once
            g5_a_full_log_refuses_and_settling_makes_room
            g5_an_oversized_entry_is_refused_for_good
            g5_a_stalled_reader_holds_up_nobody
            g5_dropped_readers_hold_nothing
            g6_the_history_reads_again_what_it_has_not_settled
            g6_without_a_history_nodes_settle
            g7_a_new_life_begins_after_the_floor
            g7_a_position_that_is_gone_is_told_lost
            g9_a_closed_broker_refuses_and_streams_end
            status_tells_depths
        );
    };
    (@cases $subject:expr, $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::broker::$case($subject.await).await;
            }
        )*
    };
}
