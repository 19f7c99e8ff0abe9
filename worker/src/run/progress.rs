//! Progress for people: one line that is written over on a terminal, a plain line now and then elsewhere.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use crate::{driver::Shared, ingest::IngestProgress, tell};

const ON_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(5);
const BAR: usize = 20;

/// Shows how far a run is.
pub(super) struct Progress {
    terminal: bool,
    shown_at: Instant,
    processed: u64,
}

impl Progress {
    pub(super) fn new(terminal: bool) -> Self {
        Self { terminal, shown_at: Instant::now(), processed: 0 }
    }

    /// Shows it if it is time to.
    pub(super) fn show(&mut self, shared: &Shared, ingesters: &[IngestProgress]) {
        let passed = self.shown_at.elapsed();
        if passed < if self.terminal { ON_TERMINAL } else { ELSEWHERE } {
            return;
        }
        let processed = shared.processed.load(Ordering::Relaxed);
        let rate = (processed - self.processed) as f64 / passed.as_secs_f64();
        (self.processed, self.shown_at) = (processed, Instant::now());
        let sources: Vec<String> = ingesters.iter().map(source).collect();
        let line =
            format!("{} | processed {processed} ({rate:.0}/s), lag {}", sources.join(", "), shared.lag().unwrap_or(0));
        if self.terminal {
            tell::bare(&format!("\r\x1b[K{line}"));
        } else {
            tell::line(&line);
        }
    }

    /// Leaves the line that was written over.
    pub(super) fn end(&self) {
        if self.terminal {
            tell::bare("\n");
        }
    }
}

fn source(progress: &IngestProgress) -> String {
    let state = match (progress.share, &progress.error) {
        (_, Some(error)) => format!("failed: {error}"),
        (Some(share), _) if !progress.done => {
            let filled = (share.clamp(0.0, 1.0) * BAR as f64) as usize;
            format!("[{}{}] {:.0} %", "=".repeat(filled), " ".repeat(BAR - filled), share * 100.0)
        }
        _ if progress.done => "done".into(),
        _ => format!("{:.0}/s", progress.rate),
    };
    format!("{} {} {state}", progress.name, progress.read)
}
