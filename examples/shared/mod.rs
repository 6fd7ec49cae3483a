//! What the examples share. Only `experiment` knows the library; the rest is what a program of your own would bring
//! itself: data, models, plots, a report, a device.

// Every example compiles this module for itself and uses a part of it.
#![allow(dead_code)]

pub mod data;
pub mod device;
pub mod experiment;
pub mod models;
pub mod plots;
pub mod report;
