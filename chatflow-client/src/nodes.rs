//! `nodes`: who is alive.

use std::process::ExitCode;
use std::time::Duration;

use chatflow_client::{Endpoint, http};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use crate::terminal::{harmless, print, width};

/// What `nodes` is told on the command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers; 2 usage; 130 interrupted.")]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:8080, or several, separated by commas: the first that answers is asked.
    url: String,
    /// A bearer token, for servers that want one.
    #[arg(long, env = "CHATFLOW_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How long one server may take to answer, such as 5s or 500ms.
    #[arg(long, default_value = "5s", value_parser = crate::duration)]
    timeout: Duration,
    /// Prints the server's JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// A node, as far as the table shows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    node: String,
    url: String,
    roles: Vec<String>,
    connections: u64,
    rate: u64,
    draining: bool,
    version: String,
    #[serde(rename = "self")]
    is_asked: bool,
}

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    let servers = match Endpoint::parse_list(&args.url) {
        Ok(servers) => servers,
        Err(error) => return crate::usage(&error),
    };
    let body = tokio::select! {
        body = ask(&servers, &args) => body,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    let Some(body) = body else { return ExitCode::FAILURE };
    if args.json {
        print(&body.to_string());
        return ExitCode::SUCCESS;
    }
    match body.get("nodes").cloned().map(serde_json::from_value::<Vec<Node>>) {
        Some(Ok(nodes)) => table(&nodes).iter().for_each(|line| print(line)),
        _ => {
            eprintln!("error: the server's answer is no list of nodes");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// What the first server says that answers; the others' failures go to standard error.
async fn ask(servers: &[Endpoint], args: &Args) -> Option<Value> {
    for server in servers {
        let answer = timeout(args.timeout, http::get(server, "/api/v1/nodes", args.token.as_deref())).await;
        let why = match answer {
            Ok(Ok(answer)) => match answer.success() {
                Ok(body) => return Some(body),
                Err(why) => format!("{server}: {why}"),
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("{server}: no answer within {} s", args.timeout.as_secs_f32()),
        };
        eprintln!("error: {}", harmless(&why));
    }
    None
}

fn table(nodes: &[Node]) -> Vec<String> {
    let mut rows = vec![["NODE", "URL", "ROLES", "CONNECTIONS", "MSG/S", "VERSION", "STATE"].map(str::to_owned)];
    rows.extend(nodes.iter().map(|node| {
        let state = match (node.draining, node.is_asked) {
            (false, false) => "up",
            (false, true) => "up, asked",
            (true, false) => "draining",
            (true, true) => "draining, asked",
        };
        let url = if node.url.is_empty() { "-" } else { &node.url };
        let [node_name, url, roles, version] = [&node.node, url, &node.roles.join(","), &node.version].map(harmless);
        [node_name, url, roles, node.connections.to_string(), node.rate.to_string(), version, state.to_owned()]
    }));
    let widths: Vec<_> = (0..7).map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or_default()).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, most))| {
            let blanks = " ".repeat(most - width(cell));
            // Figures stand under one another.
            if matches!(column, 3 | 4) { blanks + cell } else { cell.clone() + &blanks }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_one_another_and_nothing_is_obeyed() {
        let node = |name: &str, connections| Node {
            node: name.to_owned(),
            url: "http://h:1".to_owned(),
            roles: vec!["gateway".to_owned(), "api".to_owned()],
            connections,
            version: "0.1.0".to_owned(),
            ..Node::default()
        };
        let nodes = [node("a", 7), Node { is_asked: true, draining: true, ..node("b\x1b[2J", 12_345) }];
        assert_eq!(
            table(&nodes),
            [
                "NODE        URL         ROLES        CONNECTIONS  MSG/S  VERSION  STATE",
                "a           http://h:1  gateway,api            7      0  0.1.0    up",
                r"b\u{1b}[2J  http://h:1  gateway,api        12345      0  0.1.0    draining, asked",
            ]
        );
    }
}
