//! What kind of server Redis is, and how well it keeps what it is given.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;

use super::address::{Address, Target};
use super::failure::Failure;
use crate::ErrorKind;
use crate::broker::Durability;

/// What a server says of itself.
#[derive(Debug, Clone)]
pub(super) struct Server {
    /// What an accepted receipt means here.
    pub(super) durability: Durability,
    /// The same in words.
    pub(super) detail: String,
}

impl Server {
    /// Asks it, and refuses one with which the guarantees can't be kept.
    pub(super) async fn look(connection: &mut MultiplexedConnection, target: &Target, address: &Address) -> Result<Self, Failure> {
        let failed = |error| Failure::of(address, &error);
        let config = |text: String| Err(Failure::new(ErrorKind::Config, format!("Redis at {address} {text}")));
        let away = |text: &str| Err(Failure::new(ErrorKind::Unavailable, format!("Redis at {address} {text}")));
        let info: String = redis::cmd("INFO").query_async(connection).await.map_err(failed)?;
        let info: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let says = |key: &str| info.get(key).copied().unwrap_or_default();

        let version = says("redis_version");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return config(format!("has version {version}: 7 or later is needed"));
        }
        match (target.cluster, says("cluster_enabled") == "1") {
            (false, true) => return config("is part of a cluster: its URL begins with redis-cluster:// or rediss-cluster://".into()),
            (true, false) => return config("is not part of a cluster: its URL begins with redis:// or rediss://".into()),
            _ => {}
        }
        if says("loading") == "1" {
            return away("is loading its data");
        }
        if says("role") != "master" {
            return away("is a replica, which takes no messages");
        }
        let policy = says("maxmemory_policy");
        if says("maxmemory") != "0" && policy.starts_with("allkeys") {
            return config(format!("may throw logs away when it is full (maxmemory-policy {policy}): noeviction is needed"));
        }
        let appends = says("aof_enabled") == "1";
        // Where it may not be asked, how often the file is synced stays unknown.
        let sync = redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async::<HashMap<String, String>>(connection).await;
        let sync = sync.ok().and_then(|mut settings| settings.remove("appendfsync"));
        Ok(Self::keeps(appends, sync.as_deref()))
    }

    fn keeps(appends: bool, sync: Option<&str>) -> Self {
        let (durability, detail) = match (appends, sync) {
            (false, _) => (Durability::Volatile, "no append-only file: when Redis ends, what came after its last snapshot is lost"),
            (true, Some("always")) => (Durability::Durable, "append-only file, appendfsync always"),
            (true, Some("no")) => {
                (Durability::Durable, "append-only file, appendfsync no: half a minute or more may be lost when the machine fails")
            }
            (true, Some(_)) => (
                Durability::Durable,
                "append-only file, appendfsync everysec: up to 2 s may be lost when the machine fails, or Redis while the disk is slow",
            ),
            (true, None) => (Durability::Durable, "append-only file; how often it is synced may not be asked (CONFIG GET)"),
        };
        Self { durability, detail: detail.into() }
    }

    /// What can be promised of several servers: what the weakest does.
    pub(super) fn weakest(servers: impl Iterator<Item = Self>) -> Option<Self> {
        servers.min_by_key(|server| (server.durability == Durability::Durable, server.detail == "append-only file, appendfsync always"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weakest_speaks_for_all() {
        let servers = [(true, Some("always")), (false, None), (true, Some("everysec"))].map(|(aof, sync)| Server::keeps(aof, sync));
        assert_eq!(Server::weakest(servers.clone().into_iter()).unwrap().durability, Durability::Volatile);
        let durable = servers.into_iter().filter(|server| server.durability == Durability::Durable);
        assert!(Server::weakest(durable).unwrap().detail.contains("everysec"));
    }
}
