//! Something to put into each service, and to find again.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use chatflow_testkit::Service;
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use sqlx::{Connection as _, MySqlConnection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A set of words in a service.
pub(crate) trait Data {
    async fn put(&self, service: &Service, word: &str);
    /// Sorted.
    async fn all(&self, service: &Service) -> Vec<String>;
}

/// The last line of what a server says to some commands.
pub(crate) fn line(mut stream: TcpStream, commands: &str) -> String {
    let count = commands.split("\r\n").count();
    stream.write_all(format!("{commands}\r\n").as_bytes()).unwrap();
    BufReader::new(stream).lines().take(count).last().unwrap().unwrap()
}

/// What `redis-cli` says, without blocking.
async fn redis_cli(service: &Service, arguments: &[&str]) -> Vec<String> {
    let address = service.address();
    let mut command = tokio::process::Command::new("redis-cli");
    command.args(["-c", "-h", "127.0.0.1", "-p", &address.port().to_string()]).args(arguments);
    let output = command.kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// MariaDB's as well.
pub(crate) struct OfMySql;

impl Data for OfMySql {
    async fn put(&self, service: &Service, word: &str) {
        let mut db = MySqlConnection::connect(&service.url()).await.unwrap();
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS words (word VARCHAR(20))").execute(&mut db).await.unwrap();
        sqlx::query("INSERT INTO words VALUES (?)").bind(word).execute(&mut db).await.unwrap();
    }

    async fn all(&self, service: &Service) -> Vec<String> {
        let mut db = MySqlConnection::connect(&service.url()).await.unwrap();
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS words (word VARCHAR(20))").execute(&mut db).await.unwrap();
        sqlx::query_scalar("SELECT word FROM words ORDER BY word").fetch_all(&mut db).await.unwrap()
    }
}

pub(crate) struct OfPostgres;

impl Data for OfPostgres {
    async fn put(&self, service: &Service, word: &str) {
        let mut db = PgConnection::connect(&service.url()).await.unwrap();
        sqlx::raw_sql("CREATE TABLE IF NOT EXISTS words (word text)").execute(&mut db).await.unwrap();
        sqlx::query("INSERT INTO words VALUES ($1)").bind(word).execute(&mut db).await.unwrap();
    }

    async fn all(&self, service: &Service) -> Vec<String> {
        let mut db = PgConnection::connect(&service.url()).await.unwrap();
        let there: bool = sqlx::query_scalar("SELECT to_regclass('words') IS NOT NULL").fetch_one(&mut db).await.unwrap();
        if !there {
            return Vec::new();
        }
        sqlx::query_scalar("SELECT word FROM words ORDER BY word").fetch_all(&mut db).await.unwrap()
    }
}

pub(crate) struct OfRedis;

impl Data for OfRedis {
    async fn put(&self, service: &Service, word: &str) {
        assert_eq!(redis_cli(service, &["SADD", "words", word]).await, ["1"]);
    }

    async fn all(&self, service: &Service) -> Vec<String> {
        let mut all = redis_cli(service, &["SMEMBERS", "words"]).await;
        all.sort();
        all
    }
}

/// The same word in a slot of each master.
pub(crate) struct OfCluster;

const KEYS: [&str; 3] = ["a", "b", "c"];

impl Data for OfCluster {
    async fn put(&self, service: &Service, word: &str) {
        for key in KEYS {
            assert_eq!(redis_cli(service, &["SADD", key, word]).await, ["1"]);
        }
    }

    async fn all(&self, service: &Service) -> Vec<String> {
        let mut of_each = Vec::new();
        for key in KEYS {
            let mut all = redis_cli(service, &["SMEMBERS", key]).await;
            all.sort();
            of_each.push(all);
        }
        assert!(of_each.iter().all(|all| *all == of_each[0]), "{of_each:?}");
        of_each.swap_remove(0)
    }
}

/// A stream.
pub(crate) struct OfRabbitMq;

impl OfRabbitMq {
    async fn channel(service: &Service) -> (Connection, lapin::Channel) {
        let connection = Connection::connect(&service.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("words".into(), options, arguments).await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        (connection, channel)
    }

    async fn publish(channel: &lapin::Channel, word: &str) {
        let confirm =
            channel.basic_publish("".into(), "words".into(), BasicPublishOptions::default(), word.as_bytes(), BasicProperties::default());
        assert!(confirm.await.unwrap().await.unwrap().is_ack());
    }
}

/// Every look leaves an end behind.
const END: &str = "end ";

impl Data for OfRabbitMq {
    async fn put(&self, service: &Service, word: &str) {
        let (connection, channel) = Self::channel(service).await;
        Self::publish(&channel, word).await;
        connection.close(200, "".into()).await.unwrap();
    }

    async fn all(&self, service: &Service) -> Vec<String> {
        let (connection, channel) = Self::channel(service).await;
        let end = format!("{END}{}", uuid::Uuid::new_v4());
        Self::publish(&channel, &end).await;
        channel.basic_qos(10, BasicQosOptions::default()).await.unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
        let mut consumer = channel.basic_consume("words".into(), "".into(), BasicConsumeOptions::default(), arguments).await.unwrap();
        let mut all = Vec::new();
        loop {
            let delivery = consumer.next().await.unwrap().unwrap();
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            match String::from_utf8(delivery.data.clone()).unwrap() {
                word if word == end => break,
                word if word.starts_with(END) => {}
                word => all.push(word),
            }
        }
        connection.close(200, "".into()).await.unwrap();
        all.sort();
        all
    }
}

/// What the emulator answers to a call of `name`, whose signature it does not check.
pub(crate) async fn sqs(service: &Service, name: &str, form: &str) -> String {
    let address = service.address();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {name}.us-east-1.localhost:{}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{name}/aws4_request, SignedHeaders=host, Signature=none\r\n\r\n",
        address.port(),
        form.len()
    );
    stream.write_all(format!("{head}{form}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
