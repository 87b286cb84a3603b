//! Asking a server again and again.

use std::time::{Duration, Instant};

use chatflow_client::http::{self, Answer};
use chatflow_client::{ConnectError, Endpoint};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::sample::{Figures, Node, Queues, Readiness, Sample, short};
use super::server::Observation;

/// How servers are asked.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// From one round of questions to the next.
    pub(super) every: Duration,
    /// How long one answer may take. A round that takes longer than the interval delays the next.
    pub(super) timeout: Duration,
    /// How many rounds; without, for ever.
    pub(super) rounds: Option<u64>,
    pub(super) token: Option<String>,
}

/// Asks until it has asked often enough, or nobody wants to hear it any more.
pub(super) async fn watch(server: Endpoint, manner: Manner, place: usize, heard: mpsc::Sender<(usize, Observation)>) {
    let mut ticks = interval(manner.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = 0;
    while manner.rounds.is_none_or(|most| rounds < most) {
        ticks.tick().await;
        rounds += 1;
        if heard.send((place, ask(&server, &manner).await)).await.is_err() {
            return;
        }
    }
}

/// One round of questions, all at once. Without figures the server is down; what else is missing is only that.
async fn ask(server: &Endpoint, manner: &Manner) -> Observation {
    let begun = Instant::now();
    let figures = async { (get(server, manner, "/metrics").await, Instant::now()) };
    let (ready, queues, nodes) = (get(server, manner, "/ready"), get(server, manner, "/queue/all"), get(server, manner, "/api/v1/nodes"));
    let ((figures, at), ready, queues, nodes) = tokio::join!(figures, ready, queues, nodes);
    let figures = figures.and_then(success);
    let figures =
        figures.and_then(|body| Figures::read(&body).ok_or_else(|| "its answer has no figures: is it a ChatFlow server?".to_owned()));
    match figures {
        Err(why) => Err((at, short(&why))),
        Ok(figures) => Ok(Sample {
            at,
            took: at - begun,
            figures,
            // Whether it is ready stands in the body, whatever the status.
            readiness: ready.and_then(|answer| match Readiness::read(&answer.body) {
                Some(readiness) => Ok(readiness),
                None => Err(short(&success(answer).err().unwrap_or_else(strange))),
            }),
            queues: queues.and_then(success).and_then(|body| Queues::read(&body).ok_or_else(strange)).map_err(|why| short(&why)),
            nodes: nodes.and_then(success).and_then(|body| Node::read_list(&body).ok_or_else(strange)).map_err(|why| short(&why)),
        }),
    }
}

async fn get(server: &Endpoint, manner: &Manner, path: &str) -> Result<Answer, String> {
    match timeout(manner.timeout, http::get(server, path, manner.token.as_deref())).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(ConnectError { failure, .. })) => Err(failure.to_string()),
        Err(_) => Err(format!("no answer within {} s", manner.timeout.as_secs_f32())),
    }
}

fn success(answer: Answer) -> Result<Value, String> {
    answer.success()
}

fn strange() -> String {
    "an answer that is none".to_owned()
}
