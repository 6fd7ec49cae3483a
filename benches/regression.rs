//! Small full-batch fits: `cargo bench --bench regression`.
//!
//! A tanh network 1-32-32-1 in f32 on three functions at 2,003 points in [-1, 1], three seeds. Ours: 1,000 full-batch steps
//! of Adam at 3e-3, then 1,000 evaluations of the convex phase. Against the best of 2,000 full-batch steps of Adam, constant
//! and with cosine decay, at 1e-3, 3e-3 and 1e-2. A ratio is ours over the best Adam's final loss; the last line has the
//! geometric means. `REGRESSION_METRIC` names another metric than the default.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use burn_convexity::ConvexitySwitchingConfig;
use serde_json::{Value, json};

const POINTS: usize = 2_003;
const STEPS: usize = 1_000;
const SEEDS: u64 = 3;

type Target = (&'static str, fn(f64) -> f64);

const TARGETS: [Target; 3] = [
    ("sin(8 pi x)", |x| (8.0 * std::f64::consts::PI * x).sin()),
    ("1 / (1 + 25 x^2)", |x| 1.0 / (1.0 + 25.0 * x * x)),
    ("sin(3x) + 0.3 sign(sin 7x) sqrt|sin 7x|", |x| {
        (3.0 * x).sin() + 0.3 * (7.0 * x).sin().signum() * (7.0 * x).sin().abs().sqrt()
    }),
];

#[derive(Module, Debug)]
struct Net {
    layers: [Linear; 3],
}

impl Net {
    fn new(seed: u64, device: &Device) -> Self {
        device.seed(seed);
        let layers = [(1, 32), (32, 32), (32, 1)].map(|(i, o)| LinearConfig::new(i, o).init(device));
        Self { layers }.materialize()
    }

    fn loss(&self, x: &Tensor<2>, y: &Tensor<2>) -> Tensor<1> {
        let [a, b, c] = &self.layers;
        let output = c.forward(b.forward(a.forward(x.clone()).tanh()).tanh());
        (output - y.clone()).square().mean()
    }
}

fn value(loss: Tensor<1>) -> f64 {
    loss.into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

/// The best final loss of Adam over its settings.
fn best_adam(net: &Net, x: &Tensor<2>, y: &Tensor<2>) -> f64 {
    let settings = [1e-3, 3e-3, 1e-2].into_iter().flat_map(|lr| [(lr, false), (lr, true)]);
    let run = |(lr, cosine): (f64, bool)| {
        let (mut net, steps) = (net.clone(), 2 * STEPS);
        let mut optim: ModuleOptimizer = AdamConfig::new().with_epsilon(1e-8).init();
        for step in 0..steps {
            let decay = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            let grads = GradientsParams::from_grads(net.loss(x, y).backward(), &net);
            net = optim.step(if cosine { lr * decay } else { lr }, net, grads);
        }
        value(net.loss(x, y))
    };
    settings.map(run).fold(f64::INFINITY, f64::min)
}

/// Adam, then the convex phase; its final loss.
fn ours(net: &Net, x: &Tensor<2>, y: &Tensor<2>, direction: &Value) -> f64 {
    let config = json!({
        "inner": { "kind": "adam", "epsilon": 1e-8 },
        "detector": { "kind": "at_window", "window": STEPS },
        "direction": direction,
        "metric": std::env::var("REGRESSION_METRIC").unwrap_or_else(|_| "auto".into()),
        "evaluation": { "check": false },
        "safe_resort": { "enabled": false },
    });
    let config = ConvexitySwitchingConfig::from_json(&config.to_string(), "bench").expect("valid");
    let switching = config.init().expect("valid");
    let mut net = net.clone();
    while switching.counters().gradient_evaluations < STEPS as u64 && !switching.has_converged() {
        (net, _) = switching.step_with(3e-3, net, |net: &Net| {
            let loss = net.loss(x, y);
            let grads = GradientsParams::from_grads(loss.backward(), net);
            (loss, grads)
        });
    }
    value(net.loss(x, y))
}

fn main() {
    let device = Device::flex().autodiff();
    let x: Vec<f64> = (0..POINTS).map(|i| -1.0 + 2.0 * i as f64 / (POINTS - 1) as f64).collect();
    let column = |values: Vec<f64>| {
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        Tensor::<2>::from_data(TensorData::new(values, [POINTS, 1]), &device)
    };
    let methods = [
        ("lbfgs100", json!({ "kind": "l_bfgs", "memory": 100 })),
        ("self_scaled_all", json!({ "kind": "l_bfgs", "memory": "all", "self_scaling": true })),
    ];
    let mut logarithms = [0.0; 2];
    println!("{:<42} seed  best Adam   {:>10}   {:>15}", "target", methods[0].0, methods[1].0);
    for (name, f) in TARGETS {
        let (x, y) = (column(x.clone()), column(x.iter().map(|&x| f(x)).collect()));
        for seed in 0..SEEDS {
            let net = Net::new(seed, &device);
            let adam = best_adam(&net, &x, &y);
            let losses = methods.each_ref().map(|(_, direction)| ours(&net, &x, &y, direction));
            println!("{name:<42} {seed:>4}  {adam:>9.2e}   {:>10.2e}   {:>15.2e}", losses[0], losses[1]);
            for (sum, loss) in logarithms.iter_mut().zip(losses) {
                *sum += (loss / adam).ln() / (TARGETS.len() as f64 * SEEDS as f64);
            }
        }
    }
    let [lbfgs, scaled] = logarithms.map(f64::exp);
    println!("regression: lbfgs100 {lbfgs:.2e}, self_scaled_all {scaled:.2e}");
}
