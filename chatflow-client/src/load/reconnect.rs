//! Coming back after a lost connection.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::flight::backoff;
use super::run::{Phase, Run, chance};
use super::stats::count;
use super::wire::Socket;

/// Tries before a connection that never stood is given up.
const FIRST_TRIES: u8 = 5;
/// How long a connection that stood before is tried again: longer than a server takes to restart.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a connection is, and when to give it up.
#[derive(Debug)]
pub(super) struct Route {
    /// Which of the run's servers.
    server: usize,
    stood: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoWay {
    /// The run ends.
    Closing,
    /// Nobody answers.
    GivenUp(String),
}

impl Route {
    /// The route of connection `number` of those that are dealt to `rooms` in turn: they are spread over the servers, and those of one
    /// room, too, so that each room is written through several nodes.
    pub(super) fn new(number: usize, rooms: u32) -> Self {
        Self { server: number + number / rooms.max(1) as usize, stood: false }
    }

    /// Connects to `path`, with growing pauses and at the next server after each failure.
    pub(super) async fn connect(
        &mut self,
        run: &Run,
        path: &str,
        subprotocol: Option<&'static str>,
        phase: &mut watch::Receiver<Phase>,
    ) -> Result<Socket, NoWay> {
        let begin = Instant::now();
        let mut tries = 0u8;
        loop {
            let target = &run.setup.targets[self.server % run.setup.targets.len()];
            let attempt = tokio::select! {
                result = target.connect(path, subprotocol) => result,
                _ = phase.wait_for(|p| *p == Phase::Close) => return Err(NoWay::Closing),
            };
            let why = match attempt {
                Ok(socket) => {
                    count(if self.stood { &run.stats.reconnections } else { &run.stats.connections }, 1);
                    self.stood = true;
                    return Ok(socket);
                }
                Err(why) => why,
            };
            tries = tries.saturating_add(1);
            self.server += 1;
            if if self.stood { begin.elapsed() > PATIENCE } else { tries > FIRST_TRIES } {
                return Err(NoWay::GivenUp(why));
            }
            // A restarted server is found soon even after a long pause.
            let pause = backoff(tries.min(5), chance());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = phase.wait_for(|p| *p == Phase::Close) => return Err(NoWay::Closing),
            }
        }
    }
}
