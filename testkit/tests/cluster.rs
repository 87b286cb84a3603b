//! Servers behind HAProxy, as it is shipped: who goes where, who comes back, and what becomes of a server that drains or dies.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use chatflow_testkit::{Cluster, HaProxy, Options, eventually_async, needs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(20);

/// A WebSocket, as it stands after its handshake, with the cookie that it was given.
struct Tunnel {
    stream: TcpStream,
    head: String,
}

impl Tunnel {
    async fn open(cluster: &Cluster, cookie: &str) -> Self {
        let mut stream = TcpStream::connect(cluster.address()).await.unwrap();
        let cookie = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        let request = format!(
            "GET /chat/1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{cookie}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        Self { stream, head: String::from_utf8(head).unwrap() }
    }

    fn is_open(&self) -> bool {
        self.head.starts_with("HTTP/1.1 101 ")
    }

    /// `chatflow-node=node1`, if there is one.
    fn cookie(&self) -> Option<&str> {
        let (_, rest) = self.head.split_once("chatflow-node=")?;
        rest.split([';', '\r']).next()
    }

    /// Publishes a message.
    async fn say(&mut self, text: &str) {
        let message =
            format!(r#"{{"userId":"1","username":"ada","message":"{text}","timestamp":"2026-11-20T12:00:00Z","messageType":"TEXT"}}"#);
        // A text frame with a 7-bit length, masked with zeros.
        let mut frame = vec![0x81, 0x80 | u8::try_from(message.len()).unwrap(), 0, 0, 0, 0];
        frame.extend_from_slice(message.as_bytes());
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The code with which the server closes.
    async fn close_code(&mut self) -> u16 {
        loop {
            let first = self.stream.read_u8().await.unwrap();
            let length = match self.stream.read_u8().await.unwrap() {
                126 => self.stream.read_u16().await.unwrap(),
                length => length.into(),
            };
            let mut payload = vec![0; length.into()];
            self.stream.read_exact(&mut payload).await.unwrap();
            if first == 0x88 {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }
}

#[tokio::test]
async fn clients_are_spread_and_come_back_to_their_node() {
    needs!(HaProxy);
    let cluster = Cluster::start(4, |_| Options::new().store("none")).await;
    let mut tunnels = Vec::new();
    for _ in 0..8 {
        tunnels.push(Tunnel::open(&cluster, "").await);
    }
    assert!(tunnels.iter().all(Tunnel::is_open));
    assert!(cluster.up().await.values().all(|connections| *connections == 2), "{:?}", cluster.up().await);
    let nodes: BTreeSet<_> = tunnels.iter().map(|tunnel| tunnel.cookie().unwrap().to_owned()).collect();
    assert_eq!(nodes.len(), 4, "{nodes:?}");
    for _ in 0..4 {
        let back = Tunnel::open(&cluster, "chatflow-node=node3").await;
        // It keeps its cookie, so it needs no other.
        assert_eq!((back.is_open(), back.cookie()), (true, None));
        tunnels.push(back);
    }
    assert_eq!(cluster.up().await["node3"], 6);
}

#[tokio::test]
async fn a_node_that_drains_gets_nobody_new_and_says_goodbye_itself() {
    needs!(HaProxy);
    let mut cluster = Cluster::start(2, |_| Options::new()).await;
    let mut one = Tunnel::open(&cluster, "chatflow-node=node1").await;
    let other = Tunnel::open(&cluster, "chatflow-node=node2").await;
    assert!(one.is_open() && other.is_open());
    // It can't end before its history has the message.
    let lock = cluster.servers[0].lock_database();
    one.say("hello").await;
    let accepted = || async { (cluster.servers[0].metric("chatflow_messages_accepted_total").await == 1).then_some(()) };
    eventually_async("the message is taken", PATIENCE, accepted).await;
    cluster.servers[0].terminate();
    cluster.has(1).await;
    assert_eq!(cluster.servers[0].get("/ready").await.status, 503);
    let moved = Tunnel::open(&cluster, "chatflow-node=node1").await;
    assert_eq!((moved.is_open(), moved.cookie()), (true, Some("node2")));
    drop(lock);
    assert_eq!(one.close_code().await, 1012);
    drop(one);
    assert!(cluster.servers[0].ended(PATIENCE).await.success());
    cluster.servers[0].restart();
    cluster.has(2).await;
    let back = Tunnel::open(&cluster, "chatflow-node=node1").await;
    assert_eq!((back.is_open(), back.cookie()), (true, None));
}

#[tokio::test]
async fn a_node_that_dies_costs_new_clients_nothing() {
    needs!(HaProxy);
    let mut cluster = Cluster::start(2, |_| Options::new().store("none")).await;
    cluster.servers[0].kill9();
    // At once, before HAProxy has looked: it tries, is refused, and takes the other.
    for _ in 0..4 {
        let tunnel = Tunnel::open(&cluster, "chatflow-node=node1").await;
        assert_eq!((tunnel.is_open(), tunnel.cookie()), (true, Some("node2")), "{}", tunnel.head);
    }
    cluster.servers[0].restart();
    cluster.has(2).await;
    // One that does not answer any more is found out too.
    cluster.servers[1].freeze();
    cluster.has(1).await;
    cluster.servers[1].thaw();
    let both = || async { (cluster.up().await.len() == 2).then_some(()) };
    eventually_async("it is back", PATIENCE, both).await;
}
