//! What the examples share. Only `experiment`, `methods` and `lines` know the library; the rest is what a program of your own would bring
//! itself: data, models, plots, records of a run, a device.

// Every example compiles this module for itself and uses a part of it.
#![allow(dead_code)]

pub mod data;
pub mod device;
pub mod experiment;
pub mod lines;
pub mod methods;
pub mod models;
// Of the command `burn-convexity report`, which reads what the examples write. Included as source, not used through the
// library, so that the examples need no `--features cli`.
#[path = "../../src/tooling/report/plots.rs"]
pub mod plots;
#[path = "../../src/tooling/report/run.rs"]
pub mod run;
