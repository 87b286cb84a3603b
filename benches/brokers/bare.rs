//! The least that does it.

use std::time::Duration;

use futures::StreamExt;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use redis::{AsyncConnectionConfig, Client, Script};

use crate::{Args, Window};

/// One script a message, pipelined on one connection; another listens.
pub(crate) async fn redis(url: &str, args: &Args, round: usize, span: Duration) -> f64 {
    let script = Script::new("redis.call('XADD', KEYS[1], '*', 'b', ARGV[1]) return redis.call('PUBLISH', KEYS[2], ARGV[1])");
    let client = Client::open(url).unwrap();
    let config = AsyncConnectionConfig::new().set_pipeline_buffer_size(args.window);
    let connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    let channel = |log: u64| format!("bare:{round}:{log}:told");
    for log in 0..args.logs {
        listener.subscribe(channel(log.into())).await.unwrap();
    }
    let listening = tokio::spawn(async move { listener.into_on_message().for_each(|_| std::future::ready(())).await });
    let (text, window) = ("x".repeat(args.size), Window::new(args.window));
    let rate = window.rate(span, async |n, place| {
        let log = n % u64::from(args.logs);
        let (mut connection, script) = (connection.clone(), script.clone());
        let (log, channel, text) = (format!("bare:{round}:{log}"), channel(log), text.clone());
        tokio::spawn(async move {
            let told: i64 = script.key(log).key(channel).arg(text).invoke_async(&mut connection).await.unwrap();
            assert_eq!(told, 1);
            place.confirm();
        });
    });
    let rate = rate.await;
    listening.abort();
    rate
}

/// One publish a message, confirmed, on one channel.
pub(crate) async fn rabbitmq(url: &str, args: &Args, round: usize, span: Duration) -> f64 {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let queue = |log: u64| format!("bare.{round}.{log}");
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    for log in 0..args.logs {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue(log.into()).as_str().into(), options, arguments.clone()).await.unwrap();
    }
    let (text, window) = ("x".repeat(args.size), Window::new(args.window));
    let rate = window.rate(span, async |n, place| {
        let queue = queue(n % u64::from(args.logs));
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), queue.as_str().into(), options, text.as_bytes(), BasicProperties::default());
        let confirm = confirm.await.unwrap();
        tokio::spawn(async move {
            assert!(confirm.await.unwrap().is_ack());
            place.confirm();
        });
    });
    let rate = rate.await;
    connection.close(200, "done".into()).await.unwrap();
    rate
}
