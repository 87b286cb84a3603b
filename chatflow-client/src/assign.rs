//! Asking the servers which of them is best.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

use crate::{Endpoint, http};

/// How long finding out may take in all: it only makes a good start better.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one server may think before the next is asked, too.
const STAGGER: Duration = Duration::from_millis(200);

/// The server that one of `servers` assigns; `None` when nobody says within a second. The first is asked, then the next if that
/// fails or takes long; the first answer counts.
pub(crate) async fn assigned(servers: &[Endpoint], token: Option<&str>) -> Option<Endpoint> {
    let asking: FuturesUnordered<_> = servers
        .iter()
        .zip(0u32..)
        .map(|(server, place)| async move {
            sleep(STAGGER * place).await;
            ask(server, token).await
        })
        .collect();
    let mut answers = asking.filter_map(std::future::ready);
    timeout(PATIENCE, answers.next()).await.ok().flatten()
}

async fn ask(server: &Endpoint, token: Option<&str>) -> Option<Endpoint> {
    let answer = http::get(server, "/api/v1/assign", token).await.ok()?.success().ok()?;
    answer.get("ws")?.as_str()?.parse().ok()
}
