//! No swap at all: the inner optimizer alone, with everything else in place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Observation, SwapDetector, Verdict};

/// Never swap: the inner optimizer runs alone, for a baseline with the same metrics and events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NeverConfig {}

/// The detector that never swaps. It has no memory.
#[derive(Clone, Debug, Default)]
pub struct Never;

impl SwapDetector for Never {
    fn observe(&mut self, _observation: &Observation) -> Verdict {
        Verdict::Stay
    }

    fn boxed(&self) -> Box<dyn SwapDetector> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{first_swap, window};
    use super::*;

    #[test]
    fn it_never_swaps() {
        assert_eq!(first_swap(&mut Never, (1..99).map(|n| window(n, 1.0 / n as f64, 1.0))), None);
    }
}
