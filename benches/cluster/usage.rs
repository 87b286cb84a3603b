//! Who uses the processor.

use std::collections::BTreeMap;
use std::time::Duration;

/// The unit of `/proc`: a hundredth of a second, on every Linux that Rust runs on.
const TICKS: f64 = 100.0;

/// Processor time of groups of processes, as last seen.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// The group, and its ticks before it was counted and now, for each process.
    processes: BTreeMap<i32, (&'static str, u64, u64)>,
}

impl Usage {
    /// Counts these, from now.
    pub(crate) fn of(&mut self, group: &'static str, processes: impl IntoIterator<Item = i32>) {
        for id in processes {
            self.processes.entry(id).or_insert_with(|| {
                let now = ticks(id).unwrap_or(0);
                (group, now, now)
            });
        }
    }

    /// Looks again.
    pub(crate) fn look(&mut self) {
        for (id, (_, _, now)) in &mut self.processes {
            // One that has ended keeps what it had.
            *now = ticks(*id).unwrap_or(*now).max(*now);
        }
    }

    /// Says what each group used over that time.
    pub(crate) fn tell(&self, wall: Duration) {
        let mut groups = BTreeMap::<_, f64>::new();
        for (group, before, now) in self.processes.values() {
            *groups.entry(*group).or_default() += (now - before) as f64 / TICKS;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let all = wall.as_secs_f64() * cores;
        let shares: Vec<_> =
            groups.iter().map(|(group, seconds)| format!("{group} {seconds:.1} s ({:.0} %)", seconds / all * 100.0)).collect();
        println!("processor      {} of {all:.1} s on {cores} cores", shares.join(", "));
    }
}

/// User and system time of a process.
fn ticks(id: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}
