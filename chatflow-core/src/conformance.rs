//! Suites that hold an implementation against its trait's guarantees. Every backend of the library passes them; so should
//! yours.
//!
//! Each suite is a macro that makes one `#[tokio::test]` of each case. A case's name begins with the guarantee that it shows.

pub mod broker;
