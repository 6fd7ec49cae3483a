//! An own loop without a `Learner`: a small network fitted to a function, `cargo run --release --example custom_loop`.

use std::error::Error;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use burn_convexity::config::DetectorConfig;
use burn_convexity::detector::AtWindowConfig;
use burn_convexity::{ConvexitySwitchingConfig, EventKind, Phase};

/// 1 -> 32 -> 32 -> 1 with tanh between.
#[derive(Module, Debug)]
struct Net {
    layers: [Linear; 3],
}

impl Net {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [first, second, last] = &self.layers;
        last.forward(second.forward(first.forward(x).tanh()).tanh())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(0);
    let points: Vec<f64> = (0..512).map(|i| f64::from(i) / 256.0 - 1.0).collect();
    let values: Vec<f64> = points.iter().map(|x| 1.0 / (1.0 + 25.0 * x * x)).collect();
    let [x, y] = [points, values].map(|data| Tensor::<2>::from_data(TensorData::new(data, [512, 1]), &device));
    let mut net = Net { layers: [(1, 32), (32, 32), (32, 1)].map(|(i, o)| LinearConfig::new(i, o).init(&device)) };

    // A window is one call here, and the swap comes behind a fixed one.
    let detector = DetectorConfig::AtWindow(AtWindowConfig { window: 200 });
    let switching = ConvexitySwitchingConfig { detector, ..Default::default() }.init()?;
    // At most: once it has converged nothing moves any more.
    for call in 1..=320 {
        let outcome;
        (net, outcome) = switching.step_with(3e-3, net, |net| {
            let loss = (net.forward(x.clone()) - y.clone()).square().mean();
            let grads = GradientsParams::from_grads(loss.backward(), net);
            (loss, grads)
        });
        if outcome.phase == Phase::Convex && call % 50 == 0 {
            println!(
                "call {call:>4}: loss {:.3e}, {} evaluations",
                outcome.loss.unwrap_or(f64::NAN),
                outcome.evaluations
            );
        }
        if switching.has_converged() {
            break;
        }
    }
    for event in switching.events() {
        if let EventKind::Swap { .. } | EventKind::HandBack { .. } | EventKind::Converged { .. } = event.kind {
            println!("at cost {}: {:?}", event.cost, event.kind);
        }
    }
    let error = (net.forward(x) - y).abs().max().into_scalar::<f64>();
    println!("largest error {error:.1e}");
    Ok(())
}
