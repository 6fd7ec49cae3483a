//! What the examples share, and what a program of your own would bring itself: data, models, plots,
//! a report, a device. Nothing here knows the library.

// Every example compiles this module for itself and uses a part of it.
#![allow(dead_code)]

pub mod data;
pub mod device;
pub mod models;
pub mod plots;
pub mod report;
