//! Behaviour from outside, on the device that `BURN_CONVEXITY_DEVICE` names.

mod host;
mod learner;
mod protocol;
mod scalars;
mod support;
