//! What the servers say of themselves while messages flow.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chatflow_testkit::{Cluster, http};
use futures::future::join_all;

/// How often they are asked.
const EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(1);

/// What all servers together have done so far, since each of them was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    acknowledged: u64,
    refused: u64,
}

/// A moment, and what was seen after it.
#[derive(Debug)]
struct Mark {
    what: String,
    at: Instant,
    acknowledged: Option<Duration>,
    refused: Option<Duration>,
}

/// Asks all servers for their counters.
#[derive(Debug)]
pub(crate) struct Watch {
    servers: Vec<SocketAddr>,
    last: Vec<Sums>,
    begun: Instant,
    marks: Vec<Mark>,
}

impl Watch {
    /// Of these servers.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let servers: Vec<_> = cluster.servers.iter().map(|server| server.address).collect();
        Self { last: vec![Sums::default(); servers.len()], servers, begun: Instant::now(), marks: Vec::new() }
    }

    /// Waits a little, and asks. Nothing is lost when this is dropped.
    pub(crate) async fn look(&mut self) {
        tokio::time::sleep(EVERY).await;
        let sums = join_all(self.servers.iter().map(|server| sums(*server))).await;
        let (mut acknowledged, mut refused) = (false, false);
        for (last, now) in self.last.iter_mut().zip(sums) {
            let Some(now) = now else { continue };
            // A server that was started again counts from nothing.
            acknowledged |= now.acknowledged > last.acknowledged;
            refused |= now.refused > last.refused;
            *last = now;
        }
        if let Some(mark) = self.marks.last_mut() {
            let after = mark.at.elapsed();
            if acknowledged {
                mark.acknowledged.get_or_insert(after);
            }
            if refused {
                mark.refused.get_or_insert(after);
            }
        }
    }

    /// Something happens now.
    pub(crate) fn mark(&mut self, what: String) {
        eprintln!("{:.1} s: {what}", self.begun.elapsed().as_secs_f64());
        self.marks.push(Mark { what, at: Instant::now(), acknowledged: None, refused: None });
    }

    /// Says what was seen.
    pub(crate) fn tell(&self) {
        let after = |seen: Option<Duration>| seen.map_or("never".to_owned(), |after| format!("after {:.1} s", after.as_secs_f64()));
        for Mark { what, at, acknowledged, refused } in &self.marks {
            let at = at.duration_since(self.begun).as_secs_f64();
            println!("fault          {at:.1} s: {what}; a message refused {}, one acknowledged {}", after(*refused), after(*acknowledged));
        }
    }
}

/// `None` while a server does not answer.
async fn sums(server: SocketAddr) -> Option<Sums> {
    let text = tokio::time::timeout(PATIENCE, http::get(server, "/metrics")).await.ok()?.ok()?.body;
    let figure = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some(Sums { acknowledged: figure("chatflow_messages_acknowledged_total ")?, refused: figure("chatflow_messages_refused_total ")? })
}
