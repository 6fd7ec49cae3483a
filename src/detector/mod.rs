//! Swap detectors: they watch the non-convex phase one window at a time and say when the convex phase may begin.
//! Scalars only.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StateError;

mod at_window;
mod combine;
mod gradient_norm_peak;
mod loss_level;
mod loss_plateau;
mod loss_slope;
mod never;
mod norm_versus_loss;
#[cfg(test)]
mod testing;
mod trend;

pub use at_window::{AtWindow, AtWindowConfig};
pub use combine::{All, Any};
pub use gradient_norm_peak::{GradientNormPeak, GradientNormPeakConfig};
pub use loss_level::{LossLevel, LossLevelConfig};
pub use loss_plateau::{LossPlateau, LossPlateauConfig};
pub use loss_slope::{LossSlope, LossSlopeConfig};
pub use never::{Never, NeverConfig};
pub use norm_versus_loss::{NormVersusLoss, NormVersusLossConfig};

/// What a detector sees of one window of the non-convex phase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Windows of the non-convex phase completed so far, this one included, counted from 1 since training began.
    pub window: u64,
    /// Optimizer passes since training began.
    pub passes: u64,
    /// Gradient passes over the training set since training began; a minibatch epoch costs 1.
    pub cost: f64,
    /// Mean over the window's passes of the Euclidean norm of the whole gradient of each pass.
    pub batch_norm: f64,
    /// Euclidean norm of the mean of the window's gradients, weighted by batch size where that is known.
    pub mean_norm: f64,
    /// Mean training loss of the window, weighted by batch size, with the penalty of `l2`; `None` where nobody shows the optimizer a loss.
    pub loss: Option<f64>,
    /// The learning rate of the window's last pass; in the convex phase, where it means nothing, that of the last pass before.
    pub learning_rate: f64,
}

/// Which number stands for the gradient norm of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// The mean of the norms of the window's batch gradients: a clean curve with one peak on small data, dominated by
    /// the noise of the batches on large data.
    #[default]
    BatchNorm,
    /// The norm of the mean of the window's batch gradients: closer to the gradient of the whole objective, but it
    /// zigzags, because the parameters move within the window.
    MeanNorm,
}

impl Statistic {
    /// This statistic of a window.
    pub fn of(self, observation: &Observation) -> f64 {
        match self {
            Self::BatchNorm => observation.batch_norm,
            Self::MeanNorm => observation.mean_norm,
        }
    }
}

/// What a detector concludes from a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Go on with the inner optimizer.
    Stay,
    /// Go on, because what this detector reads is not shown to it.
    Abstain {
        /// What is missing, in words.
        reason: String,
    },
    /// Begin the convex phase.
    Swap {
        /// The evidence, in words, with its numbers.
        reason: String,
    },
}

impl Verdict {
    /// Whether the verdict is to swap.
    pub fn is_swap(&self) -> bool {
        matches!(self, Self::Swap { .. })
    }
}

/// The verdict of a detector that reads the loss where none is shown.
fn no_loss() -> Verdict {
    let reason = "no loss is shown: wrap the model with `attach`, or choose a detector that reads gradient norms";
    Verdict::Abstain { reason: reason.into() }
}

/// Decides when the loss has become convex.
///
/// A detector is asked once per window, in order. Its state is saved in the optimizer's record through
/// [`state`](Self::state) and comes back through [`restore`](Self::restore), a user's own detector's too. The optimizer is locked
/// while it asks: a detector that asks a handle of it waits for itself.
pub trait SwapDetector: Debug + Send + Sync + 'static {
    /// Take in one window and say whether to swap.
    fn observe(&mut self, observation: &Observation) -> Verdict;

    /// Forget what belongs to the phase that ended: the convex phase has handed back to the inner optimizer.
    fn rearm(&mut self) {}

    /// Everything needed to go on after a restart; `Value::Null` for a detector without memory.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Continue from [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// [`StateError`] where the value was not made by a detector of this kind.
    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        let _ = state;
        Ok(())
    }

    /// A copy behind a new box.
    fn boxed(&self) -> Box<dyn SwapDetector>;
}

/// A number for a reason, to three significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size @ 1e-3..1e5 => {
            let decimals = (2.0 - size.log10().floor()).max(0.0) as usize;
            format!("{value:.decimals$}")
        }
        _ => format!("{value:.2e}"),
    }
}

/// "n windows in a row", or nothing where one window is enough.
fn in_a_row(windows: u64) -> String {
    if windows > 1 { format!(", {windows} windows in a row") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_reasons_have_three_digits() {
        let told = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.874, "0.874"),
            (-0.0397, "-0.0397"),
            (2.5, "2.50"),
            (0.001, "0.00100"),
            (99_999.0, "99999"),
            (1e5, "1.00e5"),
            (9.99e-4, "9.99e-4"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ];
        for (value, text) in told {
            assert_eq!(number(value), text);
        }
        assert_eq!([0, 1, 2].map(in_a_row), ["", "", ", 2 windows in a row"]);
    }
}
