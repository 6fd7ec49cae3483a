//! A swap once most of the loss is gone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Observation, SwapDetector, Verdict, no_loss, number};
use crate::error::{ParameterError, StateError};

const KIND: &str = "loss_level";

/// Swap once the loss is at most `share` of the largest of any window so far. A training that is slow while most of the loss
/// is still there may be on one of many plateaus, and no basin, and where labels are wrong, what is left is learnt by heart. It
/// needs the loss (`attach`, or an own loop) and smooths nothing.
/// Source: this crate; with `gradient_norm_peak` and `loss_slope` in an `all` it is the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossLevelConfig {
    /// Share of the largest loss; no unit, above 0 and under 1, default 0.25. Source: this crate, by experiment: swaps at
    /// 0.5 and above lost in the metric of Adam's diagonal, and in that of the gradients end higher than later ones.
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub share: f64,
}

impl Default for LossLevelConfig {
    fn default() -> Self {
        Self { share: 0.25 }
    }
}

impl LossLevelConfig {
    /// Check the parameter against its range.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] where it is outside.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let in_range = self.share > 0.0 && self.share < 1.0;
        ParameterError::range(in_range, "share", self.share, "above 0 and under 1")
    }
}

/// The detector of [`LossLevelConfig`].
///
/// A window whose loss is not finite is no evidence. The largest loss outlives a hand-back: it is that of the whole run.
#[derive(Clone, Debug)]
pub struct LossLevel {
    config: LossLevelConfig,
    /// The largest loss of any window.
    largest: Option<f64>,
}

impl LossLevel {
    /// A detector that has seen nothing.
    pub fn new(config: LossLevelConfig) -> Self {
        Self { config, largest: None }
    }
}

impl SwapDetector for LossLevel {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let Some(loss) = observation.loss else {
            return no_loss();
        };
        if !loss.is_finite() {
            return Verdict::Stay;
        }
        let largest = self.largest.map_or(loss, |largest| largest.max(loss));
        self.largest = Some(largest);
        if largest <= 0.0 || loss > self.config.share * largest {
            return Verdict::Stay;
        }
        let (share, limit) = (number(loss / largest), self.config.share);
        Verdict::Swap {
            reason: format!("loss {} is {share} of its largest {} (at most {limit})", number(loss), number(largest)),
        }
    }

    fn state(&self) -> Value {
        json!(self.largest)
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        self.largest = StateError::read(KIND, state)?;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn SwapDetector> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{first_swap, resumes_bit_identically, window};
    use super::*;

    fn swap_at(losses: &[f64]) -> Option<(u64, String)> {
        let windows = losses.iter().zip(1..).map(|(loss, n)| window(n, 1.0, *loss));
        first_swap(&mut LossLevel::new(LossLevelConfig::default()), windows)
    }

    #[test]
    fn it_swaps_at_its_share_of_the_largest_loss() {
        let (window, reason) = swap_at(&[2.0, 2.4, f64::NAN, 1.3, 0.61, 0.6, 0.5]).unwrap();
        assert_eq!((window, reason.as_str()), (6, "loss 0.600 is 0.250 of its largest 2.40 (at most 0.25)"));
        assert_eq!(swap_at(&[2.3, 1.5, 1.2, 1.2, 1.2]), None);
    }

    #[test]
    fn a_loss_that_was_never_above_zero_has_no_share() {
        assert_eq!(swap_at(&[0.0, 0.0, -1.0, -2.0]), None);
    }

    #[test]
    fn the_largest_loss_outlives_a_hand_back() {
        let mut detector = LossLevel::new(LossLevelConfig::default());
        assert!(!detector.observe(&window(1, 1.0, 2.0)).is_swap());
        detector.rearm();
        assert!(detector.observe(&window(2, 1.0, 0.4)).is_swap());
    }

    #[test]
    fn without_a_loss_it_abstains() {
        let mut observation = window(1, 1.0, 1.0);
        observation.loss = None;
        assert!(matches!(LossLevel::new(LossLevelConfig::default()).observe(&observation), Verdict::Abstain { .. }));
    }

    #[test]
    fn it_resumes_bit_identically() {
        resumes_bit_identically(&LossLevel::new(LossLevelConfig::default()));
    }

    #[test]
    fn its_parameter_has_a_range() {
        assert!(LossLevelConfig::default().validate().is_ok());
        for share in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(LossLevelConfig { share }.validate().is_err());
        }
    }
}
