//! The directories of the library against the public suite.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "redis")]
#[path = "directories/redis.rs"]
mod redis;

use std::sync::Arc;

use chatflow_core::conformance::directory::Subject;
use chatflow_core::directory::memory::MemoryDirectory;
use chatflow_core::directory_suite;

directory_suite!(memory, async {
    let directory = Arc::new(MemoryDirectory::new());
    Subject::new(directory.clone(), directory)
});
