//! What a check found, step by step.

use std::time::{Duration, Instant};

use chatflow_client::Endpoint;
use serde::Serialize;

use crate::terminal::{Paint, harmless, print};

/// All steps so far. With a [`Paint`] each is shown as it ends.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    url: String,
    room: String,
    ok: bool,
    steps: Vec<Step>,
    #[serde(skip)]
    paint: Option<Paint>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    ok: bool,
    ms: f64,
    detail: String,
}

impl Report {
    pub(super) fn new(endpoint: &Endpoint, room: &str, paint: Option<Paint>) -> Self {
        Self { url: endpoint.to_string(), room: room.to_owned(), ok: true, steps: Vec::new(), paint }
    }

    /// Does one step within `limit`. `detail` says what of its result is worth showing.
    pub(super) async fn step<T>(
        &mut self,
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, String>>,
        detail: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let began = Instant::now();
        let late = || Err(format!("nothing within {} s", limit.as_secs_f32()));
        let result = tokio::time::timeout(limit, Box::pin(work)).await.unwrap_or_else(|_| late());
        let ms = (began.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        let detail = match &result {
            Ok(value) => detail(value),
            Err(problem) => harmless(problem),
        };
        let step = Step { name, ok: result.is_ok(), ms, detail };
        if let Some(paint) = self.paint {
            print(&step.line(paint));
        }
        self.ok &= step.ok;
        self.steps.push(step);
        result.ok()
    }

    pub(super) fn passed(&self) -> bool {
        self.ok
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are always JSON")
    }
}

impl Step {
    fn line(&self, paint: Paint) -> String {
        let mark = if self.ok { paint.good("✓") } else { paint.bad("✗") };
        let detail = if self.ok { paint.dim(&self.detail) } else { self.detail.clone() };
        format!("{mark} {:<10} {:>8.1} ms  {detail}", self.name, self.ms).trim_end().to_owned()
    }
}
