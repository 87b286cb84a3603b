//! A configuration as a TOML document, for a person.

use std::fmt::Write;

use toml::Value;

use super::keys::KEYS;
use super::layers::Layers;
use super::{Config, secret};

/// Every key with its meaning, what it may be, and its default. It parses back to the defaults.
pub(crate) fn default_document() -> String {
    let mut out = String::from(
        "# ChatFlow's configuration: every key with its default. Each can also be set in the environment, as in\n\
         # CHATFLOW_SERVER__LISTEN, or on the command line, as in --set server.listen=0.0.0.0:8080; the later wins.\n",
    );
    document(&mut out, &Config::default(), |out, key, value| {
        let _ = writeln!(out, "\n# {}\n# It is {}.\n{} = {value}", key.about, key.allowed, name(key.path));
    });
    out
}

/// What is in force, without secrets, and where each value that is not a default comes from.
pub(crate) fn effective_document(config: &Config, layers: &Layers) -> String {
    let mut out = String::new();
    document(&mut out, config, |out, key, value| {
        let shown = match value {
            Value::String(text) if key.secret && !text.is_empty() => Value::from("…"),
            Value::String(text) => Value::from(secret::without_password(text)),
            other => other.clone(),
        };
        let from = layers.source(key.path).map(|source| format!(" # from {source}")).unwrap_or_default();
        let _ = writeln!(out, "{} = {shown}{from}", name(key.path));
    });
    out
}

fn document(out: &mut String, config: &Config, mut line: impl FnMut(&mut String, &super::keys::Key, &Value)) {
    let table = Value::try_from(config).expect("texts, numbers, truths and lists are all TOML");
    let mut section = "";
    for key in KEYS {
        let (of, name) = key.path.split_once('.').expect("every key is in a section");
        if of != section {
            section = of;
            let _ = writeln!(out, "{}[{section}]", if out.is_empty() { "" } else { "\n" });
        }
        line(out, key, &table[of][name]);
    }
}

fn name(path: &str) -> &str {
    path.split_once('.').map_or(path, |(_, name)| name)
}
