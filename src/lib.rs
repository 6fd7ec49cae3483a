#![warn(missing_docs)]
#![forbid(unsafe_code)]
//! An optimizer for [Burn](https://burn.dev) that starts as Adam, sees when the loss has become convex, and goes on with a
//! second-order method.
//!
//! Networks trained from small random weights start in a non-convex region of the loss and end in a convex one; along the
//! way the norm of the gradient grows, peaks and shrinks (Hrycej, Bermeitinger, Pavone, Wiegand and Handschuh, "A
//! Convexity-Dependent Two-Phase Training Algorithm for Deep Neural Networks", 2025). [`ConvexitySwitching`] runs Burn's
//! Adam until the norm is past its peak and, by default, the loss is flat; then L-BFGS, or nonlinear conjugate gradients, inside an
//! ordinary Burn `Learner`.
//!
//! An existing program changes one line:
//!
//! ```no_run
//! # use burn::train::{Learner, LearnerModel};
//! # use burn_convexity::ConvexitySwitchingConfig;
//! # fn program<M: LearnerModel>(model: M) -> Result<Learner<M>, Box<dyn std::error::Error>> {
//! let switching = ConvexitySwitchingConfig::load("switching.json")?.init()?;
//! let learner = Learner::new(model, switching.clone().into(), 1e-3);
//! # Ok(learner)
//! # }
//! ```
//!
//! Two more touches make it exact: epochs, batch sizes and losses are known, no batch is spent on moving the parameters, and nobody
//! is ever shown a trial point.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use burn::data::dataloader::DataLoader;
//! # use burn::train::{InferenceStep, Learner, LearnerModel, SupervisedTraining, TrainStep};
//! # use burn_convexity::{ConvexitySwitching, TrainLoss};
//! # fn program<M: LearnerModel>(
//! #     model: M,
//! #     train: Arc<dyn DataLoader<<M as TrainStep>::Input>>,
//! #     valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
//! #     switching: ConvexitySwitching,
//! # ) -> M
//! # where
//! #     <M as TrainStep>::Output: TrainLoss,
//! # {
//! let learner = Learner::new(switching.attach(model), switching.clone().into(), 1e-3);
//! let training = SupervisedTraining::new("runs/1", switching.track(train), valid).metrics(switching.metrics());
//! let model = training.launch(learner).model.into_inner();
//! # model
//! # }
//! ```
//!
//! # A training loop of your own
//!
//! [`ConvexitySwitching::step_with`] takes a closure that returns loss and gradients. One call is a step of the inner
//! optimizer or, in the convex phase, a whole line search; the model it returns stands at the accepted point.
//!
//! # Features
//!
//! The library enables no backend: yours comes with your own dependency on `burn`. `cli` adds the command `burn-convexity` with
//! its language server, and the module `tooling` they are made of. `tch`, `cuda`, `wgpu` and `ndarray` only pass on to the
//! features of Burn of the same names, for the examples, tests and benchmarks.
//!
//! # Words
//!
//! A **pass** is one step of Burn's `ModuleOptimizer`. A **window** is the unit in which the detector observes: an epoch
//! where the loader is tracked, or else `window` passes, by default 100, or one call in a training loop of your own. The
//! **accepted point** is the best the convex phase has committed to, a **trial point** is where it is evaluating. An
//! **evaluation** is loss and gradient of the objective at one point, over a window or `evaluation.batches` passes, or one call in
//! a training loop of your own; meanwhile the parameters stand still. **Cost** counts gradient passes over the training set: a
//! minibatch epoch is 1, an evaluation of everything is 1.

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
pub use learner::{Attached, SwitchingMetrics, TrackedLoader, TrainLoss, WhenConverged};
pub use optimizer::{
    Builder, ConvexitySwitching, Counters, Event, EventKind, Phase, Report, StepOutcome, SwitchingState,
};
