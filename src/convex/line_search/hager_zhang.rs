//! The line search of Hager and Zhang, with the approximate Wolfe test that float32 losses and learners without a loss
//! need.

use std::convert::Infallible;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::interpolation::{Sample, between, secant};
use super::replay::{Line, Replay, midpoint};
use super::{Decision, LineSearch, Point, SearchFailure};
use crate::error::{ParameterError, StateError};

/// How large the rounding of two values may be for interpolation to use them, as a share of their bracket's width times the difference
/// of its slopes.
const RESOLVED: f64 = 0.01;

/// Parameters of the line search of Hager and Zhang.
///
/// W. W. Hager and H. Zhang, "A new conjugate gradient method with guaranteed descent and an efficient line search",
/// SIAM J. Optim. 16(1), 2005, and "Algorithm 851: CG_DESCENT", ACM Trans. Math. Softw. 32(1), 2006.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HagerZhangConfig {
    /// Share of the decrease promised by the slope at the base point that a step must reach. No unit, above 0 and below
    /// 0.5, default 1e-3, by experiment. Hager and Zhang 2005, conditions T1 and T2, with 0.1.
    #[schemars(range(min = 0.0, max = 0.5), extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 0.5))]
    pub delta: f64,
    /// Share of the steepness at the base point that may be left at an accepted step, falling or rising; smaller is a
    /// more exact search. No unit, at least `delta` and below 1, default 0.9. Hager and Zhang 2005,
    /// conditions T1 and T2.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub sigma: f64,
    /// Like `sigma`, for a first trial whose length is only a guess, as with conjugate gradients: if more steepness is left there,
    /// the trial serves interpolation only and is not accepted. No unit, above 0 and at most 1, default 1, where `sigma` alone decides. The QuadStep
    /// of Hager and Zhang 2006, with slopes in place of values.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub guess_sigma: f64,
    /// Rise of the objective that counts as rounding, relative to its size at the base point. No unit, at least 0,
    /// default 1e-6. Hager and Zhang 2005, condition T2.
    #[schemars(range(min = 0.0))]
    pub epsilon: f64,
    /// Factor by which a secant step must shrink the bracket, else it is halved. No unit, above 0 and below 1, default
    /// 0.66. Hager and Zhang 2005, step L2.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub gamma: f64,
    /// Where an interval is cut whose upper end is too high: 0.5 is bisection. No unit, above 0 and below 1, default
    /// 0.5. Hager and Zhang 2005, step U3a.
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    pub theta: f64,
    /// Factor by which the step grows at most while no minimum is bracketed, and shrinks after a trial that is not finite.
    /// No unit, above 1, default 10, by experiment. Hager and Zhang 2006, step B3, with 5.
    #[schemars(range(min = 1.0), extend("exclusiveMinimum" = 1.0))]
    pub rho: f64,
    /// Evaluations allowed for one search. At least 1, default 30: on the functions of Moré and Thuente (1994) a search
    /// takes 5 on average, and up to 28 where only slopes are known.
    #[schemars(range(min = 1))]
    pub max_evaluations: u32,
}

impl Default for HagerZhangConfig {
    fn default() -> Self {
        Self {
            delta: 1e-3,
            sigma: 0.9,
            guess_sigma: 1.0,
            epsilon: 1e-6,
            gamma: 0.66,
            theta: 0.5,
            rho: 10.0,
            max_evaluations: 30,
        }
    }
}

impl HagerZhangConfig {
    /// A nearly exact search, for conjugate gradients on long, ill-conditioned problems: about two evaluations an iteration,
    /// and on a quadratic of n dimensions no more than about n iterations. Each inexact step costs conjugate gradients
    /// some of their conjugacy, and over hundreds of iterations that costs more.
    pub fn nearly_exact() -> Self {
        Self { sigma: 0.3, guess_sigma: 1e-4, ..Self::default() }
    }

    /// Check every range and `delta <= sigma`.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] naming the parameter, its value and its range.
    pub fn validate(&self) -> Result<(), ParameterError> {
        let open = |value: f64, end: f64| 0.0 < value && value < end;
        let Self { delta, sigma, guess_sigma, epsilon, gamma, theta, rho, max_evaluations } = *self;
        ParameterError::range(open(delta, 0.5), "delta", delta, "above 0 and below 0.5")?;
        ParameterError::range(open(sigma, 1.0), "sigma", sigma, "above 0 and below 1")?;
        let share = guess_sigma > 0.0 && guess_sigma <= 1.0;
        ParameterError::range(share, "guess_sigma", guess_sigma, "above 0 and at most 1")?;
        ParameterError::range(epsilon.is_finite() && epsilon >= 0.0, "epsilon", epsilon, "finite and at least 0")?;
        ParameterError::range(open(gamma, 1.0), "gamma", gamma, "above 0 and below 1")?;
        ParameterError::range(open(theta, 1.0), "theta", theta, "above 0 and below 1")?;
        ParameterError::range(rho.is_finite() && rho > 1.0, "rho", rho, "finite and above 1")?;
        ParameterError::range(max_evaluations >= 1, "max_evaluations", max_evaluations, "at least 1")?;
        ParameterError::together(
            delta <= sigma,
            ["delta", "sigma"],
            [delta, sigma],
            "delta must be at most sigma, otherwise it may be that no step satisfies both",
        )
    }

    /// The search with these parameters.
    ///
    /// # Errors
    ///
    /// Those of [`validate`](Self::validate).
    pub fn init(&self) -> Result<HagerZhang, ParameterError> {
        self.validate()?;
        Ok(HagerZhang { config: self.clone(), noise: 0.0, line: None })
    }
}

/// The line search of Hager and Zhang.
///
/// It accepts the first evaluated step `t` that satisfies the strong Wolfe conditions
///
/// ```text
/// (T1)  phi(t) - phi(0) <= delta t phi'(0)   and   |phi'(t)| <= sigma |phi'(0)|
/// ```
///
/// or their approximate form, which a loss in float32 can still resolve close to a minimum
///
/// ```text
/// (T2)  (2 delta - 1) phi'(0) >= phi'(t)   and   |phi'(t)| <= sigma |phi'(0)|   and   phi(t) <= phi(0) + eps
///       eps = epsilon |phi(0)| + noise
/// ```
///
/// The paper's conditions leave `phi'(t)` free, or almost free, above zero. A step far behind the minimum costs conjugate
/// gradients more iterations than its correction costs evaluations, so here both signs count alike.
///
/// Where values are known, the first step into a bracket comes from them too, by the cubic and the parabola of Moré and Thuente
/// (1994, section 4, cases 1 and 2) instead of the secant of the slopes, unless `eps` would tell there.
///
/// A first step that is only a guess, as from conjugate gradients, can be held to the stricter `guess_sigma`: one that
/// fails it serves the interpolation, and the zero of the secant comes next, which on a quadratic is the minimum.
///
/// Where no values are known it works from slopes alone: (T2) without its last part, and a bracket between a falling and
/// a rising slope. A trial that is not finite shrinks the step towards the last falling point. When the evaluations are
/// used up, or the bracket cannot shrink any more, the lowest step with `phi(t) - phi(0) <= delta t phi'(0)` is accepted
/// if there is one; only the second part of (T1) is then missing. A first step that is not a positive number counts as 1.
#[derive(Clone, Debug)]
pub struct HagerZhang {
    config: HagerZhangConfig,
    noise: f64,
    line: Option<Line>,
}

impl HagerZhang {
    fn advance(&mut self, line: Option<Line>) -> Decision {
        self.line = line;
        let HagerZhangConfig { delta, max_evaluations, .. } = self.config;
        Line::decide(&mut self.line, max_evaluations, delta, |replay| {
            let (value, slope) = (replay.base_value()?, replay.base_slope()?);
            let rounding = value.map_or(0.0, |value| self.config.epsilon * value.abs() + self.noise);
            let base = sample(0.0, value, slope);
            Bracketing { config: &self.config, base, rounding, replay }.search()
        })
    }
}

/// The saved state, tagged by the search's kind.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Saved {
    HagerZhang { line: Option<Line>, noise: f64 },
}

impl LineSearch for HagerZhang {
    fn begin(&mut self, origin: Point, initial_step: f64) -> Decision {
        self.advance(Some(Line::new(origin, initial_step)))
    }

    fn begin_with_guess(&mut self, origin: Point, guess: f64) -> Decision {
        self.advance(Some(Line::guessed(origin, guess)))
    }

    fn observe(&mut self, point: Point) -> Decision {
        let line = self.line.take().map(|line| line.with(point));
        self.advance(line)
    }

    fn set_noise(&mut self, noise: f64) {
        self.noise = noise.max(0.0);
    }

    fn state(&self) -> Value {
        json!(Saved::HagerZhang { line: self.line.clone(), noise: self.noise })
    }

    fn restore(&mut self, state: Value) -> Result<(), StateError> {
        let Saved::HagerZhang { line, noise } = StateError::read("hager_zhang", state)?;
        (self.line, self.noise) = (line, noise);
        Ok(())
    }

    fn boxed(&self) -> Box<dyn LineSearch> {
        Box::new(self.clone())
    }
}

/// A step with its slope, and with its value, which is not a number where it is not known.
fn sample(step: f64, value: Option<f64>, slope: f64) -> Sample {
    Sample { step, value: value.unwrap_or(f64::NAN), slope }
}

/// What a trial that was not accepted means for the bracket.
enum Trial {
    /// `phi'(t) >= 0`: an upper end (B1, U1).
    Rising(Sample),
    /// `phi'(t) < 0` and `phi(t) <= phi(0) + eps`: a lower end (B3, U2).
    Falling(Sample),
    /// `phi'(t) < 0` and `phi(t) > phi(0) + eps`: there is a minimum before it (B2, U3).
    TooHigh,
    /// Nothing is known but that the step was too long.
    NotFinite,
}

/// A bracket `[a, b]`: `phi'(a) < 0`, `phi(a) <= phi(0) + eps`, `phi'(b) >= 0`: the opposite slope condition.
type Bracket = (Sample, Sample);

/// The search from one base point; its methods carry the letters of the paper.
struct Bracketing<'a> {
    config: &'a HagerZhangConfig,
    base: Sample,
    rounding: f64,
    replay: Replay<'a>,
}

impl Bracketing<'_> {
    /// L0 to L3.
    fn search(mut self) -> Result<Infallible, Decision> {
        let mut bracket = self.bracket(self.replay.initial_step())?;
        loop {
            let width = bracket.1.step - bracket.0.step;
            bracket = self.secant2(bracket)?;
            let (a, b) = bracket;
            if b.step - a.step >= self.config.gamma * width {
                let middle = midpoint(a.step, b.step);
                if !(a.step < middle && middle < b.step) {
                    return Err(self.replay.give_up(SearchFailure::Resolution));
                }
                bracket = self.update(bracket, middle)?;
            }
        }
    }

    /// B0 to B3. At B1 the last step that grew is the nearest one with `phi(c_i) <= phi(0) + eps`. So it is at B2, whose
    /// interval begins at 0 in the paper: trials lie in that already. At B3 the step grows to the zero of the secant, but at most
    /// by `rho`, and by `rho` where the slope has not risen.
    fn bracket(&mut self, mut step: f64) -> Result<Bracket, Decision> {
        let mut falling = self.base;
        loop {
            match self.at(step)? {
                Trial::Rising(end) => return Ok((falling, end)),
                above @ (Trial::TooHigh | Trial::NotFinite) => return self.cut(falling, step, above),
                Trial::Falling(end) => {
                    let (zero, most) = (secant(falling, end), self.config.rho * step);
                    step = if zero > step { zero.min(most) } else { most };
                    falling = end;
                }
            }
        }
    }

    /// U0 to U3.
    fn update(&mut self, (a, b): Bracket, step: f64) -> Result<Bracket, Decision> {
        if a.step < step && step < b.step {
            match self.at(step)? {
                Trial::Rising(end) => Ok((a, end)),
                Trial::Falling(end) => Ok((end, b)),
                above => self.cut(a, step, above),
            }
        } else {
            Ok((a, b))
        }
    }

    /// U3, `upper` being too high or not finite. After a trial that was not finite the scale is unknown, so the next
    /// one is nearer to `a`.
    fn cut(&mut self, mut a: Sample, mut upper: f64, mut above: Trial) -> Result<Bracket, Decision> {
        loop {
            let share = match above {
                Trial::NotFinite => 1.0 / self.config.rho,
                _ => self.config.theta,
            };
            let step = (1.0 - share) * a.step + share * upper;
            above = self.at(step)?;
            match above {
                Trial::Rising(end) => return Ok((a, end)),
                Trial::Falling(end) => a = end,
                Trial::TooHigh | Trial::NotFinite => upper = step,
            }
        }
    }

    /// S1 to S4. Where values are known, the step of S1 comes from them too.
    fn secant2(&mut self, (a, b): Bracket) -> Result<Bracket, Decision> {
        let step = self.inside(a, b);
        let (lower, upper) = self.update((a, b), step)?;
        if step == upper.step {
            self.update((lower, upper), secant(b, upper))
        } else if step == lower.step {
            self.update((lower, upper), secant(a, lower))
        } else {
            Ok((lower, upper))
        }
    }

    /// Where the minimum between the ends of a bracket seems to be: from their values too, if rounding of those cannot move it by more
    /// than a few hundredths of the bracket.
    fn inside(&self, a: Sample, b: Sample) -> f64 {
        let resolved = self.rounding < RESOLVED * (b.step - a.step) * (b.slope - a.slope);
        if resolved && (b.value - a.value).is_finite() { between(a, b) } else { secant(a, b) }
    }

    /// Evaluate one step; the search ends with it if it is acceptable.
    fn at(&mut self, step: f64) -> Result<Trial, Decision> {
        let point = self.replay.at(step)?;
        let Some(slope) = point.slope else {
            return Ok(Trial::NotFinite);
        };
        let end = sample(step, point.value, slope);
        let rise = Some(end.value - self.base.value).filter(|rise| !rise.is_nan());
        if self.accepts(step, rise, slope) {
            return Err(Decision::Accept(step));
        }
        Ok(if slope >= 0.0 {
            Trial::Rising(end)
        } else if rise.is_none_or(|rise| rise <= self.rounding) {
            Trial::Falling(end)
        } else {
            Trial::TooHigh
        })
    }

    /// (T1) or (T2), `rise` being `phi(t) - phi(0)`.
    fn accepts(&self, step: f64, rise: Option<f64>, slope: f64) -> bool {
        let HagerZhangConfig { delta, sigma, guess_sigma, .. } = *self.config;
        let sigma = if self.replay.is_guess() { sigma.min(guess_sigma) } else { sigma };
        let wolfe = rise.is_some_and(|rise| rise <= delta * step * self.base.slope);
        let approximate =
            (2.0 * delta - 1.0) * self.base.slope >= slope && rise.is_none_or(|rise| rise <= self.rounding);
        slope.abs() <= -sigma * self.base.slope && (wolfe || approximate)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_functions::*;
    use super::*;

    const SHOWN: [Shown; 2] = [Shown::Both, Shown::Slope];

    fn with(delta: f64, sigma: f64) -> HagerZhang {
        HagerZhangConfig { delta, sigma, ..Default::default() }.init().unwrap()
    }

    fn search() -> HagerZhang {
        HagerZhangConfig::default().init().unwrap()
    }

    /// (T1) or (T2) with epsilon = 1e-6, from the function itself.
    fn satisfied(function: &dyn Fn(f64) -> (f64, f64), shown: Shown, (delta, sigma): (f64, f64), t: f64) -> bool {
        let ((value0, slope0), (value, slope)) = (function(0.0), function(t));
        let values = shown == Shown::Both;
        let wolfe = values && value - value0 <= delta * t * slope0;
        let approximate = (2.0 * delta - 1.0) * slope0 >= slope && (!values || value <= value0 + 1e-6 * value0.abs());
        slope.abs() <= -sigma * slope0 && (wolfe || approximate)
    }

    #[test]
    fn accepted_steps_satisfy_the_documented_conditions() {
        for parameters in [(0.1, 0.9), (0.1, 0.1), (0.01, 0.4), (0.4, 0.5)] {
            for (function, shown) in more_thuente().iter().flat_map(|f| SHOWN.map(|s| (f, s))) {
                for start in STARTS {
                    let run = run(&mut with(parameters.0, parameters.1), shown, function, start);
                    let t = run.accepted();
                    assert!(satisfied(function, shown, parameters, t), "from {start:e}: {run:?}");
                }
            }
        }
    }

    #[test]
    fn a_secant_step_finds_the_minimum_of_a_parabola() {
        // phi(t) = t^2 / 2 - t: from a first step beyond the minimum the secant of the slopes gives 1 at once.
        let parabola = |t: f64| (t * t / 2.0 - t, t - 1.0);
        for shown in SHOWN {
            let run = run(&mut with(0.1, 0.1), shown, &parabola, 8.0);
            assert_eq!(run.asked, [8.0, 1.0]);
            assert_eq!(run.end, Decision::Accept(1.0));
        }
    }

    #[test]
    fn a_second_secant_step_goes_through_the_two_ends_on_one_side() {
        // phi'(t) = t^2/4 + t/2 - 1. The secant of 0 and 4 is 2/3, where phi' = -5/9: it is the lower end (S3), and the
        // secant of 0 and 2/3 is (2/3) / (1 - 5/9) = 3/2, where phi' = 5/16.
        let slope = |t: f64| t * t / 4.0 + t / 2.0 - 1.0;
        let run_lower = run(&mut with(0.01, 0.32), Shown::Slope, &|t| (0.0, slope(t)), 4.0);
        assert_steps(&run_lower, &[4.0, 2.0 / 3.0, 1.5]);
        // The same seen from the other side: 10/3 is the upper end (S2), then 4 - 3/2.
        let run_upper = run(&mut with(0.49, 0.49), Shown::Slope, &|t| (0.0, -slope(4.0 - t)), 4.0);
        assert_steps(&run_upper, &[4.0, 10.0 / 3.0, 2.5]);
    }

    #[test]
    fn values_move_the_first_step_into_a_bracket_unless_their_rounding_would_tell() {
        // phi(t) = (t - 1)^2 (1 - (t - 1) / 5): lower at 2 than at 0, where the secant of the slopes is 1.3 and the cubic knows 1.
        let cubic = |t: f64| {
            let t = t - 1.0;
            (t * t * (1.0 - t / 5.0), 2.0 * t - 0.6 * t * t)
        };
        assert_steps(&run(&mut with(0.01, 0.1), Shown::Both, &cubic, 2.0), &[2.0, 1.0]);
        assert_eq!(run(&mut with(0.01, 0.1), Shown::Slope, &cubic, 2.0).asked[..2], [2.0, 1.3]);
        let mut noisy = with(0.01, 0.1);
        noisy.set_noise(0.5);
        assert_eq!(run(&mut noisy, Shown::Both, &cubic, 2.0).asked[..2], [2.0, 1.3]);
    }

    #[test]
    fn a_guess_can_serve_the_interpolation_alone_and_the_zero_of_the_secant_is_accepted() {
        // phi(t) = t^2 / 2 - t: 0.9 leaves a tenth of the slope, enough for a step of the direction's own.
        let parabola = |t: f64| (t * t / 2.0 - t, t - 1.0);
        for (shown, guess) in SHOWN.into_iter().flat_map(|shown| [(shown, 0.9), (shown, 1.2)]) {
            let config = HagerZhangConfig::nearly_exact();
            let mut search = config.init().unwrap();
            let origin = shown.point(&parabola, 0.0);
            assert_eq!(search.begin(origin, guess), Decision::Evaluate(guess));
            assert_eq!(search.observe(shown.point(&parabola, guess)), Decision::Accept(guess));
            assert_eq!(search.begin_with_guess(origin, guess), Decision::Evaluate(guess));
            let state = search.state();
            search = config.init().unwrap();
            search.restore(state).unwrap();
            let Decision::Evaluate(minimum) = search.observe(shown.point(&parabola, guess)) else {
                panic!("a guess was accepted: {search:?}");
            };
            assert!((minimum - 1.0).abs() < 1e-15);
            assert_eq!(search.observe(shown.point(&parabola, minimum)), Decision::Accept(minimum));
        }
    }

    #[test]
    fn a_short_first_step_on_arwhead_is_followed_by_the_zero_of_the_secant() {
        // Captured from the first search on the CUTE problem ARWHEAD with n = 1000: all variables at 1 along the gradient,
        // 4 for each but the last, 7992 for that; 0.01 |f| / |g|^2 as first step. With the published sigma = 0.9 it ended
        // there, with 82 % of the slope left, and the problem took 161 evaluations instead of 20.
        let arwhead = |t: f64| {
            let (x, last) = (1.0 - 4.0 * t, 1.0 - 7992.0 * t);
            let square = x * x + last * last;
            (999.0 * (square * square - 4.0 * x + 3.0), 999.0 * (4.0 * square * (-4.0 * x - 7992.0 * last) + 16.0))
        };
        for sigma in [0.9, 0.5] {
            let mut search = HagerZhangConfig { sigma, ..Default::default() }.init().unwrap();
            let run = run(&mut search, Shown::Both, &arwhead, 1.173e-5);
            let left = arwhead(run.accepted()).1 / arwhead(0.0).1;
            assert_eq!((left > 0.8, run.asked.len()), if sigma == 0.9 { (true, 1) } else { (false, 2) }, "{run:?}");
        }
    }

    #[test]
    fn a_step_far_behind_the_minimum_is_no_end() {
        // phi(t) = t^2 / 2 - t at 1.7: lower than phi(0) by a quarter of a unit, but rising by 0.7. The published (T1) takes
        // it, whatever sigma.
        let parabola = |t: f64| (t * t / 2.0 - t, t - 1.0);
        assert_steps(&run(&mut with(0.1, 0.5), Shown::Both, &parabola, 1.7), &[1.7, 1.0]);
    }

    #[test]
    fn a_step_that_is_too_high_is_cut_from_the_last_that_was_not() {
        // Steeper at 1 than at 0, so the next trial is 10, behind a jump at 1.2: high above 0, with a slope
        // that falls once more.
        let function = |t: f64| match t {
            t if t < 1.2 => (-t - t * t, -1.0 - 2.0 * t),
            t => (20.0 - t, -1.0),
        };
        let run = run(&mut search(), Shown::Both, &function, 1.0);
        assert_eq!(run.asked[..2], [1.0, 10.0], "{run:?}");
        assert!(run.asked[2..].iter().all(|t| (1.0..10.0).contains(t)), "{run:?}");
    }

    #[test]
    fn a_multiple_of_the_function_gets_the_same_decisions() {
        for shown in SHOWN {
            assert_scale_invariant(&search(), shown);
            assert_scale_invariant(&with(0.1, 0.1), shown);
        }
    }

    #[test]
    fn a_search_restored_before_any_evaluation_goes_on_alike() {
        for shown in SHOWN {
            assert_resumes(&search(), shown);
            assert_resumes(&with(0.01, 0.01), shown);
        }
    }

    #[test]
    fn a_trial_that_is_not_finite_shrinks_the_step() {
        for (shown, sigma) in SHOWN.into_iter().flat_map(|shown| [(shown, 0.9), (shown, 0.1)]) {
            assert_walls_shrink(&with(0.1, sigma), shown, |function, t| satisfied(function, shown, (0.1, sigma), t));
        }
    }

    #[test]
    fn a_base_without_descent_is_refused() {
        assert_refuses_non_descent(&search(), Shown::Both);
        assert_refuses_non_descent(&search(), Shown::Slope);
    }

    #[test]
    fn a_base_value_that_is_not_finite_is_refused() {
        let origin = Point { step: 0.0, value: Some(f64::NAN), slope: Some(-1.0) };
        assert_eq!(search().begin(origin, 1.0), Decision::Fail(SearchFailure::NonFinite));
    }

    #[test]
    fn the_budget_ends_in_the_lowest_point_or_a_failure() {
        let config = HagerZhangConfig { max_evaluations: 1, ..Default::default() };
        assert_budget(&config.init().unwrap(), Shown::Both);
        assert_small_decrease_is_not_taken(&config.init().unwrap());
    }

    #[test]
    fn a_kink_seen_by_slopes_alone_ends_at_the_resolution() {
        // phi'(t) jumps from -1 to 1 at t = 1: no slope is below (2 delta - 1) phi'(0) = 0.8 and above -0.9.
        let config = HagerZhangConfig { max_evaluations: 300, ..Default::default() };
        let kink = |t: f64| ((t - 1.0).abs(), if t < 1.0 { -1.0 } else { 1.0 });
        let run = run(&mut config.init().unwrap(), Shown::Slope, &kink, 0.3);
        assert_eq!(run.end, Decision::Fail(SearchFailure::Resolution));
        assert!(run.asked.len() < 300);
    }

    #[test]
    fn steps_that_end_at_the_same_parameters_end_the_search_at_the_resolution() {
        // The minimum lies between 1 and the next number of f32, a hundredth of their distance nearer to 1.
        let function = |t: f64| {
            let ulp = f64::from(f32::EPSILON);
            let x = f64::from((1.0 + t * ulp) as f32) - (1.0 + 0.49 * ulp);
            (x * x, 2.0 * x * ulp)
        };
        for step in [1.0, 100.0] {
            let run = run(&mut search(), Shown::Both, &function, step);
            assert_eq!(run.end, Decision::Fail(SearchFailure::Resolution));
            assert!(run.asked.len() < 10, "{run:?}");
        }
        // Steps too short to change anything grow.
        let far = |t: f64| if t < 1e9 { (0.5, -1.0) } else { (-1e9, -0.1) };
        assert!(run(&mut search(), Shown::Both, &far, 1e-3).accepted() >= 1e9);
        // On a plateau it goes on until the step is short enough.
        let plateau = |t: f64| if t > 1e-4 { (1.0, 0.0) } else { (1e4 * t * t - t, 2e4 * t - 1.0) };
        assert!(run(&mut search(), Shown::Both, &plateau, 1.0).accepted() <= 1e-4);
    }

    #[test]
    fn a_float32_loss_near_its_minimum_is_accepted_by_the_approximate_test_only() {
        for sigma in [0.9, 0.1] {
            let run = run(&mut with(0.1, sigma), Shown::Both, &flat_in_float32, 0.3);
            let t = run.accepted();
            assert!(satisfied(&flat_in_float32, Shown::Both, (0.1, sigma), t));
            let slope0 = flat_in_float32(0.0).1;
            let decrease = |t: f64| flat_in_float32(t).0 - 1.0 <= 0.1 * t * slope0;
            assert!(!run.asked.iter().any(|t| decrease(*t)), "(T1) would do: {run:?}");
        }
    }

    #[test]
    fn a_rise_within_the_stated_noise_is_accepted() {
        // Every value but the base's is 1e-3 too high: more than epsilon |phi(0)| = 1e-6, less than the noise.
        let offset = |t: f64| {
            let rise = if t > 0.0 { 1e-3 } else { 0.0 };
            (1.0 + rise + 1e-9 * (t * t / 2.0 - t), 1e-9 * (t - 1.0))
        };
        let strict = run(&mut search(), Shown::Both, &offset, 0.5);
        assert_eq!(strict.end, Decision::Fail(SearchFailure::BudgetSpent));
        let mut tolerant = search();
        tolerant.set_noise(2e-3);
        let lenient = run(&mut tolerant, Shown::Both, &offset, 0.5);
        assert_eq!(lenient.end, Decision::Accept(0.5));
    }

    #[test]
    fn a_rise_counts_as_rounding_relative_to_the_base_value() {
        // The first trial is higher by `rise`, its slope a tenth of the base's.
        let end = |value: f64, rise: f64| {
            let step = move |t: f64| if t > 0.0 { (value + rise, -0.1) } else { (value, -1.0) };
            run(&mut search(), Shown::Both, &step, 1.0).end
        };
        assert_eq!(end(1e3, 0.9e-3), Decision::Accept(1.0));
        assert_eq!(end(1e3, 1.1e-3), Decision::Fail(SearchFailure::Resolution));
        assert_eq!(end(1e-3, 0.9e-9), Decision::Accept(1.0));
        assert_eq!(end(1e-3, 1.1e-9), Decision::Fail(SearchFailure::Resolution));
    }

    #[test]
    fn every_parameter_has_a_range() {
        assert_eq!(HagerZhangConfig::default().validate(), Ok(()));
        for (json, named) in [
            (r#"{"delta": 0.5}"#, "delta"),
            (r#"{"sigma": 1}"#, "sigma"),
            (r#"{"guess_sigma": 0}"#, "guess_sigma"),
            (r#"{"epsilon": -1e-6}"#, "epsilon"),
            (r#"{"gamma": 1}"#, "gamma"),
            (r#"{"theta": 0}"#, "theta"),
            (r#"{"rho": 1}"#, "rho"),
            (r#"{"max_evaluations": 0}"#, "max_evaluations"),
            (r#"{"delta": 0.2, "sigma": 0.1}"#, "sigma"),
        ] {
            assert_refused(serde_json::from_str::<HagerZhangConfig>(json).unwrap().validate(), named);
        }
        assert!(serde_json::from_str::<HagerZhangConfig>(r#"{"eta": 1}"#).is_err());
        assert_ranges_in_schema::<HagerZhangConfig>();
    }

    #[test]
    fn a_state_of_another_search_is_refused_by_name() {
        let mut search = search();
        let error = search.restore(json!({ "golden_section": null })).unwrap_err();
        assert_eq!(error.part, "hager_zhang");
        assert!(error.to_string().contains("golden_section"), "{error}");
    }

    proptest! {
        #[test]
        fn convex_polynomials_end_within_the_budget_at_a_step_that_satisfies_the_conditions(
            polynomial in convex_polynomial(), start in -3.0..3.0_f64, sigma in 0.1..0.9_f64,
            shown in prop::sample::select(SHOWN.to_vec()),
        ) {
            let run = run(&mut with(0.1, sigma), shown, &polynomial.function(), 10_f64.powf(start));
            prop_assert!(run.asked.len() <= 30);
            prop_assert!(
                satisfied(&polynomial.function(), shown, (0.1, sigma), run.accepted()),
                "{run:?}"
            );
        }
    }
}
