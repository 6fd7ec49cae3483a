//! The ways to train: through Burn's Learner, and by an own loop whose trial points are forward passes.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::lr_scheduler::LrSchedulerRecord;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::Tensor;
use burn::train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::{Aggregate, EventStoreClient, Split};
use burn::train::metric::{AccuracyMetric, LossMetric};
use burn::train::{Learner, SupervisedTraining};
use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig, EventKind, Phase, Report};
use serde_json::json;

use super::data::{EpochLoader, ImageBatch};
use super::experiment::Failure;
use super::lines::Lines;
use super::models::{Classifier, evaluate, squared_norm};
use super::run::{self, Counters, Method, Swap, TraceRow, TraceWriter};

/// The method's name in summaries.
pub const OURS: &str = "convexity_switching";
/// Where the trace of a run is in its folder.
pub const TRACE: &str = "trace.jsonl";

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
    pub l2: f64,
    pub out: PathBuf,
    pub resume: bool,
}

/// The trace of a run. Half a line at its end is what a killed run leaves, and no row.
pub fn trace(out: &Path) -> io::Result<Vec<TraceRow>> {
    let text = fs::read_to_string(out.join(TRACE))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

impl Setup {
    fn folder(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// Epochs from one checkpoint to the next.
    fn every(&self) -> usize {
        self.epochs.div_ceil(10)
    }

    /// A file of a checkpoint: Burn's own name for it.
    fn part(&self, name: &str, part: &str, epoch: usize) -> PathBuf {
        self.folder(name).join("checkpoint").join(format!("{part}-{epoch}.bpk"))
    }

    /// The result of a method that an interrupted run had finished.
    fn finished(&self, name: &str) -> Option<Method> {
        let text = fs::read_to_string(self.folder(name).join("finished.json")).ok()?;
        serde_json::from_str(&text).ok().filter(|_| self.resume)
    }

    /// The newest epoch whose checkpoint can be read: a killed run may have left torn files behind. Never the last: the
    /// first step reads the optimizer's record, so there has to be one.
    fn checkpoint(&self, name: &str) -> Option<usize> {
        if !self.resume {
            return None;
        }
        let readable = |epoch: &usize| {
            let file = |part: &str| self.part(name, part, *epoch);
            let whole = file("model").exists()
                && ModuleRecord::load(file("model")).is_ok()
                && OptimizerRecord::load(file("optim")).is_ok()
                && LrSchedulerRecord::load(file("scheduler")).is_ok();
            if !whole && ["model", "optim", "scheduler"].iter().any(|part| file(part).exists()) {
                println!("{name:>20}  the checkpoint of epoch {epoch} is not whole: looking for the one before");
            }
            whole
        };
        (1..self.epochs).rev().find(readable)
    }

    /// Save a checkpoint of an own loop as the Learner does, and keep the last two. A file has its name only when it is
    /// whole, so that a kill leaves no torn one.
    fn save(
        &self,
        name: &str,
        epoch: usize,
        model: &Classifier,
        switching: &ConvexitySwitching,
    ) -> Result<(), Failure> {
        let new = |part: &str| self.part(name, part, epoch).with_extension("new");
        fs::create_dir_all(self.folder(name).join("checkpoint"))?;
        ModuleLrScheduler::from(self.lr).to_record().save(new("scheduler"))?;
        switching.to_record().save(new("optim"))?;
        model.clone().into_record().save(new("model"))?;
        for part in ["scheduler", "optim", "model"] {
            fs::rename(new(part), self.part(name, part, epoch))?;
            if let Some(old) = epoch.checked_sub(2 * self.every()) {
                fs::remove_file(self.part(name, part, old)).ok();
            }
        }
        Ok(())
    }

    fn finish(
        &self,
        name: &str,
        model: &Classifier,
        switching: &ConvexitySwitching,
        rows: &Rows,
    ) -> Result<Method, Failure> {
        let seconds = rows.seconds();
        let on_train = evaluate(model, &self.measured)?;
        let on_valid = evaluate(model, &self.valid)?;
        let penalty = if self.l2 > 0.0 { 0.5 * self.l2 * squared_norm(model) } else { 0.0 };
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
            epochs: rows.lock().epochs,
            cost: counters.cost,
            seconds,
            train_loss: on_train.loss,
            penalty,
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
        run::write_whole(&self.folder(name).join("finished.json"), &serde_json::to_string(&method)?)?;
        Ok(method)
    }
}

/// Train through the Learner, with a checkpoint now and then.
pub fn in_learner(
    setup: &Setup,
    name: &str,
    config: &ConvexitySwitchingConfig,
    scheduler: ModuleLrScheduler,
) -> Result<Method, Failure> {
    if let Some(finished) = setup.finished(name) {
        return Ok(finished);
    }
    let switching = config.init()?;
    let folder = setup.folder(name);
    fs::create_dir_all(&folder)?;
    let checkpoint = setup.checkpoint(name);
    let rows = Rows::open(setup, name, switching.reports(), checkpoint)?;
    let train = Arc::new(setup.train.clone().with_epoch(checkpoint.map_or(1, |epoch| epoch + 1)));
    let learner = Learner::new(switching.attach(setup.model.clone()), switching.clone().into(), scheduler);
    let mut training = SupervisedTraining::new(&folder, switching.track(train), setup.valid.again())
        .metrics((LossMetric::new(), AccuracyMetric::new()))
        .metrics(switching.metrics())
        .with_default_checkpointers()
        .with_checkpointing_strategy(Every { epochs: setup.every(), rows: rows.clone(), switching: switching.clone() })
        .early_stopping(switching.when_converged())
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
    setup.finish(name, &result.model.into_inner(), &switching, &rows)
}

/// Train by a loop of our own: minibatches until the swap, then one iteration an epoch, whose trial points cost forward
/// passes where the line search needs no slope. A checkpoint now and then.
pub fn in_own_loop(setup: &Setup, name: &str, config: &ConvexitySwitchingConfig) -> Result<Method, Failure> {
    if let Some(finished) = setup.finished(name) {
        return Ok(finished);
    }
    let window = Some(setup.passes as u64);
    let switching = ConvexitySwitchingConfig { window, ..config.clone() }.init()?;
    let checkpoint = setup.checkpoint(name);
    let rows = Rows::open(setup, name, switching.reports(), checkpoint)?;
    let mut lines = Lines::new(name, switching.reports());
    let mut model = setup.model.clone();
    if let Some(epoch) = checkpoint {
        println!("{name:>20}  goes on from epoch {epoch}");
        model = model.load_record(ModuleRecord::load(setup.part(name, "model", epoch))?);
        switching.load_record(OptimizerRecord::load(setup.part(name, "optim", epoch))?);
    }
    for epoch in checkpoint.unwrap_or(0) + 1..=setup.epochs {
        for batch in setup.train.clone().with_epoch(epoch).iter() {
            let batch = batch?;
            // A record just loaded is read by the first step, so the phase is not known before it.
            let objective = |model: &Classifier| match switching.phase() {
                Phase::NonConvex => gradients(model, &batch, 1.0),
                Phase::Convex => over_all(model, &setup.measured),
            };
            let loss = |model: &Classifier| loss_over_all(model, &setup.measured);
            let outcome;
            (model, outcome) = switching.step_with_forward(setup.lr, model, objective, loss);
            if outcome.phase == Phase::Convex {
                break;
            }
        }
        rows.drain(epoch, None)?;
        lines.epoch(epoch, setup.epochs);
        if switching.has_converged() {
            break;
        }
        if epoch.is_multiple_of(setup.every()) {
            setup.save(name, epoch, &model, &switching)?;
        }
    }
    setup.finish(name, &model.valid(), &switching, &rows)
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
fn row(name: &str, epoch: usize, report: &Report, seconds: f64) -> TraceRow {
    let seen = &report.observation;
    TraceRow {
        method: name.into(),
        window: seen.window as usize,
        epoch,
        cost: seen.cost,
        phase: match report.phase {
            Phase::NonConvex => run::Phase::NonConvex,
            Phase::Convex => run::Phase::Convex,
        },
        batch_norm: (report.phase == Phase::NonConvex).then_some(seen.batch_norm),
        mean_norm: report.accepted.then_some(seen.mean_norm),
        train_loss: report.data_loss().unwrap_or(f64::NAN),
        valid_loss: None,
        step_length: report.step_length,
        seconds,
    }
}

/// Writes the trace of one method as it grows, so that a run can be watched and an interrupted one keeps it.
#[derive(Clone)]
struct Rows(Arc<Mutex<Trace>>);

struct Trace {
    name: String,
    reports: Receiver<Report>,
    file: TraceWriter,
    /// Seconds spent before an interruption.
    earlier: f64,
    start: Instant,
    /// The last one taken in.
    epochs: usize,
}

impl Rows {
    /// Go on with the trace of the run after the methods before this one, and this one's rows up to a checkpoint.
    fn open(setup: &Setup, name: &str, reports: Receiver<Report>, checkpoint: Option<usize>) -> Result<Self, Failure> {
        let kept = |row: &TraceRow| row.method != name || checkpoint.is_some_and(|epoch| row.epoch <= epoch);
        let old: Vec<TraceRow> = trace(&setup.out)?.into_iter().filter(kept).collect();
        // Under another name until it is whole, so that a kill leaves the old one.
        let path = setup.out.join(TRACE);
        let new = path.with_extension("new");
        let mut file = TraceWriter::create(&new)?;
        old.iter().try_for_each(|row| file.write(row))?;
        fs::rename(new, path)?;
        let earlier = old.iter().rfind(|row| row.method == name).map_or(0.0, |row| row.seconds);
        let epochs = checkpoint.unwrap_or(0);
        let trace = Trace { name: name.into(), reports, file, earlier, start: Instant::now(), epochs };
        Ok(Self(Arc::new(Mutex::new(trace))))
    }

    fn lock(&self) -> MutexGuard<'_, Trace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds since the method began.
    fn seconds(&self) -> f64 {
        let trace = self.lock();
        trace.earlier + trace.start.elapsed().as_secs_f64()
    }

    /// Take in what was reported in an epoch that has ended, and the loss of its validation.
    fn drain(&self, epoch: usize, valid_loss: Option<f64>) -> Result<(), Failure> {
        let seconds = self.seconds();
        let mut trace = self.lock();
        trace.epochs = epoch;
        let Trace { name, reports, file, .. } = &mut *trace;
        let mut rows: Vec<_> = reports.try_iter().map(|report| row(name, epoch, &report, seconds)).collect();
        if let Some(last) = rows.last_mut() {
            last.valid_loss = valid_loss;
        }
        Ok(rows.iter().try_for_each(|row| file.write(row))?)
    }
}

/// A checkpoint every so many epochs, the last two kept. None where the training ends by itself: gone on from, it would take an
/// epoch more.
struct Every {
    epochs: usize,
    rows: Rows,
    switching: ConvexitySwitching,
}

impl CheckpointingStrategy for Every {
    fn checkpointing(&mut self, epoch: usize, metrics: &EventStoreClient) -> Vec<CheckpointingAction> {
        let valid_loss = metrics.find_metric("Loss", epoch, Aggregate::Mean, &Split::Valid);
        if let Err(error) = self.rows.drain(epoch, valid_loss) {
            eprintln!("the trace could not be written: {error}");
        }
        if !epoch.is_multiple_of(self.epochs) || self.switching.has_converged() {
            return Vec::new();
        }
        let old = epoch.checked_sub(2 * self.epochs).filter(|&old| old > 0);
        old.map(CheckpointingAction::Delete).into_iter().chain([CheckpointingAction::Save]).collect()
    }
}
