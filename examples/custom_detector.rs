//! A swap detector of one's own, saved and restored with the optimizer like the built-in ones:
//! `cargo run --release --example custom_detector`.

use std::error::Error;

use burn::nn::{Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use burn_convexity::StateError;
use burn_convexity::detector::{Observation, SwapDetector, Verdict};
use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig, EventKind};
use serde_json::{Value, json};

/// Swap once so much is spent without the loss of a window having been halved.
#[derive(Clone, Debug)]
struct Patience {
    /// Gradient passes over the training set.
    budget: f64,
    /// Cost and loss when it was last halved.
    since: Option<(f64, f64)>,
}

impl SwapDetector for Patience {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let Some(loss) = observation.loss else {
            return Verdict::Abstain { reason: "no loss is shown".into() };
        };
        let (cost, before) = *self.since.get_or_insert((observation.cost, loss));
        if loss <= 0.5 * before {
            self.since = Some((observation.cost, loss));
        } else if observation.cost - cost >= self.budget {
            let reason = format!("the loss was {before:.3} at cost {cost} and is {loss:.3} at {}", observation.cost);
            return Verdict::Swap { reason };
        }
        Verdict::Stay
    }

    fn rearm(&mut self) {
        self.since = None;
    }

    fn state(&self) -> Value {
        json!(self.since)
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        self.since = StateError::read("patience", state)?;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn SwapDetector> {
        Box::new(self.clone())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(0);
    let [x, noise] = [[256, 20], [256, 1]].map(|shape| Tensor::<2>::random(shape, Distribution::Default, &device));
    let y = x.clone().sum_dim(1).sin() + noise.mul_scalar(0.1);
    let mut layers: [Linear; 2] = [(20, 16), (16, 1)].map(|(i, o)| LinearConfig::new(i, o).init(&device));

    let detector = Patience { budget: 20.0, since: None };
    let switching = ConvexitySwitching::builder(ConvexitySwitchingConfig::default()).detector(detector).build()?;
    for _ in 0..300 {
        (layers, _) = switching.step_with(1e-2, layers, |layers| {
            let output = layers[1].forward(layers[0].forward(x.clone()).tanh());
            let loss = (output - y.clone()).square().mean();
            let grads = GradientsParams::from_grads(loss.backward(), layers);
            (loss, grads)
        });
    }
    for event in switching.events() {
        if let EventKind::Swap { reason } = event.kind {
            println!("swapped at cost {}: {reason}", event.cost);
        }
    }
    println!("the loss is {:.2e} at cost {}", switching.accepted_loss().unwrap_or(f64::NAN), switching.counters().cost);
    Ok(())
}
