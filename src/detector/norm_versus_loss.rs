//! The gradient norm as a function of the loss instead of time: more reliable for a stochastic method, as the paper says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::trend::Trend;
use super::{Observation, Statistic, SwapDetector, Verdict, no_loss, number};
use crate::error::{ParameterError, StateError};

const KIND: &str = "norm_versus_loss";

/// Swap when the gradient norm falls together with the loss: the least-squares slope of norm against loss over the last
/// `windows` windows is positive. It needs the loss (`attach`, or an own loop). Source: Hrycej et al. 2025, section 3 and
/// figure 5, which give the idea and no formula.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NormVersusLossConfig {
    /// Windows the slope is fitted over, which is this detector's smoothing; at least 3, default 10. Source: this crate.
    #[schemars(range(min = 3))]
    pub windows: u64,
    /// Correlation of norm and loss that the slope needs to be believed; no unit, at least 0 and under 1, default 0.5; 0
    /// believes any positive slope. Source: this crate.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub min_correlation: f64,
    /// Which gradient norm of a window is watched; default `batch_norm`. Source: this crate.
    pub statistic: Statistic,
}

impl Default for NormVersusLossConfig {
    fn default() -> Self {
        Self { windows: 10, min_correlation: 0.5, statistic: Statistic::BatchNorm }
    }
}

impl NormVersusLossConfig {
    /// Check every parameter against its range.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] names the first one outside.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let (windows, min_correlation) = (self.windows, self.min_correlation);
        ParameterError::range(windows >= 3, "windows", windows, "at least 3")?;
        let in_range = (0.0..1.0).contains(&min_correlation);
        ParameterError::range(in_range, "min_correlation", min_correlation, "at least 0 and under 1")
    }
}

/// The detector of [`NormVersusLossConfig`].
///
/// A window without a finite norm and loss is no evidence and changes nothing. After a hand-back all windows are
/// forgotten.
#[derive(Clone, Debug)]
pub struct NormVersusLoss {
    config: NormVersusLossConfig,
    /// Loss and norm of the last windows, oldest first.
    history: Vec<(f64, f64)>,
}

impl NormVersusLoss {
    /// A detector that has seen nothing.
    pub fn new(config: NormVersusLossConfig) -> Self {
        Self { config, history: Vec::new() }
    }
}

impl SwapDetector for NormVersusLoss {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let NormVersusLossConfig { windows, min_correlation, statistic } = self.config;
        let norm = statistic.of(observation);
        let Some(loss) = observation.loss else {
            return no_loss();
        };
        let Some(loss) = Some(loss).filter(|loss| loss.is_finite() && norm.is_finite()) else {
            return Verdict::Stay;
        };
        self.history.push((loss, norm));
        if (self.history.len() as u64) > windows {
            self.history.remove(0);
        }
        if (self.history.len() as u64) < windows {
            return Verdict::Stay;
        }
        match Trend::fit(&self.history) {
            Some(Trend { slope, correlation }) if slope > 0.0 && correlation >= min_correlation => Verdict::Swap {
                reason: format!(
                    "gradient norm falls with the loss: slope {}, correlation {} (at least {min_correlation}) over \
                         {windows} windows, norm {}",
                    number(slope),
                    number(correlation),
                    number(norm),
                ),
            },
            _ => Verdict::Stay,
        }
    }

    fn rearm(&mut self) {
        self.history.clear();
    }

    fn state(&self) -> Value {
        json!(self.history)
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        self.history = StateError::read(KIND, state)?;
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

    /// The loss falls from 1; the norm, a function of it, has its peak at a loss of 0.5.
    fn descent() -> impl Iterator<Item = Observation> {
        (1..40).map(|n| {
            let loss = 0.9f64.powi(n as i32);
            window(n, loss * (1.0 - loss), loss)
        })
    }

    #[test]
    fn it_swaps_behind_the_peak_of_the_norm_over_the_loss() {
        let config = NormVersusLossConfig { windows: 5, ..Default::default() };
        let (at, reason) = first_swap(&mut NormVersusLoss::new(config), descent()).unwrap();
        // Loss 0.5 is passed at window 7 (0.478); a fit over five windows turns positive two to four windows later.
        assert!((9..=11).contains(&at), "{at}");
        assert!(reason.starts_with("gradient norm falls with the loss: slope "), "{reason}");
    }

    #[test]
    fn the_slope_is_that_of_the_norm_over_the_loss() {
        let line = (1..40).map(|n| window(n, 2.0 / n as f64, 1.0 / n as f64));
        let mut detector = NormVersusLoss::new(NormVersusLossConfig::default());
        let (_, reason) = first_swap(&mut detector, line).unwrap();
        assert_eq!(
            reason,
            "gradient norm falls with the loss: slope 2.00, correlation 1.00 (at least 0.5) over 10 windows, norm 0.200"
        );
    }

    #[test]
    fn it_stays_while_the_norm_grows_as_the_loss_falls() {
        let growing = (1..40).map(|n| window(n, n as f64, 1.0 / n as f64));
        let mut detector = NormVersusLoss::new(NormVersusLossConfig::default());
        assert_eq!(first_swap(&mut detector, growing), None);
    }

    #[test]
    fn a_slope_without_correlation_is_not_believed() {
        let noise = || (1..40).map(|n| window(n, 1.0 + (n * 7 % 5) as f64, 1.0 + (n * 3 % 7) as f64));
        let config = NormVersusLossConfig { min_correlation: 0.9, ..Default::default() };
        assert_eq!(first_swap(&mut NormVersusLoss::new(config), noise()), None);
        let config = NormVersusLossConfig { min_correlation: 0.0, ..Default::default() };
        assert!(first_swap(&mut NormVersusLoss::new(config), noise()).is_some());
    }

    #[test]
    fn a_constant_loss_or_none_is_no_evidence() {
        let mut detector = NormVersusLoss::new(NormVersusLossConfig::default());
        assert_eq!(first_swap(&mut detector, (1..40).map(|n| window(n, n as f64, 1.0))), None);
        let mut detector = NormVersusLoss::new(NormVersusLossConfig::default());
        let blind = descent().map(|observation| Observation { loss: None, ..observation });
        assert_eq!(first_swap(&mut detector, blind), None);
    }

    #[test]
    fn a_window_without_a_finite_norm_and_loss_is_no_evidence() {
        for (norm, loss) in [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
            let mut detector = NormVersusLoss::new(NormVersusLossConfig::default());
            assert_eq!(detector.observe(&window(1, norm, loss)), Verdict::Stay);
            assert!(detector.history.is_empty());
        }
    }

    #[test]
    fn rearming_forgets_the_windows() {
        let mut detector = NormVersusLoss::new(NormVersusLossConfig::default());
        assert!(first_swap(&mut detector, descent()).is_some());
        detector.rearm();
        assert_eq!(first_swap(&mut detector, descent().skip(25).take(9)), None);
    }

    #[test]
    fn it_resumes_bit_identically() {
        resumes_bit_identically(&NormVersusLoss::new(NormVersusLossConfig::default()));
    }

    #[test]
    fn each_parameter_has_its_range() {
        let default = NormVersusLossConfig::default;
        assert!(default().validate().is_ok());
        assert!(NormVersusLossConfig { windows: 2, ..default() }.validate().is_err());
        assert!(NormVersusLossConfig { min_correlation: 1.0, ..default() }.validate().is_err());
    }
}
