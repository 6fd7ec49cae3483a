//! A swap where the logarithm of the loss falls too slowly for its cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::trend::Trend;
use super::{Observation, SwapDetector, Verdict, no_loss, number};
use crate::error::{ParameterError, StateError};

const KIND: &str = "loss_slope";

/// Swap when the loss falls by less than `rate` per unit of cost: the least-squares slope of `ln(loss)` against cost over the
/// last `windows` windows is flatter than `rate`. A rising loss is flat too. It needs the loss (`attach`, or an own loop).
/// Source: this crate; with `gradient_norm_peak` and `loss_level` in an `all` it is the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossSlopeConfig {
    /// Relative fall of the loss under which the swap comes, per unit of cost (one gradient pass over the training
    /// set); above 0, default 0.1, that is 10 % a minibatch epoch. Source: this crate, by experiment.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub rate: f64,
    /// Windows the slope is fitted over, which is this detector's smoothing; at least 3, default 10. Source: this crate, by
    /// experiment.
    #[schemars(range(min = 3))]
    pub windows: u64,
}

impl Default for LossSlopeConfig {
    fn default() -> Self {
        Self { rate: 0.1, windows: 10 }
    }
}

impl LossSlopeConfig {
    /// Check every parameter against its range.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] names the first one outside.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let Self { rate, windows } = *self;
        ParameterError::range(rate > 0.0 && rate.is_finite(), "rate", rate, "above 0")?;
        ParameterError::range(windows >= 3, "windows", windows, "at least 3")
    }
}

/// The detector of [`LossSlopeConfig`].
///
/// Without a loss above zero it abstains; a window whose loss is not finite is no evidence and changes nothing. After a
/// hand-back the losses are forgotten, so that a fit never spans the convex phase.
#[derive(Clone, Debug)]
pub struct LossSlope {
    config: LossSlopeConfig,
    /// Cost and logarithm of the loss of the last windows, oldest first.
    history: Vec<(f64, f64)>,
}

impl LossSlope {
    /// A detector that has seen nothing.
    pub fn new(config: LossSlopeConfig) -> Self {
        Self { config, history: Vec::new() }
    }
}

impl SwapDetector for LossSlope {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let LossSlopeConfig { rate, windows } = self.config;
        let Some(loss) = observation.loss else {
            return no_loss();
        };
        if loss <= 0.0 {
            let reason = format!("a loss of {loss} has no logarithm: choose `loss_plateau` instead");
            return Verdict::Abstain { reason };
        }
        let Some(log_loss) = Some(loss.ln()).filter(|ln| ln.is_finite()) else {
            return Verdict::Stay;
        };
        self.history.push((observation.cost, log_loss));
        if self.history.len() as u64 > windows {
            self.history.remove(0);
        }
        if (self.history.len() as u64) < windows {
            return Verdict::Stay;
        }
        match Trend::fit(&self.history) {
            Some(Trend { slope, .. }) if slope > -rate => Verdict::Swap {
                reason: format!(
                    "the logarithm of the loss changes by {} a unit of cost over {windows} windows (flat above -{rate})",
                    number(slope),
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

    #[test]
    fn it_swaps_when_the_loss_falls_by_less_than_the_rate() {
        // 10 % a window until window 30, 1 % from there on: the slope passes 3 % when most of the ten windows are flat.
        let losses = (1..80).map(|n: u64| {
            let (fast, slow) = (n.min(30) as f64, n.saturating_sub(30) as f64);
            window(n, 1.0, (-0.1 * fast - 0.01 * slow).exp())
        });
        let (at, reason) =
            first_swap(&mut LossSlope::new(LossSlopeConfig { rate: 0.03, ..Default::default() }), losses).unwrap();
        assert!((36..=39).contains(&at), "{at}");
        assert!(reason.contains(" over 10 windows (flat above -0.03)"), "{reason}");
    }

    #[test]
    fn it_stays_while_the_loss_falls_fast_and_swaps_at_once_where_it_does_not() {
        let falling = (1..80).map(|n| window(n, 1.0, 0.9f64.powi(n as i32)));
        assert_eq!(first_swap(&mut LossSlope::new(LossSlopeConfig::default()), falling), None);
        for loss in [1.0, 1.1] {
            let flat = (1..80).map(|n| window(n, 1.0, f64::powi(loss, n as i32)));
            let swap = first_swap(&mut LossSlope::new(LossSlopeConfig::default()), flat);
            assert_eq!(swap.unwrap().0, 10);
        }
    }

    #[test]
    fn a_loss_that_falls_exactly_as_fast_as_the_rate_is_not_flat() {
        let losses = (1..20).map(|n| window(n, 1.0, 0.5f64.powi(n as i32)));
        let exact = Trend::fit(&losses.clone().take(10).map(|o| (o.cost, o.loss.unwrap().ln())).collect::<Vec<_>>());
        let rate = -exact.unwrap().slope;
        let mut detector = LossSlope::new(LossSlopeConfig { rate, ..Default::default() });
        assert_eq!(first_swap(&mut detector, losses.clone().take(10)), None);
        let mut detector = LossSlope::new(LossSlopeConfig { rate: rate * (1.0 + 1e-12), ..Default::default() });
        assert_eq!(first_swap(&mut detector, losses).unwrap().0, 10);
    }

    #[test]
    fn the_rate_is_per_unit_of_cost_not_per_window() {
        let losses = |cost: f64| {
            (1..80).map(move |n| {
                let observation = window(n, 1.0, 0.98f64.powi(n as i32));
                Observation { cost: cost * n as f64, ..observation }
            })
        };
        // 2 % a window: flat where a window costs 1, steep where it costs a half.
        let mut detector = LossSlope::new(LossSlopeConfig { rate: 0.03, ..Default::default() });
        assert!(first_swap(&mut detector, losses(1.0)).is_some());
        let mut detector = LossSlope::new(LossSlopeConfig { rate: 0.03, ..Default::default() });
        assert_eq!(first_swap(&mut detector, losses(0.5)), None);
    }

    #[test]
    fn a_loss_without_logarithm_is_no_evidence() {
        for loss in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut detector = LossSlope::new(LossSlopeConfig::default());
            assert_eq!(first_swap(&mut detector, (1..40).map(|n| window(n, 1.0, loss))), None);
        }
    }

    #[test]
    fn rearming_forgets_the_losses() {
        let mut detector = LossSlope::new(LossSlopeConfig::default());
        let flat = |range: std::ops::Range<u64>| range.map(|n| window(n, 1.0, 1.0));
        for observation in flat(1..31) {
            detector.observe(&observation);
        }
        detector.rearm();
        assert_eq!(first_swap(&mut detector, flat(31..100)).unwrap().0, 40);
    }

    #[test]
    fn it_resumes_bit_identically() {
        resumes_bit_identically(&LossSlope::new(LossSlopeConfig::default()));
    }

    #[test]
    fn each_parameter_has_its_range() {
        let default = LossSlopeConfig::default;
        assert!(default().validate().is_ok());
        assert!(LossSlopeConfig { rate: 0.0, ..default() }.validate().is_err());
        let error = LossSlopeConfig { windows: 2, ..default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "windows must be at least 3, but is 2");
    }
}
