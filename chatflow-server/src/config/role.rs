//! What a node does.

use std::fmt;

use chatflow_core::directory;
use serde::{Deserialize, Serialize};

/// One of the things that a node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Serves WebSockets.
    Gateway,
    /// Writes the history.
    History,
    /// Answers `/api/v1`.
    Api,
}

impl Role {
    /// All of them: what a node does unless it is told otherwise.
    pub(crate) const ALL: [Self; 3] = [Self::Gateway, Self::History, Self::Api];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => directory::GATEWAY,
            Self::History => directory::HISTORY,
            Self::Api => directory::API,
        })
    }
}
