//! Progress of a training where there is no terminal for Burn's dashboard.

use std::io::Write;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn_convexity::Report;

/// A line now and then where there is no terminal.
pub struct Lines {
    name: String,
    reports: Mutex<Receiver<Report>>,
    start: Instant,
    printed: Instant,
    total: usize,
    /// Epochs before the first of this process.
    before: Option<usize>,
}

impl Lines {
    /// Lines about the training whose optimizer sends these reports.
    pub fn new(name: &str, reports: Receiver<Report>) -> Self {
        let now = Instant::now();
        Self { name: name.into(), reports: Mutex::new(reports), start: now, printed: now, total: 0, before: None }
    }

    /// An epoch is over.
    pub fn epoch(&mut self, epoch: usize, total: usize) {
        let before = *self.before.get_or_insert(epoch - 1);
        if self.printed.elapsed().as_secs() < 5 && epoch != total {
            return;
        }
        self.printed = Instant::now();
        let seconds = self.start.elapsed().as_secs_f64();
        let left = seconds / (epoch - before) as f64 * (total - epoch) as f64;
        let last = self.reports.get_mut().unwrap_or_else(PoisonError::into_inner).try_iter().last();
        let loss = last.as_ref().and_then(|last| last.data_loss());
        let mut out = std::io::stdout();
        // A reader who has seen enough must not end the training.
        writeln!(
            out,
            "{:>20}  epoch {epoch:>4}/{}  {:<10}  train loss {:<9}  {seconds:.0} s, {left:.0} s left",
            self.name,
            total,
            last.map_or(String::new(), |last| last.phase.to_string()),
            loss.map_or("-".into(), |loss| format!("{loss:.2e}")),
        )
        .and_then(|()| out.flush())
        .ok();
    }
}

impl TrainingProgressLogger for Lines {
    fn start(&mut self, total_epochs: usize, _: usize, _: Option<usize>, _: Option<&str>) {
        self.total = total_epochs;
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch(epoch, self.total);
    }

    fn start_split(&mut self, _: &str, _: usize) {}
    fn update_split(&mut self, _: usize) {}
    fn end_split(&mut self) {}
    fn end(&mut self) {}
    fn log_event_training(&mut self, _: String) {}
}

impl EvaluationProgressLogger for Lines {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRendererTraining for Lines {
    fn update_train(&mut self, _: MetricState) {}
    fn update_valid(&mut self, _: MetricState) {}
}

impl MetricsRendererEvaluation for Lines {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl MetricsRenderer for Lines {
    fn manual_close(&mut self) {}
    fn register_metric(&mut self, _: MetricDefinition) {}
}
