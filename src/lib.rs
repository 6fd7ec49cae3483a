#![warn(missing_docs)]
#![forbid(unsafe_code)]
//! An optimizer for [Burn](https://burn.dev) that starts as Adam, sees when the loss has become convex, and goes on with a
//! second-order method.
//!
//! Networks trained from small random weights start in a non-convex region of the loss and end in a convex one; along the
//! way the norm of the gradient grows, peaks and shrinks (Hrycej, Bermeitinger, Pavone, Wiegand and Handschuh, "A
//! Convexity-Dependent Two-Phase Training Algorithm for Deep Neural Networks", 2025). [`ConvexitySwitching`] runs Burn's
//! Adam before the peak and nonlinear conjugate gradients or L-BFGS behind it, inside an ordinary Burn `Learner`.
//!
//! ```ignore
//! let switching = ConvexitySwitchingConfig::load("switching.json")?.init()?;
//!
//! // An existing program changes one line.
//! let learner = Learner::new(model, switching.clone().into(), 1e-3);
//!
//! // Two more touches make it exact: epochs, batch sizes and losses are known, no batch is spare, and nobody is ever
//! // shown a trial point.
//! let train = switching.track(train_loader);
//! let learner = Learner::new(switching.attach(model), switching.clone().into(), 1e-3);
//! ```
//!
//! # Words
//!
//! A **pass** is one step of Burn's `ModuleOptimizer`. A **window** is the unit in which the detector observes: an epoch
//! where the loader is tracked, one call of an own loop, or else `window` passes. The **accepted point** is the best the convex phase has committed
//! to, a **trial point** is where it is evaluating. An **evaluation** is loss and gradient of the objective at one point,
//! over an epoch or `evaluation.batches` passes, during which the parameters stand still. **Cost** counts gradient passes over the
//! training set: a minibatch epoch is 1, an evaluation of everything is 1.

pub mod config;
pub mod convex;
pub mod detector;
mod error;
mod learner;
mod optimizer;
#[cfg(feature = "cli")]
pub mod tooling;

pub use config::{ConfigError, ConvexitySwitchingConfig};
pub use error::{InitError, ParameterError, Refusal, StateError};
pub use learner::{Attached, SwitchingMetrics, TrackedLoader, TrainLoss};
pub use optimizer::{
    Builder, ConvexitySwitching, Counters, Event, EventKind, Phase, Report, StepOutcome, SwitchingState,
};
