//! Whether figures are what a count of the rows gives, and how often a cache had an answer.

use std::time::Duration;

use chatflow_testkit::{Cluster, Options, Server, eventually_async, http};
use serde_json::Value;

/// How long it may take until everything is counted.
const PATIENCE: Duration = Duration::from_secs(60);

const QUESTIONS: [&str; 5] =
    ["active-users", "top-users?limit=1000", "top-rooms?limit=1000", "participation?limit=1000", "message-rate?step=minute"];

/// Compares the servers' figures with those of a server that counts the rows of the history, which it has to itself: the others end first.
pub(crate) async fn agree(mut cluster: Cluster, options: Options) -> bool {
    let mut said = Vec::new();
    for server in &cluster.servers {
        for question in QUESTIONS {
            said.push((question, whole(server, question).await));
        }
    }
    for server in &mut cluster.servers {
        server.terminate();
        server.ended(PATIENCE).await;
    }
    let recount = Server::start(options.set("store.summaries", false).set("cache.url", "none").node("recount"));
    let mut compared = Vec::new();
    for (question, said) in said {
        let counted = http::get(recount.address, &path(question)).await.unwrap();
        if counted.status != 200 {
            // A count of many rows may take longer than a question may.
            println!("figures        NOT COMPARED: {question}: {}", counted.body);
            continue;
        }
        let counted = without_time(counted.json());
        if said != counted {
            println!("FIGURES DIFFER: {question}: {said} where the rows say {counted}");
            return false;
        }
        compared.push(question);
    }
    println!("figures        as counted from the rows: {}", compared.join(", "));
    true
}

fn path(question: &str) -> String {
    format!("/api/v1/analytics/{question}")
}

/// An answer without the time when it was counted.
fn without_time(mut answer: Value) -> Value {
    answer.as_object_mut().unwrap().remove("countedAt");
    answer
}

/// An answer once everything is counted in it.
async fn whole(server: &Server, question: &str) -> Value {
    let ask = async || {
        let answer = http::get(server.address, &path(question)).await.ok().filter(|answer| answer.status == 200)?;
        let answer = without_time(answer.json());
        answer["asOf"].is_null().then_some(answer)
    };
    eventually_async(question, PATIENCE, ask).await
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
