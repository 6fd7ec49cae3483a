//! What the optimizer costs beside the model: `cargo bench --bench overhead`.
//!
//! Both methods of a pair run in turns in one process, so that a noisy machine slows both; the ratio is that of the
//! medians. The last lines are the two ratios.

use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::{AdamConfig, ModuleOptimizer};
use burn::tensor::Device;
use burn::train::TrainStep;
use burn_convexity::{Attached, ConvexitySwitching, ConvexitySwitchingConfig, Phase};
use criterion::Criterion;
use shared::data::{EpochLoader, ImageBatch, digits};
use shared::models::vit::VitConfig;
use shared::models::{Classifier, Loss, ModelKind};

// Its unit tests are compiled away here, and their imports are left over.
#[allow(unused_imports)]
#[path = "../examples/shared/mod.rs"]
mod shared;

const BATCH: usize = 256;
const LR: f64 = 1e-3;
const ROUNDS: usize = 30;

fn device() -> Device {
    Device::flex()
}

/// The model of the `vit` example and one batch of digits.
fn setup() -> (Classifier, ImageBatch) {
    let device = device();
    device.seed(0);
    let size = VitConfig { channels: 1, layers: 2, heads: 4, width: 32, ..VitConfig::default() };
    let network = ModelKind::VitNomlpWkewq.init(size, &device.clone().autodiff());
    let loader = EpochLoader::sequential(&digits(32).train.upload(&device), BATCH).expect("enough data");
    let batch = loader.iter().next().expect("a batch").expect("no error");
    (Classifier::new(network, Loss::CrossEntropy).materialize(), batch)
}

fn config(detector: &str) -> ConvexitySwitching {
    let json = format!(r#"{{ "window": 20, "detector": {detector}, "safe_resort": {{ "enabled": false }} }}"#);
    ConvexitySwitchingConfig::from_json(&json, "bench").expect("valid").init().expect("valid")
}

/// One Learner step: forward, backward, optimizer.
fn step<M: TrainStep<Input = ImageBatch> + Module>(model: M, optim: &mut ModuleOptimizer, batch: &ImageBatch) -> M {
    let output = TrainStep::step(&model, batch.clone());
    model.optimize(optim, LR.into(), output.grads)
}

fn time(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// Medians of two things timed in turns.
fn in_turns(mut a: impl FnMut(), mut b: impl FnMut()) -> (f64, f64) {
    let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + 3 {
        let (a, b) = (time(&mut a), time(&mut b));
        if round >= 3 {
            times_a.push(a);
            times_b.push(b);
        }
    }
    (median(times_a), median(times_b))
}

/// Non-convex phase against bare Adam, per step.
fn non_convex() -> f64 {
    let (model, batch) = setup();
    let switching = config(r#"{ "kind": "never" }"#);
    let mut ours = Some(switching.attach(model.clone()));
    let mut our_optim: ModuleOptimizer = switching.into();
    let mut bare = Some(model);
    let mut adam: ModuleOptimizer = AdamConfig::new().init();
    let (ours, bare) = in_turns(
        || ours = ours.take().map(|model| step(model, &mut our_optim, &batch)),
        || bare = bare.take().map(|model| step(model, &mut adam, &batch)),
    );
    println!("non-convex step {:.3} ms, bare Adam {:.3} ms", 1e3 * ours, 1e3 * bare);
    ours / bare
}

/// Everything in an evaluation of 6 passes but forward and backward, as a share of the evaluation.
fn convex() -> f64 {
    let (model, batch) = setup();
    let json =
        r#"{ "window": 6, "detector": { "kind": "at_window", "window": 1 }, "safe_resort": { "enabled": false } }"#;
    let switching = ConvexitySwitchingConfig::from_json(json, "bench").expect("valid").init().expect("valid");
    let mut optim: ModuleOptimizer = switching.clone().into();
    let mut model: Option<Attached<Classifier>> = Some(switching.attach(model));
    while switching.phase() == Phase::NonConvex {
        model = model.map(|model| step(model, &mut optim, &batch));
    }
    let (mut whole, mut own) = (Vec::new(), Vec::new());
    // Forty evaluations fill the memory well beyond its first rooms.
    for round in 0..40 {
        let mut optimizer = Duration::ZERO;
        let all = time(|| {
            for _ in 0..6 {
                model = model.take().map(|model| {
                    let grads = TrainStep::step(&model, batch.clone()).grads;
                    let start = Instant::now();
                    let model = model.optimize(&mut optim, LR.into(), grads);
                    optimizer += start.elapsed();
                    model
                });
            }
        });
        if round >= 10 {
            whole.push(all);
            own.push(optimizer);
        }
    }
    let (whole, own) = (median(whole), median(own));
    println!("evaluation {:.3} ms, of which the optimizer {:.3} ms", 1e3 * whole, 1e3 * own);
    own / whole
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let (model, batch) = setup();
    criterion.bench_function("forward and backward", |b| b.iter(|| TrainStep::step(&model, batch.clone())));
    println!("overhead: non-convex {:.3}, convex {:.3}", non_convex(), convex());
    criterion.final_summary();
}
