//! What the detectors' tests share.

use super::{Observation, SwapDetector, Verdict};

/// The `window`-th window with this gradient norm, by both statistics, and this loss, at a cost of 1 a window.
pub fn window(window: u64, norm: f64, loss: f64) -> Observation {
    Observation {
        window,
        passes: 10 * window,
        cost: window as f64,
        batch_norm: norm,
        mean_norm: norm,
        loss: Some(loss),
        learning_rate: 1e-3,
    }
}

/// The window at which the detector first swaps, and its reason.
pub fn first_swap(
    detector: &mut dyn SwapDetector,
    observations: impl IntoIterator<Item = Observation>,
) -> Option<(u64, String)> {
    observations.into_iter().find_map(|observation| match detector.observe(&observation) {
        Verdict::Swap { reason } => Some((observation.window, reason)),
        Verdict::Stay | Verdict::Abstain { .. } => None,
    })
}

/// A detector saved after every window and restored into `fresh` gives the verdicts of one left alone.
pub fn resumes_bit_identically(fresh: &dyn SwapDetector) {
    let mut alone = fresh.boxed();
    let mut resumed = fresh.boxed();
    for n in 1..60 {
        // A falling loss and a norm with a peak, both with incommensurable ripples, and windows without evidence.
        let t = n as f64;
        let norm = t * (-t / 7.0).exp() * (1.0 + 0.3 * (1.7 * t).sin());
        let mut observation = window(n, norm, (-t / 9.0).exp() * (1.0 + 0.2 * (2.3 * t).cos()));
        if n % 11 == 0 {
            observation.batch_norm = f64::NAN;
            observation.loss = None;
        }
        if n == 40 {
            alone.rearm();
            resumed.rearm();
        }
        assert_eq!(alone.observe(&observation), resumed.observe(&observation), "window {n}");
        assert_eq!(alone.state(), resumed.state());
        let mut next = fresh.boxed();
        next.restore(resumed.state()).unwrap();
        resumed = next;
    }
}
