//! Why a command ended without having done its work.

use std::fmt;

use chatflow_core::{Error, ErrorKind};

use crate::config::ConfigError;

/// One line for a person, and the exit code.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It can't be done as it is configured or asked for: 2.
    Config(ConfigError),
    /// It was tried: 1.
    Work(String),
}

impl Failed {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            Self::Work(_) => 1,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Work(text) => f.write_str(text),
        }
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self::Work(text)
    }
}

impl From<&str> for Failed {
    fn from(text: &str) -> Self {
        Self::Work(text.to_owned())
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Invalid | ErrorKind::Config => Self::Config(ConfigError::line(error.to_string())),
            _ => Self::Work(error.to_string()),
        }
    }
}
