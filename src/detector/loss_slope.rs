//! A swap where the logarithm of the loss falls too slowly for its cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::trend::Trend;
use super::{Observation, SwapDetector, Verdict, no_loss, number};
use crate::error::{ParameterError, StateError};

const KIND: &str = "loss_slope";

/// Swap when the loss falls by less than `rate` a unit of cost: the least-squares slope of `ln(loss)` against cost, over
/// the last `share` of the windows so far but at least `shortest` and at most `longest`, is flatter than `rate`. A rising
/// loss is flat too. It needs the loss (`track` or `attach`). Source: this crate; beside `gradient_norm_peak` in an `all`
/// it is the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LossSlopeConfig {
    /// Relative fall of the loss under which the swap comes, per unit of cost (one gradient pass over the training
    /// set); above 0, default 0.05, that is 5 % a minibatch epoch. Source: this crate, by experiment.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub rate: f64,
    /// Share of the windows so far that the slope is fitted over; no unit, above 0 and at most 1, default 0.333. The fit
    /// is this detector's smoothing. Source: this crate.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub share: f64,
    /// Fewest windows the slope is fitted over; at least 3, default 5. Source: this crate.
    #[schemars(range(min = 3))]
    pub shortest: u64,
    /// Most windows the slope is fitted over; at least 3 and no less than `shortest`, default 20. Source: this crate.
    #[schemars(range(min = 3))]
    pub longest: u64,
}

impl Default for LossSlopeConfig {
    fn default() -> Self {
        Self { rate: 0.05, share: 0.333, shortest: 5, longest: 20 }
    }
}

impl LossSlopeConfig {
    /// Check every parameter against its range, and `shortest` against `longest`.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] names the first one outside, or both that contradict each other.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let Self { rate, share, shortest, longest } = *self;
        let in_range = rate > 0.0 && rate.is_finite();
        ParameterError::range(in_range, "rate", rate, "above 0")?;
        let in_range = share > 0.0 && share <= 1.0;
        ParameterError::range(in_range, "share", share, "above 0 and at most 1")?;
        ParameterError::range(shortest >= 3, "shortest", shortest, "at least 3")?;
        ParameterError::range(longest >= 3, "longest", longest, "at least 3")?;
        let (names, values) = (["shortest", "longest"], [shortest, longest]);
        let rule = "the shortest fit cannot be longer than the longest";
        ParameterError::together(shortest <= longest, names, values, rule)
    }
}

/// The detector of [`LossSlopeConfig`].
///
/// Without a loss above zero it abstains; a window whose loss is not finite is no evidence and changes nothing. After a hand-back the
/// losses are forgotten, so that a fit never spans the convex phase, but the length of the run is not.
#[derive(Clone, Debug)]
pub struct LossSlope {
    config: LossSlopeConfig,
    state: State,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Windows with a loss since training began.
    windows: u64,
    /// Cost and logarithm of the loss of the last windows, oldest first.
    history: Vec<(f64, f64)>,
}

impl LossSlope {
    /// A detector that has seen nothing.
    pub fn new(config: LossSlopeConfig) -> Self {
        Self { config, state: State::default() }
    }
}

impl SwapDetector for LossSlope {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let LossSlopeConfig { rate, share, shortest, longest } = self.config;
        let State { windows, history } = &mut self.state;
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
        *windows += 1;
        history.push((observation.cost, log_loss));
        if history.len() as u64 > longest {
            history.remove(0);
        }
        let length = ((share * *windows as f64) as u64).min(longest).max(shortest);
        let Some(start) = (history.len() as u64).checked_sub(length) else {
            return Verdict::Stay;
        };
        match Trend::fit(&history[start as usize..]) {
            Some(Trend { slope, .. }) if slope > -rate => Verdict::Swap {
                reason: format!(
                    "the logarithm of the loss changes by {} a unit of cost over {length} windows (flat above -{rate})",
                    number(slope),
                ),
            },
            _ => Verdict::Stay,
        }
    }

    fn rearm(&mut self) {
        self.state.history.clear();
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

    #[test]
    fn it_swaps_when_the_loss_falls_by_less_than_the_rate() {
        // 10 % a window until window 30, 1 % from there on; a third of the run is 11 windows at 33, whose slope passes
        // 3 % when most of them are flat.
        let losses = (1..80).map(|n: u64| {
            let (fast, slow) = (n.min(30) as f64, n.saturating_sub(30) as f64);
            window(n, 1.0, (-0.1 * fast - 0.01 * slow).exp())
        });
        let (at, reason) =
            first_swap(&mut LossSlope::new(LossSlopeConfig { rate: 0.03, ..Default::default() }), losses).unwrap();
        assert!((36..=41).contains(&at), "{at}");
        assert!(reason.contains(" over 12 windows (flat above -0.03)"), "{reason}");
    }

    #[test]
    fn it_stays_while_the_loss_falls_fast_and_swaps_at_once_where_it_does_not() {
        let falling = (1..80).map(|n| window(n, 1.0, 0.9f64.powi(n as i32)));
        assert_eq!(first_swap(&mut LossSlope::new(LossSlopeConfig::default()), falling), None);
        for loss in [1.0, 1.1] {
            let flat = (1..80).map(|n| window(n, 1.0, f64::powi(loss, n as i32)));
            let swap = first_swap(&mut LossSlope::new(LossSlopeConfig::default()), flat);
            assert_eq!(swap.unwrap().0, 5);
        }
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
    fn rearming_forgets_the_losses_but_not_the_length_of_the_run() {
        let mut detector = LossSlope::new(LossSlopeConfig::default());
        let flat = |range: std::ops::Range<u64>| range.map(|n| window(n, 1.0, 1.0));
        for observation in flat(1..31) {
            detector.observe(&observation);
        }
        detector.rearm();
        // A third of 30 and more windows: 13 of 40 are needed, where 5 are at the start.
        assert_eq!(first_swap(&mut detector, flat(31..100)).unwrap().0, 44);
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
        assert!(LossSlopeConfig { share: 1.1, ..default() }.validate().is_err());
        assert!(LossSlopeConfig { shortest: 2, ..default() }.validate().is_err());
        assert!(LossSlopeConfig { longest: 2, ..default() }.validate().is_err());
        let error = LossSlopeConfig { shortest: 30, ..default() }.validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "shortest (30) and longest (20) contradict each other: the shortest fit cannot be longer than the longest"
        );
    }
}
