//! Public suites: hold a backend of your own against the guarantees that the traits number.
//!
//! A suite is a list of async functions, one a case, and a macro that makes a `#[tokio::test]` of each. A case's name begins
//! with the guarantee that it shows.

pub mod accounts;
pub mod analytics;
pub mod broker;
pub mod dead_letters;
mod dice;
pub mod directory;
pub mod registry;
pub mod store;
