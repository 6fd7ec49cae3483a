//! One-dimensional functions on which every line search is tested, and the loop that drives a search over them.

use proptest::prelude::*;
use schemars::JsonSchema;

use super::{Decision, LineSearch, Point, SearchFailure};
use crate::error::ParameterError;

/// A function of the step length: value and slope.
pub type Function = Box<dyn Fn(f64) -> (f64, f64)>;

/// The starting steps of Moré and Thuente 1994, section 5.
pub const STARTS: [f64; 4] = [1e-3, 1e-1, 1e1, 1e3];

/// The six functions of Moré and Thuente 1994, section 5, in the order of Tables I to VI.
pub fn more_thuente() -> [Function; 6] {
    [
        Box::new(rational),
        Box::new(quintic),
        Box::new(oscillating),
        yanai(0.001, 0.001),
        yanai(0.01, 0.001),
        yanai(0.001, 0.01),
    ]
}

/// Eq. (5.1) with beta = 2: `-t / (t^2 + beta)`, a minimum at the root of beta.
fn rational(t: f64) -> (f64, f64) {
    let q = t * t + 2.0;
    (-t / q, (t * t - 2.0) / (q * q))
}

/// Eq. (5.2) with beta = 0.004: `(t + beta)^5 - 2 (t + beta)^4`, a minimum at 1.6 - beta.
fn quintic(t: f64) -> (f64, f64) {
    let s = t + 0.004;
    (s.powi(5) - 2.0 * s.powi(4), 5.0 * s.powi(4) - 8.0 * s.powi(3))
}

/// Eq. (5.3) with beta = 0.01, l = 39: a kink rounded over `[1 - beta, 1 + beta]`, plus a sine.
fn oscillating(t: f64) -> (f64, f64) {
    use std::f64::consts::{FRAC_PI_2, PI};
    let (beta, l) = (0.01, 39.0);
    let (value, slope) = if t <= 1.0 - beta {
        (1.0 - t, -1.0)
    } else if t >= 1.0 + beta {
        (t - 1.0, 1.0)
    } else {
        ((t - 1.0).powi(2) / (2.0 * beta) + beta / 2.0, (t - 1.0) / beta)
    };
    let angle = l * FRAC_PI_2 * t;
    (value + 2.0 * (1.0 - beta) / (l * PI) * angle.sin(), slope + (1.0 - beta) * angle.cos())
}

/// Eq. (5.4), of Yanai, Ozawa and Kaneko, for a pair of betas.
fn yanai(beta1: f64, beta2: f64) -> Function {
    let gamma = |beta: f64| (1.0 + beta * beta).sqrt() - beta;
    let (gamma1, gamma2) = (gamma(beta1), gamma(beta2));
    Box::new(move |t| {
        let (left, right) = ((1.0 - t).hypot(beta2), t.hypot(beta1));
        (gamma1 * left + gamma2 * right, gamma1 * (t - 1.0) / left + gamma2 * t / right)
    })
}

/// `-(wall / 4) log(1 - t / wall) - t`: a minimum at `3 wall / 4`, and no number from the wall on.
pub fn barrier(wall: f64) -> Function {
    let scale = wall / 4.0;
    Box::new(move |t| {
        if t >= wall {
            return (f64::INFINITY, f64::NAN);
        }
        (-scale * (1.0 - t / wall).ln() - t, scale / (wall - t) - 1.0)
    })
}

/// `1 + 1e-9 (t - 1)^2` as float32 holds it: the value is 1 everywhere near the minimum, the slope is not.
pub fn flat_in_float32(t: f64) -> (f64, f64) {
    let single = |x: f64| f64::from(x as f32);
    (single(1.0 + 1e-9 * (t - 1.0).powi(2)), single(2e-9 * (t - 1.0)))
}

/// `a2 (t - m)^2 / 2 + a3 |t - m|^3 / 3 + a4 (t - m)^4 / 4`, convex, with its minimum 0 at `m`.
#[derive(Clone, Copy, Debug)]
pub struct ConvexPolynomial {
    /// `m`.
    pub minimum: f64,
    /// `a2`, `a3`, `a4`, in units of `m`.
    coefficients: [f64; 3],
}

impl ConvexPolynomial {
    /// Value and slope.
    pub fn function(self) -> impl Fn(f64) -> (f64, f64) {
        let (m, [a2, a3, a4]) = (self.minimum, self.coefficients);
        move |t| {
            let d = (t - m) / m;
            (
                m * (a2 * d * d / 2.0 + a3 * d.abs().powi(3) / 3.0 + a4 * d.powi(4) / 4.0),
                a2 * d + a3 * d * d.abs() + a4 * d.powi(3),
            )
        }
    }
}

/// Random convex polynomials of degree 2 to 4.
pub fn convex_polynomial() -> impl Strategy<Value = ConvexPolynomial> {
    (-1.0..1.0_f64, 0.1..1.0_f64, 0.0..10.0_f64, 0.0..10.0_f64)
        .prop_map(|(m, a2, a3, a4)| ConvexPolynomial { minimum: 10_f64.powf(m), coefficients: [a2, a3, a4] })
}

/// What one search did.
#[derive(Debug, PartialEq)]
pub struct Run {
    /// The steps asked for, in order.
    pub asked: Vec<f64>,
    /// `Accept` or `Fail`.
    pub end: Decision,
}

impl Run {
    /// The accepted step; a failed search fails the test.
    pub fn accepted(&self) -> f64 {
        match self.end {
            Decision::Accept(step) => step,
            _ => panic!("no step was accepted: {self:?}"),
        }
    }
}

/// What the owner of a search shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown {
    /// Value and slope.
    Both,
    /// The value alone.
    Value,
    /// The slope alone.
    Slope,
}

impl Shown {
    /// The function at one step, as a search sees it.
    pub fn point(self, function: &dyn Fn(f64) -> (f64, f64), step: f64) -> Point {
        let (value, slope) = function(step);
        Point { step, value: (self != Self::Slope).then_some(value), slope: (self != Self::Value).then_some(slope) }
    }
}

/// Run one search to its end.
pub fn run(search: &mut dyn LineSearch, shown: Shown, function: &dyn Fn(f64) -> (f64, f64), initial_step: f64) -> Run {
    let mut asked = Vec::new();
    let mut decision = search.begin(shown.point(function, 0.0), initial_step);
    while let Decision::Evaluate(step) = decision {
        asked.push(step);
        assert!(asked.len() <= 1000, "the search does not end: {search:?}");
        decision = search.observe(shown.point(function, step));
    }
    Run { asked, end: decision }
}

/// Moving the state to a new search before every evaluation is answered changes nothing.
pub fn assert_resumes(fresh: &dyn LineSearch, shown: Shown) {
    let functions: Vec<_> = more_thuente().into_iter().chain([barrier(1e-2), barrier(7.0)]).collect();
    for (function, start) in functions.iter().flat_map(|f| STARTS.map(move |s| (f, s))) {
        let undisturbed = run(fresh.boxed().as_mut(), shown, function, start);
        let mut search = fresh.boxed();
        let mut decision = search.begin(shown.point(function, 0.0), start);
        for step in &undisturbed.asked {
            assert_eq!(decision, Decision::Evaluate(*step));
            let state = search.state();
            search = fresh.boxed();
            search.restore(state).expect("a search reads its own state");
            decision = search.observe(shown.point(function, *step));
        }
        assert_eq!(decision, undisturbed.end);
    }
}

/// Multiplying the function by a constant leaves every decision unchanged: exactly for powers of two, which round
/// nothing, and up to rounding for powers of ten.
pub fn assert_scale_invariant(fresh: &dyn LineSearch, shown: Shown) {
    for (function, start) in more_thuente().iter().flat_map(|f| STARTS.map(move |s| (f, s))) {
        let scaled_run = |factor: f64| {
            let scaled = |t: f64| {
                let (value, slope) = function(t);
                (factor * value, factor * slope)
            };
            run(fresh.boxed().as_mut(), shown, &scaled, start)
        };
        let plain = scaled_run(1.0);
        for exponent in [-20, -7, 7, 20] {
            assert_eq!(scaled_run(2.0_f64.powi(exponent)), plain);
        }
        for exponent in -6..=6 {
            let scaled = scaled_run(10.0_f64.powi(exponent));
            assert_eq!(scaled.asked.len(), plain.asked.len(), "{scaled:?} is not {plain:?}");
            assert!((scaled.accepted() / plain.accepted() - 1.0).abs() < 1e-6);
        }
    }
}

/// Behind a wall there are no numbers: every step asked for after such a trial is smaller, the search ends at an
/// acceptable step, and where there is no number at all it says so.
pub fn assert_walls_shrink(
    fresh: &dyn LineSearch,
    shown: Shown,
    acceptable: impl Fn(&dyn Fn(f64) -> (f64, f64), f64) -> bool,
) {
    for (wall, start) in [1e-2, 1.0, 7.0, 1e2].into_iter().flat_map(|w| STARTS.map(|s| (w, s))) {
        let function = barrier(wall);
        let run = run(fresh.boxed().as_mut(), shown, &function, start);
        for (i, step) in run.asked.iter().enumerate().filter(|(_, step)| **step >= wall) {
            assert!(run.asked[i + 1..].iter().all(|later| later < step), "{run:?}");
        }
        assert!(acceptable(&function, run.accepted()), "wall {wall}, from {start:e}: {run:?}");
    }
    let nowhere = |t: f64| if t > 0.0 { (f64::NAN, f64::NAN) } else { (0.0, -1.0) };
    let run = run(fresh.boxed().as_mut(), shown, &nowhere, 1.0);
    assert!(run.asked.is_sorted_by(|a, b| a > b), "{run:?}");
    assert_eq!(run.end, Decision::Fail(SearchFailure::NonFinite));
}

/// A slope at the base point that is not negative ends the search before it begins, and leaves nothing in flight.
pub fn assert_refuses_non_descent(fresh: &dyn LineSearch, shown: Shown) {
    for slope in [0.0, 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut search = fresh.boxed();
        let refused = Decision::Fail(SearchFailure::NotDescent);
        assert_eq!(search.begin(shown.point(&|_| (1.0, slope), 0.0), 1.0), refused);
        assert_eq!(search.state(), fresh.state());
        assert_eq!(search.observe(shown.point(&|_| (0.0, -1.0), 1.0)), refused);
    }
}

/// A search allowed one evaluation takes it if the function really decreased, and fails if it did not.
pub fn assert_budget(only_one: &dyn LineSearch, shown: Shown) {
    // phi(t) = t^2 / 2 - t: at 1e-3 it has decreased, and its slope has changed by a thousandth; at 100 it is high.
    let parabola = |t: f64| (t * t / 2.0 - t, t - 1.0);
    let decreased = run(only_one.boxed().as_mut(), shown, &parabola, 1e-3);
    assert_eq!(decreased.end, Decision::Accept(1e-3));
    let risen = run(only_one.boxed().as_mut(), shown, &parabola, 100.0);
    assert_eq!(risen.end, Decision::Fail(SearchFailure::BudgetSpent));
    assert_eq!((decreased.asked.len(), risen.asked.len()), (1, 1));
}

/// A search allowed one evaluation does not take a point that decreased by a millionth of what its slope promised.
pub fn assert_small_decrease_is_not_taken(only_one: &dyn LineSearch) {
    let shallow = |t: f64| (-1e-6 * t, -1.0);
    let run = run(only_one.boxed().as_mut(), Shown::Both, &shallow, 1.0);
    assert_eq!(run.end, Decision::Fail(SearchFailure::BudgetSpent));
}

/// The search asked for exactly these steps, up to the digits they are written with, and accepted the last.
pub fn assert_steps(run: &Run, steps: &[f64]) {
    assert_eq!(run.asked.len(), steps.len(), "{run:?}");
    assert!(run.asked.iter().zip(steps).all(|(asked, step)| (asked - step).abs() < 1e-6), "{run:?}");
    assert_eq!(Some(&run.accepted()), run.asked.last());
}

/// The configuration was refused, and the message names the parameter.
pub fn assert_refused(outcome: Result<(), ParameterError>, named: &str) {
    let message = outcome.expect_err(named).to_string();
    assert!(message.contains(named), "{message}");
}

/// Every property of the schema says what it is, its default and its least value.
pub fn assert_ranges_in_schema<T: JsonSchema>() {
    let schema = schemars::schema_for!(T);
    let properties = schema.get("properties").and_then(|p| p.as_object()).expect("an object");
    for (name, property) in properties {
        for keyword in ["description", "default", "minimum"] {
            assert!(property.get(keyword).is_some(), "{name} has no {keyword}");
        }
    }
}
