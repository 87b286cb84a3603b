//! The directory of nodes in Redis, single or cluster.

mod config;
mod link;

use async_trait::async_trait;
use redis::{FromRedisValue, Value, cmd};
use std::time::Duration;

pub use self::config::RedisDirectoryConfig;
use self::link::Link;
use super::{NodeDirectory, NodeInfo, succeeded, two_of_a_name};
use crate::{Error, ErrorKind, NodeId, Result};

/// Announces a node, unless another has its name. What stands under a name is its boot in twenty digits, so that boots can be compared
/// as texts (numbers of scripts are inexact beyond 2^53), and its description. The list of names has the end of each lease by Redis'
/// own clock: names whose node is gone leave it with anybody's next announcement.
const ANNOUNCE: &str = r#"
local held = redis.call('GET', KEYS[2])
if held then
    local boot = string.sub(held, 1, 20)
    if boot ~= ARGV[2] then
        local url = cjson.decode(string.sub(held, 21)).url
        if url ~= ARGV[3] and url ~= '' and ARGV[3] ~= '' then return {2, url} end
        if boot > ARGV[2] then return {1, ''} end
    end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], ARGV[2] .. ARGV[4], 'PX', ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 1000)
redis.call('ZADD', KEYS[1], now + ARGV[5], ARGV[1])
return {0, ''}
"#;

/// Takes a node out, if it is still there in that boot.
const WITHDRAW: &str = r#"
local held = redis.call('GET', KEYS[2])
if held and string.sub(held, 1, 20) == ARGV[2] then
    redis.call('DEL', KEYS[2])
    redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
"#;

/// A [`NodeDirectory`] in Redis 7 or later.
///
/// A node is a key that expires with its lease, `<prefix>:{nodes}:node:<name>`, beside a list of names, `<prefix>:{nodes}:names`. All
/// share one slot of a cluster. The user needs `EVAL`, `GET`, `SET`, `DEL`, `MGET`, `TIME`, `ZADD`, `ZREM`, `ZRANGE` and
/// `ZREMRANGEBYSCORE` on `<prefix>:{nodes}:*`.
///
/// It connects when it is first asked, and anew after a failure; every call is bounded by
/// [`timeout`](RedisDirectoryConfig::timeout).
#[derive(Debug)]
pub struct RedisDirectory {
    link: Link,
    prefix: String,
}

impl RedisDirectory {
    /// A directory that is set up so. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the URL or the prefix is not understood.
    pub fn new(config: RedisDirectoryConfig) -> Result<Self> {
        Ok(Self { link: Link::new(&config)?, prefix: config.prefix })
    }

    fn names(&self) -> String {
        format!("{}:{{nodes}}:names", self.prefix)
    }

    fn key(&self, node: &str) -> String {
        format!("{}:{{nodes}}:node:{node}", self.prefix)
    }

    fn script(&self, text: &str, node: &str, boot: u64) -> redis::Cmd {
        let mut command = cmd("EVAL");
        command.arg(text).arg(2).arg(self.names()).arg(self.key(node)).arg(node).arg(format!("{boot:020}"));
        command
    }

    async fn ask<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T> {
        let value: Value = self.link.ask(command).await?;
        redis::from_redis_value(value).map_err(|error| corrupt(&error))
    }
}

#[async_trait]
impl NodeDirectory for RedisDirectory {
    async fn announce(&self, me: &NodeInfo, lease: Duration) -> Result<()> {
        let info = serde_json::to_string(me).map_err(|error| corrupt(&error))?;
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 40);
        let mut command = self.script(ANNOUNCE, &me.node, me.boot);
        command.arg(&me.url).arg(info).arg(lease);
        match self.ask::<(u8, String)>(&command).await? {
            (0, _) => Ok(()),
            (2, url) => Err(two_of_a_name(&me.node, &url)),
            _ => Err(succeeded(&me.node)),
        }
    }

    async fn withdraw(&self, node: &NodeId, boot: u64) -> Result<()> {
        self.ask::<Value>(&self.script(WITHDRAW, node, boot)).await.map(drop)
    }

    async fn nodes(&self) -> Result<Vec<NodeInfo>> {
        let mut list = cmd("ZRANGE");
        list.arg(self.names()).arg(0).arg(-1);
        let mut names: Vec<String> = self.ask(&list).await?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        names.sort_unstable();
        let mut get = cmd("MGET");
        for name in &names {
            get.arg(self.key(name));
        }
        let held: Vec<Option<String>> = self.ask(&get).await?;
        // Who has gone since is still a name.
        let infos = held.iter().flatten().map(|held| serde_json::from_str(held.get(20..).unwrap_or_default()));
        infos.collect::<Result<_, _>>().map_err(|error| corrupt(&error))
    }
}

fn corrupt(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, "redis", format!("what Redis has in the place of the nodes is something else: {error}"))
}
