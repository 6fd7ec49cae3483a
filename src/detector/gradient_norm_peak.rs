//! The published rule: the gradient norm grows while the loss is non-convex and shrinks once it is convex, so the swap
//! belongs just after the norm's peak.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Observation, Statistic, SwapDetector, Verdict, in_a_row, number};
use crate::error::{ParameterError, StateError};

const KIND: &str = "gradient_norm_peak";

/// Swap after the peak of the gradient norm: after `patience` windows in a row with
/// `norm <= threshold * (largest norm so far)` (Hrycej et al. 2025, Algorithm 1, <https://arxiv.org/abs/2510.25366>).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GradientNormPeakConfig {
    /// Share of its largest value so far that the norm must fall to; no unit, above 0 and at most 1, default 0.9.
    /// Smaller values wait for clearer evidence. Source: `gnfact` of Hrycej et al. 2025, Algorithm 1.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub threshold: f64,
    /// Exponential smoothing of the norm, `m = s m + (1 - s) norm` with Adam's correction of the start; no unit, at least
    /// 0 and under 1, default 0 (none). About `1 / (1 - s)` windows are averaged. Source: Hrycej et al. 2025, section 3,
    /// which asks for smoothing on zigzag paths but gives no formula.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub smoothing: f64,
    /// Windows in a row at or under the threshold before the swap; at least 1, default 1. Source: 1 is Algorithm 1 of
    /// Hrycej et al. 2025.
    #[schemars(range(min = 1))]
    pub patience: u64,
    /// Windows with a finite norm to see before any swap, counted anew after a hand-back; at least 1, default 2. Source:
    /// 2 is what Algorithm 1 of Hrycej et al. 2025 amounts to, whose first window is always the peak.
    #[schemars(range(min = 1))]
    pub minimum_windows: u64,
    /// Which gradient norm of a window is watched; default `batch_norm`. Source: this crate; the paper does not say
    /// which it means.
    pub statistic: Statistic,
}

impl Default for GradientNormPeakConfig {
    fn default() -> Self {
        Self { threshold: 0.9, smoothing: 0.0, patience: 1, minimum_windows: 2, statistic: Statistic::BatchNorm }
    }
}

impl GradientNormPeakConfig {
    /// The rule as published, whatever the default becomes: threshold 0.9, no smoothing, one window is enough.
    pub fn paper() -> Self {
        Self { threshold: 0.9, smoothing: 0.0, patience: 1, minimum_windows: 2, statistic: Statistic::BatchNorm }
    }

    /// Check every parameter against its range.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] names the first one outside.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let (threshold, smoothing) = (self.threshold, self.smoothing);
        let in_range = threshold > 0.0 && threshold <= 1.0;
        ParameterError::range(in_range, "threshold", threshold, "above 0 and at most 1")?;
        let in_range = (0.0..1.0).contains(&smoothing);
        ParameterError::range(in_range, "smoothing", smoothing, "at least 0 and under 1")?;
        ParameterError::range(self.patience >= 1, "patience", self.patience, "at least 1")?;
        let minimum = self.minimum_windows;
        ParameterError::range(minimum >= 1, "minimum_windows", minimum, "at least 1")
    }
}

/// The detector of [`GradientNormPeakConfig`].
///
/// A window whose norm is infinite or not a number is no evidence: it swaps nothing, ends a row of low windows and
/// leaves the peak as it was. After a hand-back the peak is forgotten: the norm starts from another level there.
///
/// ```
/// # use burn_convexity::detector::*;
/// let mut detector = GradientNormPeak::new(GradientNormPeakConfig::paper());
/// # let at = |window, norm| Observation {
/// #     window, passes: window, cost: 1.0, batch_norm: norm, mean_norm: norm, loss: None, learning_rate: 1e-3,
/// # };
/// assert_eq!(detector.observe(&at(1, 2.0)), Verdict::Stay);
/// assert_eq!(detector.observe(&at(2, 4.0)), Verdict::Stay);
/// let reason = "gradient norm 3.50 is 0.875 of its peak 4.00 (threshold 0.9)".to_owned();
/// assert_eq!(detector.observe(&at(3, 3.5)), Verdict::Swap { reason });
/// ```
#[derive(Clone, Debug)]
pub struct GradientNormPeak {
    config: GradientNormPeakConfig,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Largest (smoothed) norm so far.
    peak: f64,
    /// The exponential average, not yet corrected.
    average: f64,
    /// `smoothing^windows`: the share of the average that is still its zero start.
    start_share: f64,
    /// Windows in a row at or under the threshold.
    low: u64,
    /// Windows with a finite norm.
    windows: u64,
}

impl State {
    fn new() -> Self {
        Self { peak: 0.0, average: 0.0, start_share: 1.0, low: 0, windows: 0 }
    }
}

impl GradientNormPeak {
    /// A detector that has seen nothing.
    pub fn new(config: GradientNormPeakConfig) -> Self {
        Self { config, state: State::new() }
    }
}

impl SwapDetector for GradientNormPeak {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let GradientNormPeakConfig { threshold, smoothing, patience, minimum_windows, statistic } = self.config;
        let state = &mut self.state;
        let norm = statistic.of(observation);
        if !norm.is_finite() {
            state.low = 0;
            return Verdict::Stay;
        }

        state.windows += 1;
        state.start_share *= smoothing;
        state.average = smoothing * state.average + (1.0 - smoothing) * norm;
        let norm = state.average / (1.0 - state.start_share);
        state.peak = state.peak.max(norm);
        // A peak of zero is a gradient that never was: nothing can be said about the loss.
        let low = state.peak > 0.0 && norm <= threshold * state.peak;
        state.low = if low { state.low + 1 } else { 0 };

        if state.low < patience || state.windows < minimum_windows {
            return Verdict::Stay;
        }
        Verdict::Swap {
            reason: format!(
                "{}gradient norm {} is {} of its peak {} (threshold {threshold}){}",
                if smoothing > 0.0 { "smoothed " } else { "" },
                number(norm),
                number(norm / state.peak),
                number(state.peak),
                in_a_row(state.low),
            ),
        }
    }

    fn rearm(&mut self) {
        self.state = State::new();
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

    fn swap_at(config: GradientNormPeakConfig, norms: &[f64]) -> Option<(u64, String)> {
        let windows = norms.iter().zip(1..).map(|(norm, n)| window(n, *norm, 1.0));
        first_swap(&mut GradientNormPeak::new(config), windows)
    }

    #[test]
    fn the_paper_s_rule_is_its_algorithm_1() {
        // A transcription of Algorithm 1 beside the detector, on norms with a noisy peak.
        let norms: Vec<f64> =
            (0..40).map(f64::from).map(|t| t * (-t / 8.0).exp() + 0.05 * (5.0 * t).sin() + 0.1).collect();
        let mut gnmax: f64 = 0.0;
        let expected = norms.iter().zip(1..).find_map(|(gn, epoch)| {
            gnmax = gnmax.max(*gn);
            let adam = *gn > 0.9 * gnmax;
            (!adam).then_some(epoch)
        });
        assert!(expected.is_some());
        let found = swap_at(GradientNormPeakConfig::paper(), &norms).map(|(window, _)| window);
        assert_eq!(found, expected);
    }

    #[test]
    fn a_norm_exactly_at_the_threshold_swaps() {
        let config = GradientNormPeakConfig { threshold: 0.5, ..Default::default() };
        assert_eq!(swap_at(config, &[2.0, 1.0]).unwrap().0, 2);
    }

    #[test]
    fn a_norm_that_only_grows_never_swaps() {
        let growing: Vec<f64> = (1..100).map(f64::from).collect();
        assert_eq!(swap_at(GradientNormPeakConfig::default(), &growing), None);
    }

    #[test]
    fn patience_asks_for_low_windows_in_a_row_and_the_reason_counts_them() {
        let config = GradientNormPeakConfig { patience: 2, ..Default::default() };
        let (window, reason) = swap_at(config, &[0.0357, 0.03, 0.0356, 0.0312, 0.0312]).unwrap();
        assert_eq!(window, 5);
        assert_eq!(reason, "gradient norm 0.0312 is 0.874 of its peak 0.0357 (threshold 0.9), 2 windows in a row");
    }

    #[test]
    fn minimum_windows_holds_back_an_early_swap() {
        let config = GradientNormPeakConfig { minimum_windows: 4, ..Default::default() };
        assert_eq!(swap_at(config, &[4.0, 1.0, 1.0, 1.0]).unwrap().0, 4);
        // A threshold of 1 would otherwise take the first window, which equals its own peak.
        let config = GradientNormPeakConfig { threshold: 1.0, ..Default::default() };
        assert_eq!(swap_at(config, &[4.0, 4.0]).unwrap().0, 2);
    }

    #[test]
    fn smoothing_rides_out_a_single_dip_and_starts_unbiased() {
        let norms = [1.0, 1.0, 1.0, 0.7, 1.0, 1.0, 0.5, 0.4, 0.3];
        assert_eq!(swap_at(GradientNormPeakConfig::default(), &norms).unwrap().0, 4);
        let config = GradientNormPeakConfig { smoothing: 0.8, ..Default::default() };
        // m_4 = 1 - 0.2 * 0.3 / (1 - 0.8^4) = 0.8984: still low enough.
        assert_eq!(swap_at(config, &norms).unwrap().0, 4);
        let config = GradientNormPeakConfig { smoothing: 0.9, ..Default::default() };
        // m_4 = 1 - 0.1 * 0.3 / (1 - 0.9^4) = 0.9128; m_7 = 0.8752.
        let (window, reason) = swap_at(config, &norms).unwrap();
        assert_eq!(window, 7);
        assert!(reason.starts_with("smoothed gradient norm 0.8"), "{reason}");
    }

    #[test]
    fn a_norm_that_is_no_number_is_no_evidence() {
        let config = GradientNormPeakConfig { patience: 2, ..Default::default() };
        let norms = [4.0, 1.0, f64::NAN, 1.0, f64::INFINITY, 1.0, 1.0];
        assert_eq!(swap_at(config, &norms).unwrap().0, 7);
        assert_eq!(swap_at(GradientNormPeakConfig::default(), &[f64::NAN; 9]), None);
    }

    #[test]
    fn gradients_that_are_all_zero_stay() {
        assert_eq!(swap_at(GradientNormPeakConfig::default(), &[0.0; 9]), None);
    }

    #[test]
    fn the_norm_watched_is_the_statistic_asked_for() {
        let mut observations = [window(1, 1.0, 1.0), window(2, 1.0, 1.0)];
        observations[1].mean_norm = 0.1;
        let config = GradientNormPeakConfig { statistic: Statistic::MeanNorm, ..Default::default() };
        assert!(first_swap(&mut GradientNormPeak::new(config), observations).is_some());
        let mut batch = GradientNormPeak::new(GradientNormPeakConfig::default());
        assert_eq!(first_swap(&mut batch, observations), None);
    }

    #[test]
    fn rearming_forgets_the_peak() {
        let mut detector = GradientNormPeak::new(GradientNormPeakConfig::default());
        assert!(first_swap(&mut detector, [window(1, 9.0, 1.0), window(2, 1.0, 1.0)]).is_some());
        detector.rearm();
        assert_eq!(detector.observe(&window(3, 1.0, 1.0)), Verdict::Stay);
        assert_eq!(detector.observe(&window(4, 0.95, 1.0)), Verdict::Stay);
        assert!(detector.observe(&window(5, 0.9, 1.0)).is_swap());
    }

    #[test]
    fn it_resumes_bit_identically() {
        let config = GradientNormPeakConfig { smoothing: 0.3, patience: 2, ..Default::default() };
        resumes_bit_identically(&GradientNormPeak::new(config));
    }

    #[test]
    fn a_foreign_state_is_refused_by_name() {
        let mut detector = GradientNormPeak::new(GradientNormPeakConfig::default());
        let error = detector.restore(json!({"windows": 3})).unwrap_err();
        assert_eq!(error.part, "gradient_norm_peak");
    }

    #[test]
    fn each_parameter_has_its_range() {
        let refused = |config: GradientNormPeakConfig| config.validate().unwrap_err().to_string();
        let default = GradientNormPeakConfig::default;
        assert!(default().validate().is_ok());
        for threshold in [0.0, -1.0, 1.5, f64::NAN] {
            let message = format!("threshold must be above 0 and at most 1, but is {threshold}");
            assert_eq!(refused(GradientNormPeakConfig { threshold, ..default() }), message);
        }
        for smoothing in [1.0, -0.1, f64::NAN] {
            let message = format!("smoothing must be at least 0 and under 1, but is {smoothing}");
            assert_eq!(refused(GradientNormPeakConfig { smoothing, ..default() }), message);
        }
        refused(GradientNormPeakConfig { patience: 0, ..default() });
        refused(GradientNormPeakConfig { minimum_windows: 0, ..default() });
    }
}
