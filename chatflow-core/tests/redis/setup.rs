//! What a broker finds when it is opened.

use chatflow_core::broker::Durability;
use chatflow_core::broker::redis::{RedisBroker, RedisBrokerConfig};
use chatflow_core::{Broker, Error, ErrorKind, Opening};

use super::node::{config, open, publish};
use super::server::Redis;
use super::{CLUSTER, REDIS};

async fn refused(config: &RedisBrokerConfig) -> Error {
    let broker = RedisBroker::new(config.clone()).unwrap();
    broker.open(&Opening::new("n")).await.expect_err("refused")
}

#[tokio::test]
async fn durability_is_what_the_server_does() {
    let redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let broker = open(&config(&redis.url()), &Opening::new("n")).await;
    assert_eq!(broker.profile().durability, Durability::Durable);
    assert!(broker.status().await.detail.contains("everysec"));
    let redis = Redis::with(&["--appendonly", "no"]);
    let broker = open(&config(&redis.url()), &Opening::new("n")).await;
    assert_eq!(broker.profile().durability, Durability::Volatile);
    let redis = Redis::with(&["--appendonly", "yes", "--appendfsync", "always", "--rename-command", "CONFIG", ""]);
    let broker = open(&config(&redis.url()), &Opening::new("n")).await;
    assert_eq!(broker.profile().durability, Durability::Durable);
    assert!(broker.status().await.detail.contains("may not be asked"));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_in_one_clear_line() {
    let away = refused(&RedisBrokerConfig::new("redis://127.0.0.1:1")).await;
    assert_eq!(away.kind(), ErrorKind::Unavailable, "{away}");
    let with = config(&REDIS.url());
    open(&with, &Opening::new("n")).await;
    let error = refused(&with.clone().with_logs(3)).await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("2 logs"), "{error}");
    let error = refused(&config(&REDIS.url().replace("redis://", "redis-cluster://"))).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("not part of a cluster"), "{error}");
    let error = refused(&config(&format!("redis://127.0.0.1:{}", CLUSTER.0[0].port))).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("redis-cluster://"), "{error}");
    let redis = Redis::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let error = refused(&config(&redis.url())).await;
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("noeviction"), "{error}");
}

#[tokio::test]
async fn credentials_and_rights() {
    let redis = Redis::start();
    for rule in [
        &["ACL", "SETUSER", "ada", "on", ">s3cret", "~*", "&*", "+@all"][..],
        &["ACL", "SETUSER", "eve", "on", ">s3cret", "~*", "&*", "+@all", "-publish"],
        &["ACL", "SETUSER", "bob", "on", ">s3cret", "~other*", "&*", "+@all"],
        &["ACL", "SETUSER", "default", "off"],
    ] {
        redis.call(rule);
    }
    let url = |who: &str| format!("redis://{who}127.0.0.1:{}", redis.port);
    let broker = open(&config(&url("ada:s3cret@")), &Opening::new("n")).await;
    publish(&broker, "let in").await;
    for who in ["ada:wr0ng@", "", "eve:s3cret@", "bob:s3cret@"] {
        let error = refused(&config(&url(who))).await;
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        let line = error.to_string();
        assert!(!line.contains("s3cret") && !line.contains("wr0ng") && !line.contains('\n'), "{line}");
    }
}

/// A history that knows a later epoch, from a log that was elsewhere: all logs go on beyond it, together and once.
#[tokio::test]
async fn logs_go_beyond_what_the_history_knows_together() {
    let config = config(&REDIS.url());
    let epochs = async || {
        let head = |log: u16| REDIS.call(&["HGET", &format!("{}:{{{log}}}:head", config.prefix), "epoch"]).parse::<u64>().unwrap();
        (head(0), head(1))
    };
    let opening = |floor| Opening::new("n").with_history("h", floor);
    open(&config, &opening(0)).await.close().await.unwrap();
    let floor = epochs().await.0 + 1_000_000_000;
    open(&config, &opening(floor)).await.close().await.unwrap();
    let (one, other) = epochs().await;
    assert!(one > floor && one == other, "{one} {other}");
    open(&config, &opening(one)).await.close().await.unwrap();
    assert_eq!(epochs().await, (one, other), "a usual start changes nothing");
}
