//! The engine of the convex phase: one state machine for Learner, own loop and tests, on scalars.
//!
//! Its owner evaluates the objective where it is told, hands in loss and inner products, and carries out the [`Move`]
//! that comes back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::direction::{Coefficients, Direction, MemoryLimit, Products, Proposal, Step};
use super::line_search::{Decision, LineSearch, Point, SearchFailure};
use crate::error::StateError;

/// The objective at the point where the parameters stood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Mean loss, where somebody shows it.
    pub loss: Option<f64>,
    /// Inner products at this point; before the first direction only `gg` is used.
    pub products: Products,
    /// Cost spent so far, in gradient passes over the training set.
    pub cost: f64,
}

/// What is done with the vectors after an evaluation, in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The point just evaluated becomes the base point, reached by this step length; 0 for the very first, and where it was that
    /// already.
    pub commit: Option<f64>,
    /// The new direction.
    pub direction: Option<Coefficients>,
    /// The new direction is the way to the running average of the inner optimizer's iterates.
    pub to_average: bool,
    /// Go to `base + step * direction`; 0 is the base point itself.
    pub step: f64,
    /// Whether the convex phase goes on after this move.
    pub outcome: Outcome,
}

/// Whether the convex phase goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Evaluate at the new point.
    #[default]
    Continue,
    /// Evaluate once more at the base point, for a new metric: directions and gradients of the old one mean nothing in it.
    Renew,
    /// Converged: the parameters stay at the base point.
    Rest,
    /// Back to the inner optimizer, from the base point.
    HandBack {
        /// Why, in words, with numbers.
        reason: String,
    },
}

/// Why the search went back to steepest descent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RestartReason {
    /// The proposed direction did not descend or was not a finite number.
    #[error("the direction does not descend")]
    NonDescent,
    /// Successive gradients were far from orthogonal (Powell 1977).
    #[error("successive gradients overlap by {overlap:.3} (limit {limit})")]
    Powell {
        /// `|g'g_old| / g'g`.
        overlap: f64,
        /// The configured limit.
        limit: f64,
    },
    /// The configured number of iterations is over.
    #[error("the configured number of iterations is over")]
    Periodic,
    /// The metric is made anew.
    #[error("the metric is made anew, after a cost of {cost:.1}")]
    Renewal {
        /// Cost since it was made.
        cost: f64,
    },
    /// The line search failed.
    #[error("the line search failed: {failure}")]
    SearchFailed {
        /// How.
        failure: SearchFailure,
    },
}

/// Something worth telling that happened within the phase.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// A line search accepted a point: one iteration is complete.
    Iteration {
        /// The accepted step length.
        step: f64,
        /// The norm of the accepted step in the metric's coordinates.
        displacement: f64,
    },
    /// Back to steepest descent.
    Restart(RestartReason),
    /// The objective or its gradient was not finite at a trial point.
    NonFinite {
        /// The step length of that trial.
        step: f64,
    },
    /// The losses at the inner optimizer's last point and at the running average of its iterates; the descent starts at the
    /// better of the two.
    Start {
        /// At the last point.
        last: f64,
        /// At the running average.
        average: f64,
    },
    /// No more pairs fit into the bytes allowed: from now on the oldest is dropped for every new one.
    MemoryFull {
        /// Pairs kept.
        pairs: usize,
    },
    /// Two evaluations at the point of the swap differed: the objective is noisy.
    Noise {
        /// The difference of the two losses.
        loss: f64,
        /// The difference of the two gradients' squared norms, relative to the first.
        gradient: f64,
    },
    /// Nothing is left to gain: the gradient or the loss is zero, or the number format cannot resolve the loss along the line.
    Converged {
        /// Which of them, in words, with numbers.
        reason: String,
    },
}

/// When the convex phase gives up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SafeResort {
    /// Hand back when the loss fell by less than this fraction ...
    pub stall_gain: f64,
    /// ... over this cost.
    pub stall_cost: f64,
}

/// What is known at the base point.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Base {
    value: Option<f64>,
    gg: f64,
    /// `g'd` of the current direction there.
    slope: f64,
    /// `d'd` of a direction without stored rows.
    squared_length: f64,
    /// Whether the current direction is steepest descent.
    steepest: bool,
}

impl Base {
    /// At the point evaluated, with steepest descent.
    fn along_gradient(evaluation: &Evaluation) -> Self {
        let (value, gg) = (evaluation.loss, evaluation.products.gg);
        Self { value, gg, slope: -gg, squared_length: gg, steepest: true }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum Stage {
    /// Nothing evaluated yet.
    #[default]
    Entering,
    /// Evaluated once at this step, with this value and `g'g`: once more to measure the noise.
    Checking(f64, Option<f64>, f64),
    /// The last point is known by its value and `g'g`, the running average is being evaluated.
    Comparing(Option<f64>, f64),
    /// The running average was worse: back at the last point, of which value and `g'g` are known, from there.
    Returning(Option<f64>, f64),
    /// At the base point, for a new metric.
    Renewing,
    /// The search asked for this step.
    Searching(f64),
    /// The search accepted this step, which was not the last it evaluated: one more evaluation there.
    Settling(f64),
    /// Converged.
    Resting,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    stage: Stage,
    base: Option<Base>,
    last: Option<LastSearch>,
    /// How far two losses at one point differ.
    noise: f64,
    /// `(cost, value)` at accepted points, thinned to what the stall rule needs.
    marks: Vec<(f64, f64)>,
    /// The cost at which the metric was made of gradients, where it was.
    made: Option<f64>,
}

/// What an accepted search leaves for the next one's first trial.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LastSearch {
    /// Step length times slope: the first-order change.
    change: f64,
    /// The Euclidean length of the step.
    displacement: f64,
    /// Curvature along the step per unit length, `s'y / s's`.
    curvature: f64,
}

/// Descent by line searches along directions.
#[derive(Debug)]
pub struct Descent {
    direction: Box<dyn Direction>,
    search: Box<dyn LineSearch>,
    resort: Option<SafeResort>,
    first_step: FirstStep,
    check: bool,
    average: bool,
    renewal: Option<f64>,
    state: State,
}

/// How far the very first trial goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum FirstStep {
    /// A step of this Euclidean length.
    Length(f64),
    /// This step length along the direction.
    Step(f64),
}

/// A search may end on rounding when what it could gain is below this many units in the last place of an f32 loss.
const RESOLUTION: f64 = 8.0 * f32::EPSILON as f64;

impl Descent {
    /// A descent that has not evaluated anything yet. Without a [`SafeResort`] it never hands back for slow progress.
    pub fn new(direction: Box<dyn Direction>, search: Box<dyn LineSearch>, resort: Option<SafeResort>) -> Self {
        Self {
            direction,
            search,
            resort,
            first_step: FirstStep::Length(0.0),
            check: false,
            average: false,
            renewal: None,
            state: State::default(),
        }
    }

    /// Set the Euclidean length of the first trial step; 0, the default, takes `2 |f| / |g|^2`, the minimiser of the
    /// parabola along the gradient that ends at zero, or a length of 0.01 where no loss is known.
    pub fn with_first_length(mut self, length: f64) -> Self {
        self.first_step = FirstStep::Length(length);
        self
    }

    /// Set the step length of the first trial itself.
    pub fn with_first_step(mut self, step: f64) -> Self {
        self.first_step = FirstStep::Step(step);
        self
    }

    /// Evaluate twice at the first point, report a difference as [`Note::Noise`] and widen the search's tolerance by it.
    pub fn with_check(mut self, check: bool) -> Self {
        self.check = check;
        self
    }

    /// Start at the running average of the inner optimizer's iterates where its loss is the lower one.
    pub fn with_average(mut self, average: bool) -> Self {
        self.average = average;
        self
    }

    /// Have a metric made of gradients made anew where it is so old in cost; never by default.
    pub fn with_renewal(mut self, cost: Option<f64>) -> Self {
        self.renewal = cost;
        self
    }

    /// The metric is made of the gradients of the evaluation that ends, at this cost.
    pub fn metric_made(&mut self, cost: f64) {
        self.state.made = Some(cost);
    }

    /// Tell the direction how many bytes a pair `(s, y)` takes over all tensors.
    ///
    /// # Errors
    ///
    /// [`MemoryLimit`] where it would need more than it is allowed.
    pub fn fit(&mut self, pair_bytes: u64) -> Result<(), MemoryLimit> {
        self.direction.fit(pair_bytes)
    }

    /// The step length at which the objective is wanted next; 0 at the base point.
    pub fn step(&self) -> f64 {
        match self.state.stage {
            Stage::Searching(step) | Stage::Settling(step) | Stage::Checking(step, ..) => step,
            Stage::Comparing(..) | Stage::Returning(..) => 1.0,
            Stage::Entering | Stage::Renewing | Stage::Resting => 0.0,
        }
    }

    /// Whether the way is back from a running average that was worse: the point to be shown is the one ahead.
    pub fn is_returning(&self) -> bool {
        matches!(self.state.stage, Stage::Returning(..))
    }

    /// Whether a metric may be made of the evaluation under way: of the first, or of one for that alone.
    pub fn makes_metric(&self) -> bool {
        self.is_renewing() || matches!(self.state.stage, Stage::Entering)
    }

    /// Whether the evaluation under way is one for a new metric alone.
    pub fn is_renewing(&self) -> bool {
        matches!(self.state.stage, Stage::Renewing)
    }

    /// Whether the descent has converged and moves no more.
    pub fn is_resting(&self) -> bool {
        matches!(self.state.stage, Stage::Resting)
    }

    /// Whether the next evaluation is one of a line search, and not of the phase's start.
    pub fn is_searching(&self) -> bool {
        matches!(self.state.stage, Stage::Searching(_) | Stage::Settling(_))
    }

    /// Whether the descent may start to search behind the evaluation under way, of which a loss is known or not.
    pub fn may_start(&self, loss: bool) -> bool {
        match self.state.stage {
            Stage::Entering => !(self.check || self.average && loss),
            Stage::Comparing(..) => !self.check,
            Stage::Checking(..) | Stage::Returning(..) | Stage::Renewing => true,
            Stage::Searching(_) | Stage::Settling(_) | Stage::Resting => false,
        }
    }

    /// How many batch gradients the direction wants of the evaluations up to the one under way; none where the search has begun.
    pub fn batch_gradients(&self) -> usize {
        match self.is_searching() || self.is_resting() {
            true => 0,
            false => self.direction.batch_gradients(),
        }
    }

    /// Batch gradients are kept: their inner products with each other.
    pub fn set_batch_gradients(&mut self, gram: &[Vec<f64>]) {
        self.direction.set_batch_gradients(gram);
    }

    /// The loss at the accepted point.
    pub fn base_value(&self) -> Option<f64> {
        match self.state.stage {
            Stage::Returning(loss, _) => loss,
            _ => self.state.base.as_ref().and_then(|base| base.value),
        }
    }

    /// Take in an evaluation at [`step`](Self::step) and decide what the tensors do.
    pub fn observe(&mut self, evaluation: &Evaluation, notes: &mut Vec<Note>) -> Move {
        let finite = evaluation.products.is_finite() && evaluation.loss.is_none_or(f64::is_finite);
        let step = self.step();
        if !finite {
            notes.push(Note::NonFinite { step });
        }
        match self.state.stage {
            Stage::Resting => Move { outcome: Outcome::Rest, ..Move::default() },
            Stage::Entering if !finite => {
                self.hand_back("the objective or its gradient is not finite at the point of the swap".into())
            }
            Stage::Entering => self.enter(evaluation, notes),
            Stage::Comparing(loss, gg) => self.compare((loss, gg), evaluation, notes),
            Stage::Checking(..) | Stage::Returning(..) | Stage::Renewing if !finite => {
                self.hand_back("the objective is not finite when evaluated again".into())
            }
            Stage::Checking(step, loss, gg) => {
                self.measure_noise((loss, gg), evaluation, notes);
                self.stand(evaluation, step, notes)
            }
            Stage::Returning(loss, gg) => {
                if self.check {
                    self.measure_noise((loss, gg), evaluation, notes);
                }
                self.stand(evaluation, 1.0, notes)
            }
            Stage::Renewing => {
                // Also where it could not be made: at the next point it could not either.
                self.state.made = Some(evaluation.cost);
                self.stand(evaluation, 0.0, notes)
            }
            Stage::Settling(_) if !finite => self.fail(SearchFailure::NonFinite, notes),
            Stage::Settling(step) => self.commit(evaluation, step, notes),
            Stage::Searching(step) => {
                // A trial that is not finite in any product is no point to stand on, whatever its slope.
                let slope = if finite { evaluation.products.gd } else { f64::NAN };
                let decision = self.search.observe(Point { step, value: evaluation.loss, slope: Some(slope) });
                match decision {
                    Decision::Accept(accepted) if accepted == step => self.commit(evaluation, step, notes),
                    other => self.follow(other, notes),
                }
            }
        }
    }

    /// Whether the search needs the gradient at [`step`](Self::step); else [`observe_value`](Self::observe_value) is
    /// enough.
    pub fn wants_gradient(&self) -> bool {
        self.search.needs_slope() || !matches!(self.state.stage, Stage::Searching(_))
    }

    /// Take in the objective's value alone at a trial point of a search that needs no more.
    pub fn observe_value(&mut self, value: f64, notes: &mut Vec<Note>) -> Move {
        let step = self.step();
        if self.wants_gradient() {
            return self.go(step);
        }
        if !value.is_finite() {
            notes.push(Note::NonFinite { step });
        }
        let decision = self.search.observe(Point { step, value: Some(value), slope: None });
        self.follow(decision, notes)
    }

    /// Go where the search wants to, or evaluate with gradient what it accepted without.
    fn follow(&mut self, decision: Decision, notes: &mut Vec<Note>) -> Move {
        let (stage, step) = match decision {
            Decision::Accept(step) => (Stage::Settling(step), step),
            Decision::Evaluate(step) => (Stage::Searching(step), step),
            Decision::Fail(failure) => return self.fail(failure, notes),
        };
        self.state.stage = stage;
        self.go(step)
    }

    /// Differences beyond rounding between two evaluations at one point.
    fn measure_noise(&mut self, (loss, gg): (Option<f64>, f64), again: &Evaluation, notes: &mut Vec<Note>) {
        let noise = loss.zip(again.loss).map_or(0.0, |(before, after)| (after - before).abs());
        let gradient = (again.products.gg - gg).abs() / gg;
        if noise > RESOLUTION * loss.unwrap_or(0.0).abs() || gradient > 1e-3 {
            self.search.set_noise(noise);
            self.state.noise = noise;
            notes.push(Note::Noise { loss: noise, gradient });
        }
    }

    /// The last point is known: have the running average evaluated, or start here.
    fn enter(&mut self, evaluation: &Evaluation, notes: &mut Vec<Note>) -> Move {
        let (loss, gg) = (evaluation.loss, evaluation.products.gg);
        if !self.average || loss.is_none() || gg == 0.0 {
            return self.check(evaluation, 0.0, notes);
        }
        self.state.base = Some(Base::along_gradient(evaluation));
        self.state.stage = Stage::Comparing(loss, gg);
        Move { commit: Some(0.0), to_average: true, step: 1.0, ..Move::default() }
    }

    /// Start at the better of the last point and the running average just evaluated. Either way leads along the line
    /// between the two, so that a quasi-Newton method begins with a pair, which knows the scale of the valley.
    fn compare(&mut self, (last, gg): (Option<f64>, f64), evaluation: &Evaluation, notes: &mut Vec<Note>) -> Move {
        let (last_loss, average) = (last.unwrap_or(f64::NAN), evaluation.loss.unwrap_or(f64::NAN));
        notes.push(Note::Start { last: last_loss, average });
        if !(average.is_finite() && evaluation.products.is_finite()) {
            if self.check {
                self.state.stage = Stage::Checking(0.0, last, gg);
                return self.go(0.0);
            }
            let mut next = self.search(None, notes);
            next.direction.get_or_insert(Coefficients::steepest());
            return next;
        }
        if average < last_loss {
            return self.check(evaluation, 1.0, notes);
        }
        self.state.base = self.state.base.take().map(|base| Base { value: evaluation.loss, ..base });
        self.state.stage = Stage::Returning(last, gg);
        let back = Coefficients { direction: -1.0, ..Coefficients::default() };
        Move { commit: Some(1.0), direction: Some(back), step: 1.0, ..Move::default() }
    }

    /// Evaluate once more at this point, where that is wanted, and start there.
    fn check(&mut self, evaluation: &Evaluation, step: f64, notes: &mut Vec<Note>) -> Move {
        if !self.check {
            return self.stand(evaluation, step, notes);
        }
        self.state.stage = Stage::Checking(step, evaluation.loss, evaluation.products.gg);
        self.go(step)
    }

    fn go(&self, step: f64) -> Move {
        Move { step, ..Move::default() }
    }

    /// The move that goes back to the accepted point, whatever was under way: on the way back from a running average that was worse,
    /// the point ahead is it.
    pub fn leave(&self) -> Move {
        Move { commit: self.is_returning().then(|| self.step()), ..Move::default() }
    }

    fn hand_back(&mut self, reason: String) -> Move {
        Move { outcome: Outcome::HandBack { reason }, ..self.leave() }
    }

    fn rest(&mut self, reason: String, notes: &mut Vec<Note>) -> Move {
        notes.push(Note::Converged { reason });
        self.state.stage = Stage::Resting;
        Move { outcome: Outcome::Rest, ..Move::default() }
    }

    /// Make the evaluated point the base point and start along the next direction. Where the loss was 0 before and is again, the
    /// descent has converged: of losses above 0, as nearly all are, there is none that is less.
    fn commit(&mut self, evaluation: &Evaluation, step: f64, notes: &mut Vec<Note>) -> Move {
        let products = &evaluation.products;
        let before = self.state.base.as_ref().and_then(|base| base.value);
        if let Some(base) = self.state.base.as_ref().filter(|_| step > 0.0) {
            let displacement = step * products.dd.sqrt();
            self.state.last = Some(LastSearch {
                change: step * base.slope,
                displacement,
                curvature: products.yd / (step * products.dd),
            });
            notes.push(Note::Iteration { step, displacement });
        }
        if [before, evaluation.loss] == [Some(0.0); 2] {
            self.state.base = Some(Base::along_gradient(evaluation));
            let end = self.rest("the loss is 0 at two accepted points".into(), notes);
            return Move { commit: Some(step), ..end };
        }
        let age = self.state.made.map(|made| evaluation.cost - made);
        match age.filter(|age| self.renewal.is_some_and(|renewal| *age >= renewal) && products.gg > 0.0) {
            Some(age) => self.renew(evaluation, step, age, notes),
            None => self.stand(evaluation, step, notes),
        }
    }

    /// Make the evaluated point the base point, and have it evaluated once more for a new metric.
    fn renew(&mut self, evaluation: &Evaluation, step: f64, cost: f64, notes: &mut Vec<Note>) -> Move {
        self.state.base = Some(Base::along_gradient(evaluation));
        if let Some(end) = self.stalled(evaluation) {
            return Move { commit: Some(step), ..end };
        }
        // Of lengths in the old metric nothing follows in the new one.
        self.state.last = None;
        self.direction.restart();
        self.direction.set_batch_gradients(&[]);
        notes.push(Note::Restart(RestartReason::Renewal { cost }));
        self.state.stage = Stage::Renewing;
        Move { commit: Some(step), outcome: Outcome::Renew, ..Move::default() }
    }

    /// Make the evaluated point the base point and start along the next direction, with no search behind it.
    fn stand(&mut self, evaluation: &Evaluation, step: f64, notes: &mut Vec<Note>) -> Move {
        let products = &evaluation.products;
        let mut proposal = self.direction.next(products, self.taken(step, evaluation.loss));
        if !(proposal.slope < 0.0 && proposal.slope.is_finite()) && products.gg > 0.0 {
            self.direction.restart();
            proposal = Proposal::steepest(products.gg, Some(RestartReason::NonDescent));
        }
        let steepest = proposal.coefficients == Coefficients::steepest();
        let Coefficients { gradient, direction, .. } = proposal.coefficients;
        let squared_length = gradient * gradient * products.gg
            + 2.0 * gradient * direction * products.gd
            + direction * direction * products.dd;
        notes.extend(proposal.dropped.map(|pairs| Note::MemoryFull { pairs }));
        if let Some(reason) = proposal.restart.clone() {
            notes.push(Note::Restart(reason));
        }
        self.state.base =
            Some(Base { value: evaluation.loss, gg: products.gg, slope: proposal.slope, squared_length, steepest });
        // At a renewal it was looked for at the point before, which is this one.
        let mut next = if products.gg == 0.0 {
            self.rest("the gradient is zero".into(), notes)
        } else if let Some(end) = if self.is_renewing() { None } else { self.stalled(evaluation) } {
            end
        } else {
            self.search(proposal.step, notes)
        };
        next.commit = Some(step);
        // A direction that failed at once has been replaced by steepest descent, from the same gradient.
        next.direction.get_or_insert(proposal.coefficients);
        next
    }

    /// A step from the base point to where the loss is this one.
    fn taken(&self, step: f64, loss: Option<f64>) -> Step {
        // Of the base itself, also where `base_value` tells of the point ahead.
        let before = self.state.base.as_ref().and_then(|base| base.value);
        let Some((before, after)) = before.filter(|_| step > 0.0).zip(loss) else {
            return step.into();
        };
        let error = RESOLUTION * before.abs() + self.state.noise;
        Step { length: step, decrease: Some(before - after), error }
    }

    /// Begin a search from the base point along the current direction.
    fn search(&mut self, own_step: Option<f64>, notes: &mut Vec<Note>) -> Move {
        let Some(base) = self.state.base.clone() else {
            return Move::default();
        };
        let origin = Point { step: 0.0, value: base.value, slope: Some(base.slope) };
        let decision = match own_step {
            Some(step) => self.search.begin(origin, step),
            None => self.search.begin_with_guess(origin, self.initial_step(&base)),
        };
        self.follow(decision, notes)
    }

    /// First trial step: the geometric mean of two estimates that err independently, the step of the last first-order
    /// change (Nocedal and Wright 2006, section 3.5) and the minimiser under the last step's curvature. At first and after
    /// a restart, where the slope jumps, a length is kept instead.
    fn initial_step(&self, base: &Base) -> f64 {
        let step = match (self.state.last, self.first_step) {
            (Some(last), _) if !base.steepest => {
                let by_change = last.change / base.slope;
                let by_curvature = -base.slope / (last.curvature * base.squared_length);
                Some((by_change * by_curvature).sqrt()).filter(|step| step.is_finite()).unwrap_or(by_change)
            }
            (Some(last), _) => last.displacement / base.gg.sqrt(),
            (_, FirstStep::Step(step)) => step,
            (_, FirstStep::Length(length)) if length > 0.0 => length / base.gg.sqrt(),
            _ => match base.value {
                Some(value) if value != 0.0 => 2.0 * value.abs() / base.gg,
                _ => 0.01 / base.gg.sqrt(),
            },
        };
        if step.is_finite() && step > 0.0 { step } else { 1.0 }
    }

    /// The search failed and the parameters go back to the base point: steepest descent, then converged or hand back.
    fn fail(&mut self, failure: SearchFailure, notes: &mut Vec<Note>) -> Move {
        let Some(base) = self.state.base.as_mut() else {
            return self.hand_back(failure.to_string());
        };
        if !base.steepest {
            notes.push(Note::Restart(RestartReason::SearchFailed { failure }));
            base.steepest = true;
            base.slope = -base.gg;
            base.squared_length = base.gg;
            self.direction.restart();
            let mut next = self.search(None, notes);
            next.direction.get_or_insert(Coefficients::steepest());
            return next;
        }
        let base = base.clone();
        let first_order = self.initial_step(&base) * base.gg;
        let resolution = self.base_value().map(|value| RESOLUTION * value.abs());
        match resolution {
            _ if failure == SearchFailure::Resolution => self.rest(failure.to_string(), notes),
            Some(0.0) => self.rest(format!("the loss is 0, and {failure}"), notes),
            Some(resolution) if first_order <= resolution => self.rest(
                format!("a step could gain {first_order:.3e}, less than the loss can resolve ({resolution:.3e})"),
                notes,
            ),
            _ => self.hand_back(format!("the line search failed along steepest descent too: {failure}")),
        }
    }

    /// The stall rule: too little gained over the configured cost.
    fn stalled(&mut self, evaluation: &Evaluation) -> Option<Move> {
        let (SafeResort { stall_gain, stall_cost }, value) = (self.resort?, evaluation.loss?);
        let marks = &mut self.state.marks;
        marks.push((evaluation.cost, value));
        let due = marks.iter().rposition(|(cost, _)| *cost <= evaluation.cost - stall_cost)?;
        marks.drain(..due);
        let (cost, before) = marks[0];
        let (gain, over) = (before - value, evaluation.cost - cost);
        (gain < stall_gain * before.abs()).then(|| {
            self.hand_back(format!(
                "the loss fell by {:.2} % over a cost of {over:.1}, less than {:.2} %",
                100.0 * gain / before.abs().max(f64::MIN_POSITIVE),
                100.0 * stall_gain
            ))
        })
    }

    /// Everything needed to go on, for the optimizer's record.
    pub fn state(&self) -> Value {
        serde_json::json!({
            "descent": self.state,
            "first_step": self.first_step,
            "direction": self.direction.state(),
            "line_search": self.search.state(),
        })
    }

    /// Continue from [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// [`StateError`] naming the part whose state does not fit.
    pub fn restore(&mut self, mut state: Value) -> Result<(), StateError> {
        self.state = StateError::read("the descent", state["descent"].take())?;
        self.first_step = StateError::read("the descent", state["first_step"].take())?;
        self.direction.restore(state["direction"].take())?;
        self.search.restore(state["line_search"].take())
    }
}

#[cfg(test)]
mod tests;
