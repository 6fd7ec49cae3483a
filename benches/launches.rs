//! One stretch of training and nothing else, for `scripts/launches.sh`, which counts the calls of libtorch in it.
//!
//! `launches METHOD PASSES` takes a network of six parameter tensors so many passes on, forward and backward, on LibTorch
//! (CPU). METHOD is `model`, without an optimizer; `adam`; `non_convex` or `non_convex_last`, windows of 40 passes without a
//! swap, with and without the running average; or `convex` and `convex_kronecker`, evaluations of one pass behind a swap in
//! the first window, with a memory of ten pairs, in the metric of Adam's diagonal and in one of the gradients that stays.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};
use burn::train::{RegressionOutput, TrainOutput, TrainStep};
use burn_convexity::ConvexitySwitchingConfig;
use device_name::DeviceName;

// Its unit tests are compiled away here, and their imports are left over.
#[allow(dead_code, unused_imports)]
#[path = "../examples/shared/device.rs"]
mod device_name;

#[derive(Module, Debug)]
struct Net {
    layers: Vec<Linear>,
}

impl TrainStep for Net {
    type Input = Tensor<2>;
    type Output = RegressionOutput;

    fn step(&self, x: Tensor<2>) -> TrainOutput<RegressionOutput> {
        let y = self.layers.iter().fold(x.clone(), |x, layer| layer.forward(x).tanh());
        let loss = (y.clone() - x.clone()).square().mean();
        let grads = loss.backward();
        TrainOutput::new(self, grads, RegressionOutput::new(loss, y, x))
    }
}

/// The passes; nothing is read back here.
fn train<M: TrainStep<Input = Tensor<2>> + Module>(
    model: M,
    x: &Tensor<2>,
    passes: usize,
    optim: Option<ModuleOptimizer>,
) {
    let (mut model, mut optim) = (Some(model), optim);
    for _ in 0..passes {
        model = model.map(|model| {
            let grads: GradientsParams = TrainStep::step(&model, x.clone()).grads;
            match &mut optim {
                Some(optim) => model.optimize(optim, 1e-3.into(), grads),
                None => model,
            }
        });
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(method), Some(Ok(passes))) = (args.next(), args.next().map(|passes| passes.parse::<usize>())) else {
        return println!("launches is run by scripts/launches.sh");
    };
    let device: Device = "libtorch".parse::<DeviceName>().and_then(DeviceName::open).expect("built with `tch`");
    device.seed(0);
    let device = device.autodiff();
    let model = Net { layers: (0..3).map(|_| LinearConfig::new(8, 8).init(&device)).collect() };
    let x = Tensor::random([16, 8], Distribution::Default, &device);
    let ours =
        |json: &str| ConvexitySwitchingConfig::from_json(json, "launches").expect("valid").init().expect("valid");
    let non_convex =
        |start: &str| ours(&format!(r#"{{ "window": 40, "detector": {{ "kind": "never" }}, "start": "{start}" }}"#));
    match method.as_str() {
        "model" => train(model, &x, passes, None),
        "adam" => train(model, &x, passes, Some(AdamConfig::new().init())),
        "non_convex" | "non_convex_last" => {
            let switching = non_convex(if method == "non_convex" { "average" } else { "last" });
            train(switching.attach(model), &x, passes, Some(switching.into()));
        }
        "convex" | "convex_kronecker" => {
            let metric = if method == "convex" { "inner" } else { "kronecker" };
            let switching = ours(&format!(
                r#"{{ "window": 1, "detector": {{ "kind": "at_window", "window": 1 }},
                      "safe_resort": {{ "enabled": false }}, "metric": "{metric}", "metric_renewal": null,
                      "direction": {{ "kind": "l_bfgs", "memory": 10 }} }}"#
            ));
            train(switching.attach(model), &x, passes, Some(switching.into()));
        }
        other => panic!("no method {other}"),
    }
}
