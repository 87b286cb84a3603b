//! The configuration: one structure, filled from defaults, a TOML file, the environment and flags, in this order.
//!
//! What each key means and what it may be stands in [`keys`]; how the layers are laid over one another in [`layers`].

mod document;
mod keys;
mod layers;
mod proxies;
mod role;
mod rooms;
mod secret;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use chatflow_core::auth::AccountSettings;
use chatflow_core::broker::memory::MemoryBrokerConfig;
use chatflow_core::{Limits, RoomId, Settings, duration};
use serde::{Deserialize, Serialize};

pub(crate) use document::{default_document, effective_document};
pub(crate) use layers::{ConfigError, Flags, Layers};
pub(crate) use proxies::Proxies;
pub(crate) use role::Role;
pub(crate) use rooms::RoomRule;
pub(crate) use secret::{BackendUrl, Secret};

/// Everything that can be set. Its `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) server: ServerSection,
    pub(crate) node: NodeSection,
    pub(crate) cluster: ClusterSection,
    pub(crate) rooms: RoomsSection,
    pub(crate) broker: BrokerSection,
    pub(crate) store: StoreSection,
    pub(crate) cache: CacheSection,
    pub(crate) backup: BackupSection,
    pub(crate) engine: Settings,
    pub(crate) limits: LimitsSection,
    pub(crate) validator: ValidatorSection,
    pub(crate) log: LogSection,
    pub(crate) auth: AuthSection,
    pub(crate) admin: AdminSection,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerSection {
    pub(crate) listen: SocketAddr,
    #[serde(with = "optional")]
    pub(crate) admin_listen: Option<SocketAddr>,
    pub(crate) public_url: String,
    pub(crate) origins: Vec<String>,
    #[serde(with = "duration")]
    pub(crate) drain: Duration,
    pub(crate) threads: usize,
}

impl Default for ServerSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin_listen: None,
            public_url: String::new(),
            origins: Vec::new(),
            drain: Duration::from_secs(30),
            threads: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeSection {
    pub(crate) id: String,
    pub(crate) roles: Vec<Role>,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self { id: String::new(), roles: Role::ALL.to_vec() }
    }
}

impl NodeSection {
    /// Whether the node does this.
    pub(crate) fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClusterSection {
    pub(crate) directory: BackendUrl,
}

impl Default for ClusterSection {
    fn default() -> Self {
        Self { directory: BackendUrl::new("") }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RoomsSection {
    pub(crate) allow: RoomRule,
    pub(crate) strip_prefix: String,
}

impl RoomsSection {
    /// The room that a name means: with the prefix taken off, unless nothing would be left, one of those that there are.
    pub(crate) fn room(&self, named: RoomId) -> Option<RoomId> {
        let short = named.as_str().strip_prefix(&*self.strip_prefix).filter(|rest| !rest.is_empty());
        let room = short.map_or(Ok(named.clone()), RoomId::new).ok()?;
        self.allow.allows(&room).then_some(room)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BrokerSection {
    pub(crate) url: BackendUrl,
    pub(crate) prefix: String,
    pub(crate) logs: u16,
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    pub(crate) retain: usize,
}

impl Default for BrokerSection {
    fn default() -> Self {
        let MemoryBrokerConfig { logs, entries, bytes, retain, .. } = MemoryBrokerConfig::default();
        Self { url: BackendUrl::new("memory:"), prefix: "chatflow".into(), logs, entries, bytes, retain }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreSection {
    pub(crate) url: BackendUrl,
    pub(crate) reader_url: BackendUrl,
    pub(crate) writers: usize,
    pub(crate) readers: usize,
    #[serde(with = "duration")]
    pub(crate) lease: Duration,
    pub(crate) migrate: bool,
    pub(crate) summaries: bool,
    #[serde(with = "duration")]
    pub(crate) retention: Duration,
    pub(crate) keep: usize,
    pub(crate) dead_letters: String,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            url: BackendUrl::new("sqlite:chatflow.db"),
            reader_url: BackendUrl::new(""),
            writers: 8,
            readers: 4,
            lease: Duration::from_secs(10),
            migrate: true,
            summaries: true,
            retention: Duration::ZERO,
            keep: 10_000,
            dead_letters: String::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheSection {
    pub(crate) url: BackendUrl,
    pub(crate) bytes: usize,
    #[serde(with = "duration")]
    pub(crate) idle: Duration,
    #[serde(with = "duration")]
    pub(crate) figures: Duration,
}

impl Default for CacheSection {
    fn default() -> Self {
        Self { url: BackendUrl::new("memory:"), bytes: 64 << 20, idle: Duration::from_secs(60), figures: Duration::from_secs(1) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsSection {
    pub(crate) connections: usize,
    pub(crate) connections_per_address: usize,
    pub(crate) connections_per_user: usize,
    pub(crate) trusted_proxies: Proxies,
    pub(crate) body: usize,
    pub(crate) headers: usize,
    #[serde(with = "duration")]
    pub(crate) handshake: Duration,
    pub(crate) publish_rate: u32,
    pub(crate) publish_rate_anonymous: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let engine = Settings::default();
        Self {
            connections: 50_000,
            connections_per_address: 200,
            connections_per_user: 20,
            trusted_proxies: Proxies::default(),
            body: 64 << 10,
            headers: 16 << 10,
            handshake: Duration::from_secs(5),
            publish_rate: engine.publish_rate,
            publish_rate_anonymous: engine.publish_rate_anonymous,
        }
    }
}

/// [`Limits`] in the form that fits an environment variable: ranges are written `"1..500"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ValidatorSection {
    #[serde(with = "range")]
    pub(crate) message: std::ops::RangeInclusive<usize>,
    #[serde(with = "range")]
    pub(crate) username: std::ops::RangeInclusive<usize>,
    pub(crate) username_alphanumeric: bool,
    pub(crate) user_id: UserIds,
    pub(crate) kinds: Vec<String>,
}

impl Default for ValidatorSection {
    fn default() -> Self {
        let Limits { message, username, username_alphanumeric, user_id, kinds, .. } = Limits::default();
        let kinds = kinds.iter().map(ToString::to_string).collect();
        Self { message, username, username_alphanumeric, user_id: UserIds(user_id), kinds }
    }
}

impl ValidatorSection {
    /// The validator's own form.
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.message = self.message.clone();
        limits.username = self.username.clone();
        limits.username_alphanumeric = self.username_alphanumeric;
        limits.user_id = self.user_id.0.clone();
        limits.kinds = self.kinds.iter().map(|kind| kind.as_str().into()).collect();
        limits
    }
}

/// Whole numbers in a range, or `"any"` text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UserIds(pub(crate) Option<std::ops::RangeInclusive<u64>>);

impl Serialize for UserIds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(numbers) => range::serialize(numbers, serializer),
            None => serializer.serialize_str("any"),
        }
    }
}

impl<'de> Deserialize<'de> for UserIds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "any" { Ok(Self(None)) } else { range::parse(&text).map(|r| Self(Some(r))).map_err(serde::de::Error::custom) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSection {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BackupSection {
    #[serde(with = "duration")]
    pub(crate) every: Duration,
    pub(crate) dir: String,
    pub(crate) keep: usize,
}

impl Default for BackupSection {
    fn default() -> Self {
        Self { every: Duration::ZERO, dir: "backup".into(), keep: 7 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthSection {
    pub(crate) required: bool,
    pub(crate) secret: Secret,
    #[serde(with = "duration")]
    pub(crate) token_ttl: Duration,
    #[serde(with = "duration")]
    pub(crate) ticket_ttl: Duration,
    #[serde(with = "duration")]
    pub(crate) notice: Duration,
    pub(crate) login_rate: u32,
}

impl Default for AuthSection {
    fn default() -> Self {
        let AccountSettings { required, token_ttl, ticket_ttl, notice, .. } = AccountSettings::default();
        Self { required, secret: Secret::default(), token_ttl, ticket_ttl, notice, login_rate: 10 }
    }
}

impl AuthSection {
    /// The authenticator's own form.
    pub(crate) fn settings(&self) -> AccountSettings {
        let settings = AccountSettings::default().with_required(self.required).with_ttl(self.token_ttl, self.ticket_ttl);
        let settings = settings.with_notice(self.notice);
        match self.secret.reveal() {
            Some(secret) => settings.with_secret(secret),
            None => settings,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminSection {
    pub(crate) token: Secret,
}

impl Config {
    /// The engine's settings, with the rates that the configuration keeps among the limits.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = self.engine.clone();
        settings.publish_rate = self.limits.publish_rate;
        settings.publish_rate_anonymous = self.limits.publish_rate_anonymous;
        settings
    }
}

/// A value that the empty text leaves unset, so that every key can stand in a file and in the environment.
mod optional {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
    }
}

/// `"1..500"`, both ends included.
mod range {
    use std::fmt::Display;
    use std::ops::RangeInclusive;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(range: &RangeInclusive<T>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}..{}", range.start(), range.end()))
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<RangeInclusive<T>, D::Error>
    where
        T: FromStr + PartialOrd,
        D: Deserializer<'de>,
    {
        parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    pub(super) fn parse<T: FromStr + PartialOrd>(text: &str) -> Result<RangeInclusive<T>, &'static str> {
        let ends = text.split_once("..").and_then(|(start, end)| Some((start.trim().parse().ok()?, end.trim().parse().ok()?)));
        ends.filter(|(start, end): &(T, T)| start <= end).map(|(start, end)| start..=end).ok_or("not a range")
    }
}
