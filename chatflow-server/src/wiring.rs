//! From configuration to an engine: the only place that knows which backends there are.

mod broker;
mod cache;
mod directory;
mod store;

use std::sync::Arc;

use chatflow_core::auth::AccountAuthenticator;
use chatflow_core::cache::CachedStore;
use chatflow_core::store::FileDeadLetters;
use chatflow_core::{Accounts, ChatValidator, Engine, MessageStore, NodeDirectory, NodeId};

use crate::config::{BackendUrl, Config, ConfigError, Role, StoreSection};

/// What a configuration makes.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The engine.
    pub(crate) engine: Engine,
    /// The history, if one is kept.
    pub(crate) store: Option<Arc<dyn MessageStore>>,
    /// The cache in front of it, if there is one.
    pub(crate) cache: Option<Arc<CachedStore>>,
    /// Who may log in, where the store keeps accounts.
    pub(crate) accounts: Option<Arc<AccountAuthenticator>>,
}

/// Opens the backends and starts the engine.
///
/// # Errors
/// There is no such backend, it can't be reached, or it does not go with the others.
pub(crate) async fn parts(config: &Config, node: NodeId) -> Result<Parts, ConfigError> {
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
    let store = store::open(&config.store).await?;
    let accounts = accounts(config, store.as_ref()).await?;
    let mut cache = None;
    if let Some(store) = &store {
        cache = cache::open(config, store)?;
        builder = builder.store(cache.clone().map_or(Arc::clone(store), |cached| cached));
        if !config.store.retention.is_zero() {
            builder = builder.retention(config.store.retention);
        }
    }
    if let Some(accounts) = &accounts {
        builder = builder.authenticator(Arc::clone(accounts));
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
    Ok(Parts { engine, store, cache, accounts })
}

async fn accounts(config: &Config, store: Option<&Arc<dyn MessageStore>>) -> Result<Option<Arc<AccountAuthenticator>>, ConfigError> {
    if config.auth.required && !store::lasts(&config.store) {
        let url = &config.store.url;
        let text = format!(
            "auth.required = true: with store.url = {url:?} there are no accounts to log in with; it needs sqlite:, postgres: or mysql:"
        );
        return Err(ConfigError::line(text));
    }
    let Some(store) = store.filter(|store| store.accounts().is_some()) else { return Ok(None) };
    let accounts = AccountAuthenticator::open(Arc::clone(store), config.auth.settings()).await;
    let accounts = accounts.map_err(|error| ConfigError::line(format!("store.url = {:?}: {error}", config.store.url)))?;
    Ok(Some(Arc::new(accounts)))
}

/// The history for a command that works on it.
///
/// # Errors
/// It does not outlive the process, does not open, or a server has it to itself.
pub(crate) async fn lasting_store(section: &StoreSection) -> Result<Arc<dyn MessageStore>, ConfigError> {
    if !store::lasts(section) {
        return Err(ConfigError::line(format!("store.url = {:?}: it has no history that outlives a process", section.url)));
    }
    // Not from a replica, which may be behind.
    let section = StoreSection { reader_url: BackendUrl::new(""), ..section.clone() };
    let store = store::open(&section).await?;
    store.ok_or_else(|| ConfigError::line(format!("store.url = {:?}: there is none", section.url)))
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

/// The accounts of a history, for a command that works on them. Beside a server that uses them.
///
/// # Errors
/// There are none that last, or they can't be reached.
pub(crate) async fn lasting_accounts(section: &StoreSection) -> Result<Arc<dyn Accounts>, ConfigError> {
    if !store::lasts(section) {
        return Err(ConfigError::line(format!("store.url = {:?}: it has no accounts that outlive a process", section.url)));
    }
    store::accounts(section).await
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
