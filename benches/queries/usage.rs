//! Who uses the processor.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// The unit of `/proc`: a hundredth of a second, on every Linux that Rust runs on.
const TICK: Duration = Duration::from_millis(10);

/// What a process and all that it has started have used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage(u64);

impl Usage {
    /// Of these processes, until now. What has ended counts with who started it.
    pub(crate) fn of(processes: &[i32]) -> Self {
        let numbers = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let all: HashMap<i32, (i32, u64)> = numbers.filter_map(|id| Some((id, stat(id)?))).collect();
        let is_of = |id: &i32| {
            let parents = std::iter::successors(Some(*id), |id| all.get(id).map(|(parent, _)| *parent));
            parents.take(32).any(|id| processes.contains(&id))
        };
        Self(all.iter().filter(|(id, _)| is_of(id)).map(|(_, (_, ticks))| ticks).sum())
    }

    pub(crate) fn since(&self, before: &Self) -> Duration {
        TICK * u32::try_from(self.0.saturating_sub(before.0)).unwrap()
    }
}

/// The parent of a process, and its user and system time with that of its children that have ended.
fn stat(id: i32) -> Option<(i32, u64)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}
