//! Whether figures are what a count of the rows gives, and how often a cache had an answer.

use std::time::{Duration, Instant};

use chatflow_testkit::{Cluster, Options, Server, http};
use serde_json::Value;

/// How long it may take until everything is counted.
const PATIENCE: Duration = Duration::from_secs(60);

const QUESTIONS: [&str; 5] =
    ["active-users", "top-users?limit=1000", "top-rooms?limit=1000", "participation?limit=1000", "message-rate?step=minute"];

/// Compares the servers' figures with those of a server that counts the rows of the history, which nobody writes any more.
pub(crate) async fn agree(cluster: &Cluster, options: Options) -> bool {
    let recount = Server::start(options.set("node.roles", "api").set("store.summaries", false).set("cache.url", "none").node("recount"));
    for question in QUESTIONS {
        let counted = ask(&recount, question).await;
        for server in &cluster.servers {
            let begun = Instant::now();
            let mut said = ask(server, question).await;
            while said != counted && begun.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(500)).await;
                said = ask(server, question).await;
            }
            if said != counted {
                println!("FIGURES DIFFER: {question}: {said} where the rows say {counted}");
                return false;
            }
        }
    }
    println!("figures        as counted from the rows: {}", QUESTIONS.join(", "));
    true
}

/// An answer without the time when it was counted.
async fn ask(server: &Server, question: &str) -> Value {
    let mut answer = http::get(server.address, &format!("/api/v1/analytics/{question}")).await.unwrap().json();
    answer.as_object_mut().unwrap().remove("countedAt");
    answer
}

/// Says what came of the servers' caches, if they have any.
pub(crate) async fn caches(cluster: &Cluster) {
    let mut sums = [0.0_f64; 5];
    let names = ["page_hits", "second_hits", "page_misses", "figure_hits", "figure_misses"];
    for server in &cluster.servers {
        let metrics = http::get(server.address, "/metrics").await.unwrap().body;
        for line in metrics.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            if let Some(at) = names.iter().position(|known| name == format!("chatflow_cache_{known}_total")) {
                sums[at] += value.parse::<f64>().unwrap();
            }
        }
    }
    let [here, second, pages, figures, counted] = sums;
    let share = |part: f64, all: f64| if all > 0.0 { 100.0 * part / all } else { 0.0 };
    let (asked, questions) = (here + second + pages, figures + counted);
    if asked + questions > 0.0 {
        println!(
            "cache          pages {asked:.0}: {:.1} % in the process, {:.1} % in Redis; figures {questions:.0}: {:.1} %",
            share(here, asked),
            share(second, asked),
            share(figures, questions)
        );
    }
}
