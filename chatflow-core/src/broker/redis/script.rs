//! The scripts that Redis runs: each is one step that nothing can come in between.
//!
//! # Why a position is never given twice
//! A log's head names its epoch and the *life* of the server in which that epoch began: the server's replication id, which is another
//! one after every restart, failover and promotion. `publish` appends only in the epoch that the caller names and only in the life that
//! the head names. So whatever became of the tail while a server was away (a cut append-only file, an old copy, a replica that had not
//! everything), nobody appends to what is left: first somebody begins an epoch, which records where the old one ends now. Entries
//! beyond that were lost, and a reader that has seen one of them is told.

use std::sync::LazyLock;

use redis::Cmd;

/// A script, and the name by which the server knows it once it was loaded.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    hash: String,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $(
            $(#[$doc])*
            pub(super) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new(concat!(include_str!("scripts/shared.lua"), include_str!($file))));
        )*
        /// All of them.
        pub(super) fn all() -> [&'static Script; [$($file),*].len()] {
            [$(&$name),*]
        }
    };
}

scripts! {
    /// What is there.
    LOOK = "scripts/look.lua";
    /// Begins an epoch.
    BEGIN = "scripts/begin.lua";
    /// Appends a batch.
    PUBLISH = "scripts/publish.lua";
    /// Reads some batches.
    PAGE = "scripts/page.lua";
    /// Says how far a history is, and trims.
    SETTLE = "scripts/settle.lua";
    /// Tries what the user may do.
    PROBE = "scripts/probe.lua";
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: redis::Script::new(text).get_hash().to_owned() }
    }

    /// The command that runs it on these keys; arguments follow. It fails with `NOSCRIPT` where it was not loaded.
    pub(super) fn on(&self, keys: &[&str]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }

    /// The command that loads it.
    pub(super) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(self.text);
        command
    }
}
