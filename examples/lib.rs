//! ChatFlow, used. The examples are files beside this one, one each: `cargo run --example NAME`.
