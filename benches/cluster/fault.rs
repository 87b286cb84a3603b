//! What happens in the midst of the load.

use std::time::Duration;

use chatflow_testkit::{Cluster, Faults, Flow};

use crate::args::{self, Args};
use crate::broker::Broker;
use crate::watch::Watch;

/// Which of the servers dies.
const VICTIM: usize = 1;

/// A fault that begins and ends once.
#[derive(Debug)]
pub(crate) struct Fault {
    what: args::Fault,
    /// When the next thing happens; `None` when nothing does any more.
    next: Option<Duration>,
    lasts: Duration,
    /// Whether it has begun.
    begun: bool,
}

impl Fault {
    /// As it was asked for.
    pub(crate) fn new(args: &Args) -> Self {
        let next = (args.fault != args::Fault::None).then_some(args.at);
        Self { what: args.fault, next, lasts: args.lasts(), begun: false }
    }

    /// Begins or ends it, if it is time.
    pub(crate) async fn proceed(&mut self, now: Duration, cluster: &mut Cluster, broker: &Broker, watch: &mut Watch) {
        if self.next.is_none_or(|next| now < next) {
            return;
        }
        if self.begun {
            self.next = None;
            self.end(cluster, broker).await;
            watch.mark(format!("{:?} ends", self.what));
        } else {
            self.begun = true;
            self.next = Some(now + self.lasts);
            watch.mark(format!("{:?} begins", self.what));
            self.begin(cluster, broker).await;
        }
    }

    async fn begin(&self, cluster: &mut Cluster, broker: &Broker) {
        match (self.what, &broker.service, &broker.network) {
            (args::Fault::Kill, ..) => cluster.servers[VICTIM].kill9(),
            (args::Fault::Restart, Some(service), _) => service.kill9(),
            (args::Fault::Cut, _, Some(network)) => network.cut().await,
            (args::Fault::Silence, _, Some(network)) => network.set(Faults::both(Flow::dropped())),
            _ => {}
        }
    }

    async fn end(&self, cluster: &mut Cluster, broker: &Broker) {
        match (self.what, &broker.service, &broker.network) {
            (args::Fault::Kill, ..) => cluster.servers[VICTIM].restart(),
            (args::Fault::Restart, Some(service), _) => service.start().await,
            (_, _, Some(network)) => network.heal().await,
            _ => {}
        }
    }
}
