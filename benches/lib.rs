//! ChatFlow, measured. The benches are files beside this one: `cargo bench --bench NAME`.
