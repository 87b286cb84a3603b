//! ChatFlow, used: every example is a program of its own in this folder.

/// The Rust in the README and the guide, compiled and run.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/guide.md")]
    mod guide {}
}
