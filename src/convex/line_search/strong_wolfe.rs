//! The line search of Moré and Thuente for the strong Wolfe conditions.

use std::convert::Infallible;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::interpolation::{Sample, between, cubic_minimiser, secant};
use super::replay::{Line, Replay, midpoint};
use super::{Decision, LineSearch, Point, SearchFailure};
use crate::error::{ParameterError, StateError};

/// The factor by which a bracket must shrink within two trials, else it is halved; and the share of the way to its other
/// end that an extrapolation may go (Moré and Thuente 1994, section 4).
const SHRINK: f64 = 0.66;

/// How far a step may grow beyond the last one while no minimum is bracketed, in distances from the best point (Moré and
/// Thuente 1994, section 4).
const GROWTH: [f64; 2] = [1.1, 4.0];

/// The share of the way to a trial that was not finite at which the next one lies.
const RETREAT: f64 = 0.2;

/// The relative change of the objective that float32, the type of a learner's loss, cannot be trusted with.
const ROUNDING: f64 = f32::EPSILON as f64;

/// Parameters of the line search of Moré and Thuente.
///
/// J. J. Moré and D. J. Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM Trans. Math. Softw.
/// 20(3), 1994.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StrongWolfeConfig {
    /// Share of the decrease promised by the slope at the base point that a step must reach. No unit, above 0 and below
    /// `c2`, default 1e-4. Moré and Thuente 1994, eq. (1.1), mu; default of Nocedal and Wright 2006, section 3.1.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub c1: f64,
    /// Share of the steepness at the base point that may be left at an accepted step; smaller is a more exact search. No
    /// unit, above `c1` and below 1, default 0.9, right for L-BFGS; conjugate gradients want 0.1. Moré and Thuente 1994,
    /// eq. (1.2), eta; defaults of Nocedal and Wright 2006, section 3.1.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub c2: f64,
    /// Evaluations allowed for one search. At least 1, default 30.
    #[schemars(range(min = 1))]
    pub max_evaluations: u32,
    /// The longest step length tried, in the unit of the step. Above 0, default 1e10. Moré and Thuente 1994, alpha_max.
    #[schemars(range(min = 0.0), extend("exclusiveMinimum" = 0.0))]
    pub max_step: f64,
}

impl Default for StrongWolfeConfig {
    fn default() -> Self {
        Self { c1: 1e-4, c2: 0.9, max_evaluations: 30, max_step: 1e10 }
    }
}

impl StrongWolfeConfig {
    /// Check every range and `c1 < c2`.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] naming the parameter, its value and its range.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let share = |value: f64| 0.0 < value && value < 1.0;
        let Self { c1, c2, max_evaluations, max_step } = *self;
        ParameterError::range(share(c1), "c1", c1, "above 0 and below 1")?;
        ParameterError::range(share(c2), "c2", c2, "above 0 and below 1")?;
        ParameterError::range(max_evaluations >= 1, "max_evaluations", max_evaluations, "at least 1")?;
        ParameterError::range(max_step.is_finite() && max_step > 0.0, "max_step", max_step, "finite and above 0")?;
        ParameterError::together(
            c1 < c2,
            ["c1", "c2"],
            [c1, c2],
            "c1 must be below c2, otherwise it may be that no step satisfies both",
        )
    }

    /// The search with these parameters.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate).
    pub fn init(&self) -> Result<StrongWolfe, ParameterError> {
        self.validate()?;
        Ok(StrongWolfe { config: self.clone(), line: None })
    }
}

/// The line search of Moré and Thuente.
///
/// It accepts the first evaluated step `t` that satisfies the strong Wolfe conditions
///
/// ```text
/// phi(t) <= phi(0) + c1 t phi'(0)   and   |phi'(t)| <= c2 |phi'(0)|
/// ```
///
/// A float32 loss near a minimum cannot show the first. So a step is accepted too whose value differs from that of the
/// base point by less than float32 resolves, if its slope satisfies the second and the first in the approximate form of
/// Hager and Zhang (2005):
///
/// ```text
/// |phi(t) - phi(0)| <= 2^-23 |phi(0)|   and   |phi'(t)| <= c2 |phi'(0)|   and   phi'(t) <= (2 c1 - 1) phi'(0)
/// ```
///
/// A trial that is not finite shrinks the step towards the best point before it. When the evaluations are used up, the
/// step has reached `max_step`, or the bracket cannot shrink any more, the lowest step with the first of the strong Wolfe
/// conditions alone is accepted if there is one. A first step that is not a positive number counts as 1.
#[derive(Clone, Debug)]
pub struct StrongWolfe {
    config: StrongWolfeConfig,
    line: Option<Line>,
}

impl StrongWolfe {
    fn advance(&mut self, line: Option<Line>) -> Decision {
        self.line = line;
        let StrongWolfeConfig { c1, max_evaluations, .. } = self.config;
        Line::decide(&mut self.line, max_evaluations, c1, |replay| search(&self.config, replay))
    }
}

/// The saved state, tagged by the search's kind.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Saved {
    StrongWolfe(Option<Line>),
}

impl LineSearch for StrongWolfe {
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

    fn state(&self) -> Value {
        json!(Saved::StrongWolfe(self.line.clone()))
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        let Saved::StrongWolfe(line) = StateError::read("strong_wolfe", state)?;
        self.line = line;
        Ok(())
    }

    fn boxed(&self) -> Box<dyn LineSearch> {
        Box::new(self.clone())
    }
}

impl Sample {
    /// The same step seen in `psi(t) = phi(t) - phi(0) - c1 phi'(0) t` (eq. (2.1)).
    fn less_promise(self, base: Self, c1: f64) -> Self {
        let promised = c1 * base.slope;
        Self { step: self.step, value: self.value - base.value - promised * self.step, slope: self.slope - promised }
    }
}

/// The algorithm of sections 2 to 4. `best` and `other` are the ends of the interval, `alpha_l` and `alpha_u` of the
/// paper; `other` is unknown until a minimum is bracketed.
fn search(config: &StrongWolfeConfig, mut replay: Replay) -> Result<Infallible, Decision> {
    let value = replay.base_value()?.ok_or(Decision::Fail(SearchFailure::NonFinite))?;
    let base = Sample { step: 0.0, value, slope: replay.base_slope()? };
    let mut step = replay.initial_step().min(config.max_step);
    let mut best = base;
    let mut other: Option<Sample> = None;
    let mut blocked: Option<f64> = None;
    let mut first_stage = true;
    let mut widths = [f64::INFINITY; 2];
    loop {
        let Some(trial) = Sample::of(replay.at(step)?) else {
            if best.step > step {
                best = base;
            }
            (other, blocked) = (None, Some(step));
            step = best.step + RETREAT * (step - best.step);
            continue;
        };
        if accepts(config, base, trial) {
            return Err(Decision::Accept(step));
        }
        // The second stage begins at the first step with psi(t) <= 0 and phi'(t) >= 0 (section 3).
        let psi = |sample: Sample| sample.less_promise(base, config.c1);
        first_stage &= psi(trial).value > 0.0 || trial.slope < 0.0;
        // psi is needed only where a lower value is not low enough; else phi predicts better.
        let modified = first_stage && trial.value <= best.value && psi(trial).value > 0.0;
        let seen = |sample: Sample| if modified { psi(sample) } else { sample };

        let limit = match blocked {
            Some(end) => trial.step + SHRINK * (end - trial.step),
            None => config.max_step,
        };
        step = next_step(seen(best), seen(trial), other.map(seen), limit);

        // The updating algorithm of section 2, cases U1 to U3.
        if seen(trial).value > seen(best).value {
            other = Some(trial);
        } else {
            if seen(trial).slope * (best.step - trial.step) < 0.0 {
                other = Some(best);
            }
            best = trial;
        }

        if let Some(other) = other {
            let (low, high) = (best.step.min(other.step), best.step.max(other.step));
            let slow = high - low >= SHRINK * widths[0];
            if slow || !(low < step && step < high) {
                step = midpoint(low, high);
            }
            widths = [widths[1], high - low];
        }
    }
}

/// The strong Wolfe conditions, or their form below rounding.
fn accepts(config: &StrongWolfeConfig, base: Sample, trial: Sample) -> bool {
    let StrongWolfeConfig { c1, c2, .. } = *config;
    let change = trial.value - base.value;
    let decrease = change <= c1 * trial.step * base.slope
        || change.abs() <= ROUNDING * base.value.abs() && trial.slope <= (2.0 * c1 - 1.0) * base.slope;
    decrease && trial.slope.abs() <= -c2 * base.slope
}

/// The trial value selection of section 4: from the best point `l`, the trial `t` and the other end `u`.
fn next_step(l: Sample, t: Sample, u: Option<Sample>, limit: f64) -> f64 {
    // Cases 1 and 2: too high, or lower and beyond a minimum.
    if t.value > l.value || t.slope * l.slope < 0.0 {
        return between(l, t);
    }
    // Cases 3 and 4: lower, the minimum is ahead; flatter than the best point, or not.
    let (cubic, secant) = (cubic_minimiser(l, t), secant(l, t));
    let far = |step: f64| (step - t.step).abs();
    let flatter = t.slope.abs() <= l.slope.abs();
    let ahead = (cubic - t.step) * (t.step - l.step) > 0.0;
    match u {
        Some(u) if flatter => {
            let step = if ahead && far(cubic) < far(secant) { cubic } else { secant };
            let end = t.step + SHRINK * (u.step - t.step);
            if t.step > l.step { step.min(end) } else { step.max(end) }
        }
        Some(u) => cubic_minimiser(u, t),
        None => {
            let [least, most] = GROWTH.map(|factor| t.step + factor * (t.step - l.step));
            let step = match (flatter, ahead) {
                (true, true) if far(cubic) > far(secant) => cubic,
                (true, true) => secant,
                _ => most,
            };
            // The first trial may have been a little short; later ones must grow.
            let least = if l.step > 0.0 { least } else { t.step };
            step.max(least).min(most).min(limit)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_functions::*;
    use super::*;

    fn search() -> StrongWolfe {
        StrongWolfeConfig::default().init().unwrap()
    }

    fn with(c1: f64, c2: f64) -> StrongWolfe {
        // Not through `init`: the published tables have c1 = c2.
        StrongWolfe { config: StrongWolfeConfig { c1, c2, ..Default::default() }, line: None }
    }

    /// The documented conditions, from the function itself.
    fn satisfied(function: &dyn Fn(f64) -> (f64, f64), c1: f64, c2: f64, t: f64) -> bool {
        let ((value0, slope0), (value, slope)) = (function(0.0), function(t));
        let strong = value <= value0 + c1 * t * slope0;
        let below_rounding =
            (value - value0).abs() <= 2.0_f64.powi(-23) * value0.abs() && slope <= (2.0 * c1 - 1.0) * slope0;
        slope.abs() <= c2 * slope0.abs() && (strong || below_rounding)
    }

    #[test]
    fn the_published_evaluation_counts_are_met() {
        // Moré and Thuente 1994, Tables I to VI: mu, eta, and evaluations from each of the four starting steps.
        let tables = [
            (0.001, 0.1, [6, 3, 1, 4]),
            (0.1, 0.1, [12, 8, 8, 11]),
            (0.1, 0.1, [12, 12, 10, 13]),
            (0.001, 0.001, [4, 1, 3, 4]),
            (0.001, 0.001, [6, 3, 7, 8]),
            (0.001, 0.001, [13, 11, 8, 11]),
        ];
        for (function, (c1, c2, counts)) in more_thuente().iter().zip(tables) {
            for (start, count) in STARTS.into_iter().zip(counts) {
                let run = run(&mut with(c1, c2), Shown::Both, function, start);
                assert_eq!(run.asked.len(), count, "from {start:e}: {run:?}");
            }
        }
    }

    #[test]
    fn accepted_steps_satisfy_the_documented_conditions() {
        for (c1, c2) in [(1e-4, 0.9), (1e-4, 0.1), (0.1, 0.4)] {
            for function in more_thuente() {
                for start in STARTS {
                    let t = run(&mut with(c1, c2), Shown::Both, &function, start).accepted();
                    assert!(satisfied(&function, c1, c2, t), "from {start:e}: {t}");
                }
            }
        }
    }

    #[test]
    fn a_multiple_of_the_function_gets_the_same_decisions() {
        assert_scale_invariant(&search(), Shown::Both);
        assert_scale_invariant(&with(1e-4, 0.1), Shown::Both);
    }

    #[test]
    fn a_search_restored_before_any_evaluation_goes_on_alike() {
        assert_resumes(&search(), Shown::Both);
        assert_resumes(&with(1e-4, 0.01), Shown::Both);
    }

    #[test]
    fn a_trial_that_is_not_finite_shrinks_the_step() {
        for c2 in [0.9, 0.1] {
            assert_walls_shrink(&with(1e-4, c2), Shown::Both, |function, t| satisfied(function, 1e-4, c2, t));
        }
    }

    #[test]
    fn a_hole_before_the_best_point_is_left_towards_the_base() {
        // Eq. (5.1) without numbers in [2, 9]: 10 is lower than 0 and rising, so the next trial is between them.
        let [function, ..] = more_thuente();
        let hole = |t: f64| if (2.0..=9.0).contains(&t) { (f64::NAN, f64::NAN) } else { function(t) };
        let run = run(&mut with(1e-4, 0.01), Shown::Both, &hole, 10.0);
        assert!((2.0..=9.0).contains(&run.asked[1]), "{run:?}");
        assert!(run.asked[2..].iter().all(|step| *step < run.asked[1]), "{run:?}");
        assert!(satisfied(&hole, 1e-4, 0.01, run.accepted()));
    }

    #[test]
    fn a_first_step_a_little_short_of_the_minimum_of_a_parabola_is_followed_by_the_minimum() {
        let parabola = |t: f64| (t * t / 2.0 - t, t - 1.0);
        assert_steps(&run(&mut with(1e-4, 0.1), Shown::Both, &parabola, 0.8), &[0.8, 1.0]);
    }

    #[test]
    fn a_base_without_descent_or_value_is_refused() {
        assert_refuses_non_descent(&search(), Shown::Both);
        let origin = Point { step: 0.0, value: None, slope: Some(-1.0) };
        let decision = search().begin(origin, 1.0);
        assert_eq!(decision, Decision::Fail(SearchFailure::NonFinite));
    }

    #[test]
    fn the_budget_ends_in_the_lowest_point_or_a_failure() {
        let config = StrongWolfeConfig { max_evaluations: 1, ..Default::default() };
        assert_budget(&config.init().unwrap(), Shown::Both);
        assert_small_decrease_is_not_taken(&config.init().unwrap());
    }

    #[test]
    fn the_lowest_point_of_a_kink_is_accepted_when_the_bracket_cannot_shrink() {
        // phi(t) = |t - 1| has no slope below 0.9 in size; the interval ends at neighbouring numbers around 1.
        let config = StrongWolfeConfig { max_evaluations: 300, ..Default::default() };
        let kink = |t: f64| ((t - 1.0).abs(), if t < 1.0 { -1.0 } else { 1.0 });
        let run = run(&mut config.init().unwrap(), Shown::Both, &kink, 0.3);
        assert!((run.accepted() - 1.0).abs() < 1e-15, "{run:?}");
        assert!(run.asked.len() < 300);
    }

    #[test]
    fn a_function_without_a_minimum_is_accepted_at_the_longest_step() {
        let config = StrongWolfeConfig { max_step: 50.0, ..Default::default() };
        let line = |t: f64| (-t, -1.0);
        let run = run(&mut config.init().unwrap(), Shown::Both, &line, 1.0);
        assert_eq!(run.accepted(), 50.0);
    }

    #[test]
    fn a_float32_loss_near_its_minimum_is_accepted_by_its_slope() {
        let run = run(&mut search(), Shown::Both, &flat_in_float32, 0.3);
        let t = run.accepted();
        assert!(satisfied(&flat_in_float32, 1e-4, 0.9, t));
        let decrease = |t: f64| flat_in_float32(t).0 <= 1.0 + 1e-4 * t * flat_in_float32(0.0).1;
        assert!(!run.asked.iter().any(|t| decrease(*t)), "the textbook condition would do: {run:?}");
    }

    #[test]
    fn every_parameter_has_a_range() {
        let valid = StrongWolfeConfig::default();
        assert_eq!(valid.validate(), Ok(()));
        for (json, named) in [
            (r#"{"c1": 0}"#, "c1"),
            (r#"{"c2": 1}"#, "c2"),
            (r#"{"max_evaluations": 0}"#, "max_evaluations"),
            (r#"{"max_step": 0}"#, "max_step"),
            (r#"{"c1": 0.9}"#, "c2"),
        ] {
            assert_refused(serde_json::from_str::<StrongWolfeConfig>(json).unwrap().validate(), named);
        }
        assert!(serde_json::from_str::<StrongWolfeConfig>(r#"{"c3": 1}"#).is_err());
        assert_ranges_in_schema::<StrongWolfeConfig>();
    }

    proptest! {
        #[test]
        fn convex_polynomials_end_within_the_budget_at_a_step_that_satisfies_the_conditions(
            polynomial in convex_polynomial(), start in -3.0..3.0_f64, c2 in 0.1..0.9_f64,
        ) {
            let run = run(&mut with(1e-4, c2), Shown::Both, &polynomial.function(), 10_f64.powf(start));
            prop_assert!(run.asked.len() <= 30);
            prop_assert!(satisfied(&polynomial.function(), 1e-4, c2, run.accepted()), "{run:?}");
        }
    }
}
