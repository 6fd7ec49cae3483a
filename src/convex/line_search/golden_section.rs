//! Golden section search: the exact line search that needs nothing but the objective's value.

use std::convert::Infallible;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::replay::{Line, Replay};
use super::{Decision, LineSearch, Point, SearchFailure};
use crate::error::{ParameterError, StateError};

/// The share of a bracket that a section keeps, `(sqrt(5) - 1) / 2` (Kiefer 1953).
const SECTION: f64 = 0.618_033_99;

/// The factor by which the bracket grows, `1 / SECTION`: its middle is a golden section at once.
const GROWTH: f64 = 1.618_034;

/// Parameters of the golden section search.
///
/// J. Kiefer, "Sequential minimax search for a maximum", Proc. Amer. Math. Soc. 4, 1953.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GoldenSectionConfig {
    /// Width of the bracket, relative to the best step, at which the search ends. No unit, above 0 and below 1, default
    /// 1e-3. An exact search in float32 can tell steps apart down to about 3e-4, the root of its precision.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub tolerance: f64,
    /// Evaluations allowed for one search. At least 1, default 40: 17 sections take a bracket to 1e-3 (Kiefer 1953), the
    /// rest find it.
    #[schemars(range(min = 1))]
    pub max_evaluations: u32,
}

impl Default for GoldenSectionConfig {
    fn default() -> Self {
        Self { tolerance: 1e-3, max_evaluations: 40 }
    }
}

impl GoldenSectionConfig {
    /// Check every range.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] naming the parameter, its value and its range.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let Self { tolerance, max_evaluations } = *self;
        ParameterError::range(0.0 < tolerance && tolerance < 1.0, "tolerance", tolerance, "above 0 and below 1")?;
        ParameterError::range(max_evaluations >= 1, "max_evaluations", max_evaluations, "at least 1")
    }

    /// The search with these parameters.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate).
    pub fn init(&self) -> Result<GoldenSection, ParameterError> {
        self.validate()?;
        Ok(GoldenSection { config: self.clone(), line: None })
    }
}

/// The golden section search.
///
/// From 0 and the first step it grows or shrinks by the golden ratio to a bracket
///
/// ```text
/// a < b < c   with   phi(a) > phi(b) <= phi(c)   and   phi(b) < phi(0)
/// ```
///
/// then cuts its longer part in the golden section until `c - a <= tolerance b`, and accepts `b`, the lowest point it has
/// seen. Slopes are ignored, but one at the base point that is not negative refuses the search. A trial that is not
/// finite counts as infinitely high. When the evaluations are used up the lowest step with `phi(t) < phi(0)` is accepted
/// if there is one. A first step that is not a positive number counts as 1.
#[derive(Clone, Debug)]
pub struct GoldenSection {
    config: GoldenSectionConfig,
    line: Option<Line>,
}

impl GoldenSection {
    fn advance(&mut self, line: Option<Line>) -> Decision {
        self.line = line;
        let GoldenSectionConfig { tolerance, max_evaluations } = self.config;
        Line::decide(&mut self.line, max_evaluations, 0.0, |mut replay| search(&mut replay, tolerance))
    }
}

/// The saved state, tagged by the search's kind.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Saved {
    GoldenSection(Option<Line>),
}

impl LineSearch for GoldenSection {
    fn begin(&mut self, origin: Point, initial_step: f64) -> Decision {
        self.advance(Some(Line::new(origin, initial_step)))
    }

    fn observe(&mut self, point: Point) -> Decision {
        let line = self.line.take().map(|line| line.with(point));
        self.advance(line)
    }

    fn needs_value(&self) -> bool {
        true
    }

    fn needs_slope(&self) -> bool {
        false
    }

    fn state(&self) -> Value {
        json!(Saved::GoldenSection(self.line.clone()))
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        let Saved::GoldenSection(line) = StateError::read("golden_section", state)?;
        self.line = line;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn LineSearch> {
        Box::new(self.clone())
    }
}

/// A step with the value found there, infinite where that was no finite number.
#[derive(Clone, Copy)]
struct Height {
    step: f64,
    value: f64,
}

fn height(replay: &mut Replay, step: f64) -> Result<Height, Decision> {
    let value = replay.at(step)?.value.unwrap_or(f64::INFINITY);
    Ok(Height { step, value })
}

/// Find `(a, b, c)`, then narrow it.
fn search(replay: &mut Replay, tolerance: f64) -> Result<Infallible, Decision> {
    let (mut a, mut b, mut c) = bracket(replay)?;
    while c - a > tolerance * b.step {
        let upwards = c - b.step > b.step - a;
        let end = if upwards { c } else { a };
        let trial = height(replay, b.step + (1.0 - SECTION) * (end - b.step))?;
        match (trial.value < b.value, upwards) {
            (true, true) => (a, b) = (b.step, trial),
            (true, false) => (b, c) = (trial, b.step),
            (false, true) => c = trial.step,
            (false, false) => a = trial.step,
        }
    }
    Err(Decision::Accept(b.step))
}

/// Steps `a < b < c` around a point lower than both and than the base, `b` in the golden section.
fn bracket(replay: &mut Replay) -> Result<(f64, Height, f64), Decision> {
    replay.base_slope_if_known()?;
    let base = replay.base_value()?.ok_or(Decision::Fail(SearchFailure::NonFinite))?;
    let mut b = height(replay, replay.initial_step())?;
    if b.value < base {
        let mut a = 0.0;
        loop {
            let c = height(replay, b.step + GROWTH * (b.step - a))?;
            if c.value >= b.value {
                return Ok((a, b, c.step));
            }
            (a, b) = (b.step, c);
        }
    }
    loop {
        let c = b;
        b = height(replay, (1.0 - SECTION) * c.step)?;
        if b.value < base {
            return Ok((0.0, b, c.step));
        }
        // A convex function takes one value at three points only where it is flat.
        if b.value == base && c.value == base {
            return Err(replay.give_up(SearchFailure::Resolution));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_functions::*;
    use super::*;

    fn search() -> GoldenSection {
        GoldenSectionConfig::default().init().unwrap()
    }

    /// Strictly below the base, and a minimum of the function within the tolerance: there the slope changes its sign
    /// from negative to positive on a grid that is fine beside every feature of the test functions.
    fn at_a_minimum(function: &dyn Fn(f64) -> (f64, f64), t: f64) -> bool {
        let grid = |i: i32| function(t + 1e-3 * t * f64::from(i) / 100.0).1;
        function(t).0 < function(0.0).0 && (-100..100).any(|i| grid(i) <= 0.0 && grid(i + 1) >= 0.0)
    }

    #[test]
    fn accepted_steps_are_minima_within_the_tolerance() {
        for function in more_thuente() {
            for start in STARTS {
                let run = run(&mut search(), Shown::Value, &function, start);
                assert!(at_a_minimum(&function, run.accepted()), "from {start:e}: {run:?}");
            }
        }
    }

    #[test]
    fn the_steps_of_a_parabola_are_golden_sections() {
        // phi(t) = (t - 1)^2 from 1: grow to 1 + g = 2.618, then cut [0, 2.618] at g = 1.618 and again at 1 / g.
        let parabola = |t: f64| ((t - 1.0).powi(2), 2.0 * (t - 1.0));
        let run = run(&mut search(), Shown::Value, &parabola, 1.0);
        let mut sections = run.asked.iter().zip([1.0, 2.618_034, 1.618_034, 0.618_034]);
        assert!(sections.all(|(asked, section)| (asked - section).abs() < 1e-6), "{run:?}");
        assert!((run.accepted() - 1.0).abs() <= 1e-3);
    }

    #[test]
    fn a_multiple_of_the_function_gets_the_same_decisions() {
        assert_scale_invariant(&search(), Shown::Value);
    }

    #[test]
    fn a_search_restored_before_any_evaluation_goes_on_alike() {
        assert_resumes(&search(), Shown::Value);
        assert_resumes(&search(), Shown::Both);
    }

    #[test]
    fn a_trial_that_is_not_finite_shrinks_the_step() {
        assert_walls_shrink(&search(), Shown::Value, at_a_minimum);
    }

    #[test]
    fn a_base_without_descent_or_value_is_refused() {
        assert_refuses_non_descent(&search(), Shown::Both);
        let origin = Point { step: 0.0, value: None, slope: Some(-1.0) };
        assert_eq!(search().begin(origin, 1.0), Decision::Fail(SearchFailure::NonFinite));
    }

    #[test]
    fn the_budget_ends_in_the_lowest_point_or_a_failure() {
        let config = GoldenSectionConfig { max_evaluations: 1, ..Default::default() };
        assert_budget(&config.init().unwrap(), Shown::Value);
    }

    #[test]
    fn a_flat_function_ends_at_the_resolution() {
        let run = run(&mut search(), Shown::Value, &flat_in_float32, 1.0);
        assert_eq!(run.end, Decision::Fail(SearchFailure::Resolution));
    }

    #[test]
    fn a_base_that_cannot_be_beaten_fails() {
        let run = run(&mut search(), Shown::Value, &|t| (t, 1.0), 1.0);
        assert_eq!(run.end, Decision::Fail(SearchFailure::BudgetSpent));
    }

    #[test]
    fn every_parameter_has_a_range() {
        assert_eq!(GoldenSectionConfig::default().validate(), Ok(()));
        for (json, named) in [(r#"{"tolerance": 0}"#, "tolerance"), (r#"{"max_evaluations": 0}"#, "max_evaluations")] {
            assert_refused(serde_json::from_str::<GoldenSectionConfig>(json).unwrap().validate(), named);
        }
        assert!(serde_json::from_str::<GoldenSectionConfig>(r#"{"ratio": 1}"#).is_err());
        assert_ranges_in_schema::<GoldenSectionConfig>();
    }

    proptest! {
        #[test]
        fn convex_polynomials_end_within_the_budget_at_a_minimum(
            polynomial in convex_polynomial(), start in -3.0..3.0_f64,
        ) {
            let run = run(&mut search(), Shown::Value, &polynomial.function(), 10_f64.powf(start));
            prop_assert!(run.asked.len() <= 40);
            let t = run.accepted();
            prop_assert!((t - polynomial.minimum).abs() <= 1e-3 * t, "{run:?}");
        }
    }
}
