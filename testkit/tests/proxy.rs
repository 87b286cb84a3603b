//! The fault proxy does to connections what it is told, no more and no less.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chatflow_testkit::{Faults, Flow, Proxy, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for loopback to bring something that should not come.
const SILENCE: Duration = Duration::from_millis(150);

/// A connection through a proxy, seen from both ends.
struct Pair {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        Self { proxy, listener, client, server }
    }

    async fn another(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        (client, self.listener.accept().await.unwrap().0)
    }
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Asserts that exactly this arrives next.
async fn arrives(stream: &mut TcpStream, text: &str) {
    let mut bytes = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), text);
}

async fn nothing_arrives(stream: &mut TcpStream) {
    let read = timeout(SILENCE, stream.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

/// Asserts that the connection ends with an RST.
async fn is_reset(stream: &mut TcpStream) {
    let end = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn without_faults_it_passes_on_everything_and_the_end_of_each_direction() {
    let Pair { proxy, mut client, mut server, .. } = Pair::new().await;
    let text = "up ".repeat(100_000);
    let (mut received, sent) = (String::new(), text.clone());
    let writing = tokio::spawn(async move {
        send(&mut client, &sent).await;
        client.shutdown().await.unwrap();
        client
    });
    server.read_to_string(&mut received).await.unwrap();
    assert!(received == text, "{} of {} bytes", received.len(), text.len());
    let mut client = writing.await.unwrap();
    // Its other direction is still open.
    send(&mut server, "down").await;
    server.shutdown().await.unwrap();
    let mut received = String::new();
    client.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "down");
    eventually("it is closed", PATIENCE, || (proxy.counters().open == 0).then_some(())).await;
    let counters = proxy.counters();
    assert_eq!((counters.accepted, counters.reset, counters.dropped), (1, 0, 0));
    assert_eq!((counters.up, counters.down), (text.len() as u64, 4));
}

#[tokio::test]
async fn a_delay_is_of_time_and_not_of_throughput() {
    let Pair { proxy, mut client, mut server, .. } = Pair::new().await;
    let delay = Duration::from_millis(200);
    proxy.set(Faults { up: Flow::delayed(delay), ..Faults::default() });
    let begun = Instant::now();
    for n in 0..10 {
        send(&mut client, &n.to_string()).await;
        // Each is a piece of its own.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    arrives(&mut server, "0123456789").await;
    let took = begun.elapsed();
    assert!(took >= delay && took < delay * 5, "{took:?}");
    let begun = Instant::now();
    send(&mut server, "down").await;
    arrives(&mut client, "down").await;
    assert!(begun.elapsed() < delay, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_held_arrives_later_and_what_is_dropped_never() {
    let Pair { proxy, mut client, mut server, .. } = Pair::new().await;
    proxy.set(Faults { up: Flow::held(), ..Faults::default() });
    send(&mut client, "held").await;
    nothing_arrives(&mut server).await;
    send(&mut server, "down").await;
    arrives(&mut client, "down").await;
    proxy.heal().await;
    arrives(&mut server, "held").await;

    proxy.set(Faults { up: Flow::dropped(), ..Faults::default() });
    send(&mut client, "dropped").await;
    eventually("it is swallowed", PATIENCE, || (proxy.counters().dropped == 7).then_some(())).await;
    send(&mut server, "down").await;
    arrives(&mut client, "down").await;
    proxy.heal().await;
    send(&mut client, "a torso").await;
    nothing_arrives(&mut server).await;
    assert_eq!(proxy.counters().dropped, 14);
}

#[tokio::test]
async fn a_client_that_dies_behind_a_cut_is_not_missed() {
    for reset in [false, true] {
        let Pair { proxy, client, mut server, .. } = Pair::new().await;
        proxy.set(Faults { up: Flow::dropped(), ..Faults::default() });
        if reset {
            client.set_zero_linger().unwrap();
        }
        drop(client);
        send(&mut server, "are you there").await;
        nothing_arrives(&mut server).await;
        proxy.reset();
        is_reset(&mut server).await;
    }
}

#[tokio::test]
async fn a_reset_is_one_on_both_sides_of_all_connections() {
    let mut pair = Pair::new().await;
    let (mut client, mut server) = pair.another().await;
    pair.proxy.set(Faults::both(Flow::held()));
    pair.proxy.reset();
    // Comes too late to save it.
    pair.proxy.set(Faults::default());
    for stream in [&mut pair.client, &mut pair.server, &mut client, &mut server] {
        is_reset(stream).await;
    }
    eventually("both are closed", PATIENCE, || (pair.proxy.counters().open == 0).then_some(())).await;
    assert_eq!(pair.proxy.counters().reset, 2);
    let (mut client, mut server) = pair.another().await;
    send(&mut client, "new").await;
    arrives(&mut server, "new").await;
}

#[tokio::test]
async fn new_connections_are_refused_while_open_ones_stay() {
    let mut pair = Pair::new().await;
    for _ in 0..3 {
        pair.proxy.refuse().await;
        let refused = TcpStream::connect(pair.proxy.address()).await;
        assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
        send(&mut pair.client, "open").await;
        arrives(&mut pair.server, "open").await;
        pair.proxy.accept().await;
        let _ = pair.another().await;
    }
    pair.proxy.cut().await;
    is_reset(&mut pair.client).await;
    assert!(TcpStream::connect(pair.proxy.address()).await.is_err());
    pair.proxy.heal().await;
    let _ = pair.another().await;
    assert_eq!(pair.proxy.counters().accepted, 5);
}

#[tokio::test]
async fn a_connection_is_cut_after_just_so_many_bytes_in_either_direction() {
    let Pair { proxy, mut client, mut server, .. } = Pair::new().await;
    send(&mut client, "before").await;
    arrives(&mut server, "before").await;
    proxy.set(Faults { up: Flow::cut_after(5), ..Faults::default() });
    send(&mut server, "not counted").await;
    arrives(&mut client, "not counted").await;
    send(&mut client, "abc").await;
    arrives(&mut server, "abc").await;
    send(&mut client, "defg").await;
    is_reset(&mut client).await;
    assert_eq!(proxy.counters().up, 11);

    let Pair { proxy, mut client, mut server, .. } = Pair::new().await;
    proxy.set(Faults { down: Flow::cut_after(3), ..Faults::default() });
    send(&mut server, "abcdef").await;
    is_reset(&mut server).await;
    assert_eq!(proxy.counters().down, 3);
    let _ = client.read(&mut [0; 8]).await;
}

#[tokio::test]
async fn faults_for_new_connections_leave_open_ones_alone() {
    let mut pair = Pair::new().await;
    pair.proxy.set_for_new(Faults { up: Flow::held(), ..Faults::default() });
    let (mut client, mut server) = pair.another().await;
    send(&mut client, "new").await;
    send(&mut pair.client, "old").await;
    arrives(&mut pair.server, "old").await;
    nothing_arrives(&mut server).await;
    pair.proxy.heal().await;
    arrives(&mut server, "new").await;
}

#[tokio::test]
async fn a_throttle_can_be_lifted_in_the_middle() {
    let Pair { proxy, mut client, mut server, .. } = Pair::new().await;
    proxy.set(Faults { up: Flow::throttled(2_000), ..Faults::default() });
    let begun = Instant::now();
    send(&mut client, &"x".repeat(10_000)).await;
    arrives(&mut server, &"x".repeat(1_000)).await;
    let slow = begun.elapsed();
    assert!(slow > Duration::from_millis(400), "{slow:?}");
    proxy.heal().await;
    arrives(&mut server, &"x".repeat(9_000)).await;
    assert!(begun.elapsed() < slow + Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_anybody_behind_it_connections_are_reset() {
    let nobody: SocketAddr = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let proxy = Proxy::start(nobody).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    is_reset(&mut client).await;
}

#[tokio::test]
async fn its_connections_end_with_it() {
    let Pair { proxy, mut client, mut server, .. } = Pair::new().await;
    let address = proxy.address();
    drop(proxy);
    is_reset(&mut client).await;
    is_reset(&mut server).await;
    let refused = || async { TcpStream::connect(address).await.is_err().then_some(()) };
    chatflow_testkit::eventually_async("nobody listens", PATIENCE, refused).await;
}
