//! Public suites: hold a backend of your own against the guarantees that the traits number.
//!
//! A suite is a list of async functions, one a case, and a macro that makes a `#[tokio::test]` of each.

pub mod dead_letters;
pub mod store;
