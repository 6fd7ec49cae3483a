//! Small models and data for the tests.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::data::dataset::InMemDataset;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::Device;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{MetricDefinition, MetricId};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use burn::train::{
    InferenceStep, LearnerModel, RegressionOutput, SupervisedTraining, TrainLoader, TrainOutput, TrainStep, ValidLoader,
};
use burn_convexity::convex::line_search::{Decision, LineSearch, Point};
use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig, Event, EventKind, Refusal, StateError};
use serde_json::{Value, json};

use crate::device_name::DeviceName;

/// The device under test: `BURN_CONVEXITY_DEVICE` names it, `flex` by default.
pub fn device() -> Device {
    let name = std::env::var("BURN_CONVEXITY_DEVICE").unwrap_or_else(|_| "flex".into());
    let device = name.parse::<DeviceName>().and_then(DeviceName::open);
    device.unwrap_or_else(|error| panic!("BURN_CONVEXITY_DEVICE: {error}"))
}

/// 2 -> hidden -> 1 with tanh between.
#[derive(Module, Debug)]
pub struct Net {
    pub first: Linear,
    pub second: Linear,
}

impl Net {
    /// The same weights for the same seed, whatever ran before.
    pub fn new(hidden: usize, seed: u64) -> Self {
        Self::on(&device().autodiff(), hidden, seed)
    }

    /// The same on a device of one's own.
    pub fn on(device: &Device, hidden: usize, seed: u64) -> Self {
        let mut draw = Draw(seed);
        let mut weights = |rows: usize, columns: usize| {
            let values: Vec<f32> = (0..rows * columns).map(|_| draw.next()).collect();
            burn::tensor::TensorData::new(values, [rows, columns])
        };
        let linear = |input, output, data| {
            let mut linear = LinearConfig::new(input, output).init(device);
            linear.weight = linear.weight.map(|w| Tensor::from_data(data, &w.device()).require_grad());
            linear.bias = linear.bias.map(|bias| bias.map(|b| Tensor::zeros(b.shape(), &b.device()).require_grad()));
            linear
        };
        let (first, second) = (weights(2, hidden), weights(hidden, 1));
        Self { first: linear(2, hidden, first), second: linear(hidden, 1, second) }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.second.forward(self.first.forward(x).tanh())
    }

    pub fn loss(&self, batch: &Batch) -> Tensor<1> {
        (self.forward(batch.x.clone()) - batch.y.clone()).square().mean()
    }

    pub fn output(&self, batch: &Batch) -> RegressionOutput {
        RegressionOutput::new(self.loss(batch), self.forward(batch.x.clone()), batch.y.clone())
    }

    /// All parameters in order.
    pub fn values(&self) -> Vec<f32> {
        let mut values = Values(Vec::new());
        self.visit(&mut values);
        values.0
    }
}

struct Values(Vec<f32>);

impl burn::module::ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
        self.0.extend(param.val().into_data().iter::<f32>());
    }
}

/// All parameters of any module, in order.
pub fn values<M: Module>(module: &M) -> Vec<f32> {
    let mut values = Values(Vec::new());
    module.visit(&mut values);
    values.0
}

/// A linear congruential generator (Knuth, MMIX): uniform in -0.5 .. 0.5.
pub struct Draw(pub u64);

impl Draw {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}

#[derive(Clone, Debug)]
pub struct Batch {
    pub x: Tensor<2>,
    pub y: Tensor<2>,
}

#[derive(Clone, Debug)]
pub struct Batches;

impl Batcher<[f32; 3], Batch> for Batches {
    fn batch(&self, items: Vec<[f32; 3]>, device: &Device) -> Batch {
        let n = items.len();
        let x: Vec<f32> = items.iter().flat_map(|i| [i[0], i[1]]).collect();
        let y: Vec<f32> = items.iter().map(|i| i[2]).collect();
        Batch {
            x: Tensor::from_data(burn::tensor::TensorData::new(x, [n, 2]), device),
            y: Tensor::from_data(burn::tensor::TensorData::new(y, [n, 1]), device),
        }
    }
}

/// A smooth function of two variables at `n` points.
pub fn points(n: usize) -> Vec<[f32; 3]> {
    let mut draw = Draw(7);
    (0..n)
        .map(|_| {
            let (a, b) = (2.0 * draw.next(), 2.0 * draw.next());
            [a, b, (2.0 * a).sin() * b + 0.3 * a]
        })
        .collect()
}

/// The points in batches, in order.
pub fn loader(n: usize, batch_size: usize) -> Arc<dyn DataLoader<Batch>> {
    DataLoaderBuilder::new(Batches)
        .batch_size(batch_size)
        .set_device(device().autodiff())
        .build(InMemDataset::new(points(n)))
}

impl TrainStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> TrainOutput<RegressionOutput> {
        let output = self.output(&batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> RegressionOutput {
        self.output(&batch)
    }
}

/// Loss and gradients over one batch.
pub fn objective(batch: &Batch) -> impl Fn(&Net) -> (Tensor<1>, GradientsParams) {
    |net| {
        let loss = net.loss(batch);
        let grads = GradientsParams::from_grads(loss.backward(), net);
        (loss, grads)
    }
}

/// The gradient of a batch's loss, all parameters in a row.
pub fn gradient(net: &Net, batch: &Batch) -> Vec<f64> {
    let (_, grads) = objective(batch)(net);
    let layers = [&net.first, &net.second].into_iter();
    let values = layers.flat_map(|layer| {
        let weight = grads.get::<2>(layer.weight.id).expect("a gradient").into_data();
        let bias = grads.get::<1>(layer.bias.as_ref().expect("a bias").id).expect("a gradient").into_data();
        weight.iter::<f64>().chain(bias.iter::<f64>()).collect::<Vec<f64>>()
    });
    values.collect()
}

/// All points as one batch.
pub fn all(n: usize) -> Batch {
    loader(n, n).iter().next().expect("a batch").expect("no error")
}

/// A configuration from JSON, with the defaults around it.
pub fn config(value: Value) -> ConvexitySwitchingConfig {
    ConvexitySwitchingConfig::from_json(&value.to_string(), "test").expect("a valid configuration")
}

/// Swap after `window` windows.
pub fn swap_at(window: u64) -> Value {
    json!({ "kind": "at_window", "window": window })
}

/// The mean loss over a loader's batches, weighted by size, as f64.
pub fn mean_loss(net: &Net, n: usize) -> f64 {
    f64::from(net.loss(&all(n)).into_data().iter::<f32>().next().expect("one value"))
}

/// What every direction method is configured by: the six betas of conjugate gradients, and L-BFGS.
pub fn directions() -> Vec<Value> {
    let betas =
        ["fletcher_reeves", "polak_ribiere", "polak_ribiere_plus", "hestenes_stiefel", "dai_yuan", "hager_zhang"];
    let conjugate_gradients = betas.map(|beta| json!({ "kind": "conjugate_gradient", "beta": beta }));
    let l_bfgs = [json!({ "kind": "l_bfgs" }), json!({ "kind": "l_bfgs", "self_scaling": true })];
    conjugate_gradients.into_iter().chain(l_bfgs).collect()
}

/// The refusal, which is the one among the optimizer's events.
pub fn refused(switching: &ConvexitySwitching) -> Option<Refusal> {
    let told = switching.events().into_iter().find_map(|Event { kind, .. }| match kind {
        EventKind::Refused { refusal } => Some(refusal),
        _ => None,
    });
    assert_eq!(switching.refusal(), told);
    told
}

/// How many of an optimizer's events are of a kind.
pub fn count(switching: &ConvexitySwitching, kind: impl Fn(&EventKind) -> bool) -> usize {
    switching.events().iter().filter(|event| kind(&event.kind)).count()
}

/// A training that shows what it renders to the test and nobody else.
pub fn training<M: LearnerModel>(
    dir: &Path,
    train: TrainLoader<M>,
    valid: ValidLoader<M>,
) -> (SupervisedTraining<M>, Seen) {
    let seen = Seen::default();
    let training =
        SupervisedTraining::new(dir, train, valid).renderer(Box::new(seen.clone())).with_application_logger(None);
    (training, seen)
}

/// What was shown at one iteration, by the metric's name.
pub type Shown = HashMap<String, String>;

/// A renderer that keeps what it is shown.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
pub struct Kept {
    names: HashMap<MetricId, String>,
    split: String,
    pending: Shown,
    /// One entry for each iteration, in order.
    pub train: Vec<Shown>,
    /// One entry for each validation batch, in order.
    pub valid: Vec<Shown>,
    /// One entry for each batch of an evaluation.
    pub test: Vec<Shown>,
    /// Items processed as the progress bar shows them, split by split.
    pub progress: Vec<Vec<usize>>,
}

impl Seen {
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number shown, as it is written for machines: `value` or `value,count`.
    pub fn number(shown: &Shown, name: &str) -> Option<f64> {
        shown.get(name)?.split(',').next()?.parse().ok()
    }

    fn show(&self, state: MetricState) {
        let (MetricState::Generic(entry) | MetricState::Numeric(entry, _)) = state;
        let mut kept = self.kept();
        let name = kept.names.get(&entry.metric_id).cloned().unwrap_or_default();
        kept.pending.insert(name, entry.serialized_entry.serialized);
    }
}

impl MetricsRendererTraining for Seen {
    fn update_train(&mut self, state: MetricState) {
        self.show(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.show(state);
    }
}

impl MetricsRendererEvaluation for Seen {
    fn update_test(&mut self, _name: EvaluationName, state: MetricState) {
        self.show(state);
    }
}

impl TrainingProgressLogger for Seen {
    fn start(&mut self, _epochs: usize, _first: usize, _items: Option<usize>, _label: Option<&str>) {}

    fn update_epoch(&mut self, _epoch: usize) {}

    fn start_split(&mut self, split: &str, _items: usize) {
        let mut kept = self.kept();
        kept.split = split.to_owned();
        kept.progress.push(Vec::new());
    }

    fn update_split(&mut self, items: usize) {
        let mut kept = self.kept();
        if let Some(progress) = kept.progress.last_mut() {
            progress.push(items);
        }
        let shown = std::mem::take(&mut kept.pending);
        match kept.split.as_str() {
            "train" => kept.train.push(shown),
            _ => kept.valid.push(shown),
        }
    }

    fn end_split(&mut self) {
        // An epoch's summary belongs to no iteration.
        self.kept().pending.clear();
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _event: String) {}
}

impl EvaluationProgressLogger for Seen {
    fn start_global_progress(&mut self, _tests: usize) {}

    fn start_test(&mut self, _name: &str, _items: usize) {}

    fn update_test_progress(&mut self, _items: usize) {
        let mut kept = self.kept();
        let shown = std::mem::take(&mut kept.pending);
        kept.test.push(shown);
    }

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _event: String) {}
}

impl MetricsRenderer for Seen {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.kept().names.insert(definition.metric_id, definition.name.to_string());
    }
}

/// A line search of a user's own: exact on a quadratic, whose slope is linear along the line.
#[derive(Clone, Debug, Default)]
pub struct Exact {
    slope: f64,
    asked: bool,
}

impl LineSearch for Exact {
    fn begin(&mut self, origin: Point, initial_step: f64) -> Decision {
        *self = Self { slope: origin.slope.unwrap_or(f64::NAN), asked: false };
        Decision::Evaluate(initial_step)
    }

    fn observe(&mut self, point: Point) -> Decision {
        let slope = point.slope.unwrap_or(f64::NAN);
        if std::mem::replace(&mut self.asked, true) {
            return Decision::Accept(point.step);
        }
        Decision::Evaluate(point.step * self.slope / (self.slope - slope))
    }

    fn state(&self) -> Value {
        json!([self.slope, self.asked])
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        (self.slope, self.asked) = StateError::read("exact", state)?;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn LineSearch> {
        Box::new(self.clone())
    }
}
