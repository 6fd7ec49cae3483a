//! Search directions as coefficients over a few vectors.
//!
//! All inner products are taken in the coordinates of the metric: with a diagonal preconditioner `D` they are those of
//! `sqrt(D) g` for a gradient `g`, and the parameters are moved by `sqrt(D) d` for a direction `d`. In these coordinates a
//! preconditioned method is the plain one, so no direction knows of the metric.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StateError;

mod conjugate_gradient;
mod l_bfgs;

pub use conjugate_gradient::{Beta, ConjugateGradient, ConjugateGradientConfig};
pub use l_bfgs::{AllPairs, LBfgs, LBfgsConfig, Memory};

use super::RestartReason;

/// Inner products over the whole model at the end of an evaluation.
///
/// `g` is the gradient at the trial point, `y = g - g_base` its change since the base point, `d` the direction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Products {
    /// `g'g`.
    pub gg: f64,
    /// `g'y`.
    pub gy: f64,
    /// `g'd`, the directional derivative at the trial point.
    pub gd: f64,
    /// `y'y`.
    pub yy: f64,
    /// `y'd`.
    pub yd: f64,
    /// `d'd`.
    pub dd: f64,
    /// `[[s_i'g, s_i'y], [y_i'g, y_i'y]]` for each stored pair of a step `s_i` and a gradient change `y_i`, by slot.
    pub pairs: Vec<[[f64; 2]; 2]>,
    /// `[b_i'g, b_i'y]` for each batch gradient `b_i` kept.
    pub batches: Vec<[f64; 2]>,
}

impl Products {
    /// Whether every product is a finite number.
    pub fn is_finite(&self) -> bool {
        [self.gg, self.gy, self.gd, self.yy, self.yd, self.dd]
            .iter()
            .chain(self.pairs.iter().flatten().flatten())
            .chain(self.batches.iter().flatten())
            .all(|product| product.is_finite())
    }
}

/// The step that led to a new base point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Step {
    /// Its length, in directions; 0 where the point is the first, or the metric a new one.
    pub length: f64,
    /// How far the objective fell, where it is known.
    pub decrease: Option<f64>,
    /// How far off that may be, by rounding and noise.
    pub error: f64,
}

impl From<f64> for Step {
    /// A step of this length, the objective unknown.
    fn from(length: f64) -> Self {
        Self { length, ..Self::default() }
    }
}

/// A direction `d = gradient * g + direction * d_old + sum_i (pairs[i][0] * s_i + pairs[i][1] * y_i) + sum_i batches[i] * b_i`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    /// Coefficient of the gradient at the new base point.
    pub gradient: f64,
    /// Coefficient of the direction just searched.
    pub direction: f64,
    /// Coefficients of the stored steps and gradient changes by slot, for as many slots as there must be room for; empty
    /// where none is used. Those of slots without a pair count for nothing.
    pub pairs: Vec<[f64; 2]>,
    /// Coefficients of the batch gradients kept.
    pub batches: Vec<f64>,
    /// The slot that takes the new pair `s = step * d_old`, `y`, before they are combined.
    pub store: Option<usize>,
}

impl Coefficients {
    /// Steepest descent, `d = -g`.
    pub fn steepest() -> Self {
        Self { gradient: -1.0, ..Self::default() }
    }
}

/// What a direction method proposes for the next search.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The new direction.
    pub coefficients: Coefficients,
    /// `g'd` of the new direction at the new base point.
    pub slope: f64,
    /// The method's own first step length, 1 for a quasi-Newton direction; `None` to scale the last one by the slopes.
    pub step: Option<f64>,
    /// Set where the method itself went back to steepest descent.
    pub restart: Option<RestartReason>,
    /// Set once, where the method drops its oldest pair because no more than so many fit into the bytes allowed.
    pub dropped: Option<usize>,
}

/// More pairs are asked for than fit into the bytes allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "{pairs} pairs of steps and gradient changes take {bytes} bytes, and `direction.memory_bytes` allows {limit}: lower \
     `direction.memory` or raise the limit"
)]
pub struct MemoryLimit {
    /// Pairs asked for.
    pub pairs: u64,
    /// Bytes they take, over all tensors.
    pub bytes: u64,
    /// Bytes allowed.
    pub limit: u64,
}

impl Proposal {
    /// Steepest descent from a gradient of squared norm `gg`.
    pub fn steepest(gg: f64, restart: Option<RestartReason>) -> Self {
        Self { coefficients: Coefficients::steepest(), slope: -gg, step: None, restart, dropped: None }
    }
}

/// A method that turns inner products into the next search direction. The optimizer is locked while
/// it asks: a method that asks a handle of it waits for itself.
pub trait Direction: Debug + Send + Sync + 'static {
    /// The convex phase begins, and a pair `(s, y)` takes so many bytes over all tensors.
    ///
    /// # Errors
    ///
    /// [`MemoryLimit`] where the method would need more than it is allowed; the phase is then refused.
    fn fit(&mut self, pair_bytes: u64) -> Result<(), MemoryLimit> {
        let _ = pair_bytes;
        Ok(())
    }

    /// How many batch gradients it wants of the evaluations before the first search in a metric that is made of them; none by
    /// default.
    fn batch_gradients(&self) -> usize {
        0
    }

    /// Batch gradients are kept: their inner products with each other, `b_i'b_j`; of none behind a restart for a new metric. It can
    /// come again until a direction has been asked for.
    fn set_batch_gradients(&mut self, gram: &[Vec<f64>]) {
        let _ = gram;
    }

    /// The direction after `step.length * d` was accepted with these products at the new base point.
    fn next(&mut self, products: &Products, step: Step) -> Proposal;

    /// Forget the past: the next direction starts from steepest descent. Behind a restart for a new metric the rows of all pairs are
    /// gone, and the next step's length is 0.
    fn restart(&mut self);

    /// Everything needed to go on after a restart of the program.
    fn state(&self) -> Value;

    /// Continue from [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// [`StateError`] where the value was not made by a direction of this kind.
    fn restore(&mut self, state: Value) -> Result<(), StateError>;

    /// A copy behind a new box.
    fn boxed(&self) -> Box<dyn Direction>;
}
