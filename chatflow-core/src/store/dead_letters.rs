//! Where dead letters are kept.

mod file;
mod memory;

pub use file::FileDeadLetters;
pub use memory::MemoryDeadLetters;

/// The most letters that are kept. Beyond, something is so wrong that the pipeline should stop: a put is refused.
const MOST: usize = 1_000_000;

fn full(origin: &'static str) -> crate::Error {
    crate::Error::new(crate::ErrorKind::Full, origin, format!("{MOST} dead letters are waiting for somebody to look at them"))
}
