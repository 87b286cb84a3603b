//! What a broker finds when it is opened.

use chatflow_core::ErrorKind;
use chatflow_core::broker::rabbitmq::{RabbitMqBroker, RabbitMqConfig};
use chatflow_core::broker::{Broker, Opening};
use tokio::time::timeout;

use super::harm::shared;
use super::node::{PATIENCE, config, node};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_it_from_opening_is_said() {
    let rabbit = shared().await;
    let config = config(&rabbit.url());
    node("a", None, config.clone()).await.close().await.unwrap();
    rabbit.control(&["add_user", "guest2", "secret2"]);
    rabbit.control(&["set_permissions", "guest2", "nothing", "nothing", "nothing"]);
    let at = format!("127.0.0.1:{}", rabbit.port);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, logs, kind, says) in [
        (format!("amqp://guest:wrong-secret@{at}"), 2, ErrorKind::Config, "wrong user or password"),
        (format!("amqp://guest:guest@{at}/nowhere"), 2, ErrorKind::Config, "vhost"),
        (format!("amqp://guest2:secret2@{at}"), 2, ErrorKind::Config, "rights"),
        (format!("amqp://guest:guest@{at}"), 4, ErrorKind::Config, "for 2 logs, not 4"),
        (format!("amqp://guest:guest@{free}"), 2, ErrorKind::Unavailable, "connecting to amqp://127.0.0.1"),
    ] {
        let config = RabbitMqConfig::new(&url).with_prefix(&config.prefix).with_logs(logs);
        let broker = RabbitMqBroker::new(config).unwrap();
        let error = timeout(PATIENCE, broker.open(&Opening::new("n"))).await.unwrap().expect_err(&url);
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{url}: {text}");
        assert!(text.contains(says) && !text.contains("secret") && !text.contains('\n'), "{text}");
    }
}
