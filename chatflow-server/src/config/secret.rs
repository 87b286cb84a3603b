//! Texts that must not be shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token. Its `Debug` says only whether there is one.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// The token itself; `None` when none is set.
    pub(crate) fn reveal(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|text| !text.is_empty())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "unset" } else { "…" })
    }
}

/// Where a backend is. It may hold a password, which neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct BackendUrl(String);

impl BackendUrl {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL itself, to connect with.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The scheme, and what comes after its colon; a text without a colon is all scheme.
    pub(crate) fn split(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or((&self.0, ""))
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

impl fmt::Debug for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", without_password(&self.0))
    }
}

/// The URL with `…` in the place of what stands between `//user:` and `@`.
pub(super) fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.find('/').unwrap_or(rest.len());
        let at = rest[..authority].rfind('@')?;
        let user = rest[..at].split(':').next()?;
        Some(format!("{scheme}://{user}:…{}", &rest[at..]))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_debug_shows_a_secret() {
        let token = Secret("hunter2".into());
        let url = BackendUrl::new("postgres://ada:hunter2@db:5432/chat?x=@y");
        let shown = format!("{token:?} {url:?} {url}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("postgres://ada:…@db:5432/chat?x=@y"), "{shown}");
        assert_eq!(without_password("sqlite:chat@home.db"), "sqlite:chat@home.db");
        assert_eq!(without_password("redis://host:1"), "redis://host:1");
    }
}
