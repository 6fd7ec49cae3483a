//! A swap fixed in advance, as in Table 1 of the paper.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Observation, SwapDetector, Verdict};
use crate::error::ParameterError;

/// Swap at a fixed window, whatever the gradient does (Hrycej et al. 2025, Table 1: 300 of 1,000 epochs).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AtWindowConfig {
    /// Windows of the non-convex phase before the swap, counted since training began; at least 1, default 10. Source:
    /// the published experiments take 300, and 210 for the ViT with MLP.
    #[schemars(range(min = 1))]
    pub window: u64,
}

impl Default for AtWindowConfig {
    fn default() -> Self {
        Self { window: 10 }
    }
}

impl AtWindowConfig {
    /// Check that there is at least one window.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] where there is none.
    pub fn validate(&self) -> Result<(), ParameterError> {
        ParameterError::range(self.window >= 1, "window", self.window, "at least 1")
    }
}

/// The detector of [`AtWindowConfig`]. It has no memory; after a hand-back it swaps again as soon as it is asked.
#[derive(Clone, Debug)]
pub struct AtWindow {
    config: AtWindowConfig,
}

impl AtWindow {
    /// A detector for this window.
    pub fn new(config: AtWindowConfig) -> Self {
        Self { config }
    }
}

impl SwapDetector for AtWindow {
    fn observe(&mut self, observation: &Observation) -> Verdict {
        let Observation { window, .. } = *observation;
        if window < self.config.window {
            return Verdict::Stay;
        }
        Verdict::Swap { reason: format!("window {window} has reached the fixed window {}", self.config.window) }
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
    fn it_swaps_at_its_window_whatever_the_gradient_does() {
        let mut detector = AtWindow::new(AtWindowConfig { window: 3 });
        let (at, reason) = first_swap(&mut detector, (1..9).map(|n| window(n, f64::NAN, 1.0))).unwrap();
        assert_eq!((at, reason.as_str()), (3, "window 3 has reached the fixed window 3"));
        assert!(detector.observe(&window(8, 1.0, 1.0)).is_swap());
    }

    #[test]
    fn it_resumes_bit_identically() {
        resumes_bit_identically(&AtWindow::new(AtWindowConfig::default()));
    }

    #[test]
    fn zero_windows_are_refused() {
        let error = AtWindowConfig { window: 0 }.validate().unwrap_err();
        assert_eq!(error.to_string(), "window must be at least 1, but is 0");
    }
}
