//! Laying file, environment and flags over one another, and telling what is wrong in one line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::{Error as ValueError, StrDeserializer};
use toml::{Table, Value};

use super::keys::{self, Allowed};
use super::{Config, secret};

/// What the command line sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// `--config`.
    pub(crate) file: Option<PathBuf>,
    /// The named flags: flag, key, value.
    pub(crate) named: Vec<(&'static str, &'static str, String)>,
    /// `--set section.key=value`.
    pub(crate) set: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{:?}", path.display().to_string()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Why the server does not start as it is configured: one line that names key, value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ConfigError(String);

impl ConfigError {
    /// The value of `key` is not possible, for `reason`.
    pub(crate) fn at(key: &str, value: &impl fmt::Debug, reason: impl fmt::Display) -> Self {
        let allowed = keys::find(key).map(|key| format!("; it must be {}", key.allowed)).unwrap_or_default();
        Self::line(format!("{key} = {value:?}: {reason}{allowed}"))
    }

    /// Something else is wrong.
    pub(crate) fn line(text: impl Into<String>) -> Self {
        // One line, whatever a backend or the operating system put into it.
        Self(text.into().split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    }
}

/// Every value that was set, with the place it comes from; the later layer wins.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    values: BTreeMap<String, (Value, Source)>,
}

const PREFIX: &str = "CHATFLOW_";

impl Layers {
    /// Reads the file that `flags` name, then `environment`, then `flags`.
    ///
    /// # Errors
    /// A file that can't be read or is not TOML, a key that there isn't.
    pub(crate) fn read(flags: &Flags, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        if let Some(path) = &flags.file {
            layers.file(path)?;
        }
        // Sorted, so that of several faults the same one is told each time.
        for (name, value) in environment.into_iter().collect::<BTreeMap<_, _>>() {
            // Names without a double underscore are left alone: container platforms set `CHATFLOW_PORT` and the like.
            if let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__")) {
                let path = format!("{section}.{key}").to_lowercase();
                layers.text(path, &value, Source::Environment(name))?;
            }
        }
        for (flag, key, value) in &flags.named {
            layers.text((*key).to_owned(), value, Source::Flag(flag))?;
        }
        for assignment in &flags.set {
            let (key, value) =
                assignment.split_once('=').ok_or_else(|| ConfigError::line(format!("--set {assignment:?}: must be section.key=value")))?;
            layers.text(key.trim().to_owned(), value, Source::Flag("--set"))?;
        }
        Ok(layers)
    }

    /// The configuration that the layers make, checked.
    ///
    /// # Errors
    /// A value of the wrong type, out of range, or in contradiction to another.
    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let mut table = Table::new();
        for (path, (value, _)) in &self.values {
            let (section, key) = path.split_once('.').unwrap_or((path, ""));
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(key.to_owned(), value.clone());
            }
        }
        let config = serde_path_to_error::deserialize(table).map_err(|error: serde_path_to_error::Error<toml::de::Error>| {
            // Elements of a list are named `section.key[1]`; the key is what can be looked up.
            let path = error.path().to_string();
            self.wrong(path.split('[').next().unwrap_or_default())
        })?;
        self.ranges()?;
        self.check(&config)?;
        Ok(config)
    }

    /// Where the value of `key` comes from; `None` when it is the default.
    pub(super) fn source(&self, key: &str) -> Option<&Source> {
        self.values.get(key).map(|(_, source)| source)
    }

    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::line(format!("--config {shown:?}: {error}; it must be a readable TOML file")))?;
        let table: Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            let line = text.get(..at).unwrap_or(&text).matches('\n').count() + 1;
            ConfigError::line(format!("--config {shown:?}: line {line}: {}; it must be TOML", error.message()))
        })?;
        for (section, content) in table {
            let Value::Table(content) = content else {
                return Err(unknown(&section, &Source::File(path.to_owned())));
            };
            for (key, value) in content {
                self.put(format!("{section}.{key}"), value, Source::File(path.to_owned()))?;
            }
        }
        Ok(())
    }

    /// Sets a key from text, which becomes what the key's default is: a number, a truth, a list at commas, or text.
    fn text(&mut self, path: String, text: &str, source: Source) -> Result<(), ConfigError> {
        let as_it_is = || Value::String(text.to_owned());
        let value = match default_value(&path) {
            Some(Value::Integer(_)) => text.trim().replace('_', "").parse().map_or_else(|_| as_it_is(), Value::Integer),
            Some(Value::Boolean(_)) => text.trim().parse().map_or_else(|_| as_it_is(), Value::Boolean),
            Some(Value::Array(_)) => {
                Value::Array(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect())
            }
            _ => as_it_is(),
        };
        self.put(path, value, source)
    }

    fn put(&mut self, path: String, value: Value, source: Source) -> Result<(), ConfigError> {
        if keys::find(&path).is_none() {
            return Err(unknown(&path, &source));
        }
        self.values.insert(path, (value, source));
        Ok(())
    }

    /// The line for a value that is not allowed.
    fn wrong(&self, path: &str) -> ConfigError {
        let key = keys::find(path);
        let shown = match self.values.get(path) {
            Some(_) if key.is_some_and(|key| key.secret) => "\"…\"".to_owned(),
            Some((Value::String(text), _)) => format!("{:?}", secret::without_password(text)),
            Some((value, _)) => value.to_string(),
            None => "unset".to_owned(),
        };
        let from = self.source(path).map(|source| format!(" (from {source})")).unwrap_or_default();
        let allowed = key.map(|key| key.allowed.to_string()).unwrap_or_default();
        ConfigError::line(format!("{path} = {shown}{from}: must be {allowed}"))
    }

    fn ranges(&self) -> Result<(), ConfigError> {
        for (path, (value, _)) in &self.values {
            let inside = match (keys::find(path).map(|key| key.allowed), value) {
                (Some(Allowed::Number(least, most)), Value::Integer(number)) => (least..=most).contains(number),
                (Some(Allowed::Time(least, most)), Value::String(text)) => {
                    chatflow_core::duration::deserialize(StrDeserializer::<ValueError>::new(text))
                        .is_ok_and(|time| (least..=most).contains(&u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
                }
                _ => true,
            };
            if !inside {
                return Err(self.wrong(path));
            }
        }
        Ok(())
    }

    /// What types and ranges don't say.
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let word =
            |text: &str, most: usize, more: &str| text.len() <= most && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
        let token = config.admin.token.reveal();
        let printable = |token: &str, least| token.len() >= least && token.bytes().all(|b| b.is_ascii_graphic());
        let kinds = &config.validator.kinds;
        let faults = [
            ("node.id", !word(&config.node.id, 64, "._-")),
            ("node.roles", config.node.roles.is_empty()),
            ("broker.prefix", config.broker.prefix.is_empty() || !word(&config.broker.prefix, 32, "_-")),
            ("rooms.strip_prefix", !word(&config.rooms.strip_prefix, 63, "_-")),
            ("server.public_url", !config.server.public_url.is_empty() && !is_origin(&config.server.public_url)),
            ("server.origins", !config.server.origins.iter().all(|origin| is_origin(origin) && !origin.ends_with('/'))),
            ("server.admin_listen", config.server.admin_listen.is_some_and(|address| !address.ip().is_loopback()) && token.is_none()),
            ("validator.kinds", kinds.is_empty() || kinds.iter().any(|kind| kind.is_empty() || !word(kind, 32, "_-"))),
            ("log.level", !is_filter(&config.log.level)),
            ("admin.token", token.is_some_and(|token| !printable(token, 16))),
            ("auth.secret", config.auth.secret.reveal().is_some_and(|secret| !printable(secret, 32))),
            ("backup.dir", config.backup.dir.is_empty()),
            ("store.retention", !config.store.retention.is_zero() && config.store.retention < config.engine.dedup_window),
        ];
        match faults.into_iter().find(|(_, wrong)| *wrong) {
            Some((path, _)) => Err(self.wrong(path)),
            None => Ok(()),
        }
    }
}

/// `http(s)://host[:port]`, with nothing behind but perhaps one slash.
fn is_origin(text: &str) -> bool {
    let uri = text.parse::<axum::http::Uri>().ok();
    uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.path() == "/" && uri.query().is_none())
}

/// `level` and `target=level`, comma-separated. The subscriber's own parser takes a mistyped level for a target.
fn is_filter(text: &str) -> bool {
    let level =
        |part: &str| part.rsplit('=').next().is_some_and(|level| level.trim().parse::<tracing::level_filters::LevelFilter>().is_ok());
    text.split(',').all(level) && text.parse::<tracing_subscriber::filter::Targets>().is_ok()
}

fn default_value(path: &str) -> Option<Value> {
    let (section, key) = path.split_once('.')?;
    let Ok(Value::Table(mut defaults)) = Value::try_from(Config::default()) else { return None };
    defaults.get_mut(section)?.as_table_mut()?.remove(key)
}

fn unknown(path: &str, source: &Source) -> ConfigError {
    let hint = match keys::nearest(path) {
        Some(key) => format!("did you mean {key}?"),
        None => "`chatflow-server default-config` lists every key".to_owned(),
    };
    ConfigError::line(format!("{:?} (from {source}): there is no such key; {hint}", path.escape_default().to_string()))
}
