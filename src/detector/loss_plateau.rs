//! A swap where the inner optimizer has stopped making progress.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Observation, SwapDetector, Verdict, in_a_row, no_loss, number};
use crate::error::{ParameterError, StateError};

const KIND: &str = "loss_plateau";

/// Swap on a plateau: `patience` windows in a row in which the loss never fell below `best - min_gain |best|`. It needs
/// the loss (`attach`, or an own loop), and patience is its smoothing. This is the test of PyTorch's `ReduceLROnPlateau` in
/// relative mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossPlateauConfig {
    /// Share of the best loss that counts as progress; no unit, at least 0 and under 1, default 0.01. Smaller gains add
    /// up: they are measured from the last loss that counted. Source: this crate.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub min_gain: f64,
    /// Windows in a row without progress before the swap; at least 1, default 5. Source: this crate.
    #[schemars(range(min = 1))]
    pub patience: u64,
}

impl Default for LossPlateauConfig {
    fn default() -> Self {
        Self { min_gain: 0.01, patience: 5 }
    }
}

impl LossPlateauConfig {
    /// Check every parameter against its range.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] names the first one outside.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let (min_gain, patience) = (self.min_gain, self.patience);
        let in_range = (0.0..1.0).contains(&min_gain);
        ParameterError::range(in_range, "min_gain", min_gain, "at least 0 and under 1")?;
        ParameterError::range(patience >= 1, "patience", patience, "at least 1")
    }
}

/// The detector of [`LossPlateauConfig`].
///
/// A window without a loss, or with one that is not finite, is no evidence and changes nothing. After a hand-back the
/// best loss is forgotten: the convex phase left another.
#[derive(Clone, Debug)]
pub struct LossPlateau {
    config: LossPlateauConfig,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// The last loss that counted as progress.
    best: Option<f64>,
    /// Windows in a row without progress.
    stale: u64,
}

impl LossPlateau {
    /// A detector that has seen nothing.
    pub fn new(config: LossPlateauConfig) -> Self {
        Self { config, state: State::default() }
    }
}

impl SwapDetector for LossPlateau {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let LossPlateauConfig { min_gain, patience } = self.config;
        let Some(loss) = observation.loss else {
            return no_loss();
        };
        let Some(loss) = Some(loss).filter(|loss| loss.is_finite()) else {
            return Verdict::Stay;
        };
        let Some(best) = self.state.best.filter(|best| loss >= best - min_gain * best.abs()) else {
            self.state = State { best: Some(loss), stale: 0 };
            return Verdict::Stay;
        };
        self.state.stale += 1;
        if self.state.stale < patience {
            return Verdict::Stay;
        }
        Verdict::Swap {
            reason: format!(
                "loss {} gains less than {min_gain} of the best {}{}",
                number(loss),
                number(best),
                in_a_row(self.state.stale),
            ),
        }
    }

    fn rearm(&mut self) {
        self.state = State::default();
    }

    fn state(&self) -> Value {
        json!(self.state)
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        self.state = StateError::read(KIND, state)?;
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

    fn swap_at(config: LossPlateauConfig, losses: &[f64]) -> Option<(u64, String)> {
        let windows = losses.iter().zip(1..).map(|(loss, n)| window(n, 1.0, *loss));
        first_swap(&mut LossPlateau::new(config), windows)
    }

    #[test]
    fn it_swaps_after_patience_windows_without_progress() {
        let config = LossPlateauConfig { min_gain: 0.1, patience: 2 };
        let (window, reason) = swap_at(config, &[1.0, 0.5, 0.48, 0.4, 0.39, 0.41]).unwrap();
        assert_eq!(window, 6);
        assert_eq!(reason, "loss 0.410 gains less than 0.1 of the best 0.400, 2 windows in a row");
    }

    #[test]
    fn small_gains_that_add_up_are_progress() {
        let config = LossPlateauConfig { min_gain: 0.1, patience: 3 };
        let falling: Vec<f64> = (0..50).map(|n| 0.96f64.powi(n)).collect();
        assert_eq!(swap_at(config, &falling), None);
    }

    #[test]
    fn a_window_without_a_finite_loss_is_no_evidence() {
        let mut windows: Vec<_> = (1..20).map(|n| window(n, 1.0, f64::NAN)).collect();
        windows[3].loss = None;
        let mut detector = LossPlateau::new(LossPlateauConfig::default());
        assert_eq!(first_swap(&mut detector, windows), None);
    }

    #[test]
    fn a_loss_of_zero_or_below_is_a_loss_like_any_other() {
        let config = LossPlateauConfig { min_gain: 0.1, patience: 2 };
        assert_eq!(swap_at(config.clone(), &[0.0, 0.0, 0.0]).unwrap().0, 3);
        assert_eq!(swap_at(config, &[-1.0, -1.2, -1.4, -1.41, -1.4]).unwrap().0, 5);
    }

    #[test]
    fn rearming_forgets_the_best_loss() {
        let config = LossPlateauConfig { min_gain: 0.1, patience: 1 };
        let mut detector = LossPlateau::new(config);
        assert_eq!(first_swap(&mut detector, [window(1, 1.0, 0.1)]), None);
        detector.rearm();
        assert_eq!(first_swap(&mut detector, [window(2, 1.0, 0.5)]), None);
    }

    #[test]
    fn it_resumes_bit_identically() {
        resumes_bit_identically(&LossPlateau::new(LossPlateauConfig::default()));
    }

    #[test]
    fn each_parameter_has_its_range() {
        let default = LossPlateauConfig::default;
        assert!(default().validate().is_ok());
        assert!(LossPlateauConfig { min_gain: 1.0, ..default() }.validate().is_err());
        assert!(LossPlateauConfig { min_gain: f64::NAN, ..default() }.validate().is_err());
        assert!(LossPlateauConfig { patience: 0, ..default() }.validate().is_err());
    }
}
