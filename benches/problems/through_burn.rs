//! A problem solved by [`ConvexitySwitching`] itself, in f32 through Burn on the flex device.
//!
//! The point is the one parameter of a module; point, gradient, directions and inner products are f32 tensors, value and
//! gradient are computed in f64 at the f32 point and handed over in f32. One step of Adam with a learning rate of zero
//! leaves the point at the standard start, then L-BFGS begins, in no metric. Where its search fails the optimizer goes back
//! to Adam, which stands still, and begins anew after its hold-off.

use burn::tensor::DType;
use burn_convexity::{ConvexitySwitching, ConvexitySwitchingConfig};
use serde_json::json;

use crate::host::max_norm;
use crate::vector::Vector;
use crate::{BUDGET, MEMORY, Objective};

/// How a run went.
pub struct Run {
    pub evaluations: u64,
    /// The largest entry of the gradient at the last accepted point, relative to that at the start.
    pub gradient: f64,
}

/// The optimizer, in its convex phase as soon as can be.
fn switching() -> ConvexitySwitching {
    let config = json!({
        "detector": { "kind": "at_window", "window": 1 },
        "direction": { "kind": "l_bfgs", "memory": MEMORY },
        "metric": "identity",
        "evaluation": { "check": false },
        "safe_resort": { "enabled": false },
    });
    let config = ConvexitySwitchingConfig::from_json(&config.to_string(), "bench").expect("valid");
    config.init().expect("valid")
}

/// Minimise until the gradient is within a relative tolerance, nothing is left to gain, or the budget is spent.
pub fn solve(objective: &Objective, start: &[f64], tolerance: f64) -> Run {
    let switching = switching();
    let mut point = Vector::new(start, DType::F32);
    let gradient = |point: &Vector| max_norm(&objective(&point.values()).1);
    let first = gradient(&point);
    let mut run = Run { evaluations: 0, gradient: 1.0 };
    while run.gradient > tolerance && run.evaluations < BUDGET && !switching.has_converged() {
        let outcome;
        (point, outcome) = switching.step_with(0.0, point, |point: &Vector| {
            let (value, gradient) = objective(&point.values());
            (point.loss(value), point.gradients(&gradient))
        });
        run.evaluations += outcome.evaluations;
        run.gradient = gradient(&point) / first;
    }
    run
}
