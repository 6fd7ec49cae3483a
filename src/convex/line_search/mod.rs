//! Line searches by reverse communication: a search says where it wants to know the function next, its owner says what
//! was found there. No search holds a tensor or calls a function, so each is tested on formulas in f64.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::StateError;

/// What is known of the function `phi(t) = f(x + t d)` at one step length `t`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Step length `t` along the direction; 0 is the base point.
    pub step: f64,
    /// `phi(t)`, the objective; `None` where nobody shows the optimizer a loss.
    pub value: Option<f64>,
    /// `phi'(t)`, the directional derivative `g(x + t d)'d`; `None` for a forward-only evaluation.
    pub slope: Option<f64>,
}

impl Point {
    /// Whether everything known at this point is a finite number.
    pub fn is_finite(&self) -> bool {
        self.value.is_none_or(f64::is_finite) && self.slope.is_none_or(f64::is_finite)
    }
}

/// What a line search wants next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Decision {
    /// Evaluate the function at this step length and call [`LineSearch::observe`].
    Evaluate(f64),
    /// The search ends at this step length, which it has evaluated.
    Accept(f64),
    /// The search ends without an acceptable point; the parameters belong back at the base point.
    Fail(SearchFailure),
}

/// Why a line search found no acceptable point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SearchFailure {
    /// The slope at the base point is not negative, zero or not finite.
    #[error("the direction does not descend at the base point")]
    NotDescent,
    /// The evaluations allowed for one search are used up.
    #[error("no acceptable point within the evaluations allowed for one search")]
    BudgetSpent,
    /// The bracket has shrunk to neighbouring numbers, or to steps that end at the same parameters: the number format cannot resolve
    /// the function along the line.
    #[error("the interval has shrunk below the resolution of the number format")]
    Resolution,
    /// Every trial was infinite or not a number, however short the step.
    #[error("no trial point gave a finite objective")]
    NonFinite,
}

/// A one-dimensional minimiser by reverse communication.
///
/// [`begin`](Self::begin) starts a search, then each [`Decision::Evaluate`] is answered by one
/// [`observe`](Self::observe) with the same step length, until the search accepts a point or fails. The
/// optimizer is locked while it asks: a search that asks a handle of it waits for itself.
pub trait LineSearch: Debug + Send + Sync + 'static {
    /// Start a search from the base point (`origin.step` is 0) with a first trial step length.
    fn begin(&mut self, origin: Point, initial_step: f64) -> Decision;

    /// Start a search whose first trial is a guess at the scale, not the step of a direction with a length of its own: the
    /// search may use that trial for interpolation only. As [`begin`](Self::begin) where it does not distinguish them.
    fn begin_with_guess(&mut self, origin: Point, guess: f64) -> Decision {
        self.begin(origin, guess)
    }

    /// Take in the function at the step length asked for, and decide what comes next.
    fn observe(&mut self, point: Point) -> Decision;

    /// Allow for noise of this size in the objective's value, in its own unit. Searches without a tolerance ignore it.
    fn set_noise(&mut self, noise: f64) {
        let _ = noise;
    }

    /// Whether the search cannot work without the objective's value.
    fn needs_value(&self) -> bool {
        false
    }

    /// Whether the search cannot work without directional derivatives.
    fn needs_slope(&self) -> bool {
        true
    }

    /// The search in flight, for the optimizer's record.
    fn state(&self) -> Value;

    /// Continue a search from [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// [`StateError`] where the value was not made by a search of this kind.
    fn restore(&mut self, state: Value) -> Result<(), StateError>;

    /// A copy behind a new box.
    fn boxed(&self) -> Box<dyn LineSearch>;
}

mod golden_section;
mod hager_zhang;
mod interpolation;
mod replay;
mod strong_wolfe;
#[cfg(test)]
mod test_functions;

pub use golden_section::{GoldenSection, GoldenSectionConfig};
pub use hager_zhang::{HagerZhang, HagerZhangConfig};
pub use strong_wolfe::{StrongWolfe, StrongWolfeConfig};
