use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;

/// A search that answers as it was told, and notes what it was asked; untold it accepts the first trial.
#[derive(Clone, Debug, Default)]
struct Played(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Decision>,
    /// Whether the search does without slopes.
    values_only: bool,
    /// Base point, first trial and whether that is a guess, of every search begun.
    begun: Vec<(Point, f64, bool)>,
    observed: Vec<Point>,
    noise: Option<f64>,
}

impl Played {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().expect("no panic while it is held")
    }

    fn begin(&self, origin: Point, step: f64, guess: bool) -> Decision {
        let mut script = self.script();
        script.begun.push((origin, step, guess));
        script.answers.pop_front().unwrap_or(Decision::Evaluate(step))
    }
}

impl LineSearch for Played {
    fn begin(&mut self, origin: Point, step: f64) -> Decision {
        Self::begin(self, origin, step, false)
    }

    fn begin_with_guess(&mut self, origin: Point, guess: f64) -> Decision {
        Self::begin(self, origin, guess, true)
    }

    fn observe(&mut self, point: Point) -> Decision {
        let mut script = self.script();
        script.observed.push(point);
        script.answers.pop_front().unwrap_or(Decision::Accept(point.step))
    }

    fn set_noise(&mut self, noise: f64) {
        self.script().noise = Some(noise);
    }

    fn needs_slope(&self) -> bool {
        !self.script().values_only
    }

    fn state(&self) -> Value {
        Value::Null
    }

    fn restore(&mut self, _: Value) -> Result<(), StateError> {
        Ok(())
    }

    fn boxed(&self) -> Box<dyn LineSearch> {
        Box::new(self.clone())
    }
}

/// A direction that proposes what it was told; untold, steepest descent.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Proposals>>);

#[derive(Debug, Default)]
struct Proposals {
    next: VecDeque<Proposal>,
    restarts: usize,
    steps: Vec<Step>,
    /// How many batch gradients are wanted, and their inner products.
    batches: usize,
    gram: Vec<Vec<f64>>,
}

impl Direction for Told {
    fn batch_gradients(&self) -> usize {
        self.0.lock().expect("no panic").batches
    }

    fn set_batch_gradients(&mut self, gram: &[Vec<f64>]) {
        self.0.lock().expect("no panic").gram = gram.to_vec();
    }

    fn next(&mut self, products: &Products, step: Step) -> Proposal {
        let mut told = self.0.lock().expect("no panic");
        told.steps.push(step);
        told.next.pop_front().unwrap_or_else(|| Proposal::steepest(products.gg, None))
    }

    fn restart(&mut self) {
        self.0.lock().expect("no panic").restarts += 1;
    }

    fn state(&self) -> Value {
        Value::Null
    }

    fn restore(&mut self, _: Value) -> Result<(), StateError> {
        Ok(())
    }

    fn boxed(&self) -> Box<dyn Direction> {
        Box::new(self.clone())
    }
}

/// A descent between a search and a direction that are played.
struct Rig {
    descent: Descent,
    search: Played,
    direction: Told,
    notes: Vec<Note>,
}

impl Rig {
    fn new(set: impl FnOnce(Descent) -> Descent) -> Self {
        Self::with(None, set)
    }

    fn with(resort: Option<SafeResort>, set: impl FnOnce(Descent) -> Descent) -> Self {
        let (search, direction) = (Played::default(), Told::default());
        let descent = set(Descent::new(Box::new(direction.clone()), Box::new(search.clone()), resort));
        Self { descent, search, direction, notes: Vec::new() }
    }

    fn answers(&self, answers: impl IntoIterator<Item = Decision>) {
        self.search.script().answers.extend(answers);
    }

    fn proposes(&self, proposal: Proposal) {
        self.direction.0.lock().expect("no panic").next.push_back(proposal);
    }

    /// The last step the direction was told of.
    fn step(&self) -> Step {
        *self.direction.0.lock().expect("no panic").steps.last().expect("a step")
    }

    fn restarts(&self) -> usize {
        self.direction.0.lock().expect("no panic").restarts
    }

    fn evaluates(&mut self, loss: impl Into<Option<f64>>, products: &Products) -> Move {
        let evaluation = Evaluation { loss: loss.into(), products: products.clone(), cost: 0.0 };
        self.descent.observe(&evaluation, &mut self.notes)
    }

    /// The last search begun: base point, first trial, whether that is a guess.
    fn begun(&self) -> (Point, f64, bool) {
        *self.search.script().begun.last().expect("a search")
    }
}

fn at(gg: f64) -> Products {
    Products { gg, ..Products::default() }
}

/// Products at a trial point, all different.
const TRIAL: Products =
    Products { gg: 4.0, gy: 1.5, gd: -0.5, yy: 3.0, yd: 2.5, dd: 9.0, pairs: Vec::new(), batches: Vec::new() };

fn steepest(slope: f64) -> Proposal {
    Proposal { slope, ..Proposal::steepest(-slope, None) }
}

/// `d = -g + direction * d_old`.
fn conjugate(direction: f64, slope: f64) -> Proposal {
    let coefficients = Coefficients { gradient: -1.0, direction, ..Coefficients::default() };
    Proposal { coefficients, ..steepest(slope) }
}

fn fails(failure: SearchFailure) -> Decision {
    Decision::Fail(failure)
}

#[test]
fn two_evaluations_that_differ_beyond_rounding_are_noise() {
    // Eight units in the last place of a loss of 1 are 9.54e-7; a thousandth of the squared norm.
    let noise = |loss: Option<f64>, again: Option<f64>, gg: f64, gg_again: f64| {
        let mut rig = Rig::new(|descent| descent.with_check(true));
        assert_eq!(rig.evaluates(loss, &at(gg)), Move::default());
        let next = rig.evaluates(again, &at(gg_again));
        assert_eq!(next.commit, Some(0.0));
        let told = rig.search.script().noise;
        match rig.notes[..] {
            [] => {
                assert_eq!(told, None);
                None
            }
            [Note::Noise { loss, gradient }] => {
                assert_eq!(told, Some(loss));
                Some((loss, gradient))
            }
            ref notes => panic!("{notes:?}"),
        }
    };
    let near = |found: Option<(f64, f64)>, expected: (f64, f64)| {
        let (loss, gradient) = found.expect("noise");
        assert!((loss - expected.0).abs() < 1e-15 && (gradient - expected.1).abs() < 1e-12, "{loss} {gradient}");
    };
    assert_eq!(noise(Some(1.0), Some(1.0), 4.0, 4.0), None);
    assert_eq!(noise(Some(1.0), Some(1.0 + 9e-7), 4.0, 4.0), None);
    near(noise(Some(1.0), Some(1.0 + 1e-6), 4.0, 4.0), (1e-6, 0.0));
    near(noise(Some(1.0), Some(1.0 - 1e-6), 4.0, 4.0), (1e-6, 0.0));
    // It goes with the loss.
    assert_eq!(noise(Some(-2.0), Some(-2.0 + 1.5e-6), 4.0, 4.0), None);
    near(noise(Some(-2.0), Some(-2.0 + 2e-6), 4.0, 4.0), (2e-6, 0.0));
    assert_eq!(noise(Some(0.0), Some(0.0), 4.0, 4.0), None);
    // The gradient alone.
    near(noise(Some(1.0), Some(1.0), 4.0, 4.008), (0.0, 2e-3));
    near(noise(None, None, 4.0, 3.992), (0.0, 2e-3));
    assert_eq!(noise(Some(1.0), Some(1.0), 4.0, 4.002), None);
    assert_eq!(noise(Some(1.0), Some(1.0), 1000.0, 1001.0), None);
}

#[test]
fn the_direction_is_told_how_far_the_loss_fell_and_how_well_that_is_known() {
    let mut rig = Rig::new(|descent| descent.with_check(true));
    rig.evaluates(-2.0, &at(4.0));
    rig.answers([Decision::Evaluate(0.5), Decision::Accept(0.5)]);
    rig.evaluates(-2.5, &at(4.0));
    assert_eq!(rig.step(), 0.0.into());
    rig.evaluates(-3.0, &TRIAL);
    assert_eq!(rig.step(), Step { length: 0.5, decrease: Some(0.5), error: 2.5 * RESOLUTION + 0.5 });

    // The first step may be one back from the running average.
    let mut rig = Rig::new(|descent| descent.with_average(true));
    rig.evaluates(2.0, &at(4.0));
    rig.evaluates(5.0, &TRIAL);
    rig.evaluates(2.0, &at(4.0));
    assert_eq!(rig.step(), Step { length: 1.0, decrease: Some(3.0), error: 5.0 * RESOLUTION });

    // Or one to it, where it was evaluated twice.
    let mut rig = Rig::new(|descent| descent.with_average(true).with_check(true));
    rig.evaluates(2.0, &at(4.0));
    rig.evaluates(1.0, &TRIAL);
    rig.evaluates(1.25, &TRIAL);
    assert_eq!(rig.step(), Step { length: 1.0, decrease: Some(0.75), error: 2.0 * RESOLUTION + 0.25 });

    let mut rig = Rig::new(|descent| descent);
    rig.answers([Decision::Evaluate(0.5), Decision::Accept(0.5)]);
    rig.evaluates(None, &at(4.0));
    rig.evaluates(None, &TRIAL);
    assert_eq!(rig.step(), 0.5.into());
}

#[test]
fn an_objective_that_is_not_finite_where_it_was_has_no_convex_phase() {
    let left_at = |next: Move, commit: Option<f64>| {
        let Outcome::HandBack { reason } = next.outcome.clone() else { panic!("{next:?}") };
        assert_eq!(next, Move { commit, outcome: next.outcome.clone(), ..Move::default() });
        reason
    };
    let reason = |next| left_at(next, None);
    for (loss, products) in [(f64::NAN, at(4.0)), (1.0, at(f64::INFINITY))] {
        let mut rig = Rig::new(|descent| descent);
        let next = rig.evaluates(loss, &products);
        assert_eq!(reason(next), "the objective or its gradient is not finite at the point of the swap");
        assert_eq!(rig.notes, [Note::NonFinite { step: 0.0 }]);

        let mut rig = Rig::new(|descent| descent.with_check(true));
        rig.evaluates(1.0, &at(4.0));
        assert_eq!(reason(rig.evaluates(loss, &products)), "the objective is not finite when evaluated again");

        // Back from a running average that was worse: it is left at the point ahead, not at that one.
        let mut rig = Rig::new(|descent| descent.with_average(true));
        rig.evaluates(1.0, &at(4.0));
        rig.evaluates(2.0, &TRIAL);
        assert!(rig.descent.is_returning());
        assert_eq!(rig.descent.leave(), Move { commit: Some(1.0), ..Move::default() });
        let reason = left_at(rig.evaluates(loss, &products), Some(1.0));
        assert_eq!(reason, "the objective is not finite when evaluated again");
    }
}

#[test]
fn the_descent_starts_at_the_running_average_where_that_is_better() {
    let mut rig = Rig::new(|descent| descent.with_average(true));
    let next = rig.evaluates(2.0, &at(4.0));
    assert_eq!(next, Move { commit: Some(0.0), to_average: true, step: 1.0, ..Move::default() });
    assert_eq!((rig.descent.step(), rig.descent.base_value()), (1.0, Some(2.0)));
    assert!(!rig.descent.is_searching());
    let next = rig.evaluates(1.5, &TRIAL);
    assert_eq!(rig.notes, [Note::Start { last: 2.0, average: 1.5 }]);
    assert_eq!((next.commit, next.direction), (Some(1.0), Some(Coefficients::steepest())));
    assert_eq!(rig.begun().0, Point { step: 0.0, value: Some(1.5), slope: Some(-4.0) });
    assert_eq!(rig.descent.base_value(), Some(1.5));
    assert!(rig.descent.is_searching());
}

#[test]
fn the_descent_goes_back_from_a_running_average_that_is_no_better() {
    for (average, check) in [(2.0, false), (2.5, true)] {
        let mut rig = Rig::new(|descent| descent.with_average(true).with_check(check));
        rig.evaluates(2.0, &at(4.0));
        let next = rig.evaluates(average, &TRIAL);
        let back = Coefficients { direction: -1.0, ..Coefficients::default() };
        assert_eq!(next, Move { commit: Some(1.0), direction: Some(back), step: 1.0, ..Move::default() });
        assert!(rig.descent.is_returning() && !rig.descent.is_searching());
        assert_eq!((rig.descent.step(), rig.descent.base_value()), (1.0, Some(2.0)));
        // It was there before: this is the second evaluation at that point, too.
        let next = rig.evaluates(2.1, &at(4.0));
        assert!(!rig.descent.is_returning());
        assert_eq!(next.commit, Some(1.0));
        assert_eq!(rig.begun().0, Point { step: 0.0, value: Some(2.1), slope: Some(-4.0) });
        let noise = rig.notes.iter().any(|note| matches!(note, Note::Noise { .. }));
        assert_eq!(noise, check);
    }
}

#[test]
fn the_search_may_start_behind_the_last_evaluation_of_the_start_and_batch_gradients_are_wanted_until_then() {
    for (average, check) in [(false, false), (false, true), (true, false), (true, true)] {
        for (loss, averages_loss) in [(None, 1.0), (Some(2.0), 1.0), (Some(2.0), 3.0)] {
            let mut rig = Rig::new(|descent| descent.with_average(average).with_check(check));
            rig.direction.0.lock().expect("no panic").batches = 7;
            let mut began = false;
            for evaluation in 0..4 {
                let (may_start, compares) =
                    (rig.descent.may_start(loss.is_some()), average && evaluation == 1 && loss.is_some());
                assert_eq!(rig.descent.batch_gradients(), if began { 0 } else { 7 });
                rig.evaluates(loss.map(|loss| if compares { averages_loss } else { loss }), &TRIAL);
                let begins = !began && rig.descent.is_searching();
                began |= begins;
                // It may, and does not where the running average turns out the worse one.
                let worse = compares && averages_loss > 2.0;
                assert_eq!(begins, may_start && !worse, "{average} {check} {loss:?} {averages_loss} {evaluation}");
            }
            assert!(began);
        }
    }
    let mut rig = Rig::new(|descent| descent);
    rig.descent.set_batch_gradients(&[vec![4.0, 1.0], vec![1.0, 9.0]]);
    assert_eq!(rig.direction.0.lock().expect("no panic").gram, [[4.0, 1.0], [1.0, 9.0]]);
    rig.evaluates(1.0, &at(0.0));
    rig.direction.0.lock().expect("no panic").batches = 7;
    assert_eq!((rig.descent.may_start(true), rig.descent.batch_gradients()), (false, 0));
}

#[test]
fn a_running_average_that_is_no_point_to_stand_on_is_left_at_once() {
    for (loss, products) in [(f64::NAN, TRIAL), (1.0, Products { gg: f64::NAN, ..TRIAL })] {
        let mut rig = Rig::new(|descent| descent.with_average(true).with_first_step(0.25));
        rig.evaluates(2.0, &at(4.0));
        let next = rig.evaluates(loss, &products);
        assert_eq!(next, Move { direction: Some(Coefficients::steepest()), step: 0.25, ..Move::default() });
        assert_eq!(rig.begun(), (Point { step: 0.0, value: Some(2.0), slope: Some(-4.0) }, 0.25, true));

        // Where the point of the swap is to be evaluated twice, it is.
        let mut rig = Rig::new(|descent| descent.with_average(true).with_check(true));
        rig.evaluates(2.0, &at(4.0));
        assert_eq!(rig.evaluates(loss, &products), Move::default());
        assert!(rig.descent.may_start(true) && !rig.descent.is_searching());
        assert_eq!(rig.evaluates(2.1, &at(4.0)).commit, Some(0.0));
        assert!(rig.descent.is_searching());
        assert!(rig.notes.iter().any(|note| matches!(note, Note::Noise { .. })), "{:?}", rig.notes);
    }
}

#[test]
fn without_a_loss_or_a_gradient_nothing_is_compared() {
    for (loss, gg) in [(None, 4.0), (Some(2.0), 0.0)] {
        let mut rig = Rig::new(|descent| descent.with_average(true));
        assert!(!rig.evaluates(loss, &at(gg)).to_average);
    }
}

#[test]
fn nothing_is_left_to_gain_where_the_gradient_is_zero() {
    let mut rig = Rig::new(|descent| descent);
    let next = rig.evaluates(1.0, &at(0.0));
    assert_eq!((next.outcome, next.commit, next.step), (Outcome::Rest, Some(0.0), 0.0));
    assert_eq!(rig.notes, [Note::Converged { reason: "the gradient is zero".into() }]);
    assert_eq!(rig.restarts(), 0);
    assert!(rig.descent.is_resting());
    // Whatever comes then.
    let next = rig.evaluates(0.5, &TRIAL);
    assert_eq!(next, Move { outcome: Outcome::Rest, ..Move::default() });
    assert!(rig.search.script().begun.is_empty());
}

#[test]
fn a_step_accepted_that_was_not_the_last_evaluated_is_evaluated_once_more() {
    let mut rig = Rig::new(|descent| descent.with_first_step(1.0));
    rig.evaluates(2.0, &at(4.0));
    rig.answers([Decision::Accept(0.5)]);
    assert_eq!(rig.evaluates(1.0, &TRIAL), Move { step: 0.5, ..Move::default() });
    assert!(rig.descent.is_searching());
    assert_eq!(rig.descent.step(), 0.5);
    let next = rig.evaluates(1.25, &TRIAL);
    assert_eq!(next.commit, Some(0.5));
    assert_eq!(rig.notes, [Note::Iteration { step: 0.5, displacement: 1.5 }]);
    assert_eq!(rig.descent.base_value(), Some(1.25));

    // Not finite this time: as a search that failed.
    let mut rig = Rig::new(|descent| descent.with_first_step(1.0));
    rig.proposes(conjugate(2.0, -3.0));
    rig.evaluates(2.0, &at(4.0));
    rig.answers([Decision::Accept(0.5), fails(SearchFailure::BudgetSpent)]);
    rig.evaluates(1.0, &TRIAL);
    let next = rig.evaluates(f64::NAN, &TRIAL);
    let failed = RestartReason::SearchFailed { failure: SearchFailure::NonFinite };
    assert_eq!(rig.notes, [Note::NonFinite { step: 0.5 }, Note::Restart(failed)]);
    assert!(matches!(next.outcome, Outcome::HandBack { .. }));
    assert_eq!(rig.descent.base_value(), Some(2.0));
}

#[test]
fn a_trial_that_is_not_finite_in_any_product_has_no_slope() {
    let mut rig = Rig::new(|descent| descent.with_first_step(1.0));
    rig.evaluates(2.0, &at(4.0));
    rig.answers([Decision::Evaluate(0.1)]);
    let next = rig.evaluates(1.0, &Products { yy: f64::INFINITY, ..TRIAL });
    assert_eq!(next, Move { step: 0.1, ..Move::default() });
    assert_eq!(rig.notes, [Note::NonFinite { step: 1.0 }]);
    let observed = rig.search.script().observed[0];
    assert_eq!((observed.step, observed.value), (1.0, Some(1.0)));
    assert!(observed.slope.is_some_and(f64::is_nan));
    rig.evaluates(1.0, &TRIAL);
    assert_eq!(rig.search.script().observed[1], Point { step: 0.1, value: Some(1.0), slope: Some(-0.5) });
}

#[test]
fn a_search_that_works_on_values_gets_gradients_at_the_points_it_accepts_alone() {
    let mut rig = Rig::new(|descent| descent.with_first_step(1.0));
    rig.search.script().values_only = true;
    assert!(rig.descent.wants_gradient());
    // Where the gradient is wanted, a value changes nothing.
    assert_eq!(rig.descent.observe_value(2.0, &mut rig.notes), Move::default());
    assert!(rig.search.script().observed.is_empty() && rig.notes.is_empty());
    rig.evaluates(2.0, &at(4.0));
    assert!(!rig.descent.wants_gradient());
    rig.answers([Decision::Evaluate(0.3), Decision::Accept(0.3)]);
    assert_eq!(rig.descent.observe_value(f64::NAN, &mut rig.notes), Move { step: 0.3, ..Move::default() });
    assert_eq!(rig.notes, [Note::NonFinite { step: 1.0 }]);
    assert_eq!(rig.descent.observe_value(1.0, &mut rig.notes), Move { step: 0.3, ..Move::default() });
    assert_eq!(rig.notes.len(), 1);
    assert_eq!(rig.search.script().observed[1], Point { step: 0.3, value: Some(1.0), slope: None });
    assert!(rig.descent.wants_gradient());
    assert_eq!(rig.evaluates(1.0, &TRIAL).commit, Some(0.3));

    let mut rig = Rig::new(|descent| descent);
    rig.evaluates(2.0, &at(4.0));
    assert!(rig.descent.wants_gradient());
}

#[test]
fn the_very_first_trial_is_what_was_set_or_ends_a_parabola_at_zero() {
    let first = |set: &dyn Fn(Descent) -> Descent, loss: Option<f64>, gg: f64| {
        let mut rig = Rig::new(set);
        rig.evaluates(loss, &at(gg));
        let (_, step, guess) = rig.begun();
        assert!(guess);
        step
    };
    assert_eq!(first(&|descent| descent.with_first_step(0.3), Some(3.0), 4.0), 0.3);
    assert_eq!(first(&|descent| descent.with_first_length(0.3), Some(3.0), 4.0), 0.15);
    for loss in [3.0, -3.0] {
        assert_eq!(first(&|descent| descent, Some(loss), 4.0), 1.5);
    }
    for loss in [None, Some(0.0)] {
        assert_eq!(first(&|descent| descent, loss, 4.0), 0.005);
    }
    // No step at all is none.
    for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(first(&|descent| descent.with_first_step(step), Some(3.0), 4.0), 1.0);
    }
}

#[test]
fn later_first_trials_follow_from_the_last_step() {
    // A step of 0.5 along steepest descent from a squared norm of 16: a change of -8, a length of 1.5, a curvature of
    // 2.5 / (0.5 * 9).
    let second = |proposal: Proposal, products: Products| {
        let mut rig = Rig::new(|descent| descent.with_first_step(0.5));
        rig.evaluates(2.0, &at(16.0));
        rig.proposes(proposal);
        let next = rig.evaluates(1.0, &products);
        assert_eq!(next.commit, Some(0.5));
        assert_eq!(rig.notes[0], Note::Iteration { step: 0.5, displacement: 1.5 });
        (rig.begun(), next.step)
    };
    // The new direction -g + 2 d: slope -3, squared length 4 - 4 * -0.5 + 4 * 9 = 42.
    let ((origin, step, guess), goes) = second(conjugate(2.0, -3.0), TRIAL);
    assert_eq!(origin, Point { step: 0.0, value: Some(1.0), slope: Some(-3.0) });
    let (by_change, by_curvature) = (8.0 / 3.0, 3.0 / (2.5 / 4.5 * 42.0));
    assert!((step - f64::sqrt(by_change * by_curvature)).abs() < 1e-15, "{step}");
    assert_eq!((guess, goes), (true, step));
    // Another share of the gradient: -2 g + 3 d, squared length 16 - 12 * -0.5 + 9 * 9 = 103.
    let coefficients = Coefficients { gradient: -2.0, direction: 3.0, ..Coefficients::default() };
    let ((_, step, _), _) = second(Proposal { coefficients, ..steepest(-3.0) }, TRIAL);
    assert!((step - f64::sqrt(by_change * 3.0 / (2.5 / 4.5 * 103.0))).abs() < 1e-15, "{step}");
    // Without curvature the change alone.
    for yd in [0.0, -2.5] {
        let ((_, step, _), _) = second(conjugate(2.0, -3.0), Products { yd, ..TRIAL });
        assert!((step - by_change).abs() < 1e-15, "{step}");
    }
    // Steepest descent again: the length.
    let ((_, step, guess), _) = second(steepest(-4.0), TRIAL);
    assert_eq!((step, guess), (0.75, true));
    // A direction with a length of its own.
    let ((_, step, guess), _) = second(Proposal { step: Some(1.0), ..conjugate(2.0, -3.0) }, TRIAL);
    assert_eq!((step, guess), (1.0, false));
}

#[test]
fn a_proposal_that_does_not_descend_is_replaced_by_steepest_descent() {
    for slope in [0.0, 3.0, f64::NAN, f64::NEG_INFINITY] {
        let mut rig = Rig::new(|descent| descent);
        rig.proposes(conjugate(2.0, slope));
        let next = rig.evaluates(1.0, &at(4.0));
        assert_eq!(next.direction, Some(Coefficients::steepest()));
        assert_eq!(rig.notes, [Note::Restart(RestartReason::NonDescent)]);
        assert_eq!((rig.restarts(), rig.begun().0.slope), (1, Some(-4.0)));
    }
    // What a direction does of itself is told.
    let mut rig = Rig::new(|descent| descent);
    rig.proposes(Proposal { restart: Some(RestartReason::Periodic), dropped: Some(7), ..conjugate(2.0, -3.0) });
    let next = rig.evaluates(1.0, &at(4.0));
    assert_eq!(next.direction, Some(conjugate(2.0, -3.0).coefficients));
    assert_eq!(rig.notes, [Note::MemoryFull { pairs: 7 }, Note::Restart(RestartReason::Periodic)]);
    assert_eq!(rig.restarts(), 0);
}

#[test]
fn a_search_that_fails_is_followed_by_one_along_steepest_descent() {
    let mut rig = Rig::new(|descent| descent.with_first_step(0.5));
    rig.proposes(conjugate(2.0, -3.0));
    rig.evaluates(2.0, &at(4.0));
    rig.answers([fails(SearchFailure::BudgetSpent)]);
    let next = rig.evaluates(2.5, &TRIAL);
    let failure = SearchFailure::BudgetSpent;
    assert_eq!(rig.notes, [Note::Restart(RestartReason::SearchFailed { failure })]);
    assert_eq!(rig.restarts(), 1);
    assert_eq!(next, Move { direction: Some(Coefficients::steepest()), step: 0.5, ..Move::default() });
    assert_eq!(rig.begun(), (Point { step: 0.0, value: Some(2.0), slope: Some(-4.0) }, 0.5, true));
    // The next step goes on from there.
    assert_eq!(rig.evaluates(1.0, &TRIAL).commit, Some(0.5));
    assert_eq!(rig.begun().1, 1.5 / 2.0);
}

#[test]
fn a_failure_along_steepest_descent_is_convergence_only_where_the_loss_could_not_tell() {
    // A first trial of `step` from a squared norm of 4 could gain 4 * step; the loss of 2 resolves 1.907e-6.
    let ends = |step: f64, failure: SearchFailure, loss: Option<f64>| {
        let mut rig = Rig::new(|descent| descent.with_first_step(step));
        rig.answers([fails(failure)]);
        let next = rig.evaluates(loss, &at(4.0));
        assert_eq!((next.commit, next.step), (Some(0.0), 0.0));
        assert_eq!(rig.restarts(), 0);
        (next.outcome, rig.notes.pop(), rig.descent.is_resting())
    };
    let (outcome, note, resting) = ends(4.8e-7, SearchFailure::BudgetSpent, Some(2.0));
    let reason = "the line search failed along steepest descent too: no acceptable point within the evaluations allowed \
                  for one search";
    assert_eq!((outcome, note, resting), (Outcome::HandBack { reason: reason.into() }, None, false));
    let (outcome, note, resting) = ends(4.7e-7, SearchFailure::BudgetSpent, Some(-2.0));
    let reason = "a step could gain 1.880e-6, less than the loss can resolve (1.907e-6)";
    assert_eq!((outcome, note, resting), (Outcome::Rest, Some(Note::Converged { reason: reason.into() }), true));
    // A search that says so is believed.
    let (outcome, note, _) = ends(1.0, SearchFailure::Resolution, Some(2.0));
    assert_eq!(outcome, Outcome::Rest);
    assert_eq!(note, Some(Note::Converged { reason: SearchFailure::Resolution.to_string() }));
    // Without a loss nothing says that it could not tell.
    let (outcome, ..) = ends(1e-12, SearchFailure::BudgetSpent, None);
    assert!(matches!(outcome, Outcome::HandBack { .. }));
}

/// The cost at which a phase that begins at a cost of 10 hands back, and why, if the logarithm of its loss falls by `rates` in
/// one evaluation after another.
fn hands_back(resort: SafeResort, sign: f64, rates: &[f64]) -> Option<(f64, String)> {
    let mut rig = Rig::with(Some(resort), |descent| descent);
    let (mut loss, mut cost) = (sign, 10.0);
    for rate in std::iter::once(&0.0).chain(rates) {
        loss *= f64::exp(-sign * rate);
        let evaluation = Evaluation { loss: Some(loss), products: TRIAL, cost };
        if let Outcome::HandBack { reason } = rig.descent.observe(&evaluation, &mut rig.notes).outcome {
            return Some((cost, reason));
        }
        cost += 1.0;
    }
    None
}

#[test]
fn a_phase_that_gains_too_little_over_any_stretch_is_given_up() {
    let resort = SafeResort { stall_gain: 0.1, stall_cost: 3.0 };
    // Over three units a rate of 0.035 gains 9.97 %, one of 0.036 10.2 %.
    assert_eq!(hands_back(resort, 1.0, &[0.036; 9]), None);
    assert_eq!(hands_back(resort, 1.0, &[0.035; 9]).expect("a stall").0, 13.0);
    let (cost, reason) = hands_back(resort, 1.0, &[0.1, 0.1, 0.1, 0.1, 0.0, 0.0, 0.0]).expect("a stall");
    assert_eq!(cost, 16.0);
    assert_eq!(reason, "the loss fell by 9.52 % over a cost of 3.0, less than 10.00 %");
    // A loss below zero gains by growing in size: 0.032 over three units are 10.1 %, 0.031 9.7 %.
    assert_eq!(hands_back(resort, -1.0, &[0.032; 9]), None);
    assert_eq!(hands_back(resort, -1.0, &[0.031; 9]).expect("a stall").0, 13.0);
    // A gain of exactly the share is enough.
    assert_eq!(hands_back(SafeResort { stall_gain: 0.0, ..resort }, 1.0, &[0.0; 9]), None);
    // A loss that stays where it is has fallen by nothing.
    let (_, reason) = hands_back(resort, 1.0, &[0.0; 9]).expect("a stall");
    assert_eq!(reason, "the loss fell by 0.00 % over a cost of 3.0, less than 10.00 %");
}

#[test]
fn a_loss_of_zero_is_convergence() {
    let rig = || Rig::with(Some(SafeResort { stall_gain: 0.1, stall_cost: 3.0 }), |descent| descent);
    let ends = |rig: &mut Rig, cost: f64, loss: f64| {
        let evaluation = Evaluation { loss: Some(loss), products: TRIAL, cost };
        rig.descent.observe(&evaluation, &mut rig.notes).outcome
    };
    let mut stays = rig();
    let outcomes = [(0.0, 1.0), (2.0, 0.0), (3.0, 0.0)].map(|(cost, loss)| ends(&mut stays, cost, loss));
    assert_eq!(outcomes, [Outcome::Continue, Outcome::Continue, Outcome::Rest]);
    assert!(stays.descent.is_resting());
    assert_eq!(stays.notes.last(), Some(&Note::Converged { reason: "the loss is 0 at two accepted points".into() }));

    let mut passes = rig();
    let losses = [(0.0, 1.0), (1.0, 0.0), (2.0, -1.0), (3.0, -2.0)];
    assert!(losses.iter().all(|(cost, loss)| ends(&mut passes, *cost, *loss) == Outcome::Continue));

    // And where no search leads on from it.
    let mut rig = Rig::new(|descent| descent.with_first_step(1.0));
    rig.evaluates(0.0, &at(4.0));
    rig.answers([fails(SearchFailure::BudgetSpent)]);
    assert_eq!(rig.evaluates(1.0, &TRIAL).outcome, Outcome::Rest);
    let reason = format!("the loss is 0, and {}", SearchFailure::BudgetSpent);
    assert_eq!(rig.notes.last(), Some(&Note::Converged { reason }));
}

/// The moves behind evaluations at these costs with these losses, in a phase whose metric was made at a cost of 10 and lasts for 4.
fn renews(resort: Option<SafeResort>, points: &[(f64, f64)]) -> (Rig, Vec<Move>) {
    let mut rig = Rig::with(resort, |descent| descent.with_first_step(0.25).with_renewal(Some(4.0)));
    rig.descent.metric_made(10.0);
    let moves = points.iter().map(|(cost, loss)| {
        let evaluation = Evaluation { loss: Some(*loss), products: TRIAL, cost: *cost };
        rig.descent.observe(&evaluation, &mut rig.notes)
    });
    let moves = moves.collect();
    (rig, moves)
}

#[test]
fn an_old_metric_is_made_anew_where_a_search_ends() {
    let (mut rig, moves) = renews(None, &[(10.0, 8.0), (13.0, 7.0), (14.5, 6.0)]);
    assert_eq!(moves[1].outcome, Outcome::Continue);
    assert_eq!(moves[2], Move { commit: Some(moves[1].step), outcome: Outcome::Renew, ..Move::default() });
    assert_eq!(rig.notes.last(), Some(&Note::Restart(RestartReason::Renewal { cost: 4.5 })));
    assert_eq!((rig.restarts(), rig.descent.base_value()), (1, Some(6.0)));
    // Batch gradients are gathered once more, and nothing is searched.
    assert!(rig.descent.makes_metric() && rig.descent.may_start(true) && !rig.descent.is_searching());
    rig.direction.0.lock().expect("no panic").batches = 3;
    assert_eq!(rig.descent.batch_gradients(), 3);

    // The first trial is one of the new metric, and it is as young as that, though none was made.
    rig.descent = rig.descent.with_first_step(0.125);
    let evaluation = Evaluation { loss: Some(6.0), products: at(2.0), cost: 15.5 };
    let next = rig.descent.observe(&evaluation, &mut rig.notes);
    let steepest = Some(Coefficients::steepest());
    assert_eq!(next, Move { commit: Some(0.0), direction: steepest, step: 0.125, ..Move::default() });
    assert_eq!(rig.step(), 0.0.into());
    let evaluation = |cost| Evaluation { loss: Some(5.0), products: TRIAL, cost };
    assert_eq!(rig.descent.observe(&evaluation(19.0), &mut rig.notes).outcome, Outcome::Continue);
    assert_eq!(rig.descent.observe(&evaluation(19.5), &mut rig.notes).outcome, Outcome::Renew);
}

#[test]
fn a_stall_and_a_point_that_is_not_finite_any_more_hand_back_at_a_renewal_too() {
    let resort = SafeResort { stall_gain: 0.1, stall_cost: 4.0 };
    let (_, moves) = renews(Some(resort), &[(10.0, 8.0), (12.0, 7.9), (14.0, 7.8)]);
    let Outcome::HandBack { reason } = &moves[2].outcome else { panic!("{moves:?}") };
    assert_eq!(reason, "the loss fell by 2.50 % over a cost of 4.0, less than 10.00 %");
    assert!(moves[2].commit.is_some());
    // It is looked for where the search ends, and not again at the same point.
    let (_, moves) = renews(Some(resort), &[(10.0, 8.0), (13.0, 6.2), (14.0, 6.0), (17.5, 6.0)]);
    assert_eq!(moves[2].outcome, Outcome::Renew);
    assert_eq!(moves[3].outcome, Outcome::Continue);
    let (_, moves) = renews(Some(resort), &[(10.0, 8.0), (12.0, 7.0), (14.0, 6.0), (15.0, f64::NAN)]);
    assert_eq!(moves[2].outcome, Outcome::Renew);
    assert_eq!((moves[3].commit, moves[3].step), (None, 0.0));
    assert!(matches!(moves[3].outcome, Outcome::HandBack { .. }), "{moves:?}");
}

#[test]
fn a_renewal_goes_on_from_a_record() {
    let (rig, _) = renews(None, &[(10.0, 8.0), (14.0, 6.0)]);
    assert!(rig.descent.makes_metric());
    let mut other = Rig::new(|descent| descent);
    other.descent.restore(rig.descent.state()).expect("its own state");
    assert!(other.descent.makes_metric());
    assert_eq!(other.descent.base_value(), Some(6.0));
    let next = other.evaluates(6.0, &at(2.0));
    assert_eq!((next.commit, next.step), (Some(0.0), 0.25));
}
