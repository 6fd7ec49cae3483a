//! The ways to train: through Burn's Learner, and by an own loop whose trial points are forward passes.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::lr_scheduler::LrSchedulerRecord;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::Tensor;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{Learner, SupervisedTraining};
use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig, EventKind, Phase, Report};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::data::{EpochLoader, ImageBatch};
use super::experiment::Failure;
use super::lines::Lines;
use super::models::{Classifier, evaluate};
use super::run::{self, Counters, Method, Swap, TraceRow, TraceWriter};

/// The method's name in summaries.
pub const OURS: &str = "convexity_switching";

/// The data and the model all methods start from.
#[derive(Clone)]
pub struct Setup {
    pub train: EpochLoader,
    /// The training data in a fixed order, for evaluations.
    pub measured: EpochLoader,
    pub valid: EpochLoader,
    /// Batches in an epoch.
    pub passes: usize,
    pub model: Classifier,
    pub epochs: usize,
    pub lr: f64,
    pub out: PathBuf,
    pub resume: bool,
}

/// A method that is through.
#[derive(Serialize, Deserialize)]
pub struct Finished {
    pub method: Method,
    pub rows: Vec<TraceRow>,
}

impl Setup {
    fn folder(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// The result of a method that an interrupted run had finished.
    fn finished(&self, name: &str) -> Option<Finished> {
        let text = fs::read_to_string(self.folder(name).join("finished.json")).ok()?;
        serde_json::from_str(&text).ok().filter(|_| self.resume)
    }

    /// The newest epoch whose checkpoint can be read: a killed run may have left torn files behind.
    fn checkpoint(&self, name: &str) -> Option<usize> {
        let folder = self.folder(name).join("checkpoint");
        let readable = |epoch: &usize| {
            let file = |part: &str| folder.join(format!("{part}-{epoch}.bpk"));
            file("model").exists()
                && ModuleRecord::load(file("model")).is_ok()
                && OptimizerRecord::load(file("optim")).is_ok()
                && LrSchedulerRecord::load(file("scheduler")).is_ok()
        };
        (1..=self.epochs).rev().find(readable).filter(|_| self.resume)
    }

    fn finish(
        &self,
        name: &str,
        model: &Classifier,
        switching: &ConvexitySwitching,
        rows: Vec<TraceRow>,
        seconds: f64,
    ) -> Result<Finished, Failure> {
        let on_train = evaluate(model, &self.measured)?;
        let on_valid = evaluate(model, &self.valid)?;
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
            epochs: self.epochs,
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
        let finished = Finished { method, rows };
        fs::write(self.folder(name).join("finished.json"), serde_json::to_string(&finished)?)?;
        Ok(finished)
    }
}

/// Train through the Learner, with a checkpoint now and then.
pub fn in_learner(
    setup: &Setup,
    name: &str,
    config: &ConvexitySwitchingConfig,
    scheduler: ModuleLrScheduler,
) -> Result<Finished, Failure> {
    if let Some(finished) = setup.finished(name) {
        return Ok(finished);
    }
    let start = Instant::now();
    let switching = config.init()?;
    let folder = setup.folder(name);
    fs::create_dir_all(&folder)?;
    let checkpoint = setup.checkpoint(name);
    let rows = Rows::open(name, switching.reports(), folder.join("rows.jsonl"), checkpoint)?;
    let train = Arc::new(setup.train.clone().with_epoch(checkpoint.map_or(1, |epoch| epoch + 1)));
    let learner = Learner::new(switching.attach(setup.model.clone()), switching.clone().into(), scheduler);
    let mut training = SupervisedTraining::new(&folder, switching.track(train), setup.valid.again())
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .metrics(switching.metrics())
        .with_default_checkpointers()
        .with_checkpointing_strategy(Every { epochs: setup.epochs.div_ceil(10), rows: rows.clone() })
        .with_application_logger(None)
        .num_epochs(setup.epochs)
        .label(name);
    if let Some(epoch) = checkpoint {
        println!("{name:>20}  goes on from epoch {epoch}");
        training = training.checkpoint(epoch);
    }
    if !std::io::stdout().is_terminal() {
        training = training.renderer(Box::new(Lines::new(name, switching.reports())));
    }
    let result = training.launch(learner);
    if let Some(error) = result.error {
        return Err(error.to_string().into());
    }
    if let Some(interruption) = result.interrupted {
        return Err(format!("interrupted ({}); --resume goes on", interruption.reason.unwrap_or_default()).into());
    }
    let seconds = start.elapsed().as_secs_f64();
    setup.finish(name, &result.model.into_inner(), &switching, rows.take()?, seconds)
}

/// Train by a loop of our own: minibatches until the swap, then one iteration an epoch, whose trial points cost forward
/// passes where the line search needs no slope.
pub fn in_own_loop(setup: &Setup, name: &str, config: &ConvexitySwitchingConfig) -> Result<Finished, Failure> {
    if let Some(finished) = setup.finished(name) {
        return Ok(finished);
    }
    let start = Instant::now();
    let window = Some(setup.passes as u64);
    let switching = ConvexitySwitchingConfig { window, ..config.clone() }.init()?;
    fs::create_dir_all(setup.folder(name))?;
    let reports = switching.reports();
    let mut lines = Lines::new(name, switching.reports());
    let mut model = setup.model.clone();
    let train = setup.train.again();
    for epoch in 1..=setup.epochs {
        if switching.phase() == Phase::NonConvex {
            for batch in train.iter() {
                let batch = batch?;
                (model, _) = switching.step_with(setup.lr, model, |model| gradients(model, &batch, 1.0));
            }
        } else {
            let objective = |model: &Classifier| over_all(model, &setup.measured);
            let loss = |model: &Classifier| loss_over_all(model, &setup.measured);
            (model, _) = switching.step_with_forward(setup.lr, model, objective, loss);
        }
        lines.epoch(epoch, setup.epochs);
    }
    let seconds = start.elapsed().as_secs_f64();
    let rows = reports.try_iter().map(|report| row(name, &report, start.elapsed().as_secs_f64())).collect();
    setup.finish(name, &model.valid(), &switching, rows, seconds)
}

/// Loss and gradients on one batch, times a share.
fn gradients(model: &Classifier, batch: &ImageBatch, share: f64) -> (Tensor<1>, GradientsParams) {
    let loss = model.loss.forward(model.forward(batch.images.clone()), batch.targets.clone()).mul_scalar(share);
    let grads = GradientsParams::from_grads(loss.backward(), model);
    (loss.without_autodiff(), grads)
}

/// Loss and gradients over the whole training set.
fn over_all(model: &Classifier, loader: &EpochLoader) -> (Tensor<1>, GradientsParams) {
    let mut sum: Option<Tensor<1>> = None;
    let mut grads = GradientsAccumulator::new();
    // The loader holds everything in memory and cannot fail.
    for batch in loader.iter().flatten() {
        let share = batch.targets.dims()[0] as f64 / loader.num_items() as f64;
        let (loss, new) = gradients(model, &batch, share);
        grads.accumulate(model, new);
        sum = Some(sum.map_or(loss.clone(), |sum| sum + loss));
    }
    (sum.expect("the training set is not empty"), grads.grads())
}

/// The loss over the whole training set by forward passes.
fn loss_over_all(model: &Classifier, loader: &EpochLoader) -> Tensor<1> {
    let model = model.valid();
    let total = loader.num_items() as f64;
    let losses = loader.iter().flatten().map(|batch| {
        let share = batch.targets.dims()[0] as f64 / total;
        model.loss.forward(model.forward(batch.images), batch.targets).mul_scalar(share)
    });
    losses.reduce(|sum, loss| sum + loss).expect("the training set is not empty")
}

/// A window or an evaluation as a line of the trace. In the convex phase the loss is that of the accepted point, and the
/// norm is left out at trial points.
fn row(name: &str, report: &Report, seconds: f64) -> TraceRow {
    let seen = &report.observation;
    TraceRow {
        method: name.into(),
        window: seen.window as usize,
        epoch: seen.cost.round() as usize,
        cost: seen.cost,
        phase: match report.phase {
            Phase::NonConvex => run::Phase::NonConvex,
            Phase::Convex => run::Phase::Convex,
        },
        batch_norm: report.accepted.then_some(seen.batch_norm),
        mean_norm: report.accepted.then_some(seen.mean_norm),
        train_loss: report.accepted_loss.or(seen.loss).unwrap_or(f64::NAN) - report.penalty,
        valid_loss: None,
        step_length: report.step_length,
        seconds,
    }
}

/// The trace of one method, written as it grows, so that an interrupted run keeps it.
#[derive(Clone)]
struct Rows(Arc<Mutex<Trace>>);

struct Trace {
    name: String,
    reports: Receiver<Report>,
    rows: Vec<TraceRow>,
    file: TraceWriter,
    start: Instant,
}

impl Rows {
    /// A new trace, or the part of an old one up to a checkpoint.
    fn open(name: &str, reports: Receiver<Report>, path: PathBuf, checkpoint: Option<usize>) -> Result<Self, Failure> {
        let old = match checkpoint {
            Some(epoch) => BufReader::new(fs::File::open(&path)?)
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| serde_json::from_str::<TraceRow>(&line).ok())
                .filter(|row| row.epoch <= epoch)
                .collect(),
            None => Vec::new(),
        };
        let mut file = TraceWriter::create(&path)?;
        old.iter().try_for_each(|row| file.write(row))?;
        let trace = Trace { name: name.into(), reports, rows: old, file, start: Instant::now() };
        Ok(Self(Arc::new(Mutex::new(trace))))
    }

    /// Take in what was reported since.
    fn drain(&self) -> Result<(), Failure> {
        let mut trace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Trace { name, reports, rows, file, start } = &mut *trace;
        for report in reports.try_iter() {
            let row = row(name, &report, start.elapsed().as_secs_f64());
            file.write(&row)?;
            rows.push(row);
        }
        Ok(())
    }

    fn take(&self) -> Result<Vec<TraceRow>, Failure> {
        self.drain()?;
        Ok(std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).rows))
    }
}

/// A checkpoint every so many epochs, the last two kept.
struct Every {
    epochs: usize,
    rows: Rows,
}

impl CheckpointingStrategy for Every {
    fn checkpointing(&mut self, epoch: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        if let Err(error) = self.rows.drain() {
            eprintln!("the trace could not be written: {error}");
        }
        if !epoch.is_multiple_of(self.epochs) {
            return Vec::new();
        }
        let old = epoch.checked_sub(2 * self.epochs).filter(|&old| old > 0);
        old.map(CheckpointingAction::Delete).into_iter().chain([CheckpointingAction::Save]).collect()
    }
}
