//! Giving messages to everybody in a room: from the log's entries to one write for each member, without the operating system.
//!
//! `cargo bench --bench fanout`. One thread does all of it, so a time here is CPU time. The figure is deliveries per second.

mod crowd;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crowd::Crowd;

fn fanout(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = c.benchmark_group("fanout");
    for window in [1, 64] {
        for (rooms, members) in [(1, 1), (1, 100), (1, 1_000), (1, 10_000), (20, 50), (1_000, 10)] {
            let name = BenchmarkId::new(format!("{rooms} x {members}"), format!("window {window}"));
            group.throughput(Throughput::Elements((rooms * members * window) as u64));
            let mut crowd = runtime.block_on(async { Crowd::new(rooms, members) });
            group.bench_function(name, |b| {
                b.iter(|| {
                    crowd.say(black_box(rooms), window);
                    runtime.block_on(crowd.heard());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, fanout);
criterion_main!(benches);
