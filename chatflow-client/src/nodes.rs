//! `nodes`: who is alive.

use std::process::ExitCode;

use serde_json::Value;

use crate::servers::{self, Asked, Servers, list, print_all};
use crate::table::{Column, cell, table};
use crate::terminal::print;

/// What `nodes` is told on the command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers; 2 usage; 130 interrupted.")]
pub(crate) struct Args {
    #[command(flatten)]
    asked: Asked,
}

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    servers::run(async {
        let body = Servers::new(&args.asked)?.get("/api/v1/nodes").await?;
        if args.asked.json {
            print(&body.to_string());
            return Ok(());
        }
        print_all(&lines(list(&body, "nodes")?));
        Ok(())
    })
    .await
}

/// The table.
pub(crate) fn lines(nodes: &[Value]) -> Vec<String> {
    let columns = [
        Column::Text("NODE"),
        Column::Text("URL"),
        Column::Text("ROLES"),
        Column::Figure("CONNECTIONS"),
        Column::Figure("MSG/S"),
        Column::Text("VERSION"),
        Column::Text("STATE"),
    ];
    table(columns, nodes.iter().map(row))
}

fn row(node: &Value) -> [String; 7] {
    let is = |name| node.get(name).and_then(Value::as_bool).unwrap_or_default();
    let state = match (is("draining"), is("self")) {
        (false, false) => "up",
        (false, true) => "up, asked",
        (true, false) => "draining",
        (true, true) => "draining, asked",
    };
    let roles = node.get("roles").and_then(Value::as_array).into_iter().flatten();
    let roles: Vec<_> = roles.filter_map(Value::as_str).collect();
    let url = Some(cell(node, "url")).filter(|url| !url.is_empty()).unwrap_or_else(|| "-".to_owned());
    let [name, connections, rate, version] = ["node", "connections", "rate", "version"].map(|field| cell(node, field));
    [name, url, roles.join(","), connections, rate, version, state.to_owned()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_a_line() {
        let roles = ["gateway", "api"];
        let node = json!({"node": "a", "url": "http://h:1", "roles": roles, "connections": 7, "rate": 0, "version": "0.1.0"});
        let other = json!({"node": "b", "url": "", "draining": true, "self": true});
        assert_eq!(
            lines(&[node, other]),
            [
                "NODE  URL         ROLES        CONNECTIONS  MSG/S  VERSION  STATE",
                "a     http://h:1  gateway,api            7      0  0.1.0    up",
                "b     -                                  -      -  -        draining, asked",
            ]
        );
    }
}
