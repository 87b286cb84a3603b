//! A small, correct server in memory, and ways to make it wrong.

pub(crate) mod reference;
