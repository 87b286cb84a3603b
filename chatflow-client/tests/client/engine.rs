//! The client against the real engine, over connections that are cut again and again.

use std::sync::Arc;
use std::time::Duration;

use chatflow_client::{Backoff, Client, Draft, Incoming, MessageId};
use chatflow_core::protocol::Dialect;
use chatflow_core::store::MemoryStore;
use chatflow_core::{ConnectRequest, Engine};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::fake::{next, soon};

const PUBLISHERS: usize = 3;
const MESSAGES: usize = 200;

/// An engine behind a socket, and a way to cut all its connections at once.
async fn serve() -> (String, broadcast::Sender<()>) {
    let engine = Engine::builder().store(Arc::new(MemoryStore::default())).build().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (cut, _) = broadcast::channel(1);
    let cuts = cut.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (engine, mut cut) = (engine.clone(), cuts.subscribe());
            tokio::spawn(async move {
                #[allow(clippy::result_large_err)]
                let accept = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("chatflow.v1"));
                    Ok(response)
                };
                let Ok(socket) = accept_hdr_async(stream, accept).await else { return };
                let mut request = ConnectRequest::default();
                request.dialect = Dialect::V1;
                tokio::select! {
                    () = engine.connect(socket.into_inner(), request) => {}
                    _ = cut.recv() => {}
                }
            });
        }
    });
    (url, cut)
}

fn client(url: &str, name: &str) -> chatflow_client::ClientBuilder {
    let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(20));
    Client::builder(url).user("1", name).room("7").backoff(backoff).answer_timeout(Duration::from_secs(20))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_seen_once_and_in_order_however_often_the_connections_are_cut() {
    let (url, cut) = serve().await;
    let (_listener, mut events) = client(&url, "listener").connect().await.unwrap();
    let (mut connected, mut publishers) = (Vec::new(), tokio::task::JoinSet::new());
    for n in 0..PUBLISHERS {
        // The first connect is one attempt, which a cut would fail: all stand before anybody publishes.
        let (client, events) = client(&url, &format!("publisher{n}")).connect().await.unwrap();
        drop(events);
        connected.push(client);
    }
    for (n, client) in connected.into_iter().enumerate() {
        let cut = cut.clone();
        publishers.spawn(async move {
            let mut ids = Vec::new();
            for m in 0..MESSAGES {
                let draft = Draft::new(m.to_string());
                let published = client.publish_draft("7", draft).await.unwrap();
                ids.push(published.message_id);
                // In the middle of what the others do, and of what the listener is being sent.
                if m % 10 == n {
                    let _ = cut.send(());
                }
            }
            ids
        });
    }
    let (mut seen, mut last, mut outages) = (Vec::<MessageId>::new(), None, 0);
    while seen.len() < PUBLISHERS * MESSAGES {
        match next(&mut events).await {
            Incoming::Message(message) => {
                assert!(message.position() > last, "{message:?} after {last:?}");
                last = message.position();
                seen.push(message.id());
            }
            Incoming::Welcome { recovered, reason, .. } => assert!(recovered, "{reason:?}"),
            Incoming::Disconnected { .. } => outages += 1,
            _ => {}
        }
    }
    assert!(outages > 3, "cut only {outages} times: the test proves nothing");
    while let Some(ids) = soon("the publishers", publishers.join_next()).await {
        let ids = ids.unwrap();
        let of_one: Vec<_> = seen.iter().filter(|id| ids.contains(id)).copied().collect();
        assert_eq!(of_one, ids, "each once, in the order in which they were published");
    }
}
