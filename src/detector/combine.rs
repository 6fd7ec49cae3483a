//! Detectors made of detectors: any of them, or all of them in the same window. Those that abstain do not count.

use serde_json::Value;

use super::{Observation, SwapDetector, Verdict};
use crate::error::StateError;

/// Swaps when any of its detectors does.
#[derive(Debug)]
pub struct Any {
    of: Vec<Box<dyn SwapDetector>>,
}

/// Swaps when all of its detectors that can tell do, in the same window. Without any detector it stays.
#[derive(Debug)]
pub struct All {
    of: Vec<Box<dyn SwapDetector>>,
}

/// How the detectors voted.
#[derive(Default)]
struct Votes {
    stay: usize,
    swap: Vec<String>,
    abstain: Vec<String>,
}

/// Every detector sees every window, also those whose verdict can no longer change the outcome.
fn votes(of: &mut [Box<dyn SwapDetector>], observation: &Observation) -> Votes {
    let mut votes = Votes::default();
    for detector in of {
        match detector.observe(observation) {
            Verdict::Stay => votes.stay += 1,
            Verdict::Swap { reason } => votes.swap.push(reason),
            Verdict::Abstain { reason } => votes.abstain.push(reason),
        }
    }
    votes
}

fn restore_each(kind: &'static str, of: &mut [Box<dyn SwapDetector>], state: Value) -> Result<(), StateError> {
    let states: Vec<Value> = StateError::read(kind, state)?;
    if states.len() != of.len() {
        let message = format!("{} saved states for {} detectors", states.len(), of.len());
        return Err(StateError { part: kind, source: serde::de::Error::custom(message) });
    }
    of.iter_mut().zip(states).try_for_each(|(detector, state)| detector.restore(state))
}

/// What `Any` and `All` share: all but the verdict.
macro_rules! combination {
    ($name:ident, $kind:literal, $verdict:expr) => {
        impl $name {
            /// A combination of these detectors.
            pub fn new(of: Vec<Box<dyn SwapDetector>>) -> Self {
                Self { of }
            }
        }

        impl SwapDetector for $name {
            fn observe(&mut self, observation: &Observation) -> Verdict {
                let Votes { stay, swap, abstain } = votes(&mut self.of, observation);
                let swaps: fn(usize, usize) -> bool = $verdict;
                if swaps(swap.len(), stay) {
                    Verdict::Swap { reason: swap.join("; and ") }
                } else if stay == 0 && !abstain.is_empty() {
                    Verdict::Abstain { reason: abstain.join("; and ") }
                } else {
                    Verdict::Stay
                }
            }

            fn rearm(&mut self) {
                self.of.iter_mut().for_each(|detector| detector.rearm());
            }

            fn state(&self) -> Value {
                self.of.iter().map(|detector| detector.state()).collect()
            }

            fn restore(&mut self, state: Value) -> Result<(), StateError> {
                restore_each($kind, &mut self.of, state)
            }

            fn boxed(&self) -> Box<dyn SwapDetector> {
                Box::new(Self::new(self.of.iter().map(|detector| detector.boxed()).collect()))
            }
        }
    };
}

combination!(Any, "any", |swap, _| swap > 0);
combination!(All, "all", |swap, stay| swap > 0 && stay == 0);

#[cfg(test)]
mod tests {
    use super::super::testing::{first_swap, resumes_bit_identically, window};
    use super::super::{AtWindow, AtWindowConfig, LossSlope, Never};
    use super::super::{GradientNormPeak, GradientNormPeakConfig};
    use super::*;

    fn at(window: u64) -> Box<dyn SwapDetector> {
        Box::new(AtWindow::new(AtWindowConfig { window }))
    }

    fn peak() -> Box<dyn SwapDetector> {
        Box::new(GradientNormPeak::new(GradientNormPeakConfig::default()))
    }

    fn windows() -> impl Iterator<Item = Observation> {
        (1..20).map(|n| window(n, 1.0, 1.0))
    }

    #[test]
    fn any_swaps_with_the_first_and_all_with_the_last() {
        let reason = first_swap(&mut Any::new(vec![at(7), at(3)]), windows()).unwrap();
        assert_eq!(reason, (3, "window 3 has reached the fixed window 3".into()));
        let reason = first_swap(&mut All::new(vec![at(7), at(3)]), windows()).unwrap();
        let both = "window 7 has reached the fixed window 7; and window 7 has reached the fixed window 3";
        assert_eq!(reason, (7, both.into()));
        assert_eq!(first_swap(&mut All::new(vec![at(3), Box::new(Never)]), windows()), None);
    }

    #[test]
    fn all_means_in_the_same_window() {
        // The norm is low in window 2 alone, the fixed window comes later.
        let norms = [2.0, 1.0, 2.0, 2.0, 2.0, 1.5].into_iter().zip(1..);
        let windows = norms.map(|(norm, n)| window(n, norm, 1.0));
        assert_eq!(first_swap(&mut All::new(vec![peak(), at(4)]), windows).unwrap().0, 6);
    }

    #[test]
    fn a_combination_of_nothing_stays() {
        assert_eq!(first_swap(&mut Any::new(vec![]), windows()), None);
        assert_eq!(first_swap(&mut All::new(vec![]), windows()), None);
    }

    #[test]
    fn it_resumes_bit_identically_with_its_parts() {
        let slope = || Box::new(LossSlope::new(Default::default()));
        resumes_bit_identically(&All::new(vec![peak(), slope()]));
        resumes_bit_identically(&Any::new(vec![Box::new(All::new(vec![peak(), at(5)])), slope()]));
    }

    #[test]
    fn rearming_reaches_every_part() {
        let mut detector = Any::new(vec![peak()]);
        assert!(first_swap(&mut detector, [window(1, 9.0, 1.0), window(2, 1.0, 1.0)]).is_some());
        detector.rearm();
        assert_eq!(first_swap(&mut detector, [window(3, 1.0, 1.0)]), None);
    }

    #[test]
    fn the_state_of_another_number_of_parts_is_refused() {
        let state = Any::new(vec![at(1), at(2)]).state();
        let error = All::new(vec![at(1)]).restore(state).unwrap_err();
        assert_eq!(error.to_string(), "the saved state of all cannot be read: 2 saved states for 1 detectors");
    }
}
