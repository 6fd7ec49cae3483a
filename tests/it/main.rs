//! Behaviour from outside, on the device that `BURN_CONVEXITY_DEVICE` names.

mod bad_input;
mod host;
mod learner;
mod metamorphic;
mod protocol;
mod resume;
mod scalars;
mod support;
