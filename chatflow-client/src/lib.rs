//! The ChatFlow client library.
