//! The services themselves: what they keep, where they are, and that nothing of them stays behind.

#![allow(clippy::unwrap_used)]

#[path = "services/data.rs"]
mod data;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chatflow_testkit::{
    HaProxy, MariaDb, MySql, Port, Postgres, Program, Proxy, RabbitMq, Redis, RedisCluster, Service, Sqs, eventually, needs,
};
use data::Data;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader};

const PATIENCE: Duration = Duration::from_secs(30);

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie is only a line in its parent's books, and `X` is one that is being struck out.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Everything that is done to a service that has data, and what then is there.
async fn keeps_what_it_is_given<P: Program>(program: P, data: impl Data) {
    let begun = Instant::now();
    let service = Service::start_new(program).await;
    let started = begun.elapsed();
    let (url, addresses) = (service.url(), service.addresses());
    data.put(&service, "a").await;
    service.restart().await;
    assert_eq!(data.all(&service).await, ["a"], "after a restart");
    data.put(&service, "b").await;
    service.kill9();
    assert_eq!(service.processes(), [0; 0], "killed");
    service.start().await;
    assert_eq!(data.all(&service).await, ["a", "b"], "after a crash");

    let snapshot = service.snapshot();
    data.put(&service, "c").await;
    service.restore(&snapshot).await;
    assert_eq!(data.all(&service).await, ["a", "b"], "as they were in the snapshot");
    service.wipe().await;
    assert_eq!(data.all(&service).await, [""; 0], "after a wipe");
    data.put(&service, "d").await;
    service.restore(&snapshot).await;
    assert_eq!(data.all(&service).await, ["a", "b"], "as they were in the snapshot");

    service.freeze();
    let answer = tokio::time::timeout(Duration::from_millis(300), data.all(&service)).await;
    assert!(answer.is_err(), "frozen, and yet {answer:?}");
    service.thaw();
    assert_eq!(data.all(&service).await, ["a", "b"], "after a frost");
    assert_eq!((service.url(), service.addresses()), (url, addresses), "it is where it was");
    // One that served a connection may just have ended.
    let all_live = || Some(service.processes()).filter(|all| !all.is_empty() && all.iter().all(|pid| lives(*pid)));
    let all = eventually("all its processes live", PATIENCE, all_live).await;
    drop(service);
    assert!(!all.iter().any(|pid| lives(*pid)), "{all:?}");
    println!("started in {:.1} s, all in {:.1} s; {} processes", started.as_secs_f64(), begun.elapsed().as_secs_f64(), all.len());
}

#[tokio::test]
async fn redis_keeps_what_it_is_given() {
    needs!(Redis);
    keeps_what_it_is_given(Redis::new(), data::OfRedis).await;
}

#[tokio::test]
async fn redis_cluster_keeps_what_it_is_given() {
    needs!(RedisCluster);
    keeps_what_it_is_given(RedisCluster::new(), data::OfCluster).await;
}

#[tokio::test]
async fn mariadb_keeps_what_it_is_given() {
    needs!(MariaDb);
    keeps_what_it_is_given(MariaDb::new(), data::OfMySql).await;
}

#[tokio::test]
async fn mysql_keeps_what_it_is_given() {
    needs!(MySql);
    keeps_what_it_is_given(MySql::new(), data::OfMySql).await;
}

#[tokio::test]
async fn postgres_keeps_what_it_is_given() {
    needs!(Postgres);
    keeps_what_it_is_given(Postgres::new(), data::OfPostgres).await;
}

/// Who lives on for a moment holds the memory of all, and PostgreSQL refuses to start beside that.
#[tokio::test]
async fn of_a_postgres_that_was_killed_nobody_lives() {
    needs!(Postgres);
    let service = Service::start_new(Postgres::new()).await;
    let mut connections = Vec::new();
    for _ in 0..40 {
        connections.push(PgConnection::connect(&service.url()).await.unwrap());
    }
    let all = service.processes();
    assert!(all.len() > connections.len(), "{all:?}");
    service.kill9();
    let left: Vec<_> = all.into_iter().filter(|pid| lives(*pid)).collect();
    assert_eq!(left, [0; 0]);
    service.start().await;
}

#[tokio::test]
async fn rabbitmq_keeps_what_it_is_given() {
    needs!(RabbitMq);
    keeps_what_it_is_given(RabbitMq::new(), data::OfRabbitMq).await;
}

#[tokio::test]
async fn redis_without_a_log_forgets_with_its_process() {
    needs!(Redis);
    let service = Service::start_new(Redis::new().set("appendonly", "no").password("secret")).await;
    assert!(service.url().starts_with("redis://:secret@127.0.0.1:"), "{}", service.url());
    let stream = std::net::TcpStream::connect(service.address()).unwrap();
    assert!(data::line(stream, "SET a b").starts_with("-NOAUTH"));
    let ask = |question: &str| data::line(std::net::TcpStream::connect(service.address()).unwrap(), &format!("AUTH secret\r\n{question}"));
    assert_eq!([ask("SET a b"), ask("EXISTS a")], ["+OK", ":1"]);
    service.kill9();
    service.start().await;
    assert_eq!(ask("EXISTS a"), ":0");
}

#[tokio::test]
async fn a_master_of_the_cluster_dies_alone_and_comes_back() {
    needs!(RedisCluster);
    let service = Service::start_new(RedisCluster::new().password("secret")).await;
    service.kill9_one(1);
    let [first, second, third] = service.addresses()[..] else { unreachable!() };
    let answers = |address| std::net::TcpStream::connect(address).is_ok();
    assert_eq!([first, second, third].map(answers), [true, false, true]);
    service.start().await;
    assert_eq!([first, second, third].map(answers), [true; 3]);
}

#[tokio::test]
async fn sqs_passes_on_what_a_topic_is_given_and_starts_empty() {
    needs!(Sqs);
    let begun = Instant::now();
    let service = Service::start_new(Sqs::new()).await;
    let started = begun.elapsed();
    assert!(service.url().starts_with("sqs://us-east-1?endpoint=http://127.0.0.1:"), "{}", service.url());
    assert!(data::sqs(&service, "sqs", "Action=CreateQueue&QueueName=a").await.contains("<QueueUrl>"));
    assert!(
        data::sqs(&service, "sns", "Action=CreateTopic&Name=t.fifo&Attributes.entry.1.key=FifoTopic&Attributes.entry.1.value=true")
            .await
            .contains("t.fifo")
    );
    assert!(
        data::sqs(
            &service,
            "sns",
            "Action=Publish&TopicArn=arn:aws:sns:us-east-1:000000000000:t.fifo&Message=m&MessageGroupId=g&MessageDeduplicationId=d"
        )
        .await
        .contains("<SequenceNumber>")
    );
    service.restart().await;
    assert!(!service.keeps_data() && !data::sqs(&service, "sqs", "Action=ListQueues").await.contains("<QueueUrl>"));
    service.wipe().await;
    let all = service.processes();
    drop(service);
    assert!(!all.is_empty() && !all.iter().any(|pid| lives(*pid)), "{all:?}");
    println!("started in {:.1} s, all in {:.1} s; {} processes", started.as_secs_f64(), begun.elapsed().as_secs_f64(), all.len());
}

#[tokio::test]
async fn haproxy_stands_in_front_of_a_service() {
    needs!(HaProxy, Redis);
    let redis = Service::start_new(Redis::new()).await;
    let port = Port::free();
    let configuration = format!(
        "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 10s\n  timeout server 10s\nlisten redis\n  bind {}\n  server one {}\n",
        port.address(),
        redis.address()
    );
    let proxy = Service::start_new(HaProxy::new(vec![port], configuration)).await;
    let ping = || data::line(std::net::TcpStream::connect(proxy.address()).unwrap(), "PING");
    assert_eq!(ping().trim(), "+PONG");
    proxy.restart().await;
    assert_eq!(ping().trim(), "+PONG");
}

#[tokio::test]
async fn a_proxy_stands_in_front_of_a_service() {
    needs!(Redis);
    let redis = Service::start_new(Redis::new()).await;
    let proxy = Proxy::start(redis.address()).await;
    assert_eq!(redis.url_through(&[proxy.address()]), format!("redis://{}", proxy.address()));
    let address = proxy.address();
    let ping = tokio::task::spawn_blocking(move || data::line(std::net::TcpStream::connect(address).unwrap(), "PING"));
    assert_eq!(ping.await.unwrap().trim(), "+PONG");
}

/// Set for the test program that is killed.
const VICTIM: &str = "CHATFLOW_TESTKIT_VICTIM";

/// The victim of the test below; alone it does nothing.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let service = Service::start_new(RedisCluster::new()).await;
    let rabbit = Service::start_new(RabbitMq::new()).await;
    rabbit.freeze();
    let all: Vec<_> = [service.processes(), rabbit.processes()].concat().iter().map(i32::to_string).collect();
    println!("\nprocesses: {}", all.join(" "));
    std::future::pending().await
}

#[tokio::test]
async fn nothing_stays_of_a_test_program_that_is_killed() {
    needs!(RedisCluster, RabbitMq);
    let folder = tempfile::tempdir().unwrap();
    let mut program = tokio::process::Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "victim", "--nocapture"]).env(VICTIM, "1").env("TMPDIR", folder.path());
    let mut victim = program.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let all: Vec<i32> = loop {
        let line = lines.next_line().await.unwrap().expect("the victim says what it has started");
        if let Some(all) = line.strip_prefix("processes: ") {
            break all.split(' ').map(|pid| pid.parse().unwrap()).collect();
        }
    };
    assert!(all.len() > 4 && all.iter().all(|pid| lives(*pid)), "{all:?}");
    victim.kill().await.unwrap();
    eventually("all is gone", PATIENCE, || (!all.iter().any(|pid| lives(*pid))).then_some(())).await;
    let left = || std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    eventually("its files are gone", PATIENCE, || {
        left().iter().all(|name| name.to_string_lossy().starts_with("chatflow-ports")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_missing_service_is_skipped_where_it_may_be() {
    #[derive(Debug)]
    struct Missing;
    #[async_trait::async_trait]
    impl Program for Missing {
        fn name(&self) -> &'static str {
            "missing"
        }
        fn missing() -> Option<String> {
            Some("there is no such thing".into())
        }
        fn addresses(&self) -> Vec<std::net::SocketAddr> {
            Vec::new()
        }
        fn url(&self, _: &[std::net::SocketAddr]) -> String {
            String::new()
        }
        fn commands(&self, _: &Path) -> Vec<Command> {
            Vec::new()
        }
        async fn answers(&self) -> bool {
            false
        }
    }
    let in_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    let used = std::panic::catch_unwind(chatflow_testkit::can_use::<Missing>);
    assert_eq!(used.ok(), if in_ci { None } else { Some(false) });
}
