//! One experiment: a model trained by several methods from the same initial parameters in the same order of the data,
//! each through Burn's Learner, and what is printed and left behind.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{AccuracyMetric, LossMetric, MetricDefinition};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn::train::{Learner, SupervisedTraining};
use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig, EventKind, Phase, Report};
use clap::{Parser, ValueEnum};
use serde_json::json;

use super::data::{EpochLoader, digits};
use super::device::DeviceName;
use super::models::vit::VitConfig;
use super::models::{Classifier, Loss, ModelKind, evaluate};
use super::plots;
use super::report::{self, Counters, Method, Summary, Swap, TraceRow, TraceWriter};

/// What a method's run may fail with; the message is meant for the user.
pub type Failure = Box<dyn std::error::Error>;

/// Train on the embedded digits with Adam, swap when the loss has become convex, and compare with Adam alone.
#[derive(Parser, Debug)]
pub struct Arguments {
    /// Configuration of the switching optimizer (JSON); the library's defaults without it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Epochs, for each method.
    #[arg(long)]
    epochs: Option<usize>,
    /// Seed of the initial parameters and of the order of the data.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for summary.json, trace.jsonl and the plots.
    #[arg(long)]
    out: Option<PathBuf>,
    /// flex, libtorch, libtorch-cuda:N or cuda:N.
    #[arg(long, default_value = "flex")]
    device: DeviceName,
    /// Methods to compare with at equal cost.
    #[arg(long, value_enum, default_value_t = Baseline::All)]
    baseline: Baseline,
    /// cross-entropy, or mse of the softmax.
    #[arg(long, default_value = "cross-entropy")]
    loss: Loss,
    /// Model: vit-mlp, vit-nomlp, vit-nomlp-wkewq, vit-nomlp-wkewq-wvwo or vgg5.
    #[arg(long)]
    model: Option<ModelKind>,
    /// Samples in a batch.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Learning rate of Adam.
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
}

/// Methods to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    None,
    Adam,
    AdamCosine,
    All,
}

/// What an example fixes.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    pub model: ModelKind,
    pub size: VitConfig,
    pub epochs: usize,
}

/// Run the example and print its table; a failure is one line on standard error.
pub fn main(defaults: Defaults) {
    let arguments = Arguments::parse();
    if let Err(failure) = run(&arguments, defaults) {
        eprintln!("error: {failure}");
        std::process::exit(1);
    }
}

/// The data and the model all methods start from.
struct Setup {
    train: EpochLoader,
    /// The training data in a fixed order, for the final numbers.
    measured: EpochLoader,
    valid: EpochLoader,
    model: Classifier,
    epochs: usize,
    lr: f64,
    out: PathBuf,
}

fn run(arguments: &Arguments, defaults: Defaults) -> Result<(), Failure> {
    let config = match &arguments.config {
        Some(path) => ConvexitySwitchingConfig::load(path)?,
        None => ConvexitySwitchingConfig::default(),
    };
    let epochs = arguments.epochs.unwrap_or(defaults.epochs);
    if epochs == 0 {
        return Err("--epochs must be at least 1".into());
    }
    let kind = arguments.model.unwrap_or(defaults.model);
    let device = arguments.device.open()?;
    device.seed(arguments.seed);
    let split = digits(32);
    let (train, valid) = (split.train.upload(&device), split.valid.upload(&device));
    let size = VitConfig { channels: 1, classes: 10, ..defaults.size };
    let network = kind.init(size, &device.clone().autodiff());
    let model = Classifier::new(network, arguments.loss).materialize();
    let parameters = model.num_params();
    let name = format!("{kind}-{}-seed{}", arguments.loss, arguments.seed);
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    fs::create_dir_all(&out).map_err(|error| format!("cannot write to {}: {error}", out.display()))?;
    let setup = Setup {
        train: EpochLoader::shuffled(&train, arguments.batch_size, arguments.seed)?,
        measured: EpochLoader::sequential(&train, arguments.batch_size)?,
        valid: EpochLoader::sequential(&valid, valid.len())?,
        model,
        epochs,
        lr: arguments.lr,
        out: out.clone(),
    };
    println!(
        "{kind} ({parameters} parameters) on {} digits, {} loss, {epochs} epochs a method, {}, seed {}",
        train.len(),
        arguments.loss,
        arguments.device,
        arguments.seed
    );

    let constant = || ModuleLrScheduler::from(arguments.lr);
    let never = ConvexitySwitchingConfig::from_json(r#"{"detector": {"kind": "never"}}"#, "baseline")?;
    let never = ConvexitySwitchingConfig { inner: config.inner.clone(), ..never };
    let mut trace = TraceWriter::create(&out.join("trace.jsonl"))?;
    let mut rows = Vec::new();
    let mut methods = Vec::new();
    let mut method = |name: &str, config: &ConvexitySwitchingConfig, scheduler| -> Result<(), Failure> {
        let (method, new) = train_with(&setup, name, config.init()?, scheduler)?;
        for row in &new {
            trace.write(row)?;
        }
        rows.extend(new);
        methods.push(method);
        Ok(())
    };
    if matches!(arguments.baseline, Baseline::Adam | Baseline::All) {
        method("adam", &never, constant())?;
    }
    if matches!(arguments.baseline, Baseline::AdamCosine | Baseline::All) {
        let steps = epochs * train.len().div_ceil(arguments.batch_size);
        let cosine = CosineAnnealingLrSchedulerConfig::new(arguments.lr, steps).init()?;
        method("adam_cosine", &never, cosine)?;
    }
    method("convexity_switching", &config, constant())?;

    let mut summary = Summary {
        model: kind.to_string(),
        dataset: "digits".into(),
        loss: arguments.loss.to_string(),
        parameters,
        seed: arguments.seed,
        device: arguments.device.to_string(),
        config: serde_json::to_value(&config)?,
        methods,
    };
    summary.set_cost_to_adam(&rows);
    summary.save(&out.join("summary.json"))?;
    let title = format!("{kind}, digits, {}, seed {}", arguments.loss, arguments.seed);
    let ours: Vec<TraceRow> = rows.iter().filter(|row| row.method == "convexity_switching").cloned().collect();
    plots::norm_against_loss(&out.join("norm_against_loss.svg"), &title, &ours)?;
    plots::loss_against_cost(&out.join("loss_against_cost.svg"), &title, &rows)?;
    println!("\n{}", summary.table());
    println!("summary.json, trace.jsonl and two plots are in {}", out.display());
    Ok(())
}

/// Train by one method through the Learner.
fn train_with(
    setup: &Setup,
    name: &str,
    switching: ConvexitySwitching,
    scheduler: ModuleLrScheduler,
) -> Result<(Method, Vec<TraceRow>), Failure> {
    let start = Instant::now();
    let reports = switching.reports();
    let train = switching.track(setup.train.again());
    let learner = Learner::new(switching.attach(setup.model.clone()), switching.clone().into(), scheduler);
    let mut training = SupervisedTraining::new(setup.out.join(name), train, setup.valid.again())
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .metrics(switching.metrics())
        .with_application_logger(None)
        .num_epochs(setup.epochs)
        .label(name);
    if !std::io::stdout().is_terminal() {
        training = training.renderer(Box::new(Lines::new(name, switching.reports())));
    }
    let result = training.launch(learner);
    if let Some(error) = result.error {
        return Err(error.to_string().into());
    }
    let seconds = start.elapsed().as_secs_f64();
    let model = result.model.into_inner();
    let on_train = evaluate(&model, &setup.measured)?;
    let on_valid = evaluate(&model, &setup.valid)?;
    let rows: Vec<TraceRow> = reports.try_iter().map(|report| row(name, &report, seconds)).collect();
    let counters = switching.counters();
    let events = switching.events();
    let swap = events.iter().find_map(|event| match &event.kind {
        EventKind::Swap { reason } => {
            Some(Swap { window: event.window as usize, cost: event.cost, reason: reason.clone() })
        }
        _ => None,
    });
    let method = Method {
        name: name.into(),
        epochs: setup.epochs,
        cost: counters.cost,
        seconds,
        train_loss: on_train.loss,
        train_accuracy: on_train.accuracy,
        valid_loss: on_valid.loss,
        valid_accuracy: on_valid.accuracy,
        cost_to_adam: None,
        swap,
        events: events.iter().map(|event| json!(event)).collect(),
        counters: Counters {
            passes: counters.passes as usize,
            loss_evaluations: counters.loss_evaluations as usize,
            gradient_evaluations: counters.gradient_evaluations as usize,
            iterations: counters.iterations as usize,
            restarts: counters.restarts as usize,
        },
    };
    Ok((method, rows))
}

/// A window or an evaluation as a line of the trace. In the convex phase the loss is that of the accepted point.
fn row(name: &str, report: &Report, seconds: f64) -> TraceRow {
    let seen = &report.observation;
    TraceRow {
        method: name.into(),
        window: seen.window as usize,
        epoch: seen.cost.round() as usize,
        cost: seen.cost,
        phase: match report.phase {
            Phase::NonConvex => report::Phase::NonConvex,
            Phase::Convex => report::Phase::Convex,
        },
        batch_norm: Some(seen.batch_norm),
        mean_norm: Some(seen.mean_norm),
        train_loss: report.accepted_loss.or(seen.loss).unwrap_or(f64::NAN),
        valid_loss: None,
        step_length: report.step_length,
        seconds,
    }
}

/// A line now and then where there is no terminal.
struct Lines {
    name: String,
    reports: Mutex<Receiver<Report>>,
    start: Instant,
    printed: Instant,
    total: usize,
}

impl Lines {
    fn new(name: &str, reports: Receiver<Report>) -> Self {
        let now = Instant::now();
        Self { name: name.into(), reports: Mutex::new(reports), start: now, printed: now, total: 0 }
    }
}

impl TrainingProgressLogger for Lines {
    fn start(&mut self, total_epochs: usize, _: usize, _: Option<usize>, _: Option<&str>) {
        self.total = total_epochs;
    }

    fn update_epoch(&mut self, epoch: usize) {
        if self.printed.elapsed().as_secs() < 5 && epoch != self.total {
            return;
        }
        self.printed = Instant::now();
        let seconds = self.start.elapsed().as_secs_f64();
        let left = seconds / epoch as f64 * (self.total - epoch) as f64;
        let last = self.reports.get_mut().unwrap_or_else(PoisonError::into_inner).try_iter().last();
        let loss = last.as_ref().and_then(|last| last.accepted_loss.or(last.observation.loss));
        println!(
            "{:>20}  epoch {epoch:>4}/{}  {:<10}  train loss {:<9}  {seconds:.0} s, {left:.0} s left",
            self.name,
            self.total,
            last.map_or(String::new(), |last| last.phase.to_string()),
            loss.map_or("-".into(), |loss| format!("{loss:.2e}")),
        );
        std::io::stdout().flush().ok();
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
