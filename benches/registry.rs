//! Coming and going: a room is joined and left again.
//!
//! `cargo bench --bench registry`. The figure is pairs of a join and a leave per second, on one thread.

mod crowd;

use chatflow_core::RoomRegistry;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crowd::{Crowd, room};

/// Who comes and goes between two messages of a busy room.
const VISITORS: usize = 64;

fn churn(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = c.benchmark_group("join and leave");
    group.throughput(Throughput::Elements(VISITORS as u64));

    for rooms in [1, 100_000] {
        let crowd = runtime.block_on(async { Crowd::new(rooms, 1) });
        let outlet = crowd.outlet(1);
        // Far apart, so that it is not always the same few that are looked up.
        let names: Vec<_> = (0..VISITORS).map(|i| room(i * 7_919 % rooms)).collect();
        group.bench_function(format!("a member's room, of {rooms}"), |b| {
            b.iter(|| names.iter().for_each(|name| crowd.registry.leave(&crowd.join(name, &outlet))));
        });
        let fresh: Vec<_> = (0..VISITORS).map(|i| room(rooms + i)).collect();
        group.bench_function(format!("a new room, beside {rooms}"), |b| {
            b.iter(|| fresh.iter().for_each(|name| crowd.registry.leave(&crowd.join(name, &outlet))));
        });
    }

    // What the visitors cost beside a message to the thousand that stay: compare the two.
    for visitors in [0, VISITORS] {
        let mut crowd = runtime.block_on(async { Crowd::new(1, 1_000) });
        let outlets: Vec<_> = (0..visitors as u64).map(|i| crowd.outlet(1_000_000 + i)).collect();
        group.bench_function(format!("a message to 1000, {visitors} visitors"), |b| {
            b.iter(|| {
                let visits: Vec<_> = outlets.iter().map(|outlet| crowd.join(&room(0), outlet)).collect();
                visits.iter().for_each(|member| crowd.registry.leave(member));
                crowd.say(1, 1);
                runtime.block_on(crowd.heard());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, churn);
criterion_main!(benches);
