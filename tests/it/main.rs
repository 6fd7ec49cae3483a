//! Behaviour from outside, on the device that `BURN_CONVEXITY_DEVICE` names.

mod learner;
mod protocol;
mod support;
