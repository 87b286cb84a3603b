//! What an idle connection holds: there may be tens of thousands.

use chatflow_core::{ConnectRequest, Engine};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn the_future_of_a_connection_is_small() {
    let engine = Engine::builder().build().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (reader, writer) = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap().into_split();
    let connection = engine.connect_halves(reader, writer, ConnectRequest::default());
    let bytes = size_of_val(&connection);
    assert!(bytes <= 768, "{bytes} bytes, held by every idle connection");
}
