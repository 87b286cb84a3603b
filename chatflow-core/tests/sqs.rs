//! The broker on SNS and SQS, on an emulator.

#[path = "support/backend.rs"]
mod backend;
#[path = "support/door.rs"]
mod door;
#[path = "support/emulator.rs"]
mod emulator;

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_types::SdkConfig;
use chatflow_core::broker::sqs::{SqsBroker, SqsBrokerConfig, http_client};
use chatflow_core::broker::{Completion, Delivered, Entry, Event, From, Reader, Receipt};
use chatflow_core::conformance::broker::Subject;
use chatflow_core::{
    Broker, Error, ErrorKind, LogId, Message, MessageId, Opening, Position, Result, RoomId, Timestamp, broker_suite, kind,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use backend::Private;
use emulator::Emulator;

/// For all cases that do it no harm.
static EMULATOR: LazyLock<Emulator> = LazyLock::new(Emulator::start);

async fn endpoint() -> String {
    tokio::task::spawn_blocking(|| EMULATOR.endpoint()).await.expect("an emulator")
}

fn sdk() -> SdkConfig {
    let credentials = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "the test"));
    let builder = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).credentials_provider(credentials);
    builder.region(Region::new("eu-west-1")).build()
}

/// An installation of its own, with small logs.
fn config(endpoint: impl Into<String>) -> SqsBrokerConfig {
    let prefix = Uuid::new_v4().simple().to_string();
    let mut config = SqsBrokerConfig::new("eu-west-1").with_endpoint(endpoint).with_prefix(&prefix[..12]);
    (config.logs, config.entries, config.retain, config.receivers) = (2, 64, 16, 2);
    config
}

fn broker(config: &SqsBrokerConfig) -> Arc<SqsBroker> {
    Arc::new(SqsBroker::new(config.clone(), &sdk()).expect("a broker"))
}

fn subject(config: SqsBrokerConfig) -> Subject {
    let subject = Subject::new(broker(&config), config.entries);
    subject.shared_by(move |logs| broker(&config.clone().with_logs(logs)) as Arc<dyn Broker>)
}

broker_suite!(shared suite, async { subject(config(endpoint().await)) }, faults: async {
    let private = Private::new().await;
    subject(config(format!("http://{}", private.address()))).on(Arc::new(private))
});

const LOG: LogId = LogId(0);
const PATIENCE: Duration = Duration::from_secs(30);

type Events = BoxStream<'static, Result<Event>>;

struct Told(oneshot::Sender<Result<Option<Position>>>);

impl Completion for Told {
    fn accepted(self: Box<Self>, position: Option<Position>) {
        let _ = self.0.send(Ok(position));
    }

    fn failed(self: Box<Self>, error: Error) {
        let _ = self.0.send(Err(error));
    }
}

async fn offer(broker: &SqsBroker, text: &str) -> Result<Position> {
    let (tell, told) = oneshot::channel();
    let message = Message {
        id: MessageId::now_v7(),
        room: RoomId::new("room").expect("a name"),
        sender: "1".into(),
        kind: kind::TEXT,
        body: text.to_owned().into(),
        digest: 1,
        at: Timestamp::now(),
        node: "n".into(),
        session: 0,
        origin: "".into(),
    };
    broker.submit(Entry::new(LOG, &message), Receipt::new(Box::new(Told(tell)))).map_err(|refused| refused.error)?;
    let position = timeout(PATIENCE, told).await.expect("in time").expect("told")?;
    Ok(position.expect("SNS says where"))
}

/// Publishes until it is accepted, each time another text; which one was.
async fn publish(broker: &SqsBroker, name: &str) -> String {
    let begin = Instant::now();
    for i in 0.. {
        let text = format!("{name} {i}");
        match offer(broker, &text).await {
            Ok(_) => return text,
            Err(error) => assert!(error.is_transient() && begin.elapsed() < PATIENCE, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    unreachable!()
}

async fn open(config: &SqsBrokerConfig, node: &str, history: Option<&str>) -> Arc<SqsBroker> {
    let broker = broker(config);
    let opening = Opening::new(node);
    let opening = if let Some(history) = history { opening.with_history(history, 0) } else { opening };
    broker.open(&opening).await.expect("opens");
    broker
}

async fn read(broker: &SqsBroker, reader: Reader, from: From) -> Events {
    broker.read(LOG, reader, from).await.expect("read")
}

async fn event(events: &mut Events) -> Event {
    timeout(PATIENCE, events.next()).await.expect("in time").expect("an event").expect("no error")
}

fn text(entry: &Delivered) -> String {
    String::from_utf8_lossy(&Message::decode(entry.bytes.clone()).expect("a message").body).into_owned()
}

/// Reads, and settles if it is told where, until `last` is read. The entries, and the losses.
async fn until(events: &mut Events, last: &str, settles: Option<&SqsBroker>) -> (Vec<(Position, String)>, Vec<(Position, Position)>) {
    let (mut entries, mut losses) = (Vec::new(), Vec::new());
    while entries.last().is_none_or(|(_, text)| text != last) {
        match event(events).await {
            Event::Batch(batch) => {
                entries.extend(batch.iter().map(|entry| (entry.position, text(entry))));
                if let Some(broker) = settles {
                    broker.settle(LOG, batch[batch.len() - 1].position).await.expect("settled");
                }
            }
            Event::Lost { last, .. } => {
                let Event::Attached(at) = event(events).await else { panic!("a loss says where it goes on") };
                losses.push((last, at));
            }
            Event::Attached(_) => assert!(entries.is_empty()),
            other => panic!("{other:?}"),
        }
    }
    (entries, losses)
}

fn texts(entries: &[(Position, String)]) -> Vec<&str> {
    entries.iter().map(|(_, text)| text.as_str()).collect()
}

async fn eventually<F: Future<Output = bool>>(what: &str, is: impl Fn() -> F) {
    let begin = Instant::now();
    while !is().await {
        assert!(begin.elapsed() < PATIENCE, "not in time: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The services, to look at them and to do harm.
struct Services {
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    prefix: String,
}

impl Services {
    fn of(config: &SqsBrokerConfig) -> Self {
        let sdk = sdk().into_builder().http_client(http_client()).endpoint_url(config.endpoint.clone().expect("an endpoint")).build();
        Self { sns: aws_sdk_sns::Client::new(&sdk), sqs: aws_sdk_sqs::Client::new(&sdk), prefix: config.prefix.clone() }
    }

    async fn queues(&self, of: &str) -> Vec<String> {
        let answer = self.sqs.list_queues().queue_name_prefix(format!("{}-{of}", self.prefix)).send().await.expect("queues");
        answer.queue_urls.unwrap_or_default()
    }

    /// The ARNs of the topics of our logs.
    async fn topics(&self) -> Vec<String> {
        let ours = |arn: &String| arn.contains(&format!(":{}-", self.prefix)) && arn.ends_with(".fifo");
        let pages: Vec<_> = self.sns.list_topics().into_paginator().items().send().collect::<Result<_, _>>().await.expect("topics");
        pages.into_iter().filter_map(|topic| topic.topic_arn).filter(ours).collect()
    }

    /// How many queues the topic of a log feeds.
    async fn fed(&self, topic: &str) -> usize {
        let answer = self.sns.list_subscriptions_by_topic().topic_arn(topic).send().await.expect("subscriptions");
        answer.subscriptions.unwrap_or_default().len()
    }
}

/// What waits is more than SQS gives at a time, so it comes as it is settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_was_killed_goes_on_where_it_was() {
    let config = config(endpoint().await);
    let one = open(&config, "one", Some("h")).await;
    let mut history = read(&one, Reader::History, From::Oldest).await;
    let mut sent = Vec::new();
    for i in 0..30 {
        sent.push(publish(&one, &format!("{i}:")).await);
    }
    let (seen, losses) = until(&mut history, &sent[29], None).await;
    assert_eq!((texts(&seen), losses), (sent.iter().map(String::as_str).collect(), vec![]));
    one.settle(LOG, seen[4].0).await.expect("settled");
    drop((history, one));

    let two = open(&config, "two", Some("h")).await;
    let mut history = read(&two, Reader::History, From::After(seen[4].0)).await;
    sent.push(publish(&two, "later").await);
    let (again, losses) = until(&mut history, &sent[30], Some(&two)).await;
    assert_eq!(losses, []);
    assert_eq!(again[..25], seen[5..], "in the same places");
    assert_eq!(texts(&again), sent[5..]);
    two.close().await.expect("closed");
    drop((history, two));

    let three = open(&config, "three", Some("h")).await;
    let services = Services::of(&config);
    assert_eq!(services.queues("node-").await.len(), 2, "the one that was closed took its queue along");
    let mut history = read(&three, Reader::History, From::After(again[25].0)).await;
    let last = publish(&three, "last").await;
    assert_eq!(until(&mut history, &last, Some(&three)).await.0.len(), 1, "nothing comes twice");
    let empty = || async {
        let queues = services.queues("history-").await;
        let queue = queues.iter().find(|queue| queue.ends_with("-0.fifo")).expect("the log's queue");
        let all = aws_sdk_sqs::types::QueueAttributeName::All;
        let answer = services.sqs.get_queue_attributes().queue_url(queue).attribute_names(all).send().await.expect("attributes");
        let attributes = answer.attributes.expect("attributes");
        attributes.iter().filter(|(name, _)| name.as_str().starts_with("ApproximateNumberOfMessages")).all(|(_, n)| n == "0")
    };
    eventually("what is settled is deleted", empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_begins_a_new_epoch_and_no_history_misses_anything() {
    let config = config(endpoint().await);
    let [one, two] = [open(&config, "one", Some("h")).await, open(&config, "two", Some("another")).await];
    let nodes = [&one, &two];
    let mut readers = Vec::new();
    for node in nodes {
        for reader in [Reader::Node, Reader::History] {
            readers.push(read(node, reader, From::Present).await);
        }
    }
    let before = publish(&one, "before").await;
    for events in &mut readers {
        until(events, &before, None).await;
    }
    let services = Services::of(&config);
    let topics = services.topics().await;
    assert_eq!(topics.len(), 2);
    let topic = topics.iter().find(|arn| arn.contains(&format!("{}-0-", config.prefix))).expect("the log's topic");
    services.sns.delete_topic().topic_arn(topic).send().await.expect("deleted");

    let after = [publish(&one, "after one").await, publish(&two, "after two").await];
    let mut seen = Vec::new();
    for events in &mut readers {
        let (entries, losses) = until(events, &after[1], None).await;
        let [(last, at)] = losses[..] else { panic!("{losses:?}") };
        assert!(at.epoch > last.epoch, "{at} after {last}");
        seen.push(entries);
    }
    assert_eq!(texts(&seen[0]), after);
    assert!(seen.iter().all(|entries| *entries == seen[0]), "{seen:?}");
    let now = services.topics().await;
    assert!(now.len() == 2 && now.iter().all(|arn| !topics.contains(arn)), "{now:?} after {topics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_queue_was_deleted_is_told_and_its_history_misses_nothing() {
    let config = config(endpoint().await);
    let [one, two] = [open(&config, "one", Some("h")).await, open(&config, "two", None).await];
    let mut node = read(&one, Reader::Node, From::Present).await;
    let mut history = read(&one, Reader::History, From::Oldest).await;
    let mut sent = vec![publish(&two, "before").await];
    until(&mut node, &sent[0], None).await;
    let services = Services::of(&config);
    let queues = services.queues("node-one").await;
    services.sqs.delete_queue().queue_url(&queues[0]).send().await.expect("deleted");
    for i in 0..5 {
        sent.push(publish(&two, &format!("{i}:")).await);
    }
    eventually("it has another queue", || async { services.queues("node-one").await.iter().any(|queue| !queues.contains(queue)) }).await;
    sent.push(publish(&one, "last").await);
    let (entries, losses) = until(&mut node, &sent[6], None).await;
    assert!(losses.len() == 1 && texts(&entries).iter().all(|text| sent.iter().any(|sent| sent == text)), "{losses:?}");
    let (entries, losses) = until(&mut history, &sent[6], Some(&one)).await;
    assert_eq!((texts(&entries), losses), (sent.iter().map(String::as_str).collect(), vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_leaves_behind_is_removed() {
    let mut config = config(endpoint().await);
    config.dead_after = Duration::from_secs(5);
    let [one, two] = [open(&config, "one", None).await, open(&config, "two", Some("h")).await];
    let services = Services::of(&config);
    let topics = services.topics().await;
    assert_eq!((services.queues("node-").await.len(), services.fed(&topics[0]).await), (2, 3));
    drop(one);
    let removed = || async { services.queues("node-").await.len() == 1 && services.fed(&topics[0]).await == 2 };
    eventually("one queue is left", removed).await;
    assert!(services.queues("node-").await[0].contains("-node-two-"));
    let mut events = read(&two, Reader::Node, From::Present).await;
    let last = publish(&two, "the other goes on").await;
    until(&mut events, &last, None).await;
    two.close().await.expect("closed");
    assert_eq!((services.queues("node-").await.len(), services.fed(&topics[0]).await), (0, 1), "and leaves nothing but its history");
}

/// A service that answers everything with this.
fn answers(status: &'static str, body: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.read(&mut [0; 16 << 10]);
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line() {
    const FORBIDDEN: &str = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidClientTokenId</Code>\
        <Message>The security token included in the request is invalid.</Message></Error></ErrorResponse>";
    let secret = "wJalrXUtnFEMI";
    let credentials = SharedCredentialsProvider::new(Credentials::new("AKIDEXAMPLE", secret, None, None, "the test"));
    let with = sdk().into_builder().credentials_provider(credentials).build();
    let mut builder = sdk().into_builder();
    builder.set_credentials_provider(None);
    let without = builder.build();
    let cases = [
        (answers("403 Forbidden", FORBIDDEN), &with, ErrorKind::Config, "InvalidClientTokenId"),
        ("http://127.0.0.1:1".into(), &with, ErrorKind::Unavailable, "refused"),
        (answers("503 Service Unavailable", ""), &with, ErrorKind::Unavailable, "the service fails"),
        (answers("200 OK", "<html>a web page</html>"), &with, ErrorKind::Config, "no answer of SNS or SQS"),
        ("http://127.0.0.1:1".into(), &without, ErrorKind::Config, "credentials"),
    ];
    for (endpoint, sdk, expected, says) in cases {
        let broker = SqsBroker::new(config(&endpoint), sdk).expect("a broker");
        let error = broker.open(&Opening::new("n")).await.expect_err("it does not open");
        let text = error.to_string();
        println!("{text}");
        assert_eq!(error.kind(), expected, "{text}");
        assert!(text.contains(says) && text.contains(&endpoint) && !text.contains('\n'), "{text}");
        assert!(!format!("{text}{error:?}{broker:?}").contains(secret), "{text}");
    }
    // The environment's endpoint (`AWS_ENDPOINT_URL`), which comes with what is shared by all of AWS.
    let elsewhere = with.into_builder().endpoint_url("http://127.0.0.1:1").build();
    let broker = SqsBroker::new(SqsBrokerConfig::new("us-east-1"), &elsewhere).expect("a broker");
    let text = broker.open(&Opening::new("n")).await.expect_err("it does not open").to_string();
    assert!(text.contains("us-east-1 at http://127.0.0.1:1"), "{text}");
}
