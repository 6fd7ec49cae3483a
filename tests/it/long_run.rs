//! A run without end: memory, time and the record stay what they are.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn::train::{Learner, SupervisedTraining};
use burn_convexity::EventKind;
use serde_json::json;

use crate::support::{Net, config, count, loader, swap_at};

/// What is known when an epoch begins.
#[derive(Clone, Copy, Debug)]
struct Mark {
    epoch: usize,
    /// Resident memory, KiB.
    resident: u64,
    /// Processor time of this process, s.
    seconds: f64,
    /// Bytes of the newest optimizer checkpoint.
    record: u64,
}

/// A renderer that keeps nothing but a mark now and then.
#[derive(Clone)]
struct Marks {
    folder: PathBuf,
    every: usize,
    marks: Arc<Mutex<Vec<Mark>>>,
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// User and system time, in hundredths of a second as Linux counts them; other processes do not count.
fn seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

fn record(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder.join("checkpoint")).into_iter().flatten().flatten();
    let optimizers = files.filter(|file| file.file_name().to_string_lossy().starts_with("optim-"));
    let sizes = optimizers.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len());
    sizes.max().unwrap_or(0)
}

impl TrainingProgressLogger for Marks {
    fn start(&mut self, _epochs: usize, _first: usize, _items: Option<usize>, _label: Option<&str>) {}

    fn update_epoch(&mut self, epoch: usize) {
        if epoch.is_multiple_of(self.every) {
            let mark = Mark { epoch, resident: resident(), seconds: seconds(), record: record(&self.folder) };
            println!("{mark:?}");
            self.marks.lock().expect("marks").push(mark);
        }
    }

    fn start_split(&mut self, _split: &str, _items: usize) {}

    fn update_split(&mut self, _items: usize) {}

    fn end_split(&mut self) {}

    fn end(&mut self) {}

    fn log_event_training(&mut self, _event: String) {}
}

impl EvaluationProgressLogger for Marks {
    fn start_global_progress(&mut self, _tests: usize) {}

    fn start_test(&mut self, _name: &str, _items: usize) {}

    fn update_test_progress(&mut self, _items: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRendererTraining for Marks {
    fn update_train(&mut self, _state: MetricState) {}

    fn update_valid(&mut self, _state: MetricState) {}
}

impl MetricsRendererEvaluation for Marks {
    fn update_test(&mut self, _name: EvaluationName, _state: MetricState) {}
}

impl MetricsRenderer for Marks {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, _definition: MetricDefinition) {}
}

/// `cargo test --release --features cli --test it -- --ignored --exact long_run::ten_thousand_epochs --nocapture`
#[test]
#[ignore = "minutes, and alone in its process: it measures memory and time"]
fn ten_thousand_epochs() {
    let epochs = std::env::var("LONG_RUN_EPOCHS").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let dir = tempfile::tempdir().expect("a folder");
    // It never gains enough: a hand-back after a few epochs and a swap again, all the way.
    let json = json!({
        "detector": swap_at(3),
        "direction": { "kind": "l_bfgs", "memory": 5 },
        "safe_resort": { "stall_gain": 0.99, "stall_cost": 2.0, "hold_off": 1, "max_hold_off": 1 },
    });
    let switching = config(json).init().expect("valid");
    let train = switching.track(loader(32, 16));
    let marks = Marks { folder: dir.path().into(), every: epochs / 10, marks: Arc::default() };
    let kept = marks.marks.clone();
    let learner = Learner::new(switching.attach(Net::new(4, 1)), switching.clone().into(), 1e-2);
    let result = SupervisedTraining::new(dir.path(), train, loader(32, 32))
        .renderer(Box::new(marks))
        .with_application_logger(None)
        .with_default_checkpointers()
        .with_checkpointing_strategy(KeepLastNCheckpoints::new(2))
        .num_epochs(epochs)
        .launch(learner);
    assert!(result.error.is_none());
    let swaps = count(&switching, |kind| matches!(kind, EventKind::Swap { .. }));
    println!("{:?}, {swaps} swaps among {} events kept", switching.counters(), switching.events().len());
    assert_eq!(switching.events().len(), 1_000);
    assert!(swaps > 100 && switching.counters().iterations > 100);

    let marks = kept.lock().expect("marks").clone();
    let share = |a: f64, b: f64| b / a - 1.0;
    let memory = share(marks[0].resident as f64, marks[9].resident as f64);
    // The record grows until the events kept are 1,000, which it takes three tenths of the run to reach.
    let [warm, next, before, last] = [2, 3, 8, 9].map(|tenth| marks[tenth]);
    let time = share(next.seconds - warm.seconds, last.seconds - before.seconds);
    let record = share(warm.record as f64, last.record as f64);
    println!("memory {:+.1} %, time {:+.1} %, record {:+.1} %", 100.0 * memory, 100.0 * time, 100.0 * record);
    assert!(last.epoch == epochs && warm.record > 0);
    assert!(memory.abs() < 0.05 && time < 0.2 && record.abs() < 0.05, "{marks:?}");
}
