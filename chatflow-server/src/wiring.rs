//! From configuration to an engine: the only place that knows which backends there are.

mod broker;
mod cache;
mod directory;
mod store;

use std::sync::Arc;

use chatflow_core::cache::CachedStore;
use chatflow_core::store::FileDeadLetters;
use chatflow_core::{ChatValidator, Engine, NodeDirectory, NodeId};

use crate::config::{BackendUrl, Config, ConfigError, Role};

/// Opens the backends and starts the engine. With the cache in front of its history, if there is one.
///
/// # Errors
/// There is no such backend, it can't be reached, or it does not go with the others.
pub(crate) async fn engine(config: &Config, node: NodeId) -> Result<(Engine, Option<Arc<CachedStore>>), ConfigError> {
    let rooms = config.rooms.clone();
    let mut builder = Engine::builder()
        .node(node.clone())
        .settings(config.settings())
        .validator(ChatValidator::new(config.validator.limits()))
        .broker(broker::open(&config.broker).await?)
        .writes_history(config.node.is(Role::History))
        .rooms(move |named| rooms.room(named));
    let in_turns = store::is_shared(&config.store) && broker::is_shared(&config.broker);
    if !config.node.is(Role::History) && !store::is_none(&config.store) && !in_turns {
        let url = &config.store.url;
        let text =
            format!("store.url = {url:?}: node.roles without history needs a store and a broker that several nodes share, or --store none");
        return Err(ConfigError::line(text));
    }
    let mut cached = None;
    if let Some(store) = store::open(&config.store).await? {
        cached = cache::open(config, &store)?;
        builder = builder.store(cached.clone().map_or(store, |cached| cached));
    }
    if let Some(path) = store::dead_letters(&config.store, &node) {
        let letters = FileDeadLetters::open(&path).await;
        let letters = letters.map_err(|error| ConfigError::at("store.dead_letters", &path.display().to_string(), error))?;
        builder = builder.dead_letters(Arc::new(letters));
    }
    let engine = builder.build().await.map_err(|error| {
        let (broker, store) = (&config.broker.url, &config.store.url);
        ConfigError::line(format!("the engine can't start with broker.url = {broker:?} and store.url = {store:?}: {error}"))
    })?;
    Ok((engine, cached))
}

/// Brings the tables of the history up to date, empties the summaries among them if they are to be counted anew, and says so.
///
/// # Errors
/// There is no such history, it can't be reached, or this user may not change it.
pub(crate) async fn migrate(config: &Config, rebuild_summaries: bool) -> Result<String, ConfigError> {
    let done = store::migrate(&config.store).await?;
    if !rebuild_summaries {
        return Ok(done);
    }
    store::rebuild_summaries(&config.store).await?;
    Ok(format!("{done}; its summaries are counted anew"))
}

/// Where this node finds the others; `None` when it is the only one.
///
/// # Errors
/// There is no such directory.
pub(crate) fn directory(config: &Config) -> Result<Option<Arc<dyn NodeDirectory>>, ConfigError> {
    directory::open(config)
}

/// What is wrong with the scheme of `key`'s URL: it is nobody's, or that of a backend that was left out of this program.
fn no_such(key: &str, url: &BackendUrl) -> ConfigError {
    let (feature, built) = match url.split().0 {
        "redis" | "rediss" | "redis-cluster" | "rediss-cluster" => ("redis", cfg!(feature = "redis")),
        "amqp" | "amqps" => ("rabbitmq", cfg!(feature = "rabbitmq")),
        "sqs" => ("sqs", cfg!(feature = "sqs")),
        "sqlite" => ("sqlite", cfg!(feature = "sqlite")),
        "mysql" | "mariadb" => ("mysql", cfg!(feature = "mysql")),
        "postgres" | "postgresql" => ("postgres", cfg!(feature = "postgres")),
        _ => ("", true),
    };
    if built {
        return ConfigError::at(key, url, "there is no such backend");
    }
    ConfigError::line(format!(
        "{key} = {url:?}: this program was built without the feature {feature}: cargo build -p chatflow-server --features {feature}"
    ))
}
