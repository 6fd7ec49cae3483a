//! What the line searches share: a search in flight as the list of its trials, replayed at every decision.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::{Decision, Point, SearchFailure};

/// Trials on the way back that show nothing new, after which a search ends.
const REPEATS: usize = 3;

/// The middle of an interval.
pub(super) fn midpoint(a: f64, b: f64) -> f64 {
    a + 0.5 * (b - a)
}

/// One search in flight, the same for every method: what was asked so far and what came back.
///
/// A decision runs the method from the start over the recorded trials until it asks for one that is missing. So a method
/// is written like its formulas, and its saved state is the list of its trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    origin: Point,
    initial_step: f64,
    /// Whether the first step is only a guess at the scale.
    #[serde(default)]
    guessed: bool,
    trials: Vec<Point>,
}

impl Line {
    pub(super) fn new(origin: Point, initial_step: f64) -> Self {
        let usable = initial_step.is_finite() && initial_step > 0.0;
        Self { origin, initial_step: if usable { initial_step } else { 1.0 }, guessed: false, trials: Vec::new() }
    }

    /// A line whose first step is only a guess at the scale.
    pub(super) fn guessed(origin: Point, guess: f64) -> Self {
        Self { guessed: true, ..Self::new(origin, guess) }
    }

    /// The line with one more trial. One that is not finite is kept without its numbers, which JSON could not hold.
    pub(super) fn with(mut self, point: Point) -> Self {
        self.trials.push(if point.is_finite() { point } else { Point { step: point.step, value: None, slope: None } });
        self
    }

    /// How many trials, shorter than one before, have value and slope of the base point or of a trial before, to the last digit: the
    /// same parameters, to which steps too near to each other are rounded. A slope of 0 may be that of a plateau.
    fn repeats(&self) -> usize {
        let alike = |a: &Point, b: &Point| (a.value, a.slope) == (b.value, b.slope);
        let repeats = |(at, trial): &(usize, &Point)| {
            let before = &self.trials[..*at];
            let known = trial.value.is_some() && trial.slope.is_some_and(|slope| slope != 0.0);
            let shorter = before.iter().any(|earlier| earlier.step > trial.step);
            known && shorter && (alike(&self.origin, trial) || before.iter().any(|earlier| alike(earlier, trial)))
        };
        self.trials.iter().enumerate().filter(repeats).count()
    }

    /// Run `method` on the trials of the line; a line whose search has ended is dropped. `budget` and `decrease` are
    /// those of [`Replay`].
    pub(super) fn decide(
        flight: &mut Option<Self>,
        budget: u32,
        decrease: f64,
        method: impl FnOnce(Replay) -> Result<Infallible, Decision>,
    ) -> Decision {
        let Some(line) = flight else {
            return Decision::Fail(SearchFailure::NotDescent);
        };
        let Err(decision) = method(Replay { line, budget, decrease, next: 0 });
        if !matches!(decision, Decision::Evaluate(_)) {
            *flight = None;
        }
        decision
    }
}

/// A method's view of its line: it asks for steps as if it could call the function.
pub(super) struct Replay<'a> {
    line: &'a Line,
    /// Evaluations allowed.
    budget: u32,
    /// Share of the decrease promised by the slope that a point must reach to be taken when the search gives up.
    decrease: f64,
    /// Trials asked for so far.
    next: usize,
}

impl Replay<'_> {
    pub(super) fn initial_step(&self) -> f64 {
        self.line.initial_step
    }

    /// Whether the trial asked for last was the first one, and a guess.
    pub(super) fn is_guess(&self) -> bool {
        self.line.guessed && self.next == 1
    }

    /// `phi'(0)`, which must be negative.
    pub(super) fn base_slope(&self) -> Result<f64, Decision> {
        let slope = self.line.origin.slope.filter(|slope| slope.is_finite() && *slope < 0.0);
        slope.ok_or(Decision::Fail(SearchFailure::NotDescent))
    }

    /// That `phi'(0)` is negative where it is known.
    pub(super) fn base_slope_if_known(&self) -> Result<(), Decision> {
        self.line.origin.slope.map_or(Ok(()), |_| self.base_slope().map(drop))
    }

    /// `phi(0)` where it is known; then it must be finite.
    pub(super) fn base_value(&self) -> Result<Option<f64>, Decision> {
        let value = self.line.origin.value;
        if value.is_none_or(f64::is_finite) {
            return Ok(value);
        }
        Err(Decision::Fail(SearchFailure::NonFinite))
    }

    /// What is known at `step`, or the decision that ends or suspends the search here. A step that was evaluated before
    /// (or is no number any more) shows that the bracket has shrunk to neighbouring numbers, and so do trials that repeat others.
    pub(super) fn at(&mut self, step: f64) -> Result<Point, Decision> {
        let line = self.line;
        if let Some(trial) = line.trials.get(self.next) {
            self.next += 1;
            return Ok(Point { step, ..*trial });
        }
        let new = line.trials.iter().all(|trial| trial.step != step);
        if !(new && step.is_finite() && step > 0.0) || line.repeats() >= REPEATS {
            return Err(self.give_up(SearchFailure::Resolution));
        }
        if line.trials.len() >= self.budget as usize {
            return Err(self.give_up(SearchFailure::BudgetSpent));
        }
        Err(Decision::Evaluate(step))
    }

    /// The lowest evaluated point with `phi(t) < phi(0)` and `phi(t) - phi(0) <= decrease t phi'(0)`, else the failure.
    pub(super) fn give_up(&self, failure: SearchFailure) -> Decision {
        let Line { origin, trials, .. } = self.line;
        let promised = self.decrease * origin.slope.unwrap_or(0.0);
        let rise = |trial: &Point| Some((trial.step, trial.value? - origin.value?));
        let lowest = trials
            .iter()
            .filter_map(rise)
            .filter(|(step, rise)| *rise < 0.0 && *rise <= promised * step)
            .min_by(|a, b| a.1.total_cmp(&b.1));
        match lowest {
            Some((step, _)) => Decision::Accept(step),
            None if trials.iter().all(|trial| trial.value.or(trial.slope).is_none()) => {
                Decision::Fail(SearchFailure::NonFinite)
            }
            None => Decision::Fail(failure),
        }
    }
}
