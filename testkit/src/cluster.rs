//! Several servers behind HAProxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::{HaProxy, Options, Port, Server, Service, eventually_async, http};

/// How long HAProxy may take to see what a server says of itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// The configuration that is shipped.
const SHIPPED: &str = "../examples/deploy/haproxy.cfg";

/// Servers, each a process with a port and a history of its own, and HAProxy in front of them as `examples/deploy/haproxy.cfg` has it.
#[derive(Debug)]
pub struct Cluster {
    /// The servers, `node1` first.
    pub servers: Vec<Server>,
    /// HAProxy.
    pub balancer: Service,
}

impl Cluster {
    /// Starts `count` servers, at most as many as the shipped configuration has, each as `options` says of its number from 1; all take
    /// clients once this returns.
    ///
    /// # Panics
    /// Something does not start.
    pub async fn start(count: usize, options: impl Fn(usize) -> Options) -> Self {
        let servers: Vec<_> = (1..=count).map(|n| Server::start(options(n).node(format!("node{n}")))).collect();
        let ports = vec![Port::free(), Port::free()];
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let configuration = configuration(ports[0].address(), ports[1].address(), &addresses);
        let cluster = Self { servers, balancer: Service::start_new(HaProxy::new(ports, configuration)).await };
        cluster.has(count).await;
        cluster
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.balancer.address()
    }

    /// The same for the client library.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// Which servers take new clients, as HAProxy sees it, by their names, and how many connections each has.
    pub async fn up(&self) -> BTreeMap<String, usize> {
        let table = http::get(self.balancer.addresses()[1], "/;csv").await.unwrap().body;
        let columns: Vec<_> = table.lines().next().unwrap().trim_start_matches("# ").split(',').collect();
        let at = |name: &str| columns.iter().position(|column| *column == name).unwrap();
        let (server, state, connections) = (at("svname"), at("status"), at("scur"));
        let rows = table.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
        // "UP 1/2" is one that is about to go.
        let up = rows.filter(|row| row.len() > state && row[server].starts_with("node") && row[state].starts_with("UP"));
        up.map(|row| (row[server].to_owned(), row[connections].parse().unwrap())).collect()
    }

    /// Waits until so many servers take new clients.
    pub async fn has(&self, count: usize) {
        let counted = || async { (self.up().await.len() == count).then_some(()) };
        eventually_async(&format!("{count} servers take clients"), PATIENCE, counted).await;
    }
}

/// What is shipped, with these addresses in place of its own.
fn configuration(clients: SocketAddr, state: SocketAddr, servers: &[SocketAddr]) -> String {
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED)).unwrap();
    let (mut lines, mut named) = (Vec::new(), 0);
    for line in shipped.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["bind", "127.0.0.1:8080"] => lines.push(format!("    bind {clients}")),
            ["bind", "127.0.0.1:8404"] => lines.push(format!("    bind {state}")),
            ["server", name, _, "cookie", cookie] => {
                if let Some(address) = servers.get(named) {
                    lines.push(format!("    server {name} {address} cookie {cookie}"));
                }
                named += 1;
            }
            _ => lines.push(line.to_owned()),
        }
    }
    assert!(servers.len() <= named, "{SHIPPED} has {named} servers");
    lines.join("\n") + "\n"
}
