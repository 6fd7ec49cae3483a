//! What the optimizer costs beside the model: `cargo bench --bench overhead`.
//!
//! Both sides of a ratio run in turns in one process, so that a noisy machine slows both; it is that of the medians. For every
//! model a line of JSON, and on standard error what is known already; the last line is of the first model.
//! `BURN_CONVEXITY_DEVICE` names the device (`flex`), `OVERHEAD_MODELS` the models: `small` (the default, that of the example
//! `vit`), `vit-mlp` and `vgg5` (as published), `vit-10m` (6 layers of width 384, 10.6 million parameters), and `OVERHEAD_BATCH`
//! the samples of a batch (256; on a CPU the largest model takes minutes for one of those). How many evaluations an iteration of
//! Burn's L-BFGS takes depends on it, and with that what lies beside the model.

use std::cell::Cell;
use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams, LBFGSConfig, LineSearchFn, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn::train::{TrainOutput, TrainStep};
use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig, Phase};
use serde_json::json;
use shared::data::{EpochLoader, ImageBatch, digits};
use shared::device::DeviceName;
use shared::models::vit::VitConfig;
use shared::models::{Classifier, Loss, ModelKind};

// Its unit tests are compiled away here, and their imports are left over.
#[allow(unused_imports)]
#[path = "../examples/shared/mod.rs"]
mod shared;

const LR: f64 = 1e-3;
/// Rounds of a measurement; a quarter of them for the largest model.
const ROUNDS: usize = 32;

struct Bench {
    name: String,
    rounds: usize,
    samples: usize,
    device: Device,
    model: Classifier,
    batch: ImageBatch,
}

impl Bench {
    fn new(name: &str) -> Self {
        let device = std::env::var("BURN_CONVEXITY_DEVICE").unwrap_or_else(|_| "flex".into());
        let device = device.parse::<DeviceName>().and_then(DeviceName::open).unwrap_or_else(|error| panic!("{error}"));
        device.seed(0);
        let size = VitConfig { channels: 1, ..VitConfig::default() };
        let (kind, size) = match name {
            "small" => (ModelKind::VitNomlpWkewq, VitConfig { layers: 2, width: 32, ..size }),
            "vit-mlp" => (ModelKind::VitMlp, size),
            "vgg5" => (ModelKind::Vgg5, size),
            "vit-10m" => (ModelKind::VitMlp, VitConfig { layers: 6, width: 384, ..size }),
            other => panic!("no model {other}: small, vit-mlp, vgg5 or vit-10m"),
        };
        let network = kind.init(size, &device.clone().autodiff());
        let samples =
            std::env::var("OVERHEAD_BATCH").map_or(256, |samples| samples.parse().expect("a number of samples"));
        let loader = EpochLoader::sequential(&digits(32).train.upload(&device), samples).expect("enough data");
        let batch = loader.iter().next().expect("a batch").expect("no error");
        let model = Classifier::new(network, Loss::CrossEntropy).materialize();
        let rounds = if name == "vit-10m" { ROUNDS / 4 } else { ROUNDS };
        Self { name: name.into(), rounds, samples, device, model, batch }
    }

    /// Until everything that was asked of the device is done.
    fn time(&self, f: impl FnOnce()) -> Duration {
        let start = Instant::now();
        f();
        self.device.sync().expect("the device works");
        start.elapsed()
    }

    /// Loss and gradients of the batch.
    fn objective(&self, model: &Classifier) -> (Tensor<1>, GradientsParams) {
        let TrainOutput { grads, item } = TrainStep::step(model, self.batch.clone());
        (item.loss, grads)
    }
}

fn ours(json: &str) -> ConvexitySwitching {
    ConvexitySwitchingConfig::from_json(json, "bench").expect("valid").init().expect("valid")
}

/// One Learner step: forward, backward, optimizer.
fn step<M: TrainStep<Input = ImageBatch> + Module>(model: M, optim: &mut ModuleOptimizer, batch: &ImageBatch) -> M {
    let output = TrainStep::step(&model, batch.clone());
    model.optimize(optim, LR.into(), output.grads)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

impl Bench {
    /// Milliseconds a step in the non-convex phase and of bare Adam, in turns.
    fn non_convex(&self) -> [f64; 2] {
        let switching = ours(r#"{ "window": 20, "detector": { "kind": "never" } }"#);
        let mut ours = Some(switching.attach(self.model.clone()));
        let mut our_optim: ModuleOptimizer = switching.into();
        let mut bare = Some(self.model.clone());
        let mut adam: ModuleOptimizer = AdamConfig::new().init();
        let mut times = [vec![], vec![]];
        for round in 0..self.rounds + 3 {
            let a = self.time(|| ours = ours.take().map(|model| step(model, &mut our_optim, &self.batch)));
            let b = self.time(|| bare = bare.take().map(|model| step(model, &mut adam, &self.batch)));
            if round >= 3 {
                times[0].push(a);
                times[1].push(b);
            }
        }
        times.map(|times| 1e3 * median(times))
    }

    /// Six passes: the whole time, and that of everything but forward and backward.
    fn six<M: TrainStep<Input = ImageBatch> + Module>(
        &self,
        model: &mut Option<M>,
        optim: &mut ModuleOptimizer,
    ) -> [Duration; 2] {
        let mut beside = Duration::ZERO;
        let all = self.time(|| {
            for _ in 0..6 {
                *model = model.take().map(|model| {
                    let grads = TrainStep::step(&model, self.batch.clone()).grads;
                    self.device.sync().expect("the device works");
                    let mut model = Some(model);
                    beside += self.time(|| model = model.take().map(|model| model.optimize(optim, LR.into(), grads)));
                    model.expect("it was put back")
                });
            }
        });
        [all, beside]
    }

    /// Milliseconds of an evaluation of six passes, of everything in it but forward and backward, and of as much in six steps
    /// of plain gradient descent: what Burn itself takes to hand an optimizer every parameter.
    fn convex(&self) -> [f64; 3] {
        let switching = ours(
            r#"{ "window": 6, "detector": { "kind": "at_window", "window": 1 }, "safe_resort": { "enabled": false } }"#,
        );
        let mut optim: ModuleOptimizer = switching.clone().into();
        let mut model = Some(switching.attach(self.model.clone()));
        while switching.phase() == Phase::NonConvex {
            model = model.map(|model| step(model, &mut optim, &self.batch));
        }
        let mut bare = Some(self.model.clone());
        let mut sgd: ModuleOptimizer = SgdConfig::new().init();
        let mut times = [vec![], vec![], vec![]];
        // Some evaluations first, to fill the memory beyond its first rooms.
        for round in 0..self.rounds + 8 {
            let [all, beside] = self.six(&mut model, &mut optim);
            let [_, floor] = self.six(&mut bare, &mut sgd);
            if round >= 8 {
                times.iter_mut().zip([all, beside, floor]).for_each(|(times, time)| times.push(time));
            }
        }
        times.map(|times| 1e3 * median(times))
    }

    /// Milliseconds an iteration beside the model's evaluations in an own loop, and those of Burn's L-BFGS with strong Wolfe
    /// conditions, each with a memory of so many pairs that is full.
    fn l_bfgs(&self) -> [f64; 2] {
        const PAIRS: usize = 20;
        let switching = ours(&format!(
            r#"{{ "window": 1, "detector": {{ "kind": "at_window", "window": 1 }}, "safe_resort": {{ "enabled": false }},
                "direction": {{ "kind": "l_bfgs", "memory": {PAIRS} }} }}"#
        ));
        let meter = Meter::default();
        let mut model = Some(self.model.clone());
        let mut iterate = |iterations: usize| {
            for _ in 0..iterations {
                let objective = |model: &Classifier| meter.within(self, || self.objective(model));
                model = model.take().map(|model| switching.step_with(LR, model, objective).0);
            }
        };
        iterate(PAIRS + 8);
        let before = switching.counters().iterations;
        let own = meter.beside(self, || iterate(self.rounds)) / self.rounds as f64;
        let iterations = switching.counters().iterations - before;
        assert!(iterations == self.rounds as u64, "a call in which nothing moves costs nothing: {iterations} moved");
        let method = |iterations: usize| {
            LBFGSConfig::new()
                .with_max_iter(iterations)
                .with_max_eval(Some(100 * iterations))
                .with_history_size(PAIRS)
                .with_tolerance_grad(0.0)
                .with_tolerance_change(0.0)
                .with_line_search_fn(LineSearchFn::StrongWolfe)
        };
        let objective = |model: Classifier| {
            let (loss, grads) = meter.within(self, || self.objective(&model));
            (loss.into_scalar::<f64>(), grads)
        };
        let mut burn = method(PAIRS + 8).init();
        let (model, _) = burn.step(1.0, self.model.clone(), objective);
        let filled = burn.to_record();
        let pairs = 2 * PAIRS * self.model.num_params() * size_of::<f32>();
        let bytes = burn.into_bytes().expect("a record").len();
        assert!(bytes > pairs, "Burn's memory is not full: {bytes} bytes for pairs of {pairs}");
        let mut burn = method(self.rounds).init().load_record(filled);
        let time = meter.beside(self, || drop(burn.step(1.0, model, objective)));
        assert!(meter.calls.get() as usize > self.rounds, "Burn's has stopped after {} evaluations", meter.calls.get());
        [own, time / self.rounds as f64]
    }
}

/// The time spent within the model.
#[derive(Default)]
struct Meter {
    calls: Cell<u32>,
    time: Cell<Duration>,
}

impl Meter {
    fn within<T>(&self, bench: &Bench, evaluate: impl FnOnce() -> T) -> T {
        let mut result = None;
        let time = bench.time(|| result = Some(evaluate()));
        self.time.set(self.time.get() + time);
        self.calls.set(self.calls.get() + 1);
        result.expect("it was put there")
    }

    /// Milliseconds that are not spent within.
    fn beside(&self, bench: &Bench, run: impl FnOnce()) -> f64 {
        self.calls.set(0);
        self.time.set(Duration::ZERO);
        let all = bench.time(run);
        1e3 * (all - self.time.get()).as_secs_f64()
    }
}

fn main() {
    let names = std::env::var("OVERHEAD_MODELS").unwrap_or_else(|_| "small".into());
    let mut first = None;
    for name in names.split(',') {
        let bench = Bench::new(name);
        let [step, adam] = bench.non_convex();
        eprintln!("{name}: non-convex {:.3} of Adam's step", step / adam);
        let [evaluation, optimizer, sgd] = bench.convex();
        eprintln!(
            "{name}: convex {:.3} of an evaluation, gradient descent {:.3}",
            optimizer / evaluation,
            sgd / evaluation
        );
        let [own, burn] = bench.l_bfgs();
        let ratios = [step / adam, optimizer / evaluation, sgd / evaluation, own / burn];
        first.get_or_insert(ratios);
        let line = json!({
            "model": bench.name, "parameters": bench.model.num_params(), "device": format!("{:?}", bench.device),
            "batch": bench.samples, "step_ms": step, "adam_step_ms": adam, "evaluation_ms": evaluation,
            "optimizer_ms": optimizer, "sgd_ms": sgd, "l_bfgs_beside_model_ms": own, "burn_l_bfgs_beside_model_ms": burn,
            "non_convex": ratios[0], "convex": ratios[1], "sgd": ratios[2], "of_burn_l_bfgs": ratios[3],
        });
        println!("{line}");
    }
    let [non_convex, convex, sgd, burn] = first.expect("a name at least");
    println!("overhead: non-convex {non_convex:.3}, convex {convex:.3} (sgd {sgd:.3}), of Burn's L-BFGS {burn:.2}");
}
