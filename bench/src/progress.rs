//! What a person sees on standard error while a long part runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::data::{Dataset, Settings};

/// Prints the pace of a counter of spans every five seconds, until dropped.
pub(crate) struct Ticker {
    task: JoinHandle<()>,
}

const PERIOD: Duration = Duration::from_secs(5);

impl Ticker {
    pub(crate) fn start(spans: Arc<AtomicU64>) -> Self {
        let task = tokio::spawn(async move {
            let mut before = 0;
            loop {
                tokio::time::sleep(PERIOD).await;
                let now = spans.load(Ordering::Relaxed);
                eprintln!("  {now} spans acknowledged, {:.0} spans/s", (now - before) as f64 / PERIOD.as_secs_f64());
                before = now;
            }
        });
        Self { task }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes data, and says so.
pub(crate) fn generate(settings: &Settings) -> Arc<Dataset> {
    let begin = Instant::now();
    let dataset = Arc::new(Dataset::generate(settings));
    eprintln!(
        "made {} spans in {} traces and {} requests, {:.1} B a span, {:.1} s of traffic, in {:.1} s",
        dataset.spans,
        dataset.traces.len(),
        dataset.templates.len(),
        dataset.bytes as f64 / dataset.spans as f64,
        dataset.length_ns as f64 / 1e9,
        begin.elapsed().as_secs_f64()
    );
    dataset
}
