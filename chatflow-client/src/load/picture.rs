//! Throughput over time: in buckets that fit the length of the run, as a table and as a picture.

use std::path::Path;

use plotters::prelude::*;
use serde::Serialize;

use super::stats::TICK_US;

/// Widths of buckets, in ticks of a tenth of a second: 0.1 s to the 10 s of the older systems.
const WIDTHS: [usize; 7] = [1, 2, 5, 10, 20, 50, 100];
/// A run has about so many buckets at most, until they are 10 s wide.
const BUCKETS: usize = 40;

/// Throughput over time.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Buckets {
    /// Seconds.
    pub(super) width: f64,
    /// Answers with success per second.
    pub(super) messages: Vec<f64>,
    /// Broadcasts received per second, all members together.
    pub(super) deliveries: Vec<f64>,
}

impl Buckets {
    /// From counts for each tick of a run of so many seconds. What is left at the end counts for the time that it
    /// lasted, and belongs to the bucket before if that is less than half of one.
    pub(super) fn of(ticks: &[[u64; 2]], seconds: f64) -> Self {
        let tick = TICK_US as f64 / 1e6;
        let needed = ((seconds / tick).ceil() as usize).max(1);
        let width = WIDTHS.into_iter().find(|w| needed.div_ceil(*w) <= BUCKETS).unwrap_or(WIDTHS[WIDTHS.len() - 1]);
        let span = width as f64 * tick;
        let buckets = ((seconds / span).round() as usize).max(1);
        let rate = |at: usize, kind: usize| {
            let last = at + 1 == buckets;
            let from = (at * width).min(ticks.len());
            let until = if last { needed } else { from + width };
            let count: u64 = ticks[from..until.clamp(from, ticks.len())].iter().map(|t| t[kind]).sum();
            count as f64 / if last { (seconds - at as f64 * span).max(tick / 10.0) } else { span }
        };
        let rates = |kind| (0..buckets).map(|at| rate(at, kind)).collect();
        Self { width: span, messages: rates(0), deliveries: rates(1) }
    }

    /// Draws the messages per second as an SVG file.
    pub(super) fn draw(&self, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, (900, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let seconds = self.messages.len() as f64 * self.width;
        let highest = self.messages.iter().copied().fold(1.0, f64::max) * 1.1;
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("Messages per second, buckets of {} s", self.width), ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..seconds.max(self.width), 0.0..highest)?;
        chart
            .configure_mesh()
            .x_desc("seconds")
            .y_desc("msg/s")
            .y_label_formatter(&|rate| format!("{rate:.0}"))
            .light_line_style(WHITE)
            .disable_x_mesh()
            .draw()?;
        let bars = self.messages.iter().enumerate().map(|(at, rate)| {
            let from = at as f64 * self.width;
            let mut bar = Rectangle::new([(from, 0.0), (from + self.width, *rate)], RGBColor(46, 111, 173).filled());
            bar.set_margin(0, 0, 1, 1);
            bar
        });
        chart.draw_series(bars)?;
        area.present()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_fit_the_length_of_the_run() {
        for (ticks, width) in [(1, 0.1), (40, 0.1), (41, 0.2), (400, 1.0), (4_000, 10.0), (36_000, 10.0)] {
            let buckets = Buckets::of(&vec![[10, 30]; ticks], ticks as f64 / 10.0);
            assert_eq!(buckets.width, width, "{ticks}");
            let all = |rates: &[f64], rate: f64| rates.iter().all(|r| (r - rate).abs() < 1e-6);
            assert!(all(&buckets.messages, 100.0) && all(&buckets.deliveries, 300.0), "{buckets:?}");
        }
    }

    #[test]
    fn the_last_bucket_counts_for_the_time_that_it_lasted() {
        let ticks = [[10, 0], [10, 0], [5, 0]];
        let rates = |seconds| Buckets::of(&ticks, seconds).messages.iter().map(|r| r.round()).collect::<Vec<_>>();
        assert_eq!(rates(0.26), [100.0, 100.0, 83.0]);
        assert_eq!(rates(0.24), [100.0, 107.0], "too short for one of its own");
        assert_eq!(Buckets::of(&[], 0.0).messages, [0.0]);
    }

    #[test]
    fn the_picture_is_an_svg_that_states_its_buckets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("throughput.svg");
        Buckets::of(&[[10, 30]; 12], 1.2).draw(&path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("buckets of 0.1 s"));
        assert!(svg.matches("<rect").count() >= 12);
    }
}
