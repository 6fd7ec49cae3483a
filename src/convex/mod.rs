//! The convex phase on scalars: directions, line searches, restarts and the safe chain around them.
//!
//! Nothing here holds a tensor. The optimizer's tensors contribute inner products, [`Descent`] answers with a
//! [`Move`]: a list of coefficients and a step length for the whole model.

mod descent;
pub mod direction;
pub mod line_search;

pub use descent::{Descent, Evaluation, Move, Note, Outcome, RestartReason, SafeResort};
