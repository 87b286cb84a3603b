//! A server that can't use its broker: it ends with 2 and says why in one line, whatever the libraries below it have to say.

#![allow(clippy::unwrap_used)]

use chatflow_testkit::{Options, Port, RabbitMq, Redis, Server, Service, needs};

fn is_refused(url: &str, says: &str) {
    let (code, line) = Server::refused(&Options::new().broker(url));
    assert_eq!(code, Some(2), "{url}: {line}");
    assert!(line.contains(says) && line.trim_end().lines().count() == 1 && !line.contains("not-the-one"), "{url}: {line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_does_not_let_it_in_is_said_in_one_line() {
    needs!(Redis);
    let redis = Service::start_new(Redis::new()).await;
    is_refused(&redis.url().replace("://", "://ada:not-the-one@"), "user and password");
    is_refused(&format!("redis://{}", Port::free().address()), "refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_that_does_not_let_it_in_is_said_in_one_line() {
    needs!(RabbitMq);
    let rabbit = Service::start_new(RabbitMq::new()).await;
    is_refused(&rabbit.url().replace("guest:guest", "guest:not-the-one"), "wrong user or password");
    is_refused(&rabbit.url().replace("%2f", "nowhere"), "the vhost does not exist");
    is_refused(&format!("amqp://{}", Port::free().address()), "refused");
}
